"""The audit says of a shift what is true of it, also that there is none."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import own
import pytest

from isthmus.audit.audit import audit
from isthmus.audit.effect import HORIZON_STEPS, NO_CHANGE, SHIFT, SMALL_SHIFT
from isthmus.audit.result import Audit
from isthmus.domains.parse import parse_domain
from isthmus.domains.simulation import START
from isthmus.physics.random import Streams, fold, keys
from isthmus.report.landscapes import find_inert_limit
from isthmus.tasks import task as tasks
from isthmus.types import BadValue


def of(source: str, target: str, **kwargs: Any) -> Audit:
    return audit(parse_domain(source), parse_domain(target), **kwargs)


def text(found: Audit) -> str:
    return "\n".join(found.lines())


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("hopper", "hopper"),
        ("ant/action_delay=2,history=2", "ant/action_delay=2,history=2"),
        ("hopper", "hopper/gravity=x1,density=1,friction=2"),
        ("reacher", "reacher/weak_motors=1,action_delay=0,quantization=0"),
        ("hopper/torso_mass=1..9,gravity=5..15", "hopper/torso_mass=1..9,gravity=5..15"),
        ("hopper/observation_noise=0.1", "hopper/observation_noise=0.1"),
    ],
)
def test_what_is_equal_is_no_change(source, target):
    found = of(source, target)
    assert found.verdict == NO_CHANGE and "verdict  no change" in text(found)
    assert all(d.one_step == 0 and d.apart == 0 for d in found.dimensions)
    assert any(d.std > 0 for d in found.dimensions)
    (point,) = found.points
    assert point.lengths[0] == point.lengths[1] > 10 and point.diverged == (0, 0)


@pytest.mark.parametrize(("source", "target"), [("1", "0.5"), ("0.9", "0.1"), ("0.5", "1")])
def test_a_foots_friction_below_the_floors_is_no_change(source, target):
    found = of(f"hopper/foot_friction={source}", f"hopper/foot_friction={target}")
    assert found.verdict == NO_CHANGE
    assert all(d.one_step == 0 and d.apart == 0 for d in found.dimensions)
    assert (
        set(found.points[0].contact.values()) == {(1.0, 1.0)} and "foot" in found.points[0].contact
    )
    for value in {source, target} - {"1"}:
        assert any(
            f"foot_friction={value} is below the floor's 1" in note
            and "no change against foot_friction=1," in note
            for note in found.notes
        )


def test_the_published_hopper_keeps_a_foot_of_two():
    """A foot of 0.5 is that of 1, which is no longer the 2 of the robot's own: both are said."""
    found = of("hopper", "hopper/foot_friction=0.5")
    assert found.verdict == SHIFT
    assert found.points[0].contact["foot"] == (2.0, 1.0)
    assert "foot 2 -> 1" in text(found)
    assert any(
        "foot_friction=0.5 is below the floor's 1" in note and NO_CHANGE in note
        for note in found.notes
    )
    as_floor = of("hopper", "hopper/foot_friction=1")
    assert as_floor.dimensions == found.dimensions and as_floor.points == found.points
    assert not as_floor.notes


def test_a_foot_above_the_floor_counts_for_itself():
    found = of("walker2d/foot_friction=0.7", "walker2d/foot_friction=0.8")  # the floor has 0.7
    assert found.verdict != NO_CHANGE and not found.notes
    assert found.points[0].contact["foot"] == found.points[0].contact["foot_left"] == (0.7, 0.8)


def test_the_floor_moves_with_the_true_friction():
    """friction=1 halves the Hopper's: a floor of 0.5."""
    found = of("hopper/friction=1,foot_friction=0.7", "hopper/friction=1,foot_friction=0.3")
    assert found.points[0].contact["foot"] == (0.7, 0.5)
    assert [note.split(":")[0] for note in found.notes] == [
        "foot_friction=0.3 is below the floor's 0.5"
    ]
    found = of("hopper", "hopper/friction=0.5")
    assert found.points[0].contact["foot"] == (2.0, 0.5) and found.verdict == SHIFT


