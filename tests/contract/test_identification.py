"""Identification: hidden parameters come back from a log, with intervals that hold them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from isthmus.cli.main import main
from isthmus.domains.domain import RobotDomain
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.identification import residual
from isthmus.identification.fit import AT_BOUND, IDENTIFIED, NOT_IDENTIFIED, Fit
from isthmus.identification.identify import identify
from isthmus.identification.log_space import LogSpace, choose_parameters
from isthmus.identification.residual import Predictor
from isthmus.identification.segments import cut_segments
from isthmus.logs.log import Log
from isthmus.logs.record import record_log
from isthmus.physics.parameters import JointLaw
from isthmus.physics.random import Streams, keys
from isthmus.problems.problem import Problem, make_problem
from isthmus.tasks.task import BUILT_IN, SimView, Task, find_task
from isthmus.types import BadValue, Decision, IsthmusError


class RandomActions(NamedTuple):
    """Uniform actions, scaled by `strength` [A]."""

    strength: Any

    def memory(self) -> tuple[()]:
        return ()

    def act(self, memory, observation, key):
        import jax

        action = jax.random.uniform(key, self.strength.shape, minval=-1, maxval=1)
        return Decision(action * self.strength), memory


@lru_cache
def make_log(text: str, steps: int = 300, seed: int = 0, strength: tuple[float, ...] = ()) -> Log:
    domain = parse_domain(text)
    scale = np.array(strength or (1.0,) * domain.spaces.action, np.float32)
    return record_log(domain, RandomActions(scale), steps, seed)


def add_noise(log: Log, share: float, seed: int = 0) -> Log:
    """Noise of a share of each number's spread; one reading of each moment."""
    rng = np.random.default_rng(seed)
    size = share * log.obs.std(axis=0)
    now, then = rng.normal(size=(2, *log.obs.shape)) * size
    joined = np.append(log.episode[1:] == log.episode[:-1], False)
    then = np.where(joined[:, None], np.roll(now, -1, axis=0), then)
    return log._replace(
        obs=(log.obs + now).astype(np.float32), next_obs=(log.next_obs + then).astype(np.float32)
    )


def values_of(fit: Fit) -> dict[str, float]:
    return {p.name: p.value for p in fit.parameters}


def relative(fit: Fit) -> dict[str, float]:
    return {p.name: p.value / p.default for p in fit.parameters}


# What is found


@pytest.mark.parametrize(
    "hidden",
    [
        {"damping": 3.0},
        {"damping": 3.0, "motor_strength": 0.8, "density": 1.2},
    ],
)
def test_exact_states_give_the_parameters_back(hidden) -> None:
    shift = ",".join(f"{name}=x{factor}" for name, factor in hidden.items())
    fit = identify("half_cheetah", make_log(f"half_cheetah/{shift}"))
    for name, found in relative(fit).items():
        assert found == pytest.approx(hidden.get(name, 1.0), rel=1e-3), name
    assert fit.explained > 0.999 and fit.horizon == 1 and not fit.fitted_starts
    assert {p.verdict for p in fit.parameters} == {IDENTIFIED}
    assert not fit.combinations


def test_hopper_tells_ratios_alone() -> None:
    fit = identify("hopper", make_log("hopper/density=x1.5"))
    (combination,) = fit.combinations
    shared = {"density", "damping", "armature", "motor_strength"}
    assert set(combination.weights) == shared
    assert np.allclose(list(combination.weights.values()), 1, atol=0.01)
    assert "share a common factor" in combination.text
    verdicts = {p.name: p.verdict for p in fit.parameters}
    assert {name for name, verdict in verdicts.items() if verdict == NOT_IDENTIFIED} == shared
    found = values_of(fit)
    assert found["density"] / found["damping"] == pytest.approx(1.5, rel=1e-3)
    assert found["gravity"] == pytest.approx(9.81, rel=1e-3)


def test_without_the_common_factor_hopper_is_identified() -> None:
    fit = identify("hopper", make_log("hopper/density=x1.5"), ["density", "gravity"])
    assert relative(fit) == pytest.approx({"density": 1.5, "gravity": 1.0}, rel=1e-3)
    assert not fit.combinations


