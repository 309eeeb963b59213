"""Gymnasium both ways: our domains as its environments to the bit, its environments as our domains
without a lie.
"""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from isthmus.domains import foreign_environment, foreign_simulation, gym
from isthmus.domains.domain import Domain
from isthmus.domains.foreign import ForeignDomain
from isthmus.domains.gym import Environment, VectorEnvironment
from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_episodes, rollout_steps
from isthmus.domains.simulation import START
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.parameters import parse_setting
from isthmus.physics.random import Streams, fold, keys
from isthmus.problems.problem import Access, Problem, TargetUsage, make_problem
from isthmus.rendering import CannotRender
from isthmus.tasks.imports import import_files
from isthmus.types import BadValue, Decision, UnknownName

IDS = {
    "isthmus/Hopper-v0": "Hopper-v5",
    "isthmus/HalfCheetah-v0": "HalfCheetah-v5",
    "isthmus/Walker2d-v0": "Walker2d-v5",
    "isthmus/Ant-v0": "Ant-v5",
    "isthmus/Reacher-v0": "Reacher-v5",
}
MODES = list(AutoresetMode)


def bits(x: Any) -> tuple:
    x = np.asarray(x)
    return x.dtype, x.shape, x.tobytes()


def same(one: Any, other: Any) -> bool:
    a, b = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(a) == len(b) and all(bits(x) == bits(y) for x, y in zip(a, b, strict=True))


# Ours to Gymnasium


@pytest.mark.parametrize("name", IDS)
def test_episodes_and_starts_equal_gymnasium(name):
    """A seeded episode, and the one after it, to their ends: observations, rewards, ends, to the
    bit.
    """
    ours, theirs = gymnasium.make(name), gymnasium.make(IDS[name])
    assert (
        ours.spec and theirs.spec and ours.spec.max_episode_steps == theirs.spec.max_episode_steps
    )
    assert ours.action_space == theirs.action_space
    assert ours.observation_space == theirs.observation_space
    rng = np.random.default_rng(0)
    truncations = 0
    for seed, strength in ((3, 1.0), (None, 0.2)):
        assert bits(ours.reset(seed=seed)[0]) == bits(theirs.reset(seed=seed)[0])
        done, t = False, 0
        while not done:
            action = rng.uniform(-strength, strength, ours.action_space.shape).astype(np.float32)
            obs, reward, terminated, truncated, info = ours.step(action)
            want = theirs.step(action)
            assert (bits(obs), bits(reward), terminated, truncated) == (
                bits(want[0]),
                bits(want[1]),
                *want[2:4],
            ), t
            assert np.isclose(sum(info["reward_terms"].values()), reward)
            done, t, truncations = terminated or truncated, t + 1, truncations + truncated
    assert truncations or name not in ("isthmus/HalfCheetah-v0", "isthmus/Reacher-v0")


@pytest.mark.parametrize(
    "domain", ["hopper", "ant", "reacher", "hopper/torso_mass=1..9,history=2,observation_noise=0.1"]
)
def test_gymnasiums_own_check_passes(domain):
    with warnings.catch_warnings():
        warnings.filterwarnings("error")
        # True of Gymnasium's own environments as well.
        warnings.filterwarnings("ignore", "(?s).*(minimum|maximum) value is -?infinity")
        registered = gymnasium.make("isthmus/Domain-v0", domain=domain).unwrapped
        check_env(Environment(domain), skip_render_check=True)
        check_env(registered, skip_render_check=True)
    observation, _ = Environment(domain).reset(seed=3)
    assert observation in registered.observation_space
    np.testing.assert_array_equal(observation, registered.reset(seed=3)[0])


def test_importing_by_id_is_enough():
    code = """if True:
        import gymnasium
        env = gymnasium.make("isthmus.domains.gym:isthmus/HalfCheetah-v0")
        many = gymnasium.make_vec("isthmus.domains.gym:isthmus/Domain-v0", num_envs=3, domain="hopper/gravity=x2")
        print(env.spec.id, len(env.reset(seed=0)[0]), type(many).__name__, many.reset(seed=0)[0].shape)
    """  # noqa: E501
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.stdout.split() == [
        "isthmus/HalfCheetah-v0",
        "17",
        "VectorEnvironment",
        "(3,",
        "11)",
    ], done.stderr


