"""MATL's experiments as data: six approaches on tasks whose robot is paid sparsely (3), for not
falling (4), not at all (5), or lives in another engine (6); and the ball of its discussion.

independent          target_only, on the robot's own reward
direct_transfer      source_only
fine_tuning          goes on in the target from direct_transfer's policy, as matlf does
matlu, matl, matlf   as the paper's
state_alignment      the paper's discussion
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from isthmus.problems.catalog import POLE_DAMPINGS

METHODS = {
    "independent": "target_only",
    "direct_transfer": "source_only",
    "fine_tuning": "fine_tuning",
    "matlu": "matlu",
    "matl": "matl",
    "matlf": "matlf",
}
# As these trials were run; today's defaults are others (docs/lab/ppo_trpo.md).
LEARNER: dict[str, Any] = {
    "learner": "trpo",
    "learner.cg_iterations": 15,
    "learner.fisher_stride": 1,
    "learner.learning_rate": 1e-3,
    "learner.epochs": 20,
    "learner.minibatch": 128,
}
TUNED_LEARNER: dict[str, Any] = {
    "learner": "trpo",
    "learner.max_kl": 0.04,
    "learner.cg_iterations": 25,
    "learner.fisher_stride": 5,
    "learner.learning_rate": 3e-3,
    "learner.epochs": 5,
    "learner.minibatch": 256,
}
"""What Hopper learns by (docs/lab/ppo_trpo.md); chosen on seeds that are not reported."""


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
    learner: dict[str, Any] = field(default_factory=lambda: dict(LEARNER))
    start_at: str = ""  # "best": by the source's return; empty: the end of training


# Single states (4.2), where an episode has one length and so no offset matters; pairs (t, t + 4)
# (4.3).
SINGLE, PAIRS = {"extent": 0, "offset": "mean"}, {"extent": 1, "stride": 4}
SINGLE_02, PAIRS_1 = SINGLE | {"alignment": 0.2}, PAIRS | {"alignment": 1.0}
WASSERSTEIN = {"discriminator.loss": "wasserstein"}
OTHERS = ("independent", "fine_tuning", "matlu", "matl", "matlf")  # all but direct transfer
LAMBDAS = (0.03, 0.1, 0.3, 1.0, 3.0)

# Lambda and the problems' shifts were chosen on seeds 110 to 112, which are not reported.
EXPERIMENTS = {
    "cartpole-sparse": Experiment("3", "matl-cartpole-sparse", (20, 100), alignment=SINGLE_02),
    "reacher-sparse": Experiment(
        "3", "matl-reacher-sparse", (40, 50), iterations=(60, 400), alignment=SINGLE_02
    ),
    "hopper-uninformative": Experiment(
        "4", "matl-hopper-uninformative", (16, 125), "forward", (100, 400), (3, 5), PAIRS_1
    ),
    "cartpole-none": Experiment(
        "5",
        "matl-cartpole-none",
        (20, 100),
        alignment=SINGLE_02,
        approaches=OTHERS,
        source="cartpole-sparse",
    ),
    "reacher-none": Experiment(
        "5",
        "matl-reacher-none",
        (40, 50),
        iterations=(60, 400),
        alignment=SINGLE_02,
        approaches=OTHERS,
        source="reacher-sparse",
    ),
    "hopper-none": Experiment(
        "5",
        "matl-hopper-none",
        (16, 125),
        "forward",
        (100, 400),
        (3, 5),
        PAIRS_1,
        OTHERS,
        source="hopper-uninformative",
    ),
    "reacher-dart": Experiment(
        "6",
        "matl-reacher-dart",
        (40, 50),
        iterations=(60, 400),
        alignment=SINGLE | WASSERSTEIN | {"alignment": 0.2},
        variants={"matl_confusion": {"discriminator.loss": "confusion"}},
    ),
    "hopper-dart": Experiment(
        "6",
        "matl-hopper-dart",
        (16, 125),
        iterations=(100, 200),
        seeds=(3, 5),
        alignment=PAIRS | WASSERSTEIN | {"alignment": 0.2},
        variants={"matl_confusion": {"discriminator.loss": "confusion"}},
    ),
    "cartpole-damped": Experiment(
        "exploration",
        "matl-cartpole-damped",
        (20, 100),
        seeds=(3, 5),
        alignment=SINGLE_02,
        approaches=("independent", "fine_tuning", "matlu", "matl"),
        source="cartpole-sparse",
    ),
    "ball": Experiment(
        "state-wise",
        "matl-ball",
        (20, 100),
        iterations=(40, 100),
        alignment=SINGLE,
        approaches=("independent", "direct_transfer", "matl", "state_alignment"),
    ),
}
# The pole's damping, N m s / rad: what direct transfer meets, from little to much.
SHIFT_SIZES = {f"cartpole-damping-{size:g}": size for size in POLE_DAMPINGS}
for _name in SHIFT_SIZES:
    EXPERIMENTS[_name] = Experiment(
        "shift-size",
        f"matl-{_name}",
        (20, 100),
        alignment=SINGLE_02,
        approaches=("independent", "fine_tuning", "matl"),  # fine tuning begins as direct transfer
        source="cartpole-sparse",
    )
WITH_REWARD = {
    "cartpole-none": "cartpole-sparse",
    "reacher-none": "reacher-sparse",
    "hopper-none": "hopper-uninformative",
}
AGAIN, TUNED_SUFFIX, MADE_AGAIN = "again", "-tuned", {"3", "4", "5", "6"}
# By TRPO's better settings; from the policy that was best in the source; offset floor, for
# Cartpole's episodes end early, too; the paper's lambda, 0.1, beside ours. Reacher's has fewer
# iterations: after 60 all approaches are at its ceiling.
FEWER_ITERATIONS = {"reacher-sparse": (25, 400), "reacher-none": (25, 400)}
for _name, _experiment in [*EXPERIMENTS.items()]:
    if _experiment.figure in MADE_AGAIN:
        _floor = {"offset": "floor"} if _experiment.alignment.get("extent") == 0 else {}
        EXPERIMENTS[_name + TUNED_SUFFIX] = replace(
            _experiment,
            figure=AGAIN,
            learner=TUNED_LEARNER,
            start_at="best",
            iterations=FEWER_ITERATIONS.get(_name, _experiment.iterations),
            seeds=(5, 5),
            alignment=_experiment.alignment | _floor,
            variants=_experiment.variants | {"matl_0.1": {"alignment": 0.1}},
            source=_experiment.source and _experiment.source + TUNED_SUFFIX,
        )
WITH_REWARD |= {a + TUNED_SUFFIX: b + TUNED_SUFFIX for a, b in WITH_REWARD.items()}
"""Figure 5's scenarios, and those of figures 3 and 4 whose maximum is their measure."""

