"""Does our PPO learn? Hopper, 1M steps, 5 seeds, compared with CleanRL's published score."""

from __future__ import annotations

from typing import Any

from isthmus.evaluation import statistics
from isthmus.studies.results import Results
from isthmus.studies.study import Study
from isthmus.studies.trial import Trial

STEPS_AND_SEEDS = {"smoke": (8_192, 1), "laptop": (1_000_000, 5), "paper": (1_000_000, 10)}


def study_learning_on_hopper(
    name: str, learner: str, settings: dict[str, Any], published: str
) -> Study:
    """Return a learner's own study: no shift, only what it reaches, compared with a published
    score.
    """

    def list_trials(scale: str, figure: str | None) -> list[Trial]:
        steps, seeds = STEPS_AND_SEEDS[scale]
        trials = []
        for seed in range(seeds):
            trial_name = f"{scale}-hopper-s{seed}"
            trials.append(Trial(trial_name, "source_only", "hopper", seed, steps, settings))
        return trials

    def report(results: dict[str, Results]) -> list[str]:
        scores = [result.value("final", "source_return") for result in results.values()]
        estimate = statistics.interval(scores)
        by_seed = ", ".join(f"{score:.0f}" for score in scores)
        return [
            f"{learner} on Hopper, deterministic, 100 episodes a seed: mean {estimate.value:.0f} "
            f"[{estimate.low:.0f}, {estimate.high:.0f}] over {estimate.n} seeds ({by_seed}; "
            f"{statistics.INTERVALS})",
            f"published: {published}",
        ]

    return Study(name, f"{learner}'s learning on Hopper", (), list_trials, report)


STUDY = study_learning_on_hopper(
    "ppo", "PPO", {}, "2383 +- 272 (CleanRL, Hopper-v4, 1M steps, training return)"
)