def test_the_floor_moves_with_the_factor_that_stands_for_friction(tmp_path):
    """A foot of .2 on ice of .1, a rough floor far away: under friction_scale=3 the ice has .3, as
    has a foot of .2.
    """
    path = tmp_path / "model.xml"
    floors = (
        '<geom type="box" size="2 2 .1" pos="0 0 -.1" friction=".1"/>'
        '<geom type="box" size="2 2 .1" pos="50 0 -.1" friction="1.5"/>'
    )
    foot = (
        '<body name="torso" pos="0 0 .099"><freejoint/><site name="s"/><geom name="foot" '
        'type="box" size=".1 .1 .1" '
        'friction=".2"/></body>'
    )
    motor = '<motor site="s" gear="1 0 0 0 0 0" ctrlrange="-1 1"/>'
    path.write_text(
        f"<mujoco><worldbody>{floors}{foot}</worldbody><actuator>{motor}</actuator></mujoco>"
    )

    class Sledge(own.Leg):
        name = "sledge"
        model = path
        observation_names = tuple(f"number {i}" for i in range(13))

        def start(self, simulator, random):
            qpos = np.tile(simulator.qpos0, (len(random.uniform(0.0, 1.0, 1)), 1))
            return qpos, np.zeros((len(qpos), simulator.nv))

    tasks.register(Sledge)
    try:
        found = of(
            "sledge/friction_scale=3,foot_friction=0.4", "sledge/friction_scale=3,foot_friction=0.2"
        )
        assert find_inert_limit(parse_domain("sledge/friction_scale=3"), "foot_friction") is None
        assert find_inert_limit(parse_domain("sledge"), "foot_friction") == 0.1
    finally:
        own.forget()
    assert found.points[0].contact["foot"] == (0.4, pytest.approx(0.3))
    assert found.notes[0].startswith("foot_friction=0.2 is below the floor's 0.3")
    assert "`friction_scale` changes foot and floor" in found.notes[0]


def test_gravity_does_nothing_to_reacher():
    found = of("reacher", "reacher/gravity=x2")
    assert found.verdict == NO_CHANGE and found.points[0].contact == {}
    assert any(note.startswith("gravity has no effect here") for note in found.notes)
    assert "nothing touches it" in text(found)


def test_gravity_is_a_shift_of_half_cheetah():
    found = of("half_cheetah", "half_cheetah/gravity=x2")
    assert found.verdict == SHIFT and found.effect.one_step_in == "z velocity"
    assert set(found.points[0].contact.values()) == {(0.4, 0.4)}
    assert found.points[0].lengths == (HORIZON_STEPS, HORIZON_STEPS)


def test_sizes_are_in_order():
    found = [
        of("half_cheetah", f"half_cheetah/gravity=x{factor}")
        for factor in ("1.001", "1.02", "1.3", "3")
    ]
    assert [f.verdict for f in found] == [SMALL_SHIFT, SMALL_SHIFT, SHIFT, SHIFT]
    assert np.all(np.diff([f.effect.one_step for f in found]) > 0)


