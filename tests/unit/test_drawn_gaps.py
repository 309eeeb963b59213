"""Gaps that are drawn: laws and axes of effects; a drawn value does what a fixed one does."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import isthmus
from isthmus.domains.batched import fit_policy
from isthmus.domains.domain import Domain
from isthmus.domains.effects import EFFECTS
from isthmus.domains.gaps import list_gaps
from isthmus.domains.gym import Environment
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import build_simulator
from isthmus.domains.rollout import rollout_episodes
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.evaluation.landscape import landscape, make_grid, training_box
from isthmus.physics.random import keys
from isthmus.tasks.task import find_task
from isthmus.types import BadValue, Worlds

N, STEPS = 6, 30
VALUES = {
    "weak_motors": (0.5, 1.0),
    "action_delay": (0.0, 3.0),
    "observation_noise": (0.0, 0.05),
    "quantization": (0.0, 0.1),
    "observation_delay": (0.0, 2.0),
}


def play(domain: Domain, parameters: np.ndarray | None, n: int = N) -> Worlds:
    """Return worlds after some steps of actions that depend on their number alone."""
    live = SteppedWorlds.new(domain, keys(7, n), parameters=parameters)
    size = domain.spaces.action
    for step in range(STEPS):
        phase = np.arange(n)[:, None] + np.arange(size) + 0.3 * step
        live.step(live.all, commanded=np.sin(phase))
    return live.worlds()


def check_alike(drawn: Worlds, at: int, fixed: Worlds) -> None:
    """Assert that a world is the one of a domain with a fixed gap, to the bit."""
    for field in ("rows", "observation", "returns", "step"):
        np.testing.assert_array_equal(getattr(drawn, field)[at], getattr(fixed, field)[at])


def test_the_table_of_what_can_be_drawn() -> None:
    assert set(list_gaps()) == set(VALUES)
    assert {name for name in EFFECTS if not EFFECTS[name].can_be_drawn} == {
        "history",
        "previous_action",
    }
    assert list_gaps()["weak_motors"].default == 1.0


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("task", ["hopper", "reacher"])
def test_a_drawn_value_does_what_a_fixed_one_does(task: str, name: str) -> None:
    low, high = VALUES[name]
    domain = parse_domain(f"{task}/{name}={low}..{high}")
    values = np.linspace(low, high, 3).repeat(2)
    if EFFECTS[name].whole:
        values = np.rint(values)
    worlds = play(domain, values[:, None])
    assert domain.names == (name,)
    for i, value in enumerate(values):
        check_alike(worlds, i, play(parse_domain(f"{task}/{name}={value:g}"), None))


def test_beside_physics_and_other_gaps() -> None:
    text = "hopper/torso_mass=2..6,action_delay=0..3,observation_noise=0..0.02,history=2"
    domain = parse_domain(text)
    assert domain.names == ("action_delay", "observation_noise", "torso_mass")
    assert domain.physical_names == ("torso_mass",)
    worlds = play(domain, None)
    delay, noise, mass = worlds.parameters.T
    assert set(delay) <= {0, 1, 2, 3} and len(set(delay)) > 1
    assert ((noise >= 0) & (noise <= 0.02)).all() and ((mass >= 2) & (mass <= 6)).all()
    for i in range(N):
        own = float(mass[i]), float(noise[i])
        settings = f"torso_mass={own[0]!r},action_delay={delay[i]:g},observation_noise={own[1]!r}"
        fixed = play(parse_domain(f"hopper/{settings},history=2"), None)
        check_alike(worlds, i, fixed)


def test_a_worlds_draw_does_not_depend_on_its_neighbours_or_on_what_else_is_drawn() -> None:
    domain = parse_domain("hopper/action_delay=0..3,observation_noise=0..0.02")
    few, many = domain.worlds(3, 5), domain.worlds(9, 5)
    np.testing.assert_array_equal(few.parameters, many.parameters[:3])
    alone = parse_domain("hopper/action_delay=0..3").worlds(9, 5)
    np.testing.assert_array_equal(alone.parameters[:, 0], many.parameters[:, 0])


def test_whole_numbers_are_each_as_likely() -> None:
    drawn = parse_domain("hopper/action_delay=0..3").draw(keys(0, 8000), np.ones(8000, np.int64))
    counts = np.bincount(drawn[:, 0].astype(int), minlength=4)
    assert len(counts) == 4 and abs(counts - 2000).max() < 4 * np.sqrt(8000 * 0.25 * 0.75)


def test_worlds_resume_to_the_bit() -> None:
    domain = parse_domain("hopper/action_delay=0..3,observation_noise=0..0.02,weak_motors=0.5..1")
    live = SteppedWorlds.new(domain, keys(1, N))
    action = np.full((N, 3), 0.3)
    for _ in range(5):
        live.step(live.all, commanded=action)
    again = SteppedWorlds.resume(domain, live.worlds(), "other")
    for each in (live, again):
        for _ in range(5):
            each.step(each.all, commanded=action)
    for one, other in zip(live.worlds(), again.worlds(), strict=True):
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)


def test_its_text_reads_back_and_a_number_takes_a_laws_place() -> None:
    for text in (
        "hopper/action_delay=0..3",
        "hopper/observation_noise=log:0.001..0.02,torso_mass=2..6",
        "hopper/weak_motors=normal:0.9:0.1:0.5..1",
        "hopper/action_delay=0..3:4,torso_mass=2..6:3",
    ):
        assert parse_domain(str(parse_domain(text))) == parse_domain(text)
    fixed = parse_domain("hopper/action_delay=0..3").shift("action_delay=2")
    assert fixed == parse_domain("hopper/action_delay=2") and fixed.names == ()
    assert fixed.shift("action_delay=0..3") == parse_domain("hopper/action_delay=0..3")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hopper/action_delay=0..2.6", "multiples of 0.25"),
        ("hopper/action_delay=1.1", "multiples of 0.25"),
        ("hopper/timestep=0.004,action_delay=0.25", "multiples of 0.5"),
        ("hopper/observation_delay=0..2.5", "counts steps"),
        ("hopper/observation_delay=0..3:3", "counts steps"),
        ("hopper/action_delay=0..200", "out of bounds"),
        ("hopper/action_delay=3..1", "lower end"),
        ("hopper/history=1..3", "one value for all worlds"),
        ("hopper/observation_noise=fit:0.01:1:0.1:0..0.02", "fit's law"),
        ("hopper/weak_motors=x0.5", "not one relative"),
        ("gym:Hopper-v5/action_delay=0..3", "robots of ours alone"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(BadValue, match=told) as error:
        parse_domain(text)
    assert "\n" not in str(error.value)


def test_a_servos_motors_are_weakened_by_each_worlds_own_draw() -> None:
    """There a scaled action would be another target: it is the simulator that weakens."""
    domain = parse_domain("arm/weak_motors=0.4..1")
    assert not domain.action_scales_force()
    values = np.linspace(0.4, 1, N)
    worlds = play(domain, values[:, None])
    for i, value in enumerate(values):
        check_alike(worlds, i, play(parse_domain(f"arm/weak_motors={float(value)!r}"), None))


def test_a_privileged_critic_is_told() -> None:
    problem = isthmus.problem(
        "hopper/torso_mass=x1.5", uncertainty="torso_mass=2..6,action_delay=0..3"
    )
    source = problem.randomized_source
    assert source.spaces.parameters == 2 and "action_delay" in source.names


def test_gymnasiums_environment_draws_and_can_be_told() -> None:
    env = Environment("hopper/action_delay=0..3")
    assert isinstance(env, gymnasium.Env)
    drawn = {env.reset(seed=seed)[1]["parameters"]["action_delay"] for seed in range(12)}
    assert drawn <= {0.0, 1.0, 2.0, 3.0} and len(drawn) > 1
    _, info = env.reset(seed=0, options={"parameters": {"action_delay": 2}})
    assert info["parameters"]["action_delay"] == 2
    with pytest.raises(BadValue):
        env.reset(options={"parameters": {"action_delay": 200}})


class Still:
    """A policy that acts by what it sees."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        return np.sin(3 * observations[:, :3])


