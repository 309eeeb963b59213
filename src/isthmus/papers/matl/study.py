"""MATL's study: its trials' curves by experiment, what came out as lines and pictures, and its
claims.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from isthmus.evaluation import statistics
from isthmus.papers.matl.claims import decide_matl_claims
from isthmus.papers.matl.experiments import (
    EXPERIMENTS,
    FIGURES,
    METHODS,
    OTHERS,
    SCENES,
    WITH_REWARD,
    Experiment,
)
from isthmus.papers.matl.measures import measure_matl_run
from isthmus.papers.matl.trials import (
    count_iterations,
    list_matl_trials,
    name_plain_matl,
    scale_rollout,
)
from isthmus.studies.claims import Claim
from isthmus.studies.learning_curves import CurveSet, ResultsBySeed, scan_approaches
from isthmus.studies.results import Results
from isthmus.studies.study import Line, Panel, Study
from isthmus.studies.trial import parse_trial_name

X_LABEL = "robot iterations"


def group_matl_curves(results: dict[str, Results]) -> dict[str, CurveSet]:
    """Return the curves of each experiment that is there, x in the robot's iterations."""
    curve_sets: dict[str, CurveSet] = {}
    for name in EXPERIMENTS:
        by_approach = _select_results(name, results)
        if by_approach.keys() & {*OTHERS}:
            scale = parse_trial_name(next(iter(results))).scale
            curve_sets[name] = _make_curve_set(name, scale, by_approach)
    for name, rewarded in WITH_REWARD.items():
        if name in curve_sets and rewarded in curve_sets:
            curve_sets[name] = replace(curve_sets[name], top=curve_sets[rewarded].highest)
    return curve_sets


def _select_results(name: str, results: dict[str, Results]) -> dict[str, ResultsBySeed]:
    """Return an experiment's results by approach and seed, with direct transfer's of the experiment
    whose policy is deployed in this one, too.
    """
    source = EXPERIMENTS[name].source if name in WITH_REWARD else None
    by_approach: dict[str, ResultsBySeed] = {}
    for trial_name, result in results.items():
        _, experiment, approach, seed = parse_trial_name(trial_name)
        if experiment == name or (experiment, approach) == (source, "direct_transfer"):
            by_approach.setdefault(approach, {})[seed] = result
    return by_approach


def _make_curve_set(name: str, scale: str, by_approach: dict[str, ResultsBySeed]) -> CurveSet:
    experiment = EXPERIMENTS[name]
    if "matl" in by_approach and scan_approaches(by_approach, "matl_"):
        by_approach[name_plain_matl(experiment)] = by_approach["matl"]
    worlds, steps = scale_rollout(scale, experiment)
    raw: dict[str, dict[int, np.ndarray]] = {}
    for approach in sorted(by_approach, key=_rank_approach):
        raw[approach] = {}
        for seed, result in by_approach[approach].items():
            raw[approach][seed] = _read_curve(result, experiment, approach, worlds * steps)
    begins_as_best = experiment.start_at or "direct_transfer" not in raw
    if begins_as_best and "fine_tuning" in raw:  # which begins as it
        raw["direct_transfer"] = {seed: curve[:1] for seed, curve in raw["fine_tuning"].items()}
    horizon = count_iterations(scale, experiment) + 1
    return CurveSet(name, horizon, raw, by_approach, tuple(METHODS), "independent")


def _rank_approach(approach: str) -> int:
    """Return the place in a table; variants of matl come last, as they are."""
    return [*METHODS, approach].index(approach)


def _read_curve(result: Results, experiment: Experiment, approach: str, batch: int) -> np.ndarray:
    """Return [points, 2]: the robot's iterations and the metric; of a policy that never trains
    there, its last evaluation.
    """
    curve = result.curve(f"target_{experiment.metric}")[:, 1:] / [batch, 1]
    return curve[-1:] if approach == "direct_transfer" else curve


