"""DAP's figures as trials: seven methods and ours on robots whose target is known by a log of the
source's own policy (2), and what lambda (3a), beta (3b), the size of the log (3c), the number of
classifiers, a policy for each action ("separate"), another's or a smaller log ("logs") and noise
that the classifiers share ("noise", ours) do.

What classifiers get wrong is measured on a pair of domains whose densities are known
("classifiers", `linear_gaussian`).

That a shift leaves `source_only` below half of `target_only` is measured on all four robots
("shifts").

Figure 2 again on two shifts of HalfCheetah that a second action can cross ("crossable"), lambda
there ("lambda"), what it is chosen by ("choice"), and two runs that say what holds DAP and DARC
back ("deciding").

Two probes have known answers: motors of one and a half times the strength, which a_tgt = a_src /
1.5 crosses without loss, and "identity", a target like its source, which should cost no method more
than noise.

source   source_only, by SAC: the floor, and the policy that logs the target
target   target_only: the ceiling
ppo      source_only, by PPO: GARAT's rounds are on policy, and it is grounded by the log of the
         policy that it starts from
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from isthmus.papers.dap.linear_gaussian import measure_errors
from isthmus.studies.trial import AnyTrial, Measurement, Trial

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
IDENTIFIED = "system_identification"  # not the paper's: what a log is worth by least squares
# Three seeds at laptop scale, also of what begins so.
FEWER_SEEDS = ("h2o", "dap_expert", "darc_warmup", "darc_shared", "dap_shared")
TASKS = ("half_cheetah", "walker2d", "hopper", "ant")
PROBLEMS = {
    "half_cheetah": "half_cheetah-dap",
    "walker2d": "walker2d-dap",
    "hopper": "hopper-dap",
    "ant": "ant-dap",
    "motors": "half_cheetah-motors",
    "identity": "half_cheetah",
    "damping": "half_cheetah-damping-0.3",
    "choice": "half_cheetah-motors-2",
    "headline": "half_cheetah-dap",
}
# HalfCheetah's shifts that a second action can cross: an oracle, by a source's policy of a seed
# that is not reported, gives back 0.84 of what damping x0.3 costs and 0.76 of motors x1.5 (damping
# x3, the headline: 0.09).
CROSSABLE = ("damping", "motors")
CHOICE, DECIDING = "choice", "deciding"
DECIDING_SEEDS = 2
CHOICE_SEEDS, CHOICE_LAMBDAS = (120, 121), (0.1, 0.3, 1.0, 3.0)
"""lambda is chosen on a third such shift, motors x2, by seeds that are not reported."""
PROBES = {
    "motors": ("darc", "dap", "dap_inverse"),
    "identity": ("h2o", "garat", "darc", "dap", "dap_u", "dap_inverse"),
}  # on HalfCheetah
PROBED_TASK = "half_cheetah"
SHIFTS_OF_PROBED = (*PROBES, *CROSSABLE, CHOICE, "headline")
"""Further tasks of that robot. The source's policies that log a probe are figure 2's, of all others
their own.
"""

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
METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "source_only": {"learner": "sac"},
    "target_only": {"learner": "sac"},
    "system_identification": {"learner": "sac"},
    "dap": {"regularization": CHOSEN["regularization"]},
    "dap_u": CHOSEN,
}
SMOKE_SETTINGS: dict[str, dict[str, Any]] = {
    "darc": {"warmup": 600},
    "dap": {"warmup": 600},
    "dap_u": {"warmup": 600},
    "dap_inverse": {"fitting": 500},
}


class DapScale(NamedTuple):
    """How much is trained."""

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
LAPTOP = {"learner.capacity": 150_000}
SCALES = {
    "smoke": DapScale(2_000, 2, 4, ("hopper",), 1, TINY, 1_024, 1_024),
    "laptop": DapScale(150_000, 15, 100, ("half_cheetah", "walker2d"), 5, LAPTOP, 500_000, 410_000),
    "paper": DapScale(1_000_000, 40, 100, TASKS, 5, {}, 1_000_000, 1_000_000),
}
PAIR = "pair"  # the linear pair of domains, in place of a task's name


@dataclass(frozen=True)
class Variant:
    """What a figure adds on one task: a method with other settings, or with less of the log."""

    approach: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    size: str = ""
    by: str = "source"  # whose policy made the log


class Ablation(NamedTuple):
    """The task that a figure's ablation is made on, and its variants."""

    task: str
    variants: Sequence[Variant]


