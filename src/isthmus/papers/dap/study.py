"""DAP's figures: seven methods and ours on robots whose target is known by a log of the source's
own policy (2), and what lambda (3a), beta (3b), the size of the log (3c), the number of
classifiers, a policy for each action ("separate"), another's or a smaller log ("logs") and noise
that the classifiers share ("noise", ours) do. Its claims: `dap_claims`.

What classifiers get wrong is measured on a pair of domains whose densities are known
("classifiers", `pair`).

That a shift leaves `source_only` below half of `target_only` is measured on all four robots
("shifts").

Two probes have known answers: motors of one and a half times the strength, which a_tgt = a_src /
1.5 crosses without loss, and "identity", a target like its source, which should cost no method more
than noise.

source   source_only, by SAC: the floor, and the policy that logs the target     target   target_only: the ceiling
ppo      source_only, by PPO: GARAT's rounds are on policy, and it is grounded by the log of the policy it starts from
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from isthmus.evaluation import statistics
from isthmus.learning.classifiers import disagreement
from isthmus.papers.dap import claims as dap_claims
from isthmus.papers.dap import linear_gaussian as pair
from isthmus.papers.dap import perturbation as kicks
from isthmus.papers.dap.one_step_mismatch import one_step_mismatch
from isthmus.studies.claims import Claim
from isthmus.studies.learning_curves import CurveSet
from isthmus.studies.study import Line, Measurement, Panel, Results, Row, Study, Trial
from isthmus.training.run import Run

METHODS = {
    "source": "source_only",
    "target": "target_only",
    "ppo": "source_only",  # what GARAT starts from, and whose log it learns from
    "h2o": "h2o",
    "garat": "garat",
    "darc": "darc",
    "dap": "dap",
    "dap_u": "dap_u",
    "dap_inverse": "dap_inverse",
}
ORDER = {name: i for i, name in enumerate(METHODS)}
FEWER_SEEDS = (
    "h2o",
    "dap_expert",
    "darc_shared",
    "dap_shared",
)  # three seeds at laptop scale, also of what begins so
TASKS = ("half_cheetah", "walker2d", "hopper", "ant")
PROBLEMS = {task: f"{task}-dap" for task in TASKS} | {
    "motors": "half_cheetah-motors",
    "identity": "half_cheetah",
}
PROBES = {
    "motors": ("darc", "dap", "dap_inverse"),
    "identity": ("h2o", "garat", "darc", "dap", "dap_u", "dap_inverse"),
}  # on HalfCheetah

LAMBDAS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
BETAS = (0.0, 0.01, 0.05, 0.1, 0.15, 0.2)
LOG_SIZES = (":15000", ":10000", ":5000", ":1episode")
MEMBERS = (2, 3, 10)
CHOSEN = {"regularization": 1.0, "redraw": 0.1, "classifiers.members": 5}
"""lambda was chosen on gravity; beta is one of the paper's two best values; N is ours."""
CALLED = {
    f"dap_{CHOSEN['regularization']:g}": "dap",
    f"dap_u_{CHOSEN['redraw']:g}": "dap_u",
}  # in a scan


class Scale(NamedTuple):
    steps: int
    evaluations: int
    episodes: int  # of each
    tasks: tuple[str, ...]
    seeds: int
    learner: dict[str, Any]
    ppo: int  # steps of PPO in the source
    garat: int  # of GARAT from there: a grounding, and PPO in what it grounded


TINY = {"learner.random_steps": 500, "learner.hidden": (32, 32), "learner.capacity": 2_000}
TINY_PPO = {"learner.worlds": 8, "learner.steps": 64, "learner.hidden": (8,)}
SCALES = {
    "smoke": Scale(2_000, 2, 4, ("hopper",), 1, TINY, 1_024, 1_024),
    "laptop": Scale(
        150_000,
        15,
        100,
        ("half_cheetah", "walker2d"),
        5,
        {"learner.capacity": 150_000},
        500_000,
        410_000,
    ),
    "paper": Scale(1_000_000, 40, 100, TASKS, 5, {}, 1_000_000, 1_000_000),
}
CAPTIONS = {"garat": "garat, after PPO's steps"}  # which are not on the axis
TITLES = {"3a": "lambda", "3b": "beta", "3c": "size of the log", "members": "classifiers"}
ABLATIONS = ("3a", "3b", "3c", "members", "separate", "logs", "noise")
FIGURES = ("2", *ABLATIONS, *PROBES, "classifiers", "shifts")
PAIR = "pair"  # in place of a task's name
PAIR_SAYS = ("bias_on", "bias_off", "bias_led", "off_support", "spearman", "microseconds")


