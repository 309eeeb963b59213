"""MATL's figures: six approaches on tasks whose robot is paid sparsely (3), for not falling (4),
not at all (5), or lives in another engine (6); and the ball of its discussion. What is said of its
claims: `matl_claims`.

independent       target_only, on the robot's own reward      matlu, matl, matlf    as the paper's
direct_transfer   source_only                                 state_alignment       the paper's discussion
fine_tuning       goes on in the target from direct_transfer's policy, as matlf does
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from isthmus.evaluation import statistics
from isthmus.papers.matl import claims as matl_claims
from isthmus.papers.matl.measures import measure
from isthmus.studies.claims import Claim
from isthmus.studies.learning_curves import CurveSet
from isthmus.studies.study import Line, Panel, Results, Study, Trial

METHODS = {
    "independent": "target_only",
    "direct_transfer": "source_only",
    "fine_tuning": "fine_tuning",
    "matlu": "matlu",
    "matl": "matl",
    "matlf": "matlf",
}
ORDER = {name: i for i, name in enumerate(METHODS)}
# as these units were run; today's defaults are others (docs/methods.md)
LEARNER: dict[str, Any] = {
    "learner": "trpo", "learner.cg_iterations": 15, "learner.fisher_stride": 1, "learner.learning_rate": 1e-3,
    "learner.epochs": 20, "learner.minibatch": 128,
}  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """One problem and what is learned there. `alignment` are the settings of methods that align,
    `source` names the experiment that trains the same source's policies, `variants` changes matl's
    settings by name.
    """

    figure: str
    problem: str
    rollout: tuple[int, int]  # worlds, steps: a batch at laptop scale
    metric: str = "return"  # or "forward"
    iterations: tuple[int, int] = (80, 400)  # the robot's, laptop and paper
    seeds: tuple[int, int] = (5, 5)
    alignment: dict[str, Any] = field(default_factory=dict)
    approaches: tuple[str, ...] = tuple(METHODS)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    source: str = ""


# Single states (4.2), where an episode has one length and so no offset matters; pairs (t, t + 4)
# (4.3).
SINGLE, PAIRS = {"extent": 0, "offset": "mean"}, {"extent": 1, "stride": 4}
WASSERSTEIN = {"discriminator.loss": "wasserstein"}
OTHERS = tuple(name for name in METHODS if name != "direct_transfer")
LAMBDAS = (0.03, 0.1, 0.3, 1.0, 3.0)

# Lambda and the problems' shifts were chosen on seeds 110 to 112, which are not reported.
EXPERIMENTS = {
    "cartpole-sparse": Experiment("3", "matl-cartpole-sparse", (20, 100), alignment=SINGLE | {"alignment": 0.2}),
    "reacher-sparse": Experiment(
        "3", "matl-reacher-sparse", (40, 50), iterations=(60, 400), alignment=SINGLE | {"alignment": 0.2}
    ),
    "hopper-uninformative": Experiment(
        "4", "matl-hopper-uninformative", (16, 125), "forward", (100, 400), (3, 5), PAIRS | {"alignment": 1.0}
    ),
    "cartpole-none": Experiment(
        "5", "matl-cartpole-none", (20, 100), alignment=SINGLE | {"alignment": 0.2}, approaches=OTHERS,
        source="cartpole-sparse",
    ),
    "reacher-none": Experiment(
        "5", "matl-reacher-none", (40, 50), iterations=(60, 400), alignment=SINGLE | {"alignment": 0.2},
        approaches=OTHERS, source="reacher-sparse",
    ),
    "hopper-none": Experiment(
        "5", "matl-hopper-none", (16, 125), "forward", (100, 400), (3, 5), PAIRS | {"alignment": 1.0}, OTHERS,
        source="hopper-uninformative",
    ),
    "reacher-dart": Experiment(
        "6", "matl-reacher-dart", (40, 50), iterations=(60, 400), alignment=SINGLE | WASSERSTEIN | {"alignment": 0.2},
        variants={"matl_confusion": {"discriminator.loss": "confusion"}},
    ),
    "hopper-dart": Experiment(
        "6", "matl-hopper-dart", (16, 125), iterations=(100, 200), seeds=(3, 5),
        alignment=PAIRS | WASSERSTEIN | {"alignment": 0.2},
        variants={"matl_confusion": {"discriminator.loss": "confusion"}},
    ),
    "cartpole-damped": Experiment(
        "exploration", "matl-cartpole-damped", (20, 100), seeds=(3, 5), alignment=SINGLE | {"alignment": 0.2},
        approaches=("independent", "fine_tuning", "matlu", "matl"), source="cartpole-sparse",
    ),
    "ball": Experiment(
        "state-wise", "matl-ball", (20, 100), iterations=(40, 100), alignment=SINGLE,
        approaches=("independent", "direct_transfer", "matl", "state_alignment"),
    ),
}  # fmt: skip
WITH_REWARD = {"cartpole-none": "cartpole-sparse", "reacher-none": "reacher-sparse",
               "hopper-none": "hopper-uninformative"}  # fmt: skip
"""Figure 5's scenarios, and those of figures 3 and 4 whose maximum is their measure."""