def test_a_seed_determines_starts_laws_and_noise():
    def episode(env: Environment, seed: int | None) -> list:
        first, info = env.reset(seed=seed)
        return [
            first,
            info["parameters"]["torso_mass"],
            *(env.step(np.zeros(3, np.float32))[0] for _ in range(3)),
        ]

    env, other = (Environment("hopper/torso_mass=1..9,observation_noise=0.1") for _ in range(2))
    first, second = episode(env, 5), episode(env, None)
    assert not any(same(a, b) for a, b in zip(first, second, strict=True))
    episode(other, 6)
    assert same(episode(other, 5), first) and same(episode(other, None), second)
    assert not same(episode(other, 6), first)
    assert not same(
        episode(Environment(str(env.domain)), None), episode(Environment(str(env.domain)), None)
    )


def test_options_fix_dynamics_for_an_episode():
    env, plain = (
        Environment("hopper/torso_mass=1..9,gravity=2..20"),
        Environment("hopper/torso_mass=8.5,gravity=2..20"),
    )
    drawn = env.reset(seed=0)[1]["parameters"]
    fixed = env.reset(seed=0, options={"parameters": {"torso_mass": 8.5}})[1]["parameters"]
    assert fixed == {"torso_mass": 8.5, "gravity": drawn["gravity"]} != drawn
    plain.reset(seed=0)
    push = np.full(3, 0.5, np.float32)
    assert same(env.step(push)[:2], plain.step(push)[:2])
    assert env.reset(seed=0)[1]["parameters"] == drawn
    with pytest.raises(UnknownName, match="torso_mass"):
        env.reset(options={"parameters": {"torsomass": 1.0}})
    with pytest.raises(BadValue, match=r"hopper/.*friction"):
        env.reset(options={"parameters": {"friction": 1.0}})
    with pytest.raises(BadValue, match="bounds"):
        env.reset(options={"parameters": {"torso_mass": -1.0}})


def test_infos_say_what_happened():
    env = Environment("hopper/gravity=x2")
    _, info = env.reset(seed=0)
    assert info["parameters"] == {"gravity": 2 * 9.81} and abs(info["forward"]) < 0.01
    action = np.float32([0.5, -0.5, 0.5])
    _, reward, _, _, info = env.step(action)
    assert (
        set(info["reward_terms"]) == {"forward", "alive", "control"} and info["diverged"] is False
    )
    assert np.isclose(info["reward_terms"]["control"], -1e-3 * 0.75)
    assert np.isclose(sum(info["reward_terms"].values()), reward)


def test_wrong_actions_are_refused():
    env = Environment("hopper")
    env.reset(seed=0)
    with pytest.raises(BadValue, match="shape"):
        env.step(np.zeros(4, np.float32))
    with pytest.raises(BadValue, match="not finite"):
        env.step(np.float32([np.nan, 0, 0]))


@pytest.mark.parametrize("name", IDS)
def test_pictures_show_the_robot(name):
    env = gymnasium.make(name, render_mode="rgb_array", width=120, height=90)
    env.action_space.seed(0)
    env.reset(seed=0)
    try:
        picture = env.render()
    except CannotRender as error:
        pytest.skip(str(error))
    assert isinstance(picture, np.ndarray)
    assert picture.shape == (90, 120, 3) and picture.dtype == np.uint8 and picture.std() > 5
    for _ in range(10):
        env.step(env.action_space.sample())
    moved = env.render()
    assert (
        np.abs(np.asarray(moved, int) - picture).sum(-1) > 30
    ).sum() > 20  # the robot, and it has moved
    assert env.metadata["render_fps"] == round(1 / env.get_wrapper_attr("domain").step_seconds)
    env.close()


