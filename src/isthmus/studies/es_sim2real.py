"""ES-sim2real's Figure 1: landscapes over torso mass and friction. Here its first two panels, naive and randomization.

Both readings of friction: as published (the foot's own coefficient, of no effect below the floor's 1) and the true
friction of the contact (floor and robot together).
"""

from __future__ import annotations

import numpy as np

from isthmus.evaluation import statistics
from isthmus.evaluation.landscape import Landscape
from isthmus.studies.study import Results, Study, Unit

MASS = "torso_mass=0.5..11.5:12"
READINGS = {
    "as_published": f"{MASS},foot_friction=0.1..2.9:15",
    "contact": f"{MASS},friction=0.1..2.9:15",
}
PUBLISHED = {  # means over box and outside cells, read off the figure's colours (+-15)
    "naive": (1306, 661),
    "domain_randomization": (2918, 969),
}
# Chosen on one run of seed 100, which is not reported: with minibatches of 64 and discount 0.99 randomization stays
# near 1,500 in its own box after 3M steps; the paper's authors use 512 and 0.995. How it fared: docs/es_sim2real.md.
SETTINGS = {"learner.minibatch": 256, "learner.discount": 0.995}
METHODS = {"naive": "source_only", "domain_randomization": "domain_randomization"}


def units(scale: str, figure: str | None) -> list[Unit]:
    steps, seeds, episodes = {"smoke": (8_192, 1, 1), "laptop": (3_000_000, 5, 10), "paper": (10_000_000, 5, 20)}[scale]
    return [
        Unit(
            f"{scale}-{name}-s{seed}", method, "hopper-es-sim2real", seed, steps, SETTINGS,
            landscapes=READINGS, landscape_episodes=episodes,
        )
        for seed in range(seeds)
        for name, method in METHODS.items()
    ]  # fmt: skip


def box(friction: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """The training range's cells, bool [friction, mass]: 1.5..2.5 and 1..9 kg, 48 of 180."""
    inside = lambda x, low, high: (x >= low - 1e-6) & (x <= high + 1e-6)  # noqa: E731
    return inside(friction, 1.5, 2.5)[:, None] & inside(mass, 1, 9)[None, :]


def report(results: dict[str, Results]) -> list[str]:
    lines = []
    for reading in READINGS:
        inside: dict[str, list[float]] = {name: [] for name in METHODS}
        outside: dict[str, list[float]] = {name: [] for name in METHODS}
        for unit, result in results.items():
            name = unit.split("-")[1]
            friction, mass, returns = result.cells(reading)
            within = box(friction, mass)
            inside[name].append(float(returns[within].mean()))
            outside[name].append(float(returns[~within].mean()))
        for name in METHODS:
            for where, scores, published in (
                ("box", inside[name], PUBLISHED[name][0]),
                ("outside", outside[name], PUBLISHED[name][1]),
            ):
                e = statistics.interval(scores)
                lines.append(
                    f"{reading:13} {name:22} {where:8} {e.value:6.0f} [{e.low:.0f}, {e.high:.0f}] "
                    f"over {e.n} seeds; published {published}"
                )
        for where, a in (("box", inside), ("outside", outside)):
            d = statistics.difference(a["domain_randomization"], a["naive"], paired=True)
            lines.append(
                f"{reading:13} randomization - naive, {where}: {d.value:.0f} [{d.low:.0f}, {d.high:.0f}] "
                f"({statistics.verdict(d)})"
            )
    return lines


def pictures(results: dict[str, Results]) -> dict[str, list[tuple[str, Landscape]]]:
    """Figure 1's panels, one picture a reading of friction: means over seeds, the training range as a box."""
    ranges = {"naive": ((2.0, 2.0), (6.0, 6.0)), "domain_randomization": ((1.5, 2.5), (1.0, 9.0))}
    out: dict[str, list[tuple[str, Landscape]]] = {}
    for reading, axes in READINGS.items():
        names = tuple(sorted(part.partition("=")[0] for part in axes.split(",")))
        panels = []
        for name in METHODS:
            cells = [r.cells(reading) for unit, r in results.items() if unit.split("-")[1] == name]
            friction, mass, _ = cells[0]
            returns = np.stack([c[2] for c in cells], -1)  # seeds in the place of episodes
            scape = Landscape(names, (friction, mass), returns, np.full_like(returns, np.nan), ranges[name])
            panels.append((f"{name.replace('_', ' ')}, {len(cells)} seeds", scape))
        out[f"figure1-{reading}.png"] = panels
    return out


STUDY = Study("es-sim2real", "ES-sim2real, Figure 1", ("1",), units, report, pictures)
