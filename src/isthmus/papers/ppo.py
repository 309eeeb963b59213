"""Does our PPO learn? Hopper, 1M steps, 5 seeds, beside CleanRL's published score."""

from __future__ import annotations

from typing import Any

from isthmus.evaluation import statistics
from isthmus.studies.study import Results, Study, Trial


def learning_on_hopper(name: str, learner: str, settings: dict[str, Any], published: str) -> Study:
    """A learner's own study: no shift, only what it reaches, beside a published score."""

    def units(scale: str, figure: str | None) -> list[Trial]:
        steps, seeds = {"smoke": (8_192, 1), "laptop": (1_000_000, 5), "paper": (1_000_000, 10)}[
            scale
        ]
        return [
            Trial(f"{scale}-hopper-s{seed}", "source_only", "hopper", seed, steps, settings)
            for seed in range(seeds)
        ]

    def report(results: dict[str, Results]) -> list[str]:
        scores = [r.value("final", "source_return") for r in results.values()]
        estimate = statistics.interval(scores)
        each = ", ".join(f"{s:.0f}" for s in scores)
        return [
            f"{learner} on Hopper, deterministic, 100 episodes a seed: mean {estimate.value:.0f} "
            f"[{estimate.low:.0f}, {estimate.high:.0f}] over {estimate.n} seeds ({each}; "
            f"{statistics.INTERVALS})",
            f"published: {published}",
        ]

    return Study(name, f"{learner}'s learning on Hopper", (), units, report)


STUDY = learning_on_hopper(
    "ppo", "PPO", {}, "2383 +- 272 (CleanRL, Hopper-v4, 1M steps, training return)"
)