def test_a_landscape_over_a_gap_is_that_of_fixed_gaps() -> None:
    grid = make_grid(
        parse_domain("hopper/action_delay=0..1"), "action_delay=0..3:4,torso_mass=2..6:3"
    )
    found = landscape(Still(), grid, episodes=3, seed=1)
    assert found.names == ("action_delay", "torso_mass")
    for i, delay in enumerate(found.axes[0]):
        for j, mass in enumerate(found.axes[1]):
            cell = i * 3 + j
            fixed = parse_domain(f"hopper/torso_mass={float(mass)!r},action_delay={delay:g}")
            keyed = keys(1, 36)[3 * cell : 3 * cell + 3]
            worlds = SteppedWorlds.new(fixed, keyed).worlds()
            again = rollout_episodes(fixed, worlds, fit_policy(Still(), fixed))
            np.testing.assert_array_equal(found.returns[i, j], again.returns)


def test_what_training_varied_is_the_landscapes_box() -> None:
    names = ("action_delay", "torso_mass")
    trained = parse_domain("hopper/action_delay=0..2,torso_mass=3..5")
    assert training_box(trained, names) == ((0, 2), (3, 5))
    assert training_box(parse_domain("hopper/action_delay=1"), names)[0] == (1, 1)
    assert training_box(parse_domain("hopper"), names)[0] == (0, 0)


