"""Every effect does to known sequences what its name says; its noise is each world's own."""

from __future__ import annotations

import gymnasium
import numpy as np
import own
import pytest
import tiny

from isthmus.audit.audit import audit
from isthmus.domains.effect_chain import Effect, EffectChain
from isthmus.domains.effects import EFFECTS, register_effect
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.random import Streams, keys
from isthmus.training.older_runs import still
from isthmus.types import BadValue, UnknownName


def chain(observation: int = 1, action: int = 1, **values: float) -> EffectChain:
    return EffectChain(
        tuple(EFFECTS[name](values[name]).check() for name in EFFECTS if name in values),
        observation,
        action,
    )


def run(
    effects: EffectChain,
    observations: list,
    actions: list,
    key: int = 0,
    neutral: list | None = None,
) -> tuple[list, list]:
    """One world through a whole episode: what the policy sees (T + 1), what the actuators get
    (T).
    """
    memory = np.full(
        (1, effects.memory_size), np.nan
    )  # what an episode's begin does not set would show
    streams = lambda t: Streams(keys(key, 1) + np.uint64(t))
    told = None if neutral is None else np.array([neutral], float)
    seen = [effects.begin(memory, np.array([observations[0]], float), streams(0), told)[0]]
    done = []
    for t, action in enumerate(actions):
        commanded = np.array([action], np.float32)
        done.append(effects.act(memory, commanded=commanded, applied=commanded)[0])
        seen.append(
            effects.sense(memory, np.array([observations[t + 1]], float), streams(t + 1))[0]
        )
    return np.array(seen).tolist(), np.array(done).tolist()


COUNT = [[0.0], [1.0], [2.0], [3.0], [4.0]]  # observations, T + 1
PUSH = [[0.1], [0.2], [0.3], [0.4]]  # actions, T
SAME = np.float32(PUSH).tolist()


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_an_action_is_executed_late(delay):
    seen, done = run(chain(action_delay=delay), COUNT, PUSH)
    assert seen == COUNT
    assert done == ([[0.0]] * delay + SAME)[:4]


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_the_neutral_action_waits_in_the_line(delay):
    _, done = run(
        chain(action=2, action_delay=delay),
        COUNT[:3],
        [[0.5, 0.25], [0.75, 0.5]],
        neutral=[0.8, -0.3],
    )
    assert done == ([[0.8, -0.3]] * delay + [[0.5, 0.25], [0.75, 0.5]])[:2]


def test_the_neutral_action_is_the_previous_one_at_first():
    seen, _ = run(chain(previous_action=1, history=2), COUNT[:2], PUSH[:1], neutral=[0.8])
    assert np.allclose(seen, [[0, 0, 0.8], [0, 1, 0.1]])


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_an_observation_is_seen_late(delay):
    seen, done = run(chain(observation_delay=delay), COUNT, PUSH)
    assert seen == ([COUNT[0]] * delay + COUNT)[:5]
    assert done == SAME


def test_history_is_newest_last():
    seen, _ = run(chain(history=3), COUNT, PUSH)
    assert seen == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_history_of_two_numbers_keeps_moments_together():
    seen, _ = run(chain(2, history=2), [[1, 2], [3, 4], [5, 6]], PUSH[:2])
    assert seen == [[1, 2, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6]]


def test_the_previous_action_is_the_chosen_one():
    """Seen after the observation; the neutral one at first, here zeros; not what weak and late
    motors made of it.
    """
    seen, done = run(chain(previous_action=1, weak_motors=0.5, action_delay=1), COUNT, PUSH)
    assert np.allclose(seen, [[0, 0.0], [1, 0.1], [2, 0.2], [3, 0.3], [4, 0.4]])
    assert np.allclose(done, [[0], [0.05], [0.1], [0.15]])
    assert run(chain(previous_action=0), COUNT, PUSH) == (COUNT, SAME)


def test_motors_are_weak():
    seen, done = run(chain(weak_motors=0.5), COUNT, PUSH)
    assert seen == COUNT
    assert done == (np.float32(PUSH) * np.float32(0.5)).tolist()