def report_matl(results: dict[str, Results]) -> list[str]:
    """Return, as lines, what each approach reached in each experiment."""
    lines = [statistics.INTERVALS]
    for name, curves in group_matl_curves(results).items():
        experiment = EXPERIMENTS[name]
        low, high = curves.limits
        lines.append(
            f"{name}: {experiment.metric} in {experiment.problem}'s target; normalized, 0 is "
            f"{low:.4g} and 1 is {high:.4g}"
        )
        lines += [_describe_approach(curves, approach) for approach in curves.raw]
        if curves.inconclusive_because:
            lines.append(f"  {curves.inconclusive_because}")
    return lines


def _describe_approach(curves: CurveSet, approach: str) -> str:
    raw = np.mean([*map(statistics.final, curves.raw[approach].values())])
    final = statistics.interval([*curves.final(approach).values()])
    ends = f" [{final.low:.2f}, {final.high:.2f}]" if final.n > 1 else ""
    t80 = float(np.median([*curves.time(approach).values()]))
    when = f"{t80 * curves.horizon:.0f}" if t80 < 1 else "never"
    area = np.mean([*curves.area(approach).values()])
    line = (
        f"  {approach:16} J {final.value:.2f}{ends} ({raw:.4g}), AUC {area:.2f}, T80 {when}, "
        f"{statistics.seeds(final.n)}"
    )
    if approach not in curves.results:
        return line
    means = []
    for key in ("return", "success", "forward"):
        means.append(np.mean([*curves.measured(approach, f"target_{key}", "final").values()]))
    return line + "; at the end return {:.4g}, success {:.0%}, progress {:.3g}".format(*means)


def _draw_matl(results: dict[str, Results]) -> dict[str, list[Panel]]:
    """Return a picture a figure, a panel an experiment, and one of the scans of lambda."""
    pictures: dict[str, list[Panel]] = {}
    for name, curves in group_matl_curves(results).items():
        experiment = EXPERIMENTS[name]
        y_label = f"{experiment.metric}, normalized"
        if curves.top is not None:
            y_label = "ratio to the best with reward"
        panel = Panel(name, X_LABEL, y_label, _draw_approaches(curves))
        pictures.setdefault(f"figure{experiment.figure}.png", []).append(panel)
        scan = []
        for weight, approach in scan_approaches(curves.raw, "matl_").items():
            scan.append(Line(f"\u03bb = {weight:g}", [*curves.curves(approach).values()]))
        if scan:
            panel = Panel(name, X_LABEL, y_label, scan)
            pictures.setdefault("figure4-lambda.png", []).append(panel)
    return pictures


def _draw_approaches(curves: CurveSet) -> list[Line]:
    lines = []
    for approach in (*METHODS, "state_alignment"):
        if approach in curves.raw:
            role = "floor" if approach == "direct_transfer" else ""
            seeds = [*curves.curves(approach).values()]
            lines.append(Line(approach.replace("_", " "), seeds, role))
    return lines


def _claim_matl(results: dict[str, Results]) -> list[Claim]:
    scale = parse_trial_name(next(iter(results))).scale
    training = {}
    for name, experiment in EXPERIMENTS.items():
        training[name] = describe_iterations(scale, experiment)
    return decide_matl_claims(group_matl_curves(results), training)


def describe_iterations(scale: str, experiment: Experiment) -> str:
    """Return how many of paper scale's iterations an experiment has, in words; empty for all."""
    iterations = count_iterations(scale, experiment)
    paper_iterations = count_iterations("paper", experiment)
    if iterations >= paper_iterations:
        return ""
    problem = experiment.problem.removeprefix("matl-")
    return f"{problem} {iterations} of {paper_iterations} iterations"


STUDY = Study(
    "matl",
    "MATL, Figures 2 to 6",
    FIGURES,
    list_matl_trials,
    report_matl,
    _draw_matl,
    _claim_matl,
    measure_matl_run,
    SCENES,
)