def _scan_setting(prefix: str, method: str, setting: str, values: Iterable[float]) -> list[Variant]:
    """Return a method's variants by one setting; the chosen value is the method as it is."""
    variants = []
    for value in values:
        if value != CHOSEN[setting]:
            variants.append(Variant(f"{prefix}{value:g}", method, {setting: value}))
    return variants


def _scan_log_sizes(method: str, sizes: Iterable[str], by: str) -> list[Variant]:
    return [Variant(f"{method}_{size[1:]}", method, size=size, by=by) for size in sizes]


_SHARED_NOISE = {"classifiers.shared_noise": True}
ABLATIONS = {
    DECIDING: Ablation(
        "headline",
        [
            Variant("dap_expert", "dap", by="target"),
            Variant("darc_warmup", "darc", {"warmup": 100_000}),
        ],
    ),
    "3a": Ablation("half_cheetah", _scan_setting("dap_", "dap", "regularization", LAMBDAS)),
    "lambda": Ablation("damping", _scan_setting("dap_", "dap", "regularization", LAMBDAS)),
    "3b": Ablation("damping", _scan_setting("dap_u_", "dap_u", "redraw", BETAS)),
    "3c": Ablation("damping", _scan_log_sizes("dap_u", LOG_SIZES, "source")),
    "members": Ablation(
        "damping", _scan_setting("dap_u_n", "dap_u", "classifiers.members", MEMBERS)
    ),
    "separate": Ablation("half_cheetah", [Variant("dap_separate", "dap", {"learner.actors": 2})]),
    "logs": Ablation(
        "half_cheetah",
        [
            Variant("h2o_expert", "h2o", by="target"),
            Variant("dap_expert", "dap", by="target"),
            *_scan_log_sizes("garat", LOG_SIZES[2:], "ppo"),
        ],
    ),
    "noise": Ablation(
        "half_cheetah",
        [
            Variant("darc_shared", "darc", _SHARED_NOISE),
            Variant("dap_shared", "dap", _SHARED_NOISE),
        ],
    ),
}
FIGURES = ("2", *ABLATIONS, *PROBES, "crossable", "classifiers", "shifts", CHOICE)


def list_dap_trials(scale: str, figure: str | None) -> list[AnyTrial]:
    """Return all figures' trials, or one's and those that it is measured by; seed after seed, so
    that a study cut short has whole seeds. Each trial is preceded by the source's policy that logs
    its target.
    """
    figures = FIGURES if figure is None else (figure,)
    if figure in ABLATIONS and figure != DECIDING:
        figures = ("crossable" if ABLATIONS[figure].task in CROSSABLE else "2", figure)
    trials: dict[str, AnyTrial] = {}
    for seed in range(SCALES[scale].seeds):
        for part in filter(partial(_has_figure, seed), figures):
            for trial in _list_figure_trials(scale, part, seed):
                trials[trial.name] = trial
    if CHOICE in figures:
        trials |= {trial.name: trial for trial in _list_choice_trials(scale)}
    return list(trials.values())


def _list_choice_trials(scale: str) -> list[Trial]:
    """Return the trials that lambda is chosen by; their logs' policies are their own."""
    if PROBED_TASK not in SCALES[scale].tasks:
        return []
    variants = [_make_plain("source"), _make_plain("dap")]
    variants += _scan_setting("dap_", "dap", "regularization", CHOICE_LAMBDAS)
    trials = []
    for seed in CHOICE_SEEDS:
        trials += [make_dap_trial(scale, CHOICE, variant, seed) for variant in variants]
    return trials


def _list_crossable_trials(scale: str, seed: int) -> list[Trial]:
    if PROBED_TASK not in SCALES[scale].tasks:
        return []
    approaches = [approach for approach in METHODS if _has_seed(scale, approach, seed)]
    variants = [*map(_make_plain, approaches), Variant(IDENTIFIED, IDENTIFIED)]
    trials: list[Trial] = []
    for task in CROSSABLE:
        trials += _list_loggers(scale, task, [_make_plain("source"), _make_plain("garat")], seed)
        trials += [make_dap_trial(scale, task, variant, seed) for variant in variants]
    return trials


def _has_figure(seed: int, figure: str) -> bool:
    """Return whether a figure has trials of this seed: lambda's choice is by others."""
    if figure == DECIDING:
        return seed < DECIDING_SEEDS
    return figure != CHOICE


