"""MATL's experiments as trials."""

from __future__ import annotations

from typing import Any

from isthmus.papers.matl.experiments import (
    ABLATIONS,
    EXPERIMENTS,
    FIGURES,
    METHODS,
    NEEDS,
    SCALES,
    Experiment,
)
from isthmus.studies.trial import Trial

STARTED = ("fine_tuning", "matlf")  # from the source's policy
ALIGNMENT = 0.1  # matl's own, where an experiment has none


def count_iterations(scale: str, experiment: Experiment) -> int:
    """Return the robot's iterations."""
    column = SCALES[scale].column
    return 3 if column is None else experiment.iterations[column]


def scale_rollout(scale: str, experiment: Experiment) -> tuple[int, int]:
    """Return the worlds and steps of a batch."""
    worlds, steps = experiment.rollout
    return max(1, round(worlds * SCALES[scale].worlds)), steps


def name_plain_matl(experiment: Experiment) -> str:
    """Return the name that matl as it is has among the variants by lambda."""
    return f"matl_{experiment.alignment.get('alignment', ALIGNMENT):g}"


def list_matl_trials(scale: str, figure: str | None) -> list[Trial]:
    """Return all figures' trials, or one's and those that it is measured by; seed after seed, so
    that a study cut short has whole seeds.
    """
    figures = FIGURES if figure is None else NEEDS.get(figure, (figure,))
    trials: dict[str, Trial] = {}
    for seed in range(5):
        for part in figures:
            for name in EXPERIMENTS:
                for trial in _list_figure_trials(scale, part, name, seed):
                    trials[trial.name] = trial
    return list(trials.values())


def _list_figure_trials(scale: str, figure: str, name: str, seed: int) -> list[Trial]:
    experiment, column = EXPERIMENTS[name], SCALES[scale].column
    if seed >= (1 if column is None else experiment.seeds[column]):
        return []
    variants: dict[str, dict[str, Any]] = {}
    if figure == experiment.figure:
        variants = {approach: {} for approach in experiment.approaches} | experiment.variants
    variants |= ABLATIONS.get(figure, {}).get(name, {})
    variants.pop(name_plain_matl(experiment), None)
    trials = []
    for approach, settings in variants.items():
        trials.append(_make_trial(scale, name, approach, seed, settings))
    return trials


def _make_trial(scale: str, name: str, approach: str, seed: int, variant: dict[str, Any]) -> Trial:
    """Return a trial whose `steps` are what the robot's iterations take, with what each method
    collects beside them.
    """
    experiment, size = EXPERIMENTS[name], SCALES[scale]
    worlds, steps = scale_rollout(scale, experiment)
    method = _find_method(approach)
    settings = experiment.learner | {"learner.worlds": worlds, "learner.steps": steps}
    if method not in ("target_only", "source_only", "fine_tuning"):
        settings |= {"inner": size.inner} | experiment.alignment | variant
    inner = settings.get("inner", size.inner)
    rounds = _count_rounds(method, count_iterations(scale, experiment), inner)
    policy = f"{scale}-{experiment.source or name}-direct_transfer-s{seed}"
    return Trial(
        f"{scale}-{name}-{approach}-s{seed}",
        method,
        experiment.problem,
        seed,
        rounds * worlds * steps,
        settings,
        start=policy if method in STARTED else None,
        start_at=experiment.start_at if method in STARTED else "",
        beside=policy if method == "target_only" else None,
        evaluations=size.evaluations,
    )


def _find_method(approach: str) -> str:
    """Return an approach's method: a variant's is matl, unless it has its own."""
    if approach == "state_alignment":
        return approach
    return METHODS.get(approach, "matl")


def _count_rounds(method: str, iterations: int, inner: int) -> int:
    if method == "target_only":
        return iterations + 1  # and one of random steps
    if method == "source_only":
        return iterations * (inner + 1) + 1  # as many as matl's simulator
    if method == "fine_tuning":
        return iterations
    rounds = iterations * (inner + 2)
    return rounds if method == "matlf" else rounds + 2