def test_where_nothing_renders_it_is_said():
    code = """if True:
        from isthmus.domains.gym import Environment
        from isthmus.rendering import CannotRender
        env = Environment("hopper", render_mode="rgb_array")
        env.reset(seed=0)
        try:
            env.render()
        except CannotRender as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"MUJOCO_GL": "off", "PATH": ""},
    )
    assert (
        done.stdout.startswith("MUJOCO_GL=off turns rendering off") and done.stdout.count("\n") == 1
    ), done.stderr
    assert "unset it" in done.stdout and "egl" in done.stdout


class OneWorld(gymnasium.Env):
    """World i of N, alone: what Gymnasium's own vectorization makes of these is the reference."""

    def __init__(self, domain: str, seed: int, i: int):
        self.domain = parse_domain(domain)
        self.live = SteppedWorlds.idle(self.domain, self.domain.build(1), keys(seed, i + 1)[i:])
        self.observation_space, self.action_space = gym._make_boxes(self.domain.spaces)

    def reset(self, *, seed=None, options=None):
        self.live.begin(self.live.all)
        return self.live.state["observation"][0].copy(), gym._unbatch(
            gym._reset_info(self.live, self.live.all)
        )

    def step(self, action):
        live, diverged = self.live, self.live.state["diverged"].copy()
        reward, terminated, truncated = live.step(live.all, commanded=action[None])
        info = gym._unbatch(gym._step_info(live, live.all, diverged))
        return live.state["observation"][0].copy(), reward[0], terminated[0], truncated[0], info


def equal_infos(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, dict):
        return set(ours) == set(theirs) and all(equal_infos(ours[k], theirs[k]) for k in theirs)
    if theirs.dtype == object:
        pairs = zip(ours, theirs, strict=True)
        return all((a is None and b is None) or np.array_equal(a, b) for a, b in pairs)
    return np.array_equal(ours, theirs)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("domain", ["hopper/torso_mass=1..9,action_delay=1", "reacher"])
def test_a_vector_environment_behaves_as_gymnasiums(domain, mode):
    """Every return value of every step, through many episodes, equals SyncVectorEnv's over single
    worlds.
    """
    n, rng = 5, np.random.default_rng(0)
    ours = VectorEnvironment(n, domain, autoreset_mode=mode)
    theirs = SyncVectorEnv(
        [lambda i=i: OneWorld(domain, 7, i) for i in range(n)], autoreset_mode=mode
    )
    assert ours.metadata["autoreset_mode"] is mode
    assert (
        ours.observation_space == theirs.observation_space
        and ours.action_space == theirs.action_space
    )
    first, want = ours.reset(seed=7), theirs.reset()
    assert same(first[0], want[0]) and equal_infos(first[1], want[1])
    ends = 0
    for t in range(120):
        actions = rng.uniform(-1, 1, ours.action_space.shape).astype(np.float32)
        got, want = ours.step(actions), theirs.step(actions)
        assert all(bits(a) == bits(b) for a, b in zip(got[:4], want[:4], strict=True)), t
        assert equal_infos(got[4], want[4]), t
        done = got[2] | got[3]
        ends += done.sum()
        if mode is AutoresetMode.DISABLED and done.any():
            mask = {"reset_mask": done}
            got, want = ours.reset(options=mask), theirs.reset(options=dict(mask))
            assert same(got[0], want[0]) and equal_infos(got[1], want[1])
    assert ends > 5


def test_final_observations_are_the_true_ones():
    env = VectorEnvironment(4, "hopper", autoreset_mode="SameStep")
    env.reset(seed=0)
    domain, ends = parse_domain("hopper"), 0
    _, tr = rollout_steps(domain, domain.worlds(4, seed=0), Uniform(np.ones(3, np.float32)), 60)
    for t in range(60):
        obs, reward, terminated, _, infos = env.step(tr.action[t])
        assert same(reward.astype(np.float32), tr.reward[t]) and same(terminated, tr.terminated[t])
        for i in np.flatnonzero(terminated):
            assert same(infos["final_obs"][i].astype(np.float32), tr.next_obs[t, i])
            ends += 1
        assert same(obs[~terminated].astype(np.float32), tr.next_obs[t][~terminated])
    assert ends > 3