def test_noisy_states_are_fitted_with_their_segments() -> None:
    log = add_noise(make_log("half_cheetah/damping=x3", 600), 0.01)
    fit = identify("half_cheetah", log, ["damping", "motor_strength"], max_delay=0)
    assert fit.horizon == 2 and fit.fitted_starts
    truth = {"damping": 3.0, "motor_strength": 1.0}
    for p in fit.parameters:
        reach = 2 * (p.high - p.low)
        assert abs(p.value / p.default - truth[p.name]) < 0.01
        assert p.low - reach < truth[p.name] * p.default < p.high + reach
        assert 1e-4 < (p.high - p.low) / p.value < 0.05
    spread = log.obs.std(axis=0)
    assert np.allclose(fit.noise / spread, 0.01, rtol=0.25)


@pytest.mark.slow
def test_intervals_hold_the_truth() -> None:
    """Of 12 noisy logs three in four of all intervals at least, nominally 95 %."""
    held = []
    for seed in range(12):
        log = add_noise(make_log("half_cheetah/damping=x2", 1000, seed), 0.01, seed)
        names = ["damping", "motor_strength", "density"]
        fit = identify("half_cheetah", log, names, max_delay=0, seed=seed)
        truth = {"damping": 2.0, "motor_strength": 1.0, "density": 1.0}
        held += [p.low <= truth[p.name] <= p.high for p in fit.parameters]
    assert np.mean(held) > 0.75


@pytest.mark.parametrize(
    ("delays", "action_delay", "observation_delay"),
    [("action_delay=2", 2, 0), ("observation_delay=1", 0, 1), ("", 0, 0)],
)
def test_delays_are_found_by_profile(delays, action_delay, observation_delay) -> None:
    log = make_log(",".join(filter(None, ["half_cheetah/motor_strength=x0.8", delays])))
    fit = identify("half_cheetah", log, ["motor_strength", "damping"])
    assert (fit.action_delay, fit.observation_delay) == (action_delay, observation_delay)
    assert relative(fit) == pytest.approx({"damping": 1.0, "motor_strength": 0.8}, rel=1e-3)
    losses = dict(fit.delay_losses)
    assert min(losses, key=losses.__getitem__) == action_delay + observation_delay
    assert ("delay" in fit.settings()) == bool(delays)


def test_dry_friction_starts_at_zero() -> None:
    log = make_log("hopper/foot_frictionloss=2,thigh_frictionloss=1")
    fit = identify("hopper", log, ["*_frictionloss"])
    truth = {"thigh_frictionloss": 1.0, "leg_frictionloss": 0.0, "foot_frictionloss": 2.0}
    assert values_of(fit) == pytest.approx(truth, abs=5e-3)
    verdicts = {p.name: p.verdict for p in fit.parameters}
    assert verdicts["foot_frictionloss"] == IDENTIFIED
    assert verdicts["leg_frictionloss"] in (IDENTIFIED, AT_BOUND)


def test_without_effect_is_not_identified() -> None:
    """A Reacher's goal has a mass that no force moves."""
    fit = identify("reacher", make_log("reacher/damping=x2"), ["damping", "target_mass"])
    verdicts = {p.name: p.verdict for p in fit.parameters}
    assert verdicts == {"damping": IDENTIFIED, "target_mass": NOT_IDENTIFIED}
    assert fit.combinations[0].text == "target_mass has no effect on what was logged"


def test_unobserved_velocities_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joint encoders alone: each segment's velocities are unknowns."""
    kind = type(find_task("ball"))

    def state_of(self, obs):
        return obs[:, :2].astype(float), np.full((len(obs), 2), np.nan)

    monkeypatch.setattr(kind, "state_of", state_of)
    fit = identify("ball", make_log("ball/ball_mass=2"), ["ball_mass", "damping"])
    assert fit.fitted_starts and fit.horizon == 10
    assert values_of(fit)["ball_mass"] == pytest.approx(2.0, rel=1e-2)