def test_one_step_is_what_one_step_does():
    """Against a loop of one's own: fresh states, one step in each domain, the same random
    pushes.
    """
    found = of("half_cheetah", "half_cheetah/gravity=x2", episodes=6, seed=3)
    source, target = (parse_domain(f"half_cheetah/gravity=x{x}").build(6) for x in (1, 2))
    ids, gravity = np.arange(6), np.full((6, 1), 9.81)
    obs, memory = source.begin(ids, gravity, Streams(fold(keys(3, 6), START, 1)))
    start = obs.copy()
    target.begin(ids, 2 * gravity, Streams(fold(keys(3, 6), START, 1)))
    strength = np.linspace(0.2, 1, 6)[:, None]
    pushes = (strength * np.random.default_rng(3).uniform(-1, 1, (HORIZON_STEPS, 6, 6))).astype(
        np.float32
    )
    changes, misses, seen = [], [], []
    for push in pushes:
        target.restore(source.rows, 2 * gravity)
        nudged = target.step(ids, memory, commanded=push, applied=push)[0]
        after, *_, memory = source.step(ids, memory, commanded=push, applied=push)
        changes.append(after - obs)
        misses.append(nudged - after)
        seen.append(after)
        obs = after
    want = np.sqrt(np.square(misses).mean((0, 1))) / np.std(changes, axis=(0, 1))
    assert np.allclose([d.one_step for d in found.dimensions], want, rtol=1e-9)
    assert np.allclose([d.std for d in found.dimensions], np.std(seen, axis=(0, 1)), rtol=1e-9)
    # And `apart`: the target left to itself.
    there, memory = target.begin(ids, 2 * gravity, Streams(fold(keys(3, 6), START, 1)))
    assert np.array_equal(there, start)
    for push in pushes:
        there, *_, memory = target.step(ids, memory, commanded=push, applied=push)
    apart = np.sqrt(np.square(there - obs).mean(0)) / np.std(seen, axis=(0, 1))
    assert np.allclose([d.apart for d in found.dimensions], apart, rtol=1e-9)


def test_noise_shows_where_it_is():
    """Noise on what is seen moves nothing: it is as large after many steps as after one."""
    found = of("half_cheetah", "half_cheetah/observation_noise=0.01", episodes=64)
    assert found.verdict == SHIFT and found.points[0].lengths == (HORIZON_STEPS, HORIZON_STEPS)
    assert np.allclose([d.apart * d.std for d in found.dimensions], 0.01, rtol=0.3)
    assert np.isclose(np.mean([d.apart * d.std for d in found.dimensions]), 0.01, rtol=0.1)


def test_each_difference_is_weighed_alone():
    found = of("hopper/foot_friction=1", "hopper/foot_friction=0.5,gravity=x1.5,action_delay=1")
    effects = {one.name: one.points[0][2].verdict for one in found.alone}
    assert effects == {"foot_friction": NO_CHANGE, "gravity": SHIFT, "action_delay": SHIFT}
    assert [(one.source, one.target) for one in found.alone if one.name == "action_delay"] == [
        ("off", "1")
    ]
    gravity = of("hopper/foot_friction=1", "hopper/foot_friction=1,gravity=x1.5")
    assert next(one for one in found.alone if one.name == "gravity").points[0][2] == gravity.effect
    assert "action_delay: off -> 1" in text(found)


def test_grids_are_looked_at_in_the_middle_and_at_both_ends():
    found = of(
        "hopper/torso_mass=6,foot_friction=2",
        "hopper/torso_mass=0.5..11.5:12,foot_friction=0.1..2.9:15",
    )
    assert [p.setting for p in found.points] == [
        "foot_friction=0.1, torso_mass=0.5",
        "foot_friction=1.5, torso_mass=6.5",
        "foot_friction=2.9, torso_mass=11.5",
    ]
    assert [p.contact["foot"][1] for p in found.points] == [1.0, 1.5, 2.9]
    masses = next(one for one in found.alone if one.name == "torso_mass")
    assert [(s, t) for s, t, _ in masses.points] == [("6", "0.5"), ("6", "6.5"), ("6", "11.5")]
    assert masses.points[1][2].one_step < min(
        masses.points[0][2].one_step, masses.points[2][2].one_step
    )
    assert found.effect.one_step == max(p.effect.one_step for p in found.points)
    assert found.notes[0].startswith("foot_friction=0.1 is below")