# figure -> experiment -> what is added there: matl's variants, and approaches besides
ABLATIONS = {
    "4-lambda": {
        name: {f"matl_{x:g}": {"alignment": x} for x in LAMBDAS}
        for name in ("hopper-uninformative", "cartpole-sparse")
    },
    "trap": {
        "hopper-uninformative": {
            f"matl_{offset}": {"offset": offset} for offset in ("mean", "none")
        }
    },
    "losses": {
        name: {"matl_min_max": {"discriminator.loss": "min_max"}}
        for name in ("cartpole-sparse", "reacher-sparse")
    },
    "settings": {
        "cartpole-sparse": {f"matl_inner{m}": {"inner": m} for m in (1, 10)}
        | {f"matl_steps{n}": {"discriminator.steps": n} for n in (5, 80)}
    },
    "pairs": {name: {"matl_pairs": PAIRS} for name in ("cartpole-sparse", "reacher-sparse")},
    "state-wise": {
        name: {"state_alignment": {}}
        for name in ("cartpole-sparse", "reacher-sparse", "hopper-uninformative")
    },
}
SCENES = {"2": (("MuJoCo", "hopper"), ("DART", "hopper/engine=dart"))}
FIGURES = (
    "2",
    "3",
    "4",
    "4-lambda",
    "5",
    "6",
    "exploration",
    "losses",
    "pairs",
    "settings",
    "state-wise",
    "trap",
)
NEEDS = {
    "5": ("3", "4", "5"),
    "4-lambda": ("3", "4", "4-lambda"),
    "exploration": ("3", "exploration"),
    "losses": ("3", "losses"),
    "trap": ("4", "trap"),
    "pairs": ("3", "pairs"),
    "settings": ("3", "settings"),
    "state-wise": ("3", "4", "state-wise"),
}


class Size(NamedTuple):
    """A scale: the robot's iterations and the seeds are the experiment's `column`, unless it is
    None.
    """

    column: int | None
    inner: int  # M
    worlds: float  # of a batch, times the laptop's
    evaluations: int


SIZES = {
    "smoke": Size(None, 1, 0.25, 2),
    "laptop": Size(0, 3, 1, 20),
    "paper": Size(1, 10, 2.5, 40),
}


def iterations(scale: str, experiment: Experiment) -> int:
    column = SIZES[scale].column
    return 3 if column is None else experiment.iterations[column]


def rollout(scale: str, experiment: Experiment) -> tuple[int, int]:
    """Worlds and steps of a batch."""
    worlds, steps = experiment.rollout
    return max(1, round(worlds * SIZES[scale].worlds)), steps