Settings = dict[str, Any]


def _vary(setting: str, prefix: str, values: Iterable[Any]) -> dict[str, Settings]:
    """Return variants of matl by the values of one setting."""
    variants = {}
    for value in values:
        variants[f"matl_{prefix}{value}"] = {setting: value}
    return variants


_LAMBDA: dict[str, Settings] = {f"matl_{x:g}": {"alignment": x} for x in LAMBDAS}
_TRAP = _vary("offset", "", ("mean", "none"))
_SETTINGS = _vary("inner", "inner", (1, 10)) | _vary("discriminator.steps", "steps", (5, 80))
_MIN_MAX = {"matl_min_max": {"discriminator.loss": "min_max"}}
_PAIRS = {"matl_pairs": PAIRS}
_STATE_WISE: dict[str, Settings] = {"state_alignment": {}}
VARIED_SETTINGS = ("matl", *_LAMBDA, *_SETTINGS)
"""MATL's settings over which its stability is measured, on Cartpole."""
# figure -> experiment -> what is added there: matl's variants, and further approaches
ABLATIONS: dict[str, dict[str, dict[str, Settings]]] = {
    "4-lambda": {"hopper-uninformative": _LAMBDA, "cartpole-sparse": _LAMBDA},
    "trap": {"hopper-uninformative": _TRAP},
    "losses": {"cartpole-sparse": _MIN_MAX, "reacher-sparse": _MIN_MAX},
    "settings": {"cartpole-sparse": _SETTINGS},
    "pairs": {"cartpole-sparse": _PAIRS, "reacher-sparse": _PAIRS},
    "state-wise": {
        "cartpole-sparse": _STATE_WISE,
        "reacher-sparse": _STATE_WISE,
        "hopper-uninformative": _STATE_WISE,
    },
}
SCENES = {"2": (("MuJoCo", "hopper"), ("DART", "hopper/engine=dart"))}
FIGURES = (
    "2", "3", "4", "4-lambda", "5", "6",
    "again", "exploration", "losses", "pairs", "settings", "shift-size", "state-wise", "trap",
)  # fmt: skip
NEEDS = {
    "5": ("3", "4", "5"),
    "4-lambda": ("3", "4", "4-lambda"),
    "exploration": ("3", "exploration"),
    "losses": ("3", "losses"),
    "trap": ("4", "trap"),
    "pairs": ("3", "pairs"),
    "settings": ("3", "settings"),
    "shift-size": ("3", "shift-size"),
    "state-wise": ("3", "4", "state-wise"),
}


class MatlScale(NamedTuple):
    """How much is trained: the robot's iterations and the seeds are the experiment's `column`,
    unless it is None.
    """

    column: int | None
    inner: int  # M
    worlds: float  # of a batch, times the laptop's
    evaluations: int


SCALES = {
    "smoke": MatlScale(None, 1, 0.25, 2),
    "laptop": MatlScale(0, 3, 1, 20),
    "paper": MatlScale(1, 10, 2.5, 40),
}
