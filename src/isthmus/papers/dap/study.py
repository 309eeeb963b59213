"""DAP's study: measures of its runs, its trials' curves by task, what came out as lines and
pictures, and its claims.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from isthmus.evaluation import statistics
from isthmus.learning.classifiers import disagreement
from isthmus.papers.dap import perturbation
from isthmus.papers.dap.claims import decide_dap_claims
from isthmus.papers.dap.one_step_mismatch import measure_one_step_mismatch, scale_actions
from isthmus.papers.dap.scope import Training
from isthmus.papers.dap.trials import (
    ABLATIONS,
    CALLED,
    FIGURES,
    IDENTIFIED,
    METHODS,
    PAIR,
    PROBED_TASK,
    PROBES,
    PROBLEMS,
    SCALES,
    TASKS,
    Ablation,
    list_dap_trials,
)
from isthmus.studies.claims import Claim
from isthmus.studies.learning_curves import CurveSet, ResultsBySeed
from isthmus.studies.results import Results, Row, measure_row
from isthmus.studies.study import Line, Panel, Study
from isthmus.studies.trial import parse_trial_name
from isthmus.training.run import Run
from isthmus.types import Array

TRAINED_METHODS = ("h2o", "garat", "darc", "dap", "dap_u", "dap_inverse", IDENTIFIED)
CAPTIONS = {"garat": "garat, after PPO's steps"}  # which are not on the axis
TITLES = {"3a": "lambda", "3b": "beta", "3c": "size of the log", "members": "classifiers"}
SCANS = ("3a", "3b")  # ablations by a number
PAIR_MEASURES = ("bias_on", "bias_off", "bias_led", "off_support", "spearman", "microseconds")
LAST_METRICS = (
    "classifier_accuracy",
    "training_return",
    "disagreement",
    "beyond",
    "translation_error",
    "seconds",
)


def measure_dap_run(run: Run, reference: Run | None) -> list[Row]:
    """Return what the method reports of itself, means over the last tenth of training; what its
    policies meet in the source, and what a perturbation does to them in the target.
    """
    measures = _average_last_metrics(run)
    if run.name in ("darc", "dap", "dap_u", "dap_inverse"):
        measures |= measure_one_step_mismatch(run)
    if run.name in ("dap", "dap_u"):
        measures |= _measure_recovery(run)
    return [measure_row(key, value) for key, value in measures.items()]


def _average_last_metrics(run: Run) -> dict[str, float]:
    rounds = [line for line in run.metrics() if line["kind"] == "round"]
    last = rounds[-max(1, len(rounds) // 10) :]
    means = {}
    for key in LAST_METRICS:
        values = [line[key] for line in last if key in line]
        if values:
            means[key] = float(np.mean(values))
    return means


def _measure_recovery(run: Run) -> dict[str, float]:
    """Return how the deployed policy fares after a perturbation in the target, and whether the
    ensemble sees it.
    """
    target, policy = run.problem.evaluation_target, run.policy
    perturbed = perturbation.record_trajectory(target, perturbation.PerturbedPolicy(policy))
    share = perturbation.measure_recovery(perturbed, perturbation.record_trajectory(target, policy))
    measures = {} if share is None else {"recovery": share}
    if run.name == "dap_u":
        pairs = run.state().learner.classifiers.pairs

        def measure_doubt(observations: Array, actions: Array) -> Array:
            return disagreement(pairs, observations, scale_actions(actions, policy))

        doubt = perturbation.average_after(perturbed, policy, measure_doubt)
        measures |= dict(zip(("kick_u", "settled_u"), doubt or (), strict=False))
    return measures


def group_dap_curves(results: dict[str, Results]) -> dict[str, CurveSet]:
    """Return the curves of each task, x in environment steps: of the source, but for `target`'s
    own.
    """
    by_task: dict[str, dict[str, ResultsBySeed]] = {}
    scale = ""
    for name, result in results.items():
        scale, task, approach, seed = parse_trial_name(name)
        by_task.setdefault(task, {}).setdefault(approach, {})[seed] = result
    curve_sets: dict[str, CurveSet] = {}
    for task, by_approach in by_task.items():
        if task == PAIR:
            curve_sets[task] = CurveSet(task, 0, {}, by_approach, (), "")
        else:
            curve_sets[task] = _make_curve_set(task, scale, by_approach)
    return curve_sets


def _make_curve_set(task: str, scale: str, by_approach: dict[str, ResultsBySeed]) -> CurveSet:
    for name, method in CALLED.items():
        if method in by_approach:
            by_approach[name] = by_approach[method]
    raw: dict[str, dict[int, np.ndarray]] = {}
    for approach in sorted(by_approach, key=_rank_approach):
        by_seed = by_approach[approach]
        raw[approach] = {seed: _read_curve(result) for seed, result in by_seed.items()}
    return CurveSet(task, SCALES[scale].steps, raw, by_approach, tuple(METHODS), "target")


def _rank_approach(approach: str) -> tuple[int, str]:
    """Return the place in a table: the figure's methods first, then by name."""
    return [*METHODS, approach].index(approach), approach


def _read_curve(result: Results) -> np.ndarray:
    """Return [points, 2]: steps taken, and the return in the target."""
    curve = result.curve("target_return")
    return np.stack([curve[:, 0] + curve[:, 1], curve[:, 2]], axis=1)