def test_an_audit_says_the_law_and_judges_its_largest_value() -> None:
    found = isthmus.audit("hopper", "hopper/action_delay=0..3")
    (difference,) = found.alone
    assert (difference.name, difference.source, difference.target) == (
        "action_delay",
        "off",
        "0.0..3.0",
    )


def step_by_hand(delay: float, parts: int, actions: np.ndarray) -> np.ndarray:
    """Return Hopper's rows after actions [T, N, 3], each substep under the action of its time."""
    task = find_task("hopper")
    n, substeps = actions.shape[1], task.frame_skip
    begun = SteppedWorlds.new(parse_domain("hopper"), keys(7, n))
    simulator = build_simulator(task, "mujoco", (), n)
    simulator.rows[:] = begun.worlds().rows
    simulator.frame_skip = 1
    late = round(delay * substeps)
    for at in range(len(actions) * substeps):
        of_step = (at - late) // substeps
        control = actions[of_step] if of_step >= 0 else np.zeros((n, 3))
        simulator.step(np.arange(n), control)
    return simulator.rows.copy()


@pytest.mark.parametrize("delay", [0.25, 0.5, 1.75, 2.0])
def test_a_part_of_a_step_is_so_many_steps_of_physics(delay: float) -> None:
    actions = np.sin(np.random.default_rng(0).normal(size=(8, N, 3)))
    live = SteppedWorlds.new(parse_domain(f"hopper/action_delay={delay}"), keys(7, N))
    for action in actions:
        live.step(live.all, commanded=action)
    expected = step_by_hand(delay, 4, actions)
    np.testing.assert_allclose(live.worlds().rows, expected, atol=1e-12)


def test_parts_of_a_step_are_drawn_and_each_world_has_its_own() -> None:
    domain = parse_domain("hopper/action_delay=0..1.5")
    drawn = domain.draw(keys(0, 7000), np.ones(7000, np.int64))[:, 0]
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_allclose(values, np.arange(7) / 4)
    assert abs(counts - 1000).max() < 4 * np.sqrt(1000)
    own = np.array([0.0, 0.25, 0.5, 1.0, 1.25, 1.5])
    worlds = play(domain, own[:, None])
    for i, delay in enumerate(own):
        fixed = parse_domain(f"hopper/action_delay={delay:g}")
        for field in ("observation", "returns"):
            mixed, alone = getattr(worlds, field)[i], getattr(play(fixed, None), field)[i]
            np.testing.assert_array_equal(mixed, alone)


def test_parts_of_a_step_follow_the_timestep() -> None:
    """A step of 8 ms has eight of 1 ms; where the timestep changes later, both are written."""
    fine = parse_domain("hopper/action_delay=0.125,timestep=0.001")
    assert str(parse_domain(str(fine))) == str(fine)
    with pytest.raises(BadValue, match="write both settings at once"):
        parse_domain("hopper/action_delay=0.25").shift("timestep=0.004")
    play(fine, None)


def test_in_dart_a_part_of_a_step_is_the_same() -> None:
    pytest.importorskip("dartpy")
    late = play(parse_domain("hopper/action_delay=0.5,engine=dart"), None, 2)
    no, whole = (
        play(parse_domain(f"hopper/action_delay={delay},engine=dart"), None, 2) for delay in (0, 1)
    )
    assert not np.allclose(late.rows, no.rows) and not np.allclose(late.rows, whole.rows)
    assert np.isfinite(late.rows).all()