def units(scale: str, figure: str | None) -> list[Trial]:
    """All figures' units, or one's and those that it is measured by; seed after seed, so that a
    study cut short has whole seeds.
    """
    figures = FIGURES if figure is None else NEEDS.get(figure, (figure,))
    made = {
        unit.name: unit
        for seed in range(5)
        for part in figures
        for name, experiment in EXPERIMENTS.items()
        for unit in _units(scale, part, name, experiment, seed)
    }
    return list(made.values())


def _units(scale: str, figure: str, name: str, e: Experiment, seed: int) -> list[Trial]:
    column = SIZES[scale].column
    if seed >= (1 if column is None else e.seeds[column]):
        return []
    changes: dict[str, dict[str, Any]] = {}
    if figure == e.figure:
        changes = {a: {} for a in e.approaches} | e.variants
    changes |= ABLATIONS.get(figure, {}).get(name, {})
    same = e.alignment.get("alignment", 0.1)
    changes.pop(f"matl_{same:g}", None)  # matl itself
    return [unit(scale, name, approach, seed, more) for approach, more in changes.items()]


def unit(
    scale: str, name: str, approach: str, seed: int, more: dict[str, Any] | None = None
) -> Trial:
    """`steps` are what the robot's iterations take, with what each method collects beside them."""
    e, size = EXPERIMENTS[name], SIZES[scale]
    n, (worlds, steps) = iterations(scale, e), rollout(scale, e)
    method = METHODS.get(approach) or (
        "state_alignment" if approach == "state_alignment" else "matl"
    )
    settings = LEARNER | {"learner.worlds": worlds, "learner.steps": steps}
    if aligning := method not in ("target_only", "source_only", "fine_tuning"):
        settings |= {"inner": size.inner} | e.alignment | (more or {})
    inner = settings.get("inner", size.inner)
    policy = f"{scale}-{e.source or name}-direct_transfer-s{seed}"
    rounds = {
        "target_only": n + 1,  # and one of random steps
        "source_only": n * (inner + 1) + 1,  # as many as matl's simulator
        "fine_tuning": n,
        "matlf": n * (inner + 2),
    }.get(method, n * (inner + 2) + 2)
    if method == "source_only":
        start = beside = None
    elif method in ("fine_tuning", "matlf"):
        start, beside = policy, None
    else:
        start, beside = None, policy if not aligning else None
    return Trial(
        f"{scale}-{name}-{approach}-s{seed}", method, e.problem, seed, rounds * worlds * steps, settings,
        start=start, beside=beside, evaluations=size.evaluations,
    )  # fmt: skip


def frames(results: dict[str, Results]) -> dict[str, CurveSet]:
    """What is there of each experiment, x in the robot's iterations."""
    out: dict[str, CurveSet] = {}
    for name, e in EXPERIMENTS.items():
        found: dict[str, dict[int, Results]] = {}
        scale = ""
        for unit_name, result in results.items():
            head, approach, seed = unit_name.rsplit("-", 2)
            scale, _, experiment = head.partition("-")
            same = (
                name in WITH_REWARD and experiment == e.source
            )  # where the policy is deployed, too
            if experiment == name or (same and approach == "direct_transfer"):
                found.setdefault(approach, {})[int(seed[1:])] = result
        if not {*found} & {*OTHERS}:
            continue
        if any(scanned(approach) for approach in found) and "matl" in found:
            found[f"matl_{e.alignment.get('alignment', 0.1):g}"] = found["matl"]
        worlds, steps = rollout(scale, e)
        raw = {
            approach: {
                seed: _curve(result, e, approach, worlds * steps)
                for seed, result in by_seed.items()
            }
            for approach, by_seed in sorted(
                found.items(), key=lambda item: ORDER.get(item[0], len(ORDER))
            )
        }
        if "direct_transfer" not in raw and "fine_tuning" in raw:  # which begins as it
            raw["direct_transfer"] = {seed: curve[:1] for seed, curve in raw["fine_tuning"].items()}
        out[name] = CurveSet(
            name, iterations(scale, e) + 1, raw, found, tuple(METHODS), "independent"
        )
    for name, rewarded in WITH_REWARD.items():
        if name in out and rewarded in out:
            out[name] = replace(out[name], top=out[rewarded].highest)
    return out