def test_what_a_vector_environment_returns_is_not_used_again():
    env = VectorEnvironment(3, "hopper/torso_mass=1..9", autoreset_mode="SameStep")
    env.action_space.seed(0)
    kept = [env.reset(seed=0)]
    kept += [env.step(env.action_space.sample()) for _ in range(40)]
    copies = jax.tree.map(np.copy, kept)
    for _ in range(40):
        env.step(env.action_space.sample())
    env.reset(seed=3)
    assert all(
        equal_infos({"x": a}, {"x": b})
        for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(copies))
    )


def test_a_masked_reset_leaves_the_others_alone():
    env = VectorEnvironment(3, "hopper/torso_mass=1..9", autoreset_mode="Disabled")
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros((3, 3), np.float32))
    before, _ = env.reset(seed=0)
    env.step(np.zeros((3, 3), np.float32))
    mask, given = np.array([False, True, False]), {"torso_mass": np.array([2.0, 3.0, 4.0])}
    obs, infos = env.reset(options={"reset_mask": mask, "parameters": given})
    assert not (obs[[0, 2]] == before[[0, 2]]).any()
    assert infos["parameters"]["torso_mass"].tolist() == [0, 3, 0]
    assert infos["_forward"].tolist() == mask.tolist()
    assert env.live.state["step"].tolist() == [1, 0, 1] and env.live.state["parameters"][1] == 3
    again, _ = env.reset(seed=0, options={"reset_mask": mask})
    assert same(again[1], before[1]) and same(again[[0, 2]], obs[[0, 2]])
    for wrong in ([True, False, False], np.array([1, 0, 0]), np.zeros(3, bool), np.ones(4, bool)):
        with pytest.raises(BadValue, match="reset_mask"):
            env.reset(options={"reset_mask": wrong})


def test_a_finished_world_waits_for_its_reset():
    env = VectorEnvironment(2, "reacher", autoreset_mode="Disabled", max_episode_steps=3)
    env.reset(seed=0)
    for t in range(3):
        *_, truncated, _ = env.step(np.zeros((2, 2), np.float32))
        assert truncated.tolist() == [t == 2] * 2
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[0 1\]"):
        env.step(np.zeros((2, 2), np.float32))


def test_gymnasiums_vector_wrappers_work():
    env = gymnasium.make_vec("isthmus/Hopper-v0", num_envs=3, autoreset_mode="SameStep")
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(env)
    env.action_space.seed(0)
    env.reset(seed=0)
    returns, lengths = np.zeros(3), []
    for _ in range(100):
        _, reward, terminated, truncated, infos = env.step(env.action_space.sample())
        returns += reward
        for i in np.flatnonzero(terminated | truncated):
            assert np.isclose(infos["episode"]["r"][i], returns[i])
            lengths.append(infos["episode"]["l"][i])
            returns[i] = 0
    assert len(lengths) > 3


# Gymnasium to ours


