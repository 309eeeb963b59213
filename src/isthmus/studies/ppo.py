"""Does our PPO learn? Hopper, 1M steps, 5 seeds, beside CleanRL's published score."""

from __future__ import annotations

from isthmus.evaluation import statistics
from isthmus.studies.study import Results, Study, Unit

CLEANRL = "2383 +- 272 (CleanRL, Hopper-v4, 1M steps, training return)"


def units(scale: str, figure: str | None) -> list[Unit]:
    steps, seeds = {"smoke": (8_192, 1), "laptop": (1_000_000, 5), "paper": (1_000_000, 10)}[scale]
    return [Unit(f"{scale}-hopper-s{seed}", "source_only", "hopper", seed, steps) for seed in range(seeds)]


def report(results: dict[str, Results]) -> list[str]:
    scores = [r.value("final", "source_return") for r in results.values()]
    estimate = statistics.interval(scores)
    each = ", ".join(f"{s:.0f}" for s in scores)
    return [
        f"PPO on Hopper, deterministic, 100 episodes a seed: mean {estimate.value:.0f} "
        f"[{estimate.low:.0f}, {estimate.high:.0f}] over {estimate.n} seeds ({each})",
        f"published: {CLEANRL}",
    ]


STUDY = Study("ppo", "PPO's learning on Hopper", (), units, report)