def scanned(approach: str) -> float | None:
    """The lambda that is all that a variant of matl changes."""
    text = approach.removeprefix("matl_")
    return float(text) if text.replace(".", "").isdigit() else None


def _curve(result: Results, e: Experiment, approach: str, batch: int) -> np.ndarray:
    """[points, 2]: the robot's iterations and the metric; of a policy that never trains there, its
    last evaluation.
    """
    curve = result.curve(f"target_{e.metric}")[:, 1:] / [batch, 1]
    return curve[-1:] if approach == "direct_transfer" else curve


def report(results: dict[str, Results]) -> list[str]:
    lines = [statistics.INTERVALS]
    for name, frame in frames(results).items():
        e = EXPERIMENTS[name]
        low, high = frame.limits
        lines.append(
            f"{name}: {e.metric} in {e.problem}'s target; normalized, 0 is {low:.4g} and 1 is "
            f"{high:.4g}"
        )
        for approach in frame.raw:
            raw = np.mean([statistics.final(curve) for curve in frame.raw[approach].values()])
            j = statistics.interval([*frame.final(approach).values()])
            ends = f" [{j.low:.2f}, {j.high:.2f}]" if j.n > 1 else ""
            t80 = float(np.median([*frame.time(approach).values()]))
            when = f"{t80 * frame.horizon:.0f}" if t80 < 1 else "never"
            auc = np.mean([*frame.area(approach).values()])
            told = statistics.seeds(j.n)
            line = f"  {approach:16} J {j.value:.2f}{ends} ({raw:.4g}), AUC {auc:.2f}, T80 {when}, {told}"
            if approach in frame.units:
                last = [
                    np.mean([*frame.measured(approach, f"target_{key}", "final").values()])
                    for key in ("return", "success", "forward")
                ]
                line += "; at the end return {:.4g}, success {:.0%}, progress {:.3g}".format(*last)
            lines.append(line)
        if frame.inconclusive_because:
            lines.append(f"  {frame.inconclusive_because}")
    return lines


def pictures(results: dict[str, Results]) -> dict[str, list[Panel]]:
    out: dict[str, list[Panel]] = {}
    for name, frame in frames(results).items():
        e = EXPERIMENTS[name]
        y = "ratio to the best with reward" if frame.top is not None else f"{e.metric}, normalized"
        lines = [
            Line(a.replace("_", " "), [*frame.curves(a).values()], "floor" if a == "direct_transfer" else "")
            for a in (*METHODS, "state_alignment") if a in frame.raw
        ]  # fmt: skip
        out.setdefault(f"figure{e.figure}.png", []).append(
            Panel(name, "robot iterations", y, lines)
        )
        if scan := sorted((weight, a) for a in frame.raw if (weight := scanned(a)) is not None):
            lines = [
                Line(f"\u03bb = {weight:g}", [*frame.curves(a).values()]) for weight, a in scan
            ]
            out.setdefault("figure4-lambda.png", []).append(
                Panel(name, "robot iterations", y, lines)
            )
    return out


def claims(results: dict[str, Results]) -> list[Claim]:
    scale = next(iter(results)).partition("-")[0]
    return matl_claims.claims(
        frames(results), {name: tell_iterations(scale, e) for name, e in EXPERIMENTS.items()}
    )


def tell_iterations(scale: str, experiment: Experiment) -> str:
    """Return how many of paper scale's iterations an experiment has, in words; empty for all."""
    there, whole = iterations(scale, experiment), iterations("paper", experiment)
    return (
        f"{experiment.problem.removeprefix('matl-')} {there} of {whole} iterations"
        if there < whole
        else ""
    )


STUDY = Study(
    "matl", "MATL, Figures 2 to 6", FIGURES, units, report, pictures, claims, measure, SCENES
)