def _find_home_returns(curve_sets: dict[str, CurveSet], task: str) -> list[float]:
    """Return what the source's policy is worth in the source, a number a seed: a probe loses
    nothing that gets as much. Of a task that is no probe, nothing.
    """
    curves = curve_sets.get(PROBED_TASK)
    if not curves or task not in PROBES:
        return []
    return [*curves.measured("source", "source_return", "final").values()]


def report_dap(results: dict[str, Results]) -> list[str]:
    """Return, as lines, what each approach reached on each task."""
    curve_sets = group_dap_curves(results)
    lines = [statistics.INTERVALS]
    if pair := curve_sets.pop(PAIR, None):
        lines += [_describe_pair(n, by_seed) for n, by_seed in pair.results.items()]
    for task, curves in curve_sets.items():
        lines.append(f"{task}: return in {PROBLEMS[task]}'s target")
        if home := _find_home_returns(curve_sets, task):
            seeds = statistics.seeds(len(home))
            lines.append(f"  the source's policy, in the source: {np.mean(home):.0f}, {seeds}")
        for approach in curves.raw:
            if approach not in CALLED:
                lines.append(_describe_approach(curves, approach))
    return lines


def _describe_pair(members: str, by_seed: ResultsBySeed) -> str:
    means = []
    for key in PAIR_MEASURES:
        mean = np.mean([result.value("measure", key) for result in by_seed.values()])
        means.append(f"{key} {mean:.3g}")
    return f"pair, {members}: {', '.join(means)}"


def _describe_approach(curves: CurveSet, approach: str) -> str:
    by_seed = curves.raw[approach]
    final = statistics.interval([*map(statistics.final, by_seed.values())])
    ends = f" [{final.low:.0f}, {final.high:.0f}]" if final.n > 1 else ""
    highest = np.mean([curve[:, 1].max() for curve in by_seed.values()])
    in_source = np.mean([*curves.measured(approach, "source_return", "final").values()])
    gaps = [*curves.measured(approach, "action_gap").values()]
    gap = f", |a_src - a_tgt|^2 {np.mean(gaps):.2g}" if gaps else ""
    return (
        f"  {approach:16} J {final.value:.0f}{ends}, highest {highest:.0f}, in the source at the "
        f"end {in_source:.0f}, {statistics.seeds(final.n)}{gap}"
    )


def _draw_dap(results: dict[str, Results]) -> dict[str, list[Panel]]:
    """Return a picture a figure: its panels are tasks."""
    pictures: dict[str, list[Panel]] = {}
    curve_sets = group_dap_curves(results)
    curve_sets.pop(PAIR, None)
    for task, curves in curve_sets.items():
        levels = _draw_levels(curves, _find_home_returns(curve_sets, task))
        trained = _draw_lines(curves, TRAINED_METHODS)
        if trained:
            figure = f"figure{2 if task in TASKS else task}.png"
            pictures.setdefault(figure, []).append(_make_panel(task, levels + trained))
        for figure, ablation in ABLATIONS.items():
            if task == ablation.task and _has_variants(curves, ablation):
                lines = _draw_lines(curves, _order_ablation(figure, ablation))
                panel = _make_panel(f"{task}, {TITLES.get(figure, figure)}", levels + lines)
                pictures.setdefault(f"figure{figure}.png", []).append(panel)
    return pictures


def _make_panel(title: str, lines: list[Line]) -> Panel:
    return Panel(title, "steps in the source", "return in the target", lines)


def _draw_levels(curves: CurveSet, home: list[float]) -> list[Line]:
    """Return the levels of a task: of a probe what the source's policy is worth at home, else the
    highest returns of the floor and the ceiling.
    """
    if home:
        return [Line("source, in the source", [*map(_make_level, home)], "ceiling")]
    levels = []
    for approach, role in (("source", "floor"), ("target", "ceiling")):
        if approach in curves.raw:
            seeds = [_make_level(curve[:, 1].max()) for curve in curves.raw[approach].values()]
            levels.append(Line(f"{approach}, highest", seeds, role))
    return levels


def _make_level(height: float) -> np.ndarray:
    return np.array([[0.0, height]])


def _draw_lines(curves: CurveSet, approaches: Iterable[str]) -> list[Line]:
    lines = []
    for approach in approaches:
        if approach in curves.raw:
            caption = CAPTIONS.get(approach, approach.replace("_", " "))
            lines.append(Line(caption, [*curves.raw[approach].values()]))
    return lines


def _has_variants(curves: CurveSet, ablation: Ablation) -> bool:
    return any(variant.approach in curves.raw for variant in ablation.variants)


def _order_ablation(figure: str, ablation: Ablation) -> list[str]:
    """Return the approaches of an ablation's picture; a scan's with the chosen value, by its
    number.
    """
    approaches = [variant.approach for variant in ablation.variants]
    methods = dict.fromkeys(variant.method for variant in ablation.variants)
    if figure not in SCANS:
        return [*methods, *approaches]
    for name, method in CALLED.items():
        if method in methods:
            approaches.append(name)
    return sorted(approaches, key=lambda name: float(name.rsplit("_", 1)[1]))


def _claim_dap(results: dict[str, Results]) -> list[Claim]:
    size, paper = SCALES[parse_trial_name(next(iter(results))).scale], SCALES["paper"]
    length = ""
    if size.steps < paper.steps:
        length = f"{size.steps:,} of the paper's {paper.steps:,} steps"
    return decide_dap_claims(group_dap_curves(results), Training(size.tasks, length))


STUDY = Study(
    "dap",
    "DAP, Figures 2 and 3",
    FIGURES,
    list_dap_trials,
    report_dap,
    _draw_dap,
    _claim_dap,
    measure_dap_run,
)