def test_laws_have_ends_too():
    found = of("hopper/torso_mass=log:1..9", "hopper/torso_mass=3,friction=normal:1:0.2:0.5..2")
    masses, frictions = (
        next(o for o in found.alone if o.name == name) for name in ("torso_mass", "friction")
    )
    assert [(s, t) for s, t, _ in masses.points] == [("1", "3"), ("3", "3"), ("9", "3")]
    assert masses.points[1][2].verdict == NO_CHANGE and masses.points[0][2].verdict == SHIFT
    assert [t for _, t, _ in frictions.points] == ["0.5", "1", "2"]
    assert frictions.points[2][2].verdict == NO_CHANGE  # the Hopper's own friction is 2


class Lean(NamedTuple):
    push: Any

    def memory(self):
        return np.float32(0)

    def act(self, memory, observation):
        return self.push * (memory % 2), memory + 1


def test_a_policy_goes_where_it_goes():
    """It plays as many episodes again, and its memory is its own."""
    source, target = "half_cheetah", "half_cheetah/motor_strength=1.5"
    idle = of(source, target, policy=Lean(np.zeros(6, np.float32)))
    busy = of(source, target, policy=Lean(np.ones(6, np.float32)))
    alone = of(source, target)
    assert idle.episodes == busy.episodes == 32 and alone.episodes == 16
    assert idle.effect.one_step < alone.effect.one_step < busy.effect.one_step


def test_what_blows_up_is_counted():
    found = of("half_cheetah", "half_cheetah/motor_strength=100,torso_mass=0.001")
    assert found.verdict == SHIFT and found.points[0].diverged[0] == 0 < found.points[0].diverged[1]
    assert np.isfinite(found.effect.apart) and "blew up: 0 ->" in text(found)


def test_an_audit_is_the_same_again():
    assert of("hopper", "hopper/gravity=x2", seed=1) == of("hopper", "hopper/gravity=x2", seed=1)
    assert of("hopper", "hopper/gravity=x2", seed=1) != of("hopper", "hopper/gravity=x2", seed=2)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("hopper", "walker2d", "one task"),
        ("hopper", "hopper/history=2", "11 numbers in hopper and 22"),
        ("hopper", "gym:Hopper-v5", "gym:Hopper-v5 cannot be audited"),
    ],
)
def test_what_cannot_be_compared_is_refused(source, target, words):
    with pytest.raises(BadValue, match=words) as caught:
        of(source, target)
    assert "\n" not in str(caught.value)


def test_what_is_seen_is_named():
    found = of(
        "hopper/history=2,previous_action=1", "hopper/history=2,previous_action=1,gravity=x2"
    )
    names = [d.name for d in found.dimensions]
    assert len(names) == len(set(names)) == 25
    assert (names[0], names[11], names[-1]) == ("z, 1 before", "z", "previous action 2")
    assert found.dimensions[-1].one_step == 0 < found.dimensions[11].one_step


def test_a_floor_in_a_body_of_its_own_is_the_floor(tmp_path, monkeypatch):
    """Hopper on a deck: the deck is no part of the robot, and `friction` is the contact's."""
    mjcf = tasks.find_task("hopper").model_path().read_text()
    start = mjcf.index("<geom conaffinity=", mjcf.index("<worldbody>"))
    end = mjcf.index("/>", start) + 2
    path = tmp_path / "deck.xml"
    path.write_text(
        mjcf[:start] + f'<body name="deck" pos="0 0 0">{mjcf[start:end]}</body>' + mjcf[end:]
    )

    class OnDeck(type(tasks.find_task("hopper"))):
        name = "hopper_on_deck"
        model = str(path)

    monkeypatch.setitem(tasks.TASKS._entries, OnDeck.name, OnDeck)
    found = of("hopper_on_deck", "hopper_on_deck/friction=1")
    assert found.points[0].contact["foot"] == (2.0, 1.0) and "floor" not in found.points[0].contact
    below = of("hopper_on_deck/foot_friction=0.9", "hopper_on_deck/foot_friction=0.4")
    assert below.verdict == NO_CHANGE and any("below the floor's 1" in note for note in below.notes)