def test_quantization_rounds_to_multiples():
    seen, _ = run(chain(quantization=0.5), [[0.24], [0.26], [-0.7], [1.0], [9.9]], PUSH)
    assert seen == [[0.0], [0.5], [-0.5], [1.0], [10.0]]
    assert run(chain(quantization=0), COUNT, PUSH) == (COUNT, SAME)


def test_gaps_follow_each_other():
    """Noise once on each reading, which a delay then passes on unchanged, and a history
    remembers.
    """
    plain, _ = run(chain(observation_noise=0.1), COUNT, PUSH)
    late, _ = run(chain(observation_noise=0.1, observation_delay=1), COUNT, PUSH)
    both, _ = run(chain(observation_noise=0.1, observation_delay=1, history=2), COUNT, PUSH)
    assert late == [plain[0], *plain[:4]]
    assert both == [[late[max(t - 1, 0)][0], late[t][0]] for t in range(5)]


def test_noise_has_the_deviation_it_says():
    effects = chain(3, observation_noise=0.2)
    noise = effects.sense(np.empty((20_000, 0)), np.zeros((20_000, 3)), Streams(keys(0, 20_000)))
    assert np.allclose(noise.std(0), 0.2, rtol=0.02) and np.allclose(noise.mean(0), 0, atol=0.005)
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.03


def noisy(n: int, ids: np.ndarray, steps: int = 5) -> np.ndarray:
    """Observations [T + 1, n, O] of worlds that are all stepped, or only those in `ids`."""
    domain = parse_domain("hopper/observation_noise=0.1")
    live = SteppedWorlds.resume(domain, domain.worlds(n, seed=4))
    seen = [live.state["observation"].copy()]
    for _ in range(steps):
        live.step(ids, commanded=np.zeros((len(ids), 3), np.float32))
        seen.append(live.state["observation"].copy())
    return np.array(seen)


def test_noise_depends_on_no_neighbour():
    among = noisy(6, np.arange(6))
    assert np.array_equal(noisy(2, np.arange(2)), among[:, :2])
    some = noisy(6, np.array([1, 4]))
    assert np.array_equal(some[:, [1, 4]], among[:, [1, 4]])
    assert len(np.unique(among[0, :, 0])) == 6


@pytest.mark.parametrize("shift", ["weak_motors=0.5", "action_delay=2"])
def test_the_chosen_action_is_charged(shift):
    """The control cost is the commanded action's, while the robot does as the applied one."""
    domain, plain = parse_domain(f"hopper/{shift}"), parse_domain("hopper")
    live, free = (SteppedWorlds.resume(d, d.worlds(1, seed=0)) for d in (domain, plain))
    ids, strong = np.arange(1), np.full((1, 3), 0.8, np.float32)
    live.step(ids, commanded=strong)
    cost = -1e-3 * 3 * 0.8**2
    assert np.isclose(live.simulation.terms["control"][0], cost)
    free.step(ids, commanded=strong * 0.5 if "weak" in shift else strong * 0)
    assert np.array_equal(live.state["observation"], free.state["observation"])
    assert not np.isclose(free.simulation.terms["control"][0], cost)


def test_a_domain_knows_the_size_of_what_is_seen():
    domain = parse_domain("hopper/history=3,previous_action=1,observation_delay=2")
    assert domain.spaces.observation == 3 * 11 + 3
    assert domain.worlds(2, seed=0).observation.shape == (2, 36)
    assert str(parse_domain(str(domain))) == str(domain)


@pytest.mark.parametrize(
    "shift",
    [
        "action_delay=1.3",
        "action_delay=-1",
        "history=0",
        "observation_noise=nan",
        "weak_motors=11",
        "history=x",
    ],
)
def test_impossible_gaps_are_refused(shift):
    with pytest.raises(BadValue, match=shift.split("=")[0]):
        parse_domain(f"hopper/{shift}")


def test_an_unknown_gap_names_its_neighbours():
    with pytest.raises(UnknownName, match="action_delay"):
        parse_domain("hopper/actiondelay=2")


def test_a_starts_noise_depends_on_no_episode_before():
    domain = parse_domain("hopper/observation_noise=0.1")
    firsts = []
    for steps in (2, 5):
        live = SteppedWorlds.resume(domain, domain.worlds(1, seed=0))
        for _ in range(steps):
            live.step(live.all, commanded=np.zeros((1, 3), np.float32))
        live.begin(live.all)
        firsts.append(live.state["observation"].copy())
    assert np.array_equal(*firsts)