class Point(gymnasium.Env):
    """A point that is pushed about; it remembers what it was told."""

    metadata = {"render_fps": 25}
    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Box(-0.5, 0.5, (1,), np.float64)
    log: Any = None

    def __init__(self):
        self.told: list = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.told.append(seed)
        self.state = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.state.copy(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        if Point.log:
            Point.log()
        self.told.append(action)
        self.state[0] += action[0]
        self.state[1] += 1
        return (
            self.state.copy(),
            float(self.state[0]),
            bool(self.state[0] > 3),
            False,
            {"x_position": self.state[0]},
        )


class Odd(Point):
    def __init__(self, **changes: Any):
        super().__init__()
        for name, value in changes.items():
            setattr(self, name, value)


class Sick(Point):
    def step(self, action):
        obs, *rest = super().step(action)
        return np.where(obs[1] > 5, np.nan, obs), *rest


def discrete():
    return Odd(action_space=Discrete(2))


def picture():
    return Odd(observation_space=Box(0, 255, (8, 8, 3), np.uint8))


def matrix():
    return Odd(observation_space=Box(0, 1, (2, 2), np.float64))


def unbounded():
    return Odd(action_space=Box(-np.inf, 1, (1,), np.float32))


def no_rate():
    return Odd(metadata={})


def no_env():
    return 3


def fails():
    raise OSError("no robot on the bus\nlook at the cable")


SHARED = Point()


def shared():
    return SHARED


POINT = f"{__name__}:Point/time_limit=30,step_seconds=0.05"


class Uniform(NamedTuple):
    scale: Any

    def memory(self):
        return ()

    def act(self, memory, observation, key):
        return Decision(
            jax.random.uniform(key, self.scale.shape, minval=-self.scale, maxval=self.scale)
        ), memory


class Still(NamedTuple):
    size: Any

    def memory(self):
        return ()

    def act(self, memory, observation):
        return self.size, memory


@pytest.fixture(autouse=True)
def fresh_environments():
    yield
    foreign_simulation._kept.clear()
    foreign_environment._spare.clear()
    foreign_environment.read_facts.cache_clear()
    foreign_environment.rehearse_step.cache_clear()
    Point.log = None


@pytest.mark.parametrize("name", ["Hopper-v5", "Reacher-v5"])
def test_a_foreign_environments_transitions_are_true(name):
    """Each recorded row is what the environment itself answers to the recorded action, through ends
    and new begins.
    """
    domain = parse_domain(f"gym:{name}")
    assert isinstance(domain, ForeignDomain) and not domain.replayable and domain.names == ()
    worlds = domain.worlds(3, seed=2)
    start = worlds
    parts = []
    for _ in range(2):
        worlds, tr = rollout_steps(
            domain, worlds, Uniform(np.ones(domain.spaces.action, np.float32)), 60
        )
        parts.append(tr)
    tr = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    env = gymnasium.make(name)
    ends = 0
    for world in range(3):
        episode, obs = 0, None
        for t in range(120):
            if obs is None:
                episode += 1
                stream = Streams(fold(start.key[[world]], START, np.array([episode])))
                obs, _ = env.reset(seed=int(stream.uniform(0, 1, 1)[0, 0] * 2**31))
            assert same(tr.obs[t, world], obs.astype(np.float32))
            obs, reward, terminated, truncated, _ = env.step(tr.action[t, world])
            assert same(tr.next_obs[t, world], obs.astype(np.float32)) and tr.reward[
                t, world
            ] == np.float32(reward)
            assert tr.terminated[t, world] == terminated and tr.truncated[t, world] == (
                truncated and not terminated
            )
            if terminated or truncated:
                obs, ends = None, ends + 1
        assert worlds.episode[world] == episode + (obs is None)
    assert ends >= 6


def test_what_a_foreign_domain_says_of_itself():
    domain = parse_domain("gym:HalfCheetah-v5")
    ours = parse_domain("half_cheetah")
    assert domain.time_limit == 1000 and domain.step_seconds == ours.step_seconds
    assert same(domain.spaces._replace(parameters=0), ours.spaces)
    assert (
        domain.description().name == "gym:HalfCheetah-v5"
        and len(domain.description().observation_names) == 17
    )
    point = parse_domain(POINT)
    assert point.time_limit == 30 and point.step_seconds == 1 / 20
    assert parse_domain("gym:HalfCheetah-v5/time_limit=99").time_limit == 99
    assert (
        parse_domain("gym:HalfCheetah-v5/time_limit=9999").time_limit == 1000
    )  # its own still holds
    assert parse_domain("gym:HalfCheetah-v5/step_seconds=0.1").step_seconds == 0.1


@pytest.mark.parametrize(
    "text",
    [
        "gym:Hopper-v5",
        "gym:isthmus/Hopper-v0",
        "gym:isthmus/Hopper-v0/action_delay=2",
        "gym:isthmus.domains.gym:isthmus/Hopper-v0/history=2",
        "some.module:Class.make/weak_motors=0.5,episodes_per_task=3,time_limit=7,step_seconds=0.25",
        POINT,
    ],
)
def test_texts_come_back(text):
    domain = parse_domain(text)
    assert str(domain) == text and parse_domain(str(domain)) == domain
    assert str(domain.shift("observation_noise=0.5")).count("observation_noise=0.5") == 1
    assert (
        domain.without_settings() == parse_domain(str(domain.without_settings()))
        and not domain.without_settings().effects
    )


def test_ours_through_gymnasium_is_ours():
    there, here = (
        parse_domain("gym:isthmus/Reacher-v0/action_delay=1"),
        parse_domain("reacher/action_delay=1"),
    )
    assert (
        there.spaces.observation == here.spaces.observation
        and there.step_seconds == here.step_seconds
    )
    _, tr = rollout_steps(there, there.worlds(2, seed=0), Uniform(np.ones(2, np.float32)), 60)
    assert tr.truncated[49].all() and tr.truncated.sum() == 2


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("gym:Hoper-v5", UnknownName, "Hopper-v5"),
        ("gym:Hopper", UnknownName, "Hopper-v5"),
        ("gym:isthmus/Hoper-v0", UnknownName, "isthmus/Hopper-v0"),
        ("gym:Hopper-v5/gravity=2", UnknownName, "whose physics is not ours"),
        ("gym:Hopper-v5/actiondelay=2", UnknownName, "action_delay"),
        ("gym:Hopper-v5/engine=mujoco", UnknownName, "engine"),
        ("gym:Hopper-v5/time_limit=0", BadValue, "time_limit"),
        ("gym:Hopper-v5/step_seconds=-1", BadValue, "step_seconds"),
        ("no module:make", BadValue, "module:function"),
        ("module:", BadValue, "module:function"),
        ("gym:CartPole-v1", BadValue, "Box of floats"),
        ("gym:no_such_module_here:X-v0", BadValue, "no_such_module_here"),
        ("no_such_module_here:make", BadValue, "no_such_module_here"),
        (f"{__name__}:Pointt", UnknownName, "Point"),
        (f"{__name__}:discrete", BadValue, "Box of floats"),
        (f"{__name__}:picture", BadValue, "Box of floats"),
        (f"{__name__}:matrix", BadValue, "Box of floats"),
        (f"{__name__}:unbounded", BadValue, "unbounded"),
        (f"{__name__}:Point", BadValue, "/time_limit=STEPS"),
        (f"{__name__}:no_rate/time_limit=9", BadValue, "/step_seconds=SECONDS"),
        (
            f"{__name__}:Point/time_limit=9",
            BadValue,
            r"its render_fps 25 may be something else\); write",
        ),
        (
            "gym:Pendulum-v1",
            BadValue,
            r"its dt 0.05, render_fps 30 may be something else\); write gym:Pendulum-v1/step",
        ),
        (f"{__name__}:no_env", BadValue, "returns a int"),
        (f"{__name__}:fails", BadValue, "OSError: no robot on the bus"),
    ],
)
def test_wrong_environments_get_one_line(text, error, words):
    with pytest.raises(error, match=words) as caught:
        make_problem(text)
    assert "\n" not in str(caught.value)


