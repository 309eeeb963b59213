"""ODRL's shifts (Lyu et al. 2024, arXiv 2410.20750) as trials, by its protocol: a step of the
target for every ten of the source.

home          source_only: each robot's own, one for all of its targets
source        the same policy in a target: the floor, and what logs it
target        target_only with as many steps of the target as others have of the source: the ceiling
fine_tuning   the same policy, then the target, as many steps as the others take of it
h2o, dap_inverse, system_identification
              a log of as many steps of the target, by the source's policy
darc, rlpd, par, vgdf
              as many steps of the target, a tenth of the source's

All learn by SAC. Two targets of each robot are those of VGDF's Table 1 (arXiv 2305.17625) or near
them; VGDF's numbers stand beside them, of another source: D4RL's medium logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from isthmus.problems.catalog import CATALOG
from isthmus.studies.trial import Trial
from isthmus.types import UnknownName

HOME, FLOOR, CEILING = "home", "source", "target"
METHODS = {
    FLOOR: "source_only",
    CEILING: "target_only",
    "fine_tuning": "fine_tuning",
    "rlpd": "rlpd",
    "par": "par",
    "vgdf": "vgdf",
    "darc": "darc",
    "h2o": "h2o",
    "dap_inverse": "dap_inverse",
    "system_identification": "system_identification",
}
LOGGED = ("h2o", "dap_inverse", "system_identification")
INTERVAL = 10  # source steps for one of the target

LAPTOP_TARGETS = (
    "half_cheetah-gravity-0.5",
    "half_cheetah-kinematic-thigh-hard",
    "half_cheetah-friction-0.1",
    "half_cheetah-broken_thigh",
    "hopper-gravity-0.5",
    "hopper-gravity-2",
    "hopper-kinematic-leg-medium",
    "hopper-broken_hips",
)
OWN_TARGETS = {
    "half_cheetah-broken_thigh": "half_cheetah/bthigh_range=x0.01",
    "hopper-broken_hips": "hopper/thigh_range=x0.001,foot_range=x0.4",
}
"""VGDF's, that the catalog of problems does not name."""

PUBLISHED = {
    "half_cheetah-broken_thigh": {"rlpd": 2439, "h2o": 5761, "vgdf": 4834},
    "hopper-broken_hips": {"rlpd": 2607, "h2o": 2435, "vgdf": 2785},
}
"""VGDF's Table 1: returns after 100,000 steps of the target; its "symmetric sampling" and VGDF with
behaviour cloning, from D4RL's medium logs of the source.
"""

TINY = {"learner.random_steps": 500, "learner.hidden": (32, 32), "learner.capacity": 2_000}


class OffDynamicsScale(NamedTuple):
    """How much is trained."""

    steps: int  # of the source
    evaluations: int
    episodes: int  # of each
    targets: tuple[str, ...]
    seeds: int
    settings: dict[str, Any]


def _list_odrl_targets() -> tuple[str, ...]:
    """Return the catalog's problems that are ODRL's."""
    return tuple(name for name, entry in CATALOG.items() if entry.citation.startswith("ODRL"))


SCALES = {
    "smoke": OffDynamicsScale(2_000, 2, 4, LAPTOP_TARGETS[4:5], 1, TINY),
    "laptop": OffDynamicsScale(
        100_000,
        10,
        50,
        LAPTOP_TARGETS,
        5,
        {"learner.capacity": 100_000, "learner.random_steps": 5_000},
    ),
    "paper": OffDynamicsScale(
        1_000_000,
        50,
        100,
        (*_list_odrl_targets(), *OWN_TARGETS),
        5,
        {"learner.random_steps": 5_000},
    ),
}


def list_off_dynamics_trials(scale: str, target: str | None) -> list[Trial]:
    """Return the trials of all of a scale's targets or of any one, seed after seed, so that a study
    cut short has whole seeds. Raises UnknownName for a target that there is not.
    """
    targets = SCALES[scale].targets
    if target is not None and target not in SCALES["paper"].targets:
        raise UnknownName("target", target, SCALES["paper"].targets)
    chosen = targets if target is None else (target,)
    trials: dict[str, Trial] = {}
    for seed in range(SCALES[scale].seeds):
        for name in chosen:
            for trial in _list_target_trials(scale, name, seed):
                trials[trial.name] = trial
    return list(trials.values())


def name_robot(target: str) -> str:
    """Return the robot of a target's name."""
    return target.partition("-")[0]


def _list_target_trials(scale: str, target: str, seed: int) -> Sequence[Trial]:
    trials = [_make_home(scale, name_robot(target), seed)]
    return trials + [_make_trial(scale, target, approach, seed) for approach in METHODS]


def _make_home(scale: str, robot: str, seed: int) -> Trial:
    size = SCALES[scale]
    name = f"{scale}-{robot}-{HOME}-s{seed}"
    settings = {"learner": "sac", **size.settings}
    return Trial(
        name, "source_only", robot, seed, size.steps, settings, access="none",
        evaluations=size.evaluations, evaluation_episodes=size.episodes, episodes=size.episodes,
    )  # fmt: skip


def _make_trial(scale: str, target: str, approach: str, seed: int) -> Trial:
    size = SCALES[scale]
    of_target = size.steps // INTERVAL
    home = f"{scale}-{name_robot(target)}-{HOME}-s{seed}"
    steps = {FLOOR: 0, "fine_tuning": of_target}.get(approach, size.steps)
    return Trial(
        f"{scale}-{target}-{approach}-s{seed}",
        METHODS[approach],
        OWN_TARGETS.get(target, target),
        seed,
        steps,
        _choose_settings(scale, approach),
        access=_choose_access(approach),
        start=home if approach in (FLOOR, "fine_tuning") else None,
        log=home if approach in LOGGED else None,
        log_steps=of_target,
        evaluations=size.evaluations,
        evaluation_episodes=size.episodes,
        episodes=size.episodes,
    )


def _choose_access(approach: str) -> str:
    if approach == FLOOR:
        return "none"
    return "dataset" if approach in LOGGED else "online"


def _choose_settings(scale: str, approach: str) -> dict[str, Any]:
    size = SCALES[scale]
    settings: dict[str, Any] = dict(size.settings)
    if approach in (FLOOR, CEILING, "fine_tuning", "system_identification"):
        settings["learner"] = "sac"
    if approach in ("darc", "vgdf"):  # the authors' 100,000 of a million steps
        settings["warmup"] = size.steps // 10
    if approach == "rlpd":
        settings["learner.critics"] = 5
    if scale == "smoke":
        settings |= {"dap_inverse": {"fitting": 500}, "rlpd": {"learner.critics": 2}}.get(
            approach, {}
        )
    return settings