def _list_figure_trials(scale: str, figure: str, seed: int) -> Sequence[AnyTrial]:
    if figure == "classifiers":
        return _list_measurements(scale, seed)
    if figure == "2":
        return _list_plain_trials(scale, SCALES[scale].tasks, METHODS, seed)
    if figure == "shifts":
        tasks = TASKS if scale != "smoke" and seed < 3 else ()
        return _list_plain_trials(scale, tasks, ("source", "target"), seed)
    if figure == "crossable":
        return _list_crossable_trials(scale, seed)
    if figure in PROBES:
        return _list_probe_trials(scale, figure, seed)
    return _list_ablation_trials(scale, ABLATIONS[figure], seed)


def _list_measurements(scale: str, seed: int) -> list[Measurement]:
    members, updates = sorted((*MEMBERS, CHOSEN["classifiers.members"])), 20_000
    if scale == "smoke":
        members, updates = members[:1], 500
    measurements = []
    for n in members:
        given = {"members": n, "updates": updates}
        name = f"{scale}-{PAIR}-n{n}-s{seed}"
        measurements.append(Measurement(name, measure_errors, seed, given))
    return measurements


def _list_plain_trials(
    scale: str, tasks: Iterable[str], approaches: Iterable[str], seed: int
) -> list[Trial]:
    trials = []
    for task in tasks:
        for approach in approaches:
            if _has_seed(scale, approach, seed):
                trials.append(make_dap_trial(scale, task, _make_plain(approach), seed))
    return trials


def _list_probe_trials(scale: str, probe: str, seed: int) -> list[Trial]:
    if PROBED_TASK not in SCALES[scale].tasks or (probe == "identity" and seed >= 3):
        return []
    variants = [_make_plain(approach) for approach in PROBES[probe]]
    trials = _list_loggers(scale, probe, variants, seed)
    trials += [make_dap_trial(scale, probe, variant, seed) for variant in variants]
    return trials


def _list_ablation_trials(scale: str, ablation: Ablation, seed: int) -> list[Trial]:
    task, variants = ablation
    if scale == "smoke":
        task, variants = SCALES[scale].tasks[0], variants[:1]
    robot = PROBED_TASK if task in SHIFTS_OF_PROBED else task
    if robot not in SCALES[scale].tasks:
        return []
    variants = [variant for variant in variants if _has_seed(scale, variant.approach, seed)]
    trials = _list_loggers(scale, task, variants, seed)
    trials += [make_dap_trial(scale, task, variant, seed) for variant in variants]
    return trials


def find_logger(task: str) -> str:
    """Return the task whose policies log this one."""
    if task in PROBES:
        return PROBED_TASK
    return task


def _list_loggers(scale: str, task: str, variants: Iterable[Variant], seed: int) -> list[Trial]:
    """Return the trials whose policies log the target for these variants."""
    loggers = dict.fromkeys(variant.by for variant in variants)
    home = find_logger(task)
    return [make_dap_trial(scale, home, _make_plain(logger), seed) for logger in loggers]


def _has_seed(scale: str, approach: str, seed: int) -> bool:
    return scale != "laptop" or seed < 3 or not approach.startswith(FEWER_SEEDS)


def _make_plain(approach: str) -> Variant:
    return Variant(approach, METHODS[approach], by="ppo" if approach == "garat" else "source")


def make_dap_trial(scale: str, task: str, variant: Variant, seed: int) -> Trial:
    """Return the trial of a variant on a task or probe."""
    size, method = SCALES[scale], variant.method
    logger = f"{scale}-{find_logger(task)}-{variant.by}-s{seed}"
    trial = Trial(
        f"{scale}-{task}-{variant.approach}-s{seed}", method, PROBLEMS[task], seed, size.steps,
        _choose_settings(scale, variant), log_size=variant.size,
        access={"source_only": "none", "target_only": "online"}.get(method, "dataset"),
        evaluations=size.evaluations, evaluation_episodes=size.episodes,
    )  # fmt: skip
    if variant.approach == "ppo":
        return replace(trial, steps=size.ppo)
    if method == "garat":  # on policy, too
        return replace(trial, steps=size.garat, start=logger, log=logger)
    if method in ("source_only", "target_only"):
        return trial
    return replace(trial, log=logger)


def _choose_settings(scale: str, variant: Variant) -> dict[str, Any]:
    smoke, method = scale == "smoke", variant.method
    if variant.approach == "ppo":
        return dict(TINY_PPO) if smoke else {}
    if method == "garat":  # one grounding: docs/lab/garat.md
        return TINY_PPO | {"inner": 1} if smoke else {"updates": 10_000}
    settings = SCALES[scale].learner | METHOD_SETTINGS.get(method, {}) | variant.settings
    if smoke:
        settings |= SMOKE_SETTINGS.get(method, {})
    return settings