# The neutral action: what a robot is told when nothing has been commanded yet


@pytest.fixture
def forget():
    yield
    own.forget()


def begin(text: str, n: int = 2) -> SteppedWorlds:
    domain = parse_domain(text)
    return SteppedWorlds.resume(domain, domain.worlds(n, seed=0))


def move_hip(live: SteppedWorlds, told: float, steps: int) -> np.ndarray:
    """The hip's angles [T + 1, n] under one action."""
    assert isinstance(live.simulation, PhysicsSimulation)
    angles = [live.simulation.simulator.qpos[:, 7].copy()]
    for _ in range(steps):
        live.step(live.all, commanded=np.full((len(live.all), 1), told, np.float32))
        angles.append(live.simulation.simulator.qpos[:, 7].copy())
    return np.array(angles)


def test_a_late_servo_holds_its_start(tmp_path, forget):
    """Told 0.8 from a start at 0.8 it stays there; 0 in its line would throw it over, as the next
    test sees.
    """
    name = own.register(tmp_path, own.SERVO)
    assert np.allclose(move_hip(begin(f"{name}/action_delay=3"), 0.8, 15), 0.8, atol=1e-3)
    live = begin(f"{name}/action_delay=3,previous_action=1")
    assert np.allclose(live.state["observation"][:, -1], 0.8, atol=1e-12)
    assert not live.simulation.terms  # nothing was charged for it


def test_what_a_task_declares_is_what_waits(tmp_path, forget):
    name = own.register(tmp_path, own.SERVO, neutral_action=(0.0,))
    angles = move_hip(begin(f"{name}/action_delay=3"), 0.8, 5)
    assert (angles[3] < 0.2).all()
    plain = move_hip(begin(name), 0.0, 3)
    assert np.array_equal(angles[:4], plain)


def test_each_world_waits_where_it_began(tmp_path, forget):
    def start(self, simulator, random):
        qpos = np.tile(own.START, (len(random.uniform(0, 1, 0)), 1))
        qpos[:, 7] = random.uniform(-0.9, 0.9, 1)[:, 0]
        return qpos, np.zeros((len(qpos), 7))

    name = own.register(tmp_path, own.SERVO, start=start)
    live = begin(f"{name}/action_delay=4", 5)
    angles = move_hip(live, 0.0, 4)
    assert len(np.unique(angles[0])) == 5 and np.allclose(angles, angles[0])
    some = np.array([1, 3])  # begin again, while the others go on
    live.begin(some)
    waiting = live.state["effect_memory"].reshape(5, 4)
    assert np.allclose(waiting[some], live.simulation.simulator.qpos[some, 7:])  # pyright: ignore[reportAttributeAccessIssue]
    assert not waiting[[0, 2, 4]].any()


def test_a_start_says_what_was_told_before(tmp_path, forget):
    """The controls of a keyframe, of motors too."""
    actuators = own.SERVO + own.MOTOR
    name = own.register(tmp_path, actuators, 'ctrl="0.5 -0.25"', keyframe="home")
    live = begin(f"{name}/action_delay=2,previous_action=1")
    assert np.allclose(live.state["effect_memory"], [[0.5, -0.25] * 3] * 2)


@pytest.mark.parametrize(
    "key, want", [('ctrl="3"', 1.0), ('ctrl="0"', 0.25), ('ctrl="0.5"', 0.5), ("", 0.25)]
)
def test_the_neutral_action_is_one_that_may_be_chosen(tmp_path, forget, key, want):
    """The nearest to it within the bounds: those of a motor that cannot rest, say."""
    name = own.register(tmp_path, '<motor joint="hip" ctrlrange="0.25 1"/>', key, keyframe="home")
    assert begin(f"{name}/action_delay=1").state["effect_memory"].tolist() == [[want]] * 2


@pytest.mark.parametrize("robot", ["hopper", "reacher", "ball", "ant"])
def test_motors_are_told_nothing_at_first(robot):
    live = begin(f"{robot}/action_delay=2,previous_action=1")
    memory = live.state["effect_memory"]
    assert memory.any() == np.False_ and not np.signbit(memory).any()