@dataclass(frozen=True)
class Variant:
    """What a figure adds on one task: a method with other settings, or with less of the log."""

    approach: str
    method: str
    settings: dict[str, Any]
    size: str = ""
    by: str = "source"  # whose policy made the log


def plain(approach: str) -> Variant:
    return Variant(approach, METHODS[approach], {}, by="ppo" if approach == "garat" else "source")


def variants(figure: str) -> tuple[str, list[Variant]]:
    """The task that a figure's ablation is made on, and its variants."""
    if figure == "3a":
        return "half_cheetah", [
            Variant(f"dap_{x:g}", "dap", {"regularization": x})
            for x in LAMBDAS
            if x != CHOSEN["regularization"]
        ]
    if figure == "3b":
        return "walker2d", [
            Variant(f"dap_u_{x:g}", "dap_u", {"redraw": x}) for x in BETAS if x != CHOSEN["redraw"]
        ]
    if figure == "3c":
        return "walker2d", [Variant(f"dap_u_{x[1:]}", "dap_u", {}, x) for x in LOG_SIZES]
    if figure == "separate":
        return "half_cheetah", [Variant("dap_separate", "dap", {"learner.actors": 2})]
    if figure == "noise":
        return "half_cheetah", [
            Variant(f"{m}_shared", m, {"classifiers.shared_noise": True}) for m in ("darc", "dap")
        ]
    if figure == "logs":
        expert = [Variant(f"{m}_expert", m, {}, by="target") for m in ("h2o", "dap")]
        return "half_cheetah", expert + [
            Variant(f"garat_{x[1:]}", "garat", {}, x, "ppo") for x in LOG_SIZES[2:]
        ]
    return "walker2d", [
        Variant(f"dap_u_n{n}", "dap_u", {"classifiers.members": n}) for n in MEMBERS
    ]


def units(scale: str, figure: str | None) -> list[Trial | Measurement]:
    """All figures' units, or one's and those that it is measured by; seed after seed, so that a
    study cut short has whole seeds. Each unit is preceded by the source's policy that logs its
    target.
    """
    figures = FIGURES if figure is None else ("2", figure) if figure in ABLATIONS else (figure,)
    made = {
        unit.name: unit
        for seed in range(SCALES[scale].seeds)
        for part in figures
        for unit in _units(scale, part, seed)
    }
    return list(made.values())


def _units(scale: str, figure: str, seed: int) -> Sequence[Trial | Measurement]:
    size = SCALES[scale]
    if figure == "classifiers":
        given = {"updates": 500 if scale == "smoke" else 20_000}
        sizes = sorted((*MEMBERS, CHOSEN["classifiers.members"]))[: 1 if scale == "smoke" else None]
        return [
            Measurement(f"{scale}-{PAIR}-n{n}-s{seed}", pair.errors, seed, {"members": n, **given})
            for n in sizes
        ]
    if figure == "2":
        few = [a for a in METHODS if _enough(scale, a, seed)]
        return [unit(scale, task, plain(a), seed) for task in size.tasks for a in few]
    if figure == "shifts":
        tasks = TASKS if scale != "smoke" and seed < 3 else ()
        return [unit(scale, task, plain(a), seed) for task in tasks for a in ("source", "target")]
    if figure in PROBES:
        if "half_cheetah" not in size.tasks or (figure == "identity" and seed >= 3):
            return []
        found = [plain(a) for a in PROBES[figure]]
        first = [
            unit(scale, "half_cheetah", plain(by), seed)
            for by in dict.fromkeys(each.by for each in found)
        ]
        return [*first, *(unit(scale, figure, each, seed) for each in found)]
    task, found = variants(figure)
    if scale == "smoke":
        task, found = size.tasks[0], found[:1]
    found = [each for each in found if task in size.tasks and _enough(scale, each.approach, seed)]
    first = {each.by: unit(scale, task, plain(each.by), seed) for each in found}
    return [*first.values(), *(unit(scale, task, each, seed) for each in found)]


def _enough(scale: str, approach: str, seed: int) -> bool:
    return scale != "laptop" or seed < 3 or not approach.startswith(FEWER_SEEDS)