# The five faults of mujoco.sysid, and the values that are right


def measure_residual(source: str, log: Log) -> float:
    """The largest residual of the source's own values, of a step's usual change."""
    domain = parse_domain(source)
    assert isinstance(domain, RobotDomain)
    segments = cut_segments(log, find_task(domain.task), 3)
    space = LogSpace.of(domain.table(), {"damping": 1.0})
    predictor = Predictor(domain, space, segments, fits_starts=False)
    left = predictor.predict(space.origin, predictor.starts.begin(segments)) - segments.targets
    return float(np.quantile(np.abs(left), 0.99) / np.abs(log.next_obs - log.obs).std())


def test_commands_are_held() -> None:
    assert measure_residual("half_cheetah", make_log("half_cheetah")) < 1e-4


def test_derived_observations_are_not_late() -> None:
    """A Reacher observes its fingertip, which MuJoCo derives from the state."""
    assert measure_residual("reacher", make_log("reacher")) < 1e-4
    fit = identify("reacher", make_log("reacher/damping=x2"), ["damping"])
    assert relative(fit)["damping"] == pytest.approx(2.0, rel=1e-3)


def test_a_log_may_begin_anywhere() -> None:
    log = make_log("half_cheetah/damping=x3")
    later = Log(*(column[37:] for column in log))
    fit = identify("half_cheetah", later, ["damping"])
    assert relative(fit)["damping"] == pytest.approx(3.0, rel=1e-5)


def test_a_still_axis_tells_nothing_and_harms_nothing() -> None:
    log = make_log("ball/ball_mass=2", strength=(1.0, 0.0))
    assert (log.obs[:, 3] == 0).all()
    fit = identify("ball", log, ["ball_mass", "damping"])
    assert values_of(fit)["ball_mass"] == pytest.approx(2.0, rel=1e-3)
    assert np.isfinite(fit.covariance).all()


def test_what_is_not_fitted_keeps_the_sources_value() -> None:
    log = make_log("half_cheetah/armature=x2,damping=x3")
    fit = identify("half_cheetah/armature=x2", log, ["damping"])
    assert relative(fit)["damping"] == pytest.approx(3.0, rel=1e-3)
    wrong = identify("half_cheetah", log, ["damping"])
    assert abs(relative(wrong)["damping"] - 3.0) > 0.01
    assert wrong.explained < fit.explained


def test_a_fit_changes_nothing_that_another_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    log = make_log("half_cheetah/damping=x3")
    first = identify("half_cheetah", log, ["damping", "density"])
    monkeypatch.setattr(residual, "MAX_WORLDS", 100)
    assert identify("half_cheetah", log, ["damping", "density"]) == first


# States


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_task_tells_the_state_that_it_observes(name: str) -> None:
    domain, task = parse_domain(name), find_task(name)
    simulation = domain.build(4)
    assert isinstance(simulation, PhysicsSimulation)
    simulator = simulation.simulator
    simulation.begin(np.arange(4), np.zeros((4, 0)), Streams(keys(0, 4)))
    obs = task.observe(SimView(simulator, np.arange(4)))
    qpos, qvel = task.state_of(obs)
    unknown = np.isnan(qpos)  # what no sensor tells, such as the height of a walker
    assert not unknown.any() or name == "quadruped"
    qpos[unknown] = np.tile(simulator.qpos0, (4, 1))[unknown]
    simulator.reset(np.arange(4), qpos, qvel)
    assert np.allclose(task.observe(SimView(simulator, np.arange(4))), obs, atol=1e-9)


def test_gains_of_servos_are_found_and_commands_are_no_motion() -> None:
    fit = identify("arm", make_log("arm/kp=x0.8", steps=200), ["kp"])
    assert values_of(fit)["kp"] == pytest.approx(0.8, abs=0.01)
    assert find_task("quadruped").given_columns == (9, 10, 11, *range(36, 48))