def test_a_foreign_robot_is_told_the_action_nearest_to_zero(monkeypatch):
    class Valve(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float64)
        action_space = gymnasium.spaces.Box(np.float32([0.25, -1, -1]), np.float32([1, 1, -0.5]))
        metadata: dict = {"render_modes": [], "render_fps": 50}

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(1), {}

        def step(self, action):
            return np.zeros(1), 0.0, False, False, {}

    gymnasium.register("Valve-v0", Valve, max_episode_steps=10)
    try:
        live = begin("gym:Valve-v0/action_delay=1,previous_action=1,step_seconds=0.02", 2)
        assert live.state["effect_memory"].tolist() == [[0.25, 0.0, -0.5] * 2] * 2
        assert live.state["observation"].tolist() == [[0.0, 0.25, 0.0, -0.5]] * 2
        same = still(live.domain)
        assert same.worlds(2, seed=0).effect_memory.shape == live.state["effect_memory"].shape
    finally:
        del gymnasium.registry["Valve-v0"]
        tiny.forget_simulations()


def test_an_audit_begins_with_the_neutral_action(tmp_path, forget):
    """Two steps late, a servo that is told to stay does so on both sides: no shift until the first
    action arrives.
    """
    name = own.register(tmp_path, own.SERVO)
    plain = parse_domain(name)
    found = audit(plain, plain.shift("previous_action=0,action_delay=0"), episodes=2)
    assert found.effect.identical
    late = audit(plain.shift("action_delay=60"), plain.shift("action_delay=70"), episodes=2)
    assert late.effect.identical  # longer than an audit: neither is told anything but to hold
    assert max(d.std for d in late.dimensions) < 0.05


# An effect of one's own


class Backlash(Effect):
    """Motors that do not follow a small change of the action; it sees what is commanded, too."""

    name, unit, low, high = "backlash", "action", 0.0, 1.0
    meaning = "a change of the action that is smaller is not followed"

    def memory_size(self, obs_size, action_size):
        return action_size

    def begin(self, memory, obs, neutral):
        memory[:] = neutral

    def act(self, memory, *, commanded, applied):
        memory[:] = np.where(np.abs(applied - memory) > self.value, applied, memory)
        return memory.copy()


@pytest.fixture
def backlash(monkeypatch):
    monkeypatch.setattr(EFFECTS, "_entries", dict(EFFECTS._entries))
    return register_effect(Backlash)


def test_an_effect_of_ones_own_is_stepped(backlash):
    domain = parse_domain("hopper/backlash=0.3,history=2")
    assert str(domain) == "hopper/backlash=0.3,history=2"
    assert [effect.name for effect in domain.effects] == ["backlash", "history"], "sensing is last"
    live = SteppedWorlds.resume(domain, domain.worlds(2, seed=0))
    plain = parse_domain("hopper/history=2")
    free = SteppedWorlds.resume(plain, plain.worlds(2, seed=0))
    for command, follows in ((0.2, 0.0), (0.5, 0.5), (0.3, 0.5), (0.1, 0.1)):
        action = np.full((2, 3), command, np.float32)
        live.step(live.all, commanded=action)
        free.step(free.all, commanded=action, applied=np.full((2, 3), follows, np.float32))
        assert np.array_equal(live.state["observation"], free.state["observation"])
        assert np.array_equal(live.state["returns"], free.state["returns"]), "commanded is charged"
    with pytest.raises(BadValue, match=r"^backlash=2: needs 0\.\.1 action$"):
        domain.shift("backlash=2")
    assert parse_domain("gym:Pendulum-v1/step_seconds=0.05,backlash=0.1").effects == (
        Backlash(0.1),
    )


def test_an_effect_must_declare_itself(backlash):
    with pytest.raises(UnknownName, match="did you mean backlash"):
        parse_domain("hopper/backlsh=0.1")
    nameless = type("Nameless", (Effect,), {"unit": "", "low": 0.0, "high": 1.0, "meaning": ""})
    with pytest.raises(BadValue, match=r"^the effect Nameless declares no name; write name = "):
        register_effect(nameless)
    with pytest.raises(BadValue, match="weak_motors is a built-in one"):
        register_effect(type("Weaker", (Backlash,), {"name": "weak_motors"}))