def unit(scale: str, task: str, variant: Variant, seed: int) -> Trial:
    size, method = SCALES[scale], variant.method
    alone = method in ("source_only", "target_only")
    name = f"{scale}-{task}-{variant.approach}-s{seed}"
    source = f"{scale}-{'half_cheetah' if task in PROBES else task}-{variant.by}-s{seed}"
    common: dict[str, Any] = {
        "access": {"source_only": "none", "target_only": "online"}.get(method, "dataset"),
        "log": None if alone else source, "log_size": variant.size,
        "evaluations": size.evaluations, "evaluation_episodes": size.episodes,
    }  # fmt: skip
    if variant.approach == "ppo" or method == "garat":  # on policy, both
        settings = dict(TINY_PPO) if scale == "smoke" else {}
        if method == "garat":
            settings |= (
                {"inner": 1} if scale == "smoke" else {"updates": 10_000}
            )  # one grounding: docs/garat.md
        steps, start = (size.garat, source) if method == "garat" else (size.ppo, None)
        return Trial(name, method, PROBLEMS[task], seed, steps, settings, start=start, **common)
    settings = dict(size.learner)
    if alone:
        settings["learner"] = "sac"
    elif method.startswith("dap") and method != "dap_inverse":
        settings |= {k: v for k, v in CHOSEN.items() if method == "dap_u" or k == "regularization"}
    settings |= variant.settings
    if scale == "smoke" and method in ("darc", "dap", "dap_u"):
        settings["warmup"] = 600
    if scale == "smoke" and method == "dap_inverse":
        settings["fitting"] = 500
    return Trial(name, method, PROBLEMS[task], seed, size.steps, settings, **common)


LAST_METRICS = (
    "classifier_accuracy",
    "training_return",
    "disagreement",
    "beyond",
    "translation_error",
    "seconds",
)