def test_worlds_need_environments_of_their_own():
    domain = parse_domain(f"{__name__}:shared/time_limit=9,step_seconds=0.05")
    with pytest.raises(BadValue, match="2 worlds need 2 environments"):
        domain.worlds(2, seed=0)
    assert domain.worlds(1, seed=0).size == 1


def test_no_module_is_imported_before_it_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "a_foreign_robot.py").write_text(
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nfrom {__name__} import Point as make\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = "a_foreign_robot:make/time_limit=9,step_seconds=0.05"
    doubted, asked = parse_domain(text, trusted=False), parse_domain(text)
    with pytest.raises(BadValue, match="--import"):
        doubted.spaces
    with pytest.raises(BadValue, match="--import"):
        parse_domain("gym:a_foreign_robot:Robot-v0", trusted=False).spaces
    assert "a_foreign_robot" not in sys.modules
    assert asked.spaces.observation == 2 and "a_foreign_robot" in sys.modules
    assert doubted.spaces.observation == 2  # what the user imported may be used
    assert parse_domain("gym:Hopper-v5", trusted=False).spaces.observation == 11
    del sys.modules["a_foreign_robot"]


def test_a_file_named_by_the_user_is_a_module(tmp_path):
    (tmp_path / "a_robot_of_mine.py").write_text(f"from {__name__} import Point as make\n")
    with pytest.raises(BadValue, match="--import"):
        parse_domain("a_robot_of_mine:make/time_limit=9").spaces
    import_files([str(tmp_path / "a_robot_of_mine.py")])
    assert (
        parse_domain(
            "a_robot_of_mine:make/time_limit=9,step_seconds=0.05", trusted=False
        ).spaces.observation
        == 2
    )


def test_bounds_are_kept():
    """A robot gets no action that it did not declare; the stored one is the chosen one."""
    domain = parse_domain(POINT)
    worlds = domain.worlds(2, seed=0)
    _, tr = rollout_steps(domain, worlds, Uniform(np.float32([5.0])), 20)
    assert np.abs(tr.action).max() > 2
    told = foreign_simulation._kept[-1].envs[0].unwrapped.told
    assert all(
        a.dtype == np.float64 and abs(a[0]) <= 0.5 for a in told if isinstance(a, np.ndarray)
    )
    assert np.allclose(
        tr.next_obs[:, :, 0] - tr.obs[:, :, 0], np.clip(tr.action, -0.5, 0.5)[..., 0], atol=1e-6
    )


def test_gaps_lie_over_a_foreign_environment():
    domain = parse_domain(f"{POINT},action_delay=2,previous_action=1")
    assert domain.spaces.observation == 3
    _, tr = rollout_steps(domain, domain.worlds(2, seed=0), Uniform(np.float32([0.1])), 20)
    assert np.allclose(tr.next_obs[:, :, 2], tr.action[..., 0])
    moved = tr.next_obs[:, :, 0] - tr.obs[:, :, 0]
    assert np.allclose(moved[2:], tr.action[:-2, :, 0], atol=1e-6) and not moved[:2].any()


def test_what_is_no_number_ends_the_episode():
    domain = parse_domain(f"{__name__}:Sick/time_limit=30,step_seconds=0.05")
    worlds, tr = rollout_steps(domain, domain.worlds(2, seed=0), Uniform(np.float32([0.1])), 40)
    assert (
        worlds.diverged.min() >= 1
        and np.isfinite(tr.next_obs).all()
        and np.isfinite(tr.reward).all()
    )
    assert tr.terminated.sum() == worlds.diverged.sum()


def episodes(domain: Domain, worlds, steps: int = 10):
    return rollout_steps(domain, worlds, Uniform(np.float32([0.1])), steps)


def test_worlds_go_on_while_their_environments_stand_still():
    domain = parse_domain(POINT)
    worlds = domain.worlds(2, seed=0)
    whole, _ = episodes(domain, worlds, 20)
    worlds = domain.worlds(2, seed=0)
    half, _ = episodes(domain, worlds)
    full, _ = episodes(domain, half)
    assert full.step.tolist() == [20, 20] and full.episode.tolist() == [1, 1]
    assert same(full._replace(rows=0, diverged_rows=0), whole._replace(rows=0, diverged_rows=0))


def test_worlds_that_moved_on_begin_anew():
    domain = parse_domain(POINT)
    half, _ = episodes(domain, domain.worlds(2, seed=0))
    episodes(domain, half)  # the environments are elsewhere now
    after, tr = episodes(domain, half)
    assert after.episode.tolist() == [2, 2] and after.step.tolist() == [10, 10]
    assert not same(tr.obs[0], half.observation.astype(np.float32))
    foreign_simulation._kept.clear()  # as in another process
    after, _ = episodes(domain, half)
    assert after.episode.tolist() == [2, 2] and after.step.tolist() == [10, 10]
    assert (after.total == 20).all()


def test_a_lost_task_is_a_new_one_for_the_memory():
    class Count(NamedTuple):
        size: Any

        def memory(self):
            return np.int32(0)

        def act(self, memory, observation, key):
            return Decision(self.size * 0, extra={"count": memory}), memory + 1

    domain = parse_domain(POINT)
    half, first = rollout_steps(domain, domain.worlds(2, seed=0), Count(np.float32([1.0])), 5)
    foreign_simulation._kept.clear()
    _, second = rollout_steps(domain, half, Count(np.float32([1.0])), 5)
    assert (
        first.extra["count"][:, 0].tolist()
        == second.extra["count"][:, 0].tolist()
        == [0, 1, 2, 3, 4]
    )


def test_a_start_is_the_same_start_wherever_it_is_played():
    domain = parse_domain("gym:Hopper-v5")
    worlds = domain.worlds(4, seed=0)
    policy = Still(np.full(3, 0.3, np.float32))
    first, second = (
        rollout_episodes(domain, worlds, policy),
        rollout_episodes(domain, worlds, policy),
    )
    foreign_simulation._kept.clear()
    third = rollout_episodes(domain, worlds, policy)
    assert same(first, second) and same(first, third) and len(np.unique(first.returns)) == 4
    alone = rollout_episodes(domain, jax.tree.map(lambda x: x[2:3], worlds), policy)
    assert same(alone, jax.tree.map(lambda x: x[2:3], first))
    env = gymnasium.make("Hopper-v5")
    seed = int(Streams(fold(worlds.key[:1], START, np.array([1]))).uniform(0, 1, 1)[0, 0] * 2**31)
    env.reset(seed=seed)
    steps = [env.step(np.full(3, 0.3, np.float32)) for _ in range(first.lengths[0])]
    assert np.isclose(sum(s[1] for s in steps), first.returns[0]) and steps[-1][2]
    assert first.forward[0] == steps[-1][4]["x_position"]


def test_source_target_and_evaluation_keep_their_own_environments():
    """Equal environments in turn: no episode is cut short by another's."""
    domain = parse_domain(POINT)
    source, target = domain.worlds(2, seed=0), domain.worlds(2, seed=1)
    for _ in range(3):
        source, _ = episodes(domain, source, 5)
        target, _ = episodes(domain, target, 5)
        rollout_episodes(domain, domain.worlds(2, seed=2), Still(np.float32([0.1])))
    for worlds in (source, target):
        assert worlds.step.tolist() == [15, 15] and worlds.episode.tolist() == [1, 1]


def test_unused_environments_are_closed():
    closed = []
    Point.close = lambda self: closed.append(self)  # type: ignore[method-assign]
    try:
        for n in range(1, 11):
            parse_domain(POINT).worlds(n, seed=0)
    finally:
        del Point.close
    assert len(foreign_simulation._kept) == 8 and len(closed) == 1 + 2


def test_a_hollow_target_is_not_touched():
    domain = parse_domain(f"{POINT},action_delay=1")
    hollow = domain.hollow()
    assert (
        hollow.spaces.observation == domain.spaces.observation
        and hollow.step_seconds == domain.step_seconds
    )
    worlds, tr = episodes(hollow, hollow.worlds(3, seed=0), 40)
    assert tr.next_obs.shape == (40, 3, 2) and not tr.next_obs.any() and not tr.reward.any()
    assert tr.truncated.sum() == 3 and worlds.size == 3
    assert (
        foreign_environment._spare[domain.task].unwrapped.told == []
        and foreign_simulation._kept == []
    )
    assert parse_domain("hopper").hollow() == parse_domain("hopper")


def test_the_ledger_is_written_before_the_robot_moves(tmp_path):
    path = tmp_path / "ledger.jsonl"
    domain = parse_domain(POINT)
    problem = Problem(domain, domain, Access.ONLINE).with_ledger(path)
    book, worlds = problem.target_worlds(TargetUsage(), 2, seed=0)
    seen = []
    Point.log = lambda: seen.append(
        sum(json.loads(line).get("transitions", 0) for line in path.open())
    )
    book, worlds, _ = problem.collect(book, worlds, Uniform(np.float32([0.1])), 3)
    assert seen == [2, 2, 4, 4, 6, 6]
    assert (book.transitions, book.episodes) == (6, 2) and np.isclose(book.seconds, 6 / 20)


def test_settings_of_ours_are_read_as_before():
    """A colon in a setting makes no foreign domain."""
    domain = parse_domain("hopper/torso_mass=log:1..9,friction=0.5..2:4")
    assert not isinstance(domain, ForeignDomain)
    assert dict(domain.settings)["torso_mass"] == parse_setting(
        "log:1..9", domain.table()["torso_mass"]
    )
