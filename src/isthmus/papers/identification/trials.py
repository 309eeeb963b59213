"""The study of identification as trials.

coverage     hidden robots, three noises each: do the intervals hold the truth?
return       what a policy is worth in the target, by method, each given the source's policy's log
adaptation   agents that adapt without a log, in ES-sim2real's landscape

Trials that DAP's and ES-sim2real's studies have, too, have their names and settings there: their
files can be put into this study's folder.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from isthmus.papers.dap.trials import METHODS, Variant, make_dap_trial
from isthmus.papers.es_sim2real.trials import SCALES as ES_SCALES
from isthmus.papers.es_sim2real.trials import list_es_trials
from isthmus.papers.identification.coverage import measure_coverage
from isthmus.studies.trial import AnyTrial, Measurement, Trial

FIGURES = ("coverage", "return", "adaptation")
COVERED_TASKS = ("hopper", "half_cheetah", "walker2d")
NOISES = (0.01, 0.0, 0.05)  # of each observed number's spread; the one that claims ask for first
COVERAGE = "coverage_"  # before the robot's name, in a trial's


class CoverageScale(NamedTuple):
    """How many hidden robots of each task, and how long a log of each."""

    tasks: tuple[str, ...]
    noises: tuple[float, ...]
    robots: int
    transitions: int


SCALES = {
    "smoke": CoverageScale(("hopper",), (0.0,), 2, 300),
    "laptop": CoverageScale(COVERED_TASKS, NOISES, 100, 5_000),
    "paper": CoverageScale(COVERED_TASKS, NOISES, 100, 5_000),
}


APPROACHES = (
    "source",
    "target",
    "system_identification",
    "domain_randomization",
    "dap_inverse",
    "darc",
    "h2o",
)
SHIFTS = ("half_cheetah", "motors", "delayed", "hopper", "dart", "walker2d", "ant")
"""In the order in which they are run: HalfCheetah's first."""
UNHELD = {
    "delayed": ("half_cheetah", "half_cheetah/action_delay=2,motor_strength=x0.8"),
    "dart": ("hopper", "hopper/engine=dart"),
}
"""By name: the robot, and a target that the usual parameters do not hold."""
OF_HALF_CHEETAH = ("half_cheetah", "motors", "delayed")
PARAMETERS = {"ant": "*_strength"}  # what is fitted where the usual ones cannot hold the shift
WIDE = "friction=x0.3..x3,density=x0.3..x3,damping=x0.3..x3,motor_strength=x0.3..x3"
ESTIMATING = ("up_osi", "rma")
PRETRAINED = 0.7  # of their steps


def list_identification_trials(scale: str, figure: str | None) -> list[AnyTrial]:
    """Return a figure's trials, or all."""
    listed = {
        "coverage": _list_coverage,
        "return": _list_returns,
        "adaptation": _list_adaptation,
    }
    trials: list[AnyTrial] = []
    for name in FIGURES if figure is None else (figure,):
        trials += listed[name](scale)
    return trials


def _list_coverage(scale: str) -> list[Measurement]:
    """Return noise after noise, robot after robot: a study cut short has of all tasks."""
    size = SCALES[scale]
    trials: list[Measurement] = []
    for noise in size.noises:
        for seed in range(size.robots):
            for task in size.tasks:
                given = {"task": task, "transitions": size.transitions, "noise": noise}
                name = f"{scale}-{COVERAGE}{task}-noise{noise:g}-s{seed}"
                trials.append(Measurement(name, measure_coverage, seed, given))
    return trials


def _list_returns(scale: str) -> list[Trial]:
    if scale == "smoke":
        return [_make_return_trial(scale, "hopper", name, 0) for name in APPROACHES[:3]]
    trials: dict[str, Trial] = {}
    for shift in SHIFTS:
        for seed in range(5 if shift in OF_HALF_CHEETAH else 3):
            for approach in APPROACHES:
                trial = _make_return_trial(scale, shift, approach, seed)
                trials[trial.name] = trial
    return _with_loggers(scale, trials)


def _with_loggers(scale: str, trials: dict[str, Trial]) -> list[Trial]:
    """Return the trials, and those whose policies log for them."""
    loggers: dict[str, Trial] = {}
    for trial in trials.values():
        if trial.log and trial.log not in trials:
            robot = trial.log.split("-")[1]
            loggers[trial.log] = _make_return_trial(scale, robot, "source", trial.seed)
    return [*trials.values(), *loggers.values()]


def _make_return_trial(scale: str, shift: str, approach: str, seed: int) -> Trial:
    robot, problem = UNHELD.get(shift, (shift, ""))
    method = METHODS.get(approach, approach)
    trial = make_dap_trial(scale, robot, Variant(approach, method), seed)
    if problem:
        name = f"{scale}-{shift}-{approach}-s{seed}"
        trial = replace(trial, name=name, problem=problem)
    if approach == "system_identification":
        given = {"parameters": PARAMETERS[shift]} if shift in PARAMETERS else {}
        return replace(trial, settings=trial.settings | {"learner": "sac"} | given)
    if approach == "domain_randomization":
        settings = trial.settings | {"learner": "sac"}
        return replace(trial, settings=settings, access="none", log=None, uncertainty=WIDE)
    return trial


def _list_adaptation(scale: str) -> list[Trial]:
    """Return ES-sim2real's agents that remember or evolve, and those that estimate."""
    trials = [*list_es_trials(scale, "memory")]
    steps = ES_SCALES[scale].recurrent
    for model in [trial for trial in trials if trial.method == "recurrent_randomization"]:
        for method in ESTIMATING:
            settings = {**_without_recurrence(scale), "pretraining": round(PRETRAINED * steps)}
            name = f"{scale}-{method}-s{model.seed}"
            trials.append(replace(model, name=name, method=method, settings=settings))
    return trials


def _without_recurrence(scale: str) -> dict[str, object]:
    """Return PPO's settings in that study; who is told the dynamics needs no privileged critic."""
    learner = {**ES_SCALES[scale].learner}
    del learner["learner.privileged"]
    return learner