def measure(run: Run, other: Run | None) -> list[Row]:
    """What the method says of itself, means over the last tenth of training; what its policies meet
    in the source, and what a kick does to them in the target.
    """
    rounds = [line for line in run.metrics() if line["kind"] == "round"]
    last = rounds[-max(1, len(rounds) // 10) :]
    found = {key: [line[key] for line in last if key in line] for key in LAST_METRICS}
    told = {key: float(np.mean(values)) for key, values in found.items() if values}
    if run.name in ("darc", "dap", "dap_u", "dap_inverse"):
        told |= one_step_mismatch(run)
    if run.name in ("dap", "dap_u"):
        told |= kicked(run)
    return [("measure", key, "", "", f"{value:.6g}") for key, value in told.items()]


def kicked(run: Run) -> dict[str, float]:
    """How the deployed policy fares after a kick in the target, and whether the ensemble sees it."""
    target, policy = run.problem.evaluation_target, run.policy
    after = kicks.trace(target, kicks.PerturbedPolicy(policy))
    share = kicks.recovery(after, kicks.trace(target, policy))
    told = {} if share is None else {"recovery": share}
    if run.name == "dap_u":
        pairs = run.state().learner.classifiers.pairs
        low, high = policy.low, policy.high
        unit = lambda action: 2 * (action - low) / (high - low) - 1
        doubt = kicks.uncertainty(
            after, policy, lambda obs, action: disagreement(pairs, obs, unit(action))
        )
        told |= dict(zip(("kick_u", "settled_u"), doubt or (), strict=False))
    return told


def frames(results: dict[str, Results]) -> dict[str, CurveSet]:
    """What is there of each task, x in environment steps: of the source, but for `target`'s own."""
    found: dict[str, dict[str, dict[int, Results]]] = {}
    scale = ""
    for name, result in results.items():
        head, approach, seed = name.rsplit("-", 2)
        scale, _, task = head.partition("-")
        found.setdefault(task, {}).setdefault(approach, {})[int(seed[1:])] = result
    out: dict[str, CurveSet] = {}
    for task, by_approach in found.items():
        by_approach |= {
            name: by_approach[plain] for name, plain in CALLED.items() if plain in by_approach
        }
        if task == PAIR:
            out[task] = CurveSet(task, 0, {}, by_approach, (), "")
            continue
        raw = {
            a: {s: _curve(r) for s, r in by_seed.items()}
            for a, by_seed in sorted(by_approach.items(), key=_order)
        }
        out[task] = CurveSet(task, SCALES[scale].steps, raw, by_approach, tuple(METHODS), "target")
    return out


def _order(item: tuple[str, Any]) -> tuple[int, str]:
    return ORDER.get(item[0], len(ORDER)), item[0]


def _curve(result: Results) -> np.ndarray:
    """[points, 2]: steps taken, and the return in the target."""
    curve = result.curve("target_return")
    return np.stack([curve[:, 0] + curve[:, 1], curve[:, 2]], axis=1)


def at_home(found: dict[str, CurveSet], task: str) -> list[float]:
    """What the source's policy is worth in the source, a number a seed: a probe loses nothing that
    gets as much.
    """
    frame = found.get("half_cheetah")
    return (
        [*frame.measured("source", "source_return", "final").values()]
        if frame and task in PROBES
        else []
    )


def report(results: dict[str, Results]) -> list[str]:
    lines, found = [statistics.INTERVALS], frames(results)
    for n, by_seed in found.pop(PAIR).units.items() if PAIR in found else ():
        said = {
            key: np.mean([r.value("measure", key) for r in by_seed.values()]) for key in PAIR_SAYS
        }
        lines.append(
            f"pair, {n}: " + ", ".join(f"{key} {value:.3g}" for key, value in said.items())
        )
    for task, frame in found.items():
        lines.append(f"{task}: return in {PROBLEMS[task]}'s target")
        if home := at_home(found, task):
            lines.append(
                f"  the source's policy, in the source: {np.mean(home):.0f}, "
                f"{statistics.seeds(len(home))}"
            )
        for approach, curves in frame.raw.items():
            if approach in CALLED:
                continue
            j = statistics.interval([statistics.final(curve) for curve in curves.values()])
            ends = f" [{j.low:.0f}, {j.high:.0f}]" if j.n > 1 else ""
            top = np.mean([curve[:, 1].max() for curve in curves.values()])
            here = [*frame.measured(approach, "source_return", "final").values()]
            gap = [*frame.measured(approach, "action_gap").values()]
            more = f", |a_src - a_tgt|^2 {np.mean(gap):.2g}" if gap else ""
            lines.append(
                f"  {approach:16} J {j.value:.0f}{ends}, highest {top:.0f}, in the source at the "
                "end "
                f"{np.mean(here):.0f}, {statistics.seeds(j.n)}{more}"
            )
    return lines


def titled(approach: str) -> str:
    """An approach as pictures call it."""
    return CAPTIONS.get(approach, approach.replace("_", " "))


def pictures(results: dict[str, Results]) -> dict[str, list[Panel]]:
    out: dict[str, list[Panel]] = {}
    found = frames(results)
    found.pop(PAIR, None)
    for task, frame in found.items():
        levels = [
            Line(f"{name}, highest", [np.array([[0.0, c[:, 1].max()]]) for c in frame.raw[name].values()], role)
            for name, role in (("source", "floor"), ("target", "ceiling")) if name in frame.raw
        ]  # fmt: skip
        if home := at_home(found, task):
            level = [np.array([[0.0, value]]) for value in home]
            levels = [Line("source, in the source", level, "ceiling")]
        curves = lambda names, f=frame: [
            Line(titled(n), [*f.raw[n].values()]) for n in names if n in f.raw
        ]
        main = curves([n for n in METHODS if n not in ("source", "target", "ppo")])
        if main:
            panel = Panel(task, "steps in the source", "return in the target", levels + main)
            out.setdefault(f"figure{task if task in PROBES else 2}.png", []).append(panel)
        for figure in ABLATIONS:
            where, wanted = variants(figure)
            names, methods = [v.approach for v in wanted], dict.fromkeys(v.method for v in wanted)
            if where == task and curves(names):
                scan = [name for name, method in CALLED.items() if method in methods]
                if figure in ("3a", "3b"):  # with the chosen value, by its number
                    names = sorted([*names, *scan], key=lambda name: float(name.rsplit("_", 1)[1]))
                lines = curves(names if figure in ("3a", "3b") else [*methods, *names])
                title = f"{task}, {TITLES.get(figure, figure)}"
                panel = Panel(title, "steps in the source", "return in the target", levels + lines)
                out.setdefault(f"figure{figure}.png", []).append(panel)
    return out


def claims(results: dict[str, Results]) -> list[Claim]:
    scale = next(iter(results)).partition("-")[0]
    size, whole = SCALES[scale], SCALES["paper"]
    length = (
        f"{size.steps:,} of the paper's {whole.steps:,} steps" if size.steps < whole.steps else ""
    )
    return dap_claims.claims(frames(results), dap_claims.Training(size.tasks, length))


STUDY = Study("dap", "DAP, Figures 2 and 3", FIGURES, units, report, pictures, claims, measure)