def test_a_clipped_velocity_is_no_start() -> None:
    log = make_log("hopper")
    fast = log.obs.copy()
    fast[::2, -1] = 10.0
    segments = cut_segments(log._replace(obs=fast), find_task("hopper"), 1)
    assert not (segments.obs[:, -1] == 10).any()
    assert segments.size == (np.abs(fast[:, 5:]) < 10).all(axis=1).sum()


# A fit as data


@pytest.fixture(scope="module")
def fit() -> Fit:
    return identify("half_cheetah", make_log("half_cheetah/damping=x3,density=x1.2"))


def test_a_fit_is_read_as_it_was_written(fit: Fit, tmp_path) -> None:
    fit.save(tmp_path / "fit.json")
    assert Fit.load(tmp_path / "fit.json") == fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("noise"), "noise"),
        (lambda d: d.update(more=1), "more"),
        (lambda d: d.update(format="isthmus fit 9"), "not of the format"),
        (lambda d: d["parameters"][0].update(value=-5.0), "out of"),
        (lambda d: d["covariance"].pop(), "covariance"),
        (lambda d: d.update(action_delay=-1), "delay"),
        (lambda d: d["covariance"][0].__setitem__(0, float("nan")), "NaN"),
    ],
)
def test_a_damaged_fit_is_one_line(fit: Fit, tmp_path, change, message: str) -> None:
    path = tmp_path / "fit.json"
    fit.save(path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(BadValue, match=message) as error:
        Fit.load(path)
    assert "\n" not in str(error.value)


def test_a_fit_is_a_source_and_a_law(fit: Fit, tmp_path) -> None:
    path = tmp_path / "fit.json"
    fit.save(path)
    problem = make_problem("half_cheetah", source=str(path), uncertainty=str(path))
    path.unlink()  # a problem holds the numbers
    again = Problem.from_data(problem.describe())
    assert again.source == problem.source
    assert dict(problem.source.settings) == pytest.approx(values_of(fit))
    key, task = keys(0, 4000), np.ones(4000, np.int64)
    drawn = problem.randomized_source.draw(key, task)
    assert np.array_equal(again.randomized_source.draw(key, task), drawn)
    part = problem.randomized_source.draw(key[5:9], task[5:9])
    assert np.array_equal(part, drawn[5:9])  # whatever the batch


def widen(fit: Fit) -> Fit:
    """The fit with standard deviations of 0.2 that correlate by 0.8."""
    from dataclasses import replace

    P = len(fit.parameters)
    wide = 0.2**2 * (0.2 * np.eye(P) + 0.8)
    return replace(fit, covariance=tuple(map(tuple, wide.tolist())))


def test_a_law_is_the_posterior(fit: Fit) -> None:
    domain = parse_domain("half_cheetah").shift(widen(fit).law())
    drawn = domain.draw(keys(1, 20_000), np.ones(20_000, np.int64))
    logs = np.log(drawn)
    for i, name in enumerate(domain.names):
        assert np.median(drawn[:, i]) == pytest.approx(values_of(fit)[name], rel=0.01)
        setting = dict(domain.settings)[name]
        assert isinstance(setting, JointLaw)
        assert drawn[:, i].min() >= setting.low and drawn[:, i].max() <= setting.high
    assert np.allclose(logs.std(axis=0), 0.2, rtol=0.03)
    correlation = np.corrcoef(logs.T)[np.triu_indices(len(domain.names), 1)]
    assert np.allclose(correlation, 0.8, atol=0.03)
    assert parse_domain(str(domain)) == domain


def test_a_fit_of_another_task(fit: Fit, tmp_path) -> None:
    fit.save(tmp_path / "fit.json")
    for option in ("source", "uncertainty"):
        with pytest.raises(BadValue, match="the fit is of half_cheetah, not of hopper"):
            make_problem("hopper", **{option: str(tmp_path / "fit.json")})


def test_a_parameter_that_the_engine_lacks(tmp_path) -> None:
    pytest.importorskip("dartpy")
    fit = identify("half_cheetah", make_log("half_cheetah/damping=x3"), ["damping", "armature"])
    fit.save(tmp_path / "fit.json")
    with pytest.raises(IsthmusError, match="armature"):
        make_problem("half_cheetah", source="engine=dart", uncertainty=str(tmp_path / "fit.json"))


# What is refused


LOG = "half_cheetah/damping=x3"


@pytest.mark.parametrize(
    ("source", "log", "options", "message"),
    [
        ("hopper", make_log, {}, "is it of another robot"),
        ("half_cheetah", lambda text: make_log(text).first(20), {}, "needs 40 or more"),
        ("half_cheetah", lambda text: _set(make_log(text), "obs", np.nan), {}, "NaN"),
        ("half_cheetah", lambda text: _set(make_log(text), "action", 0.5), {}, "never change"),
        ("half_cheetah", lambda text: _still(make_log(text)), {}, "nothing moves"),
        ("half_cheetah", make_log, {"parameters": ["dampin"]}, "did you mean damping"),
        ("half_cheetah", make_log, {"horizon": 51}, "1..50"),
        ("half_cheetah", make_log, {"noise": -1.0}, "noise"),
        ("half_cheetah", make_log, {"max_delay": -1}, "max_delay"),
        ("half_cheetah/damping=1..3", make_log, {}, "draws its parameters"),
        ("half_cheetah/action_delay=1", make_log, {}, "without effects"),
        ("half_cheetah/damping=x3", make_log, {}, "no more of what was held out"),
        ("gym:Hopper-v5", make_log, {}, "no robot in a physics engine of ours"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(source, log, options, message) -> None:
    with pytest.raises(BadValue, match=message) as error:
        identify(source, log(LOG), **options)
    assert "\n" not in str(error.value)


def _set(log: Log, column: str, value: float) -> Log:
    return log._replace(**{column: np.full_like(getattr(log, column), value)})


def _still(log: Log) -> Log:
    at_rest = np.repeat(log.obs[:1], log.size, axis=0)
    return log._replace(obs=at_rest, next_obs=at_rest)


def test_a_task_that_tells_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(find_task("ball")), "state_of", Task.state_of)
    with pytest.raises(BadValue, match="write its state_of"):
        identify("ball", make_log("ball/ball_mass=2"))


def test_patterns_choose_parameters() -> None:
    table = parse_domain("hopper").table()
    assert choose_parameters(table, ["*_damping", "gravity"])[0] == "gravity"
    assert set(choose_parameters(table, ())) >= {"gravity", "damping", "motor_strength"}


# The command


def write_log(path, log: Log) -> str:
    names = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
    np.savez(path, **dict(zip(names, log, strict=False)))
    return str(path)


def test_the_command_writes_a_fit_and_its_picture(tmp_path, capsys) -> None:
    data = write_log(tmp_path / "log.npz", make_log("hopper/density=x1.5"))
    out = tmp_path / "fit.json"
    main(["identify", "hopper/density=x1.5", "--data", data, "-o", str(out)])
    text = capsys.readouterr().out
    assert "share a common factor" in text and "not identified" in text and "z velocity" in text
    assert Fit.load(out).task == "hopper"
    assert (tmp_path / "fit.png").stat().st_size > 10_000
    options = ["--data", data, "-o", str(out), "--parameters", "density,gravity", "--json"]
    main(["identify", "hopper/density=x1.5", *options])
    printed = json.loads(capsys.readouterr().out)
    assert [p["name"] for p in printed["parameters"]] == ["gravity", "density"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"-o": "fit.txt"}, "ends in .json"),
        ({"-o": "none/fit.json"}, "no folder"),
        ({"--parameters": "weight"}, "no parameter matches"),
        ({"--source": "density=x1.5"}, "no more of what was held out"),
    ],
)
def test_a_mistake_writes_nothing(tmp_path, monkeypatch, capsys, options, message) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_log(tmp_path / "log.npz", make_log("hopper/density=x1.5"))
    given = {"--data": data, "-o": "fit.json", **options}
    with pytest.raises(SystemExit) as end:
        main(
            ["identify", "hopper/density=x1.5", *[part for pair in given.items() for part in pair]]
        )
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.npz"]
