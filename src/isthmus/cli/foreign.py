"""Commands on policies from elsewhere: in which domains they act, and how exactly that is known."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.cli.console import make_table, print_text, screen
from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.deploy.policy import ForeignPolicy
    from isthmus.domains.domain import Domain
    from isthmus.evaluation.landscape import Landscape
    from isthmus.evaluation.statistics import Estimate

COLUMNS = ("domain", "episodes", "return", "sd", "fell", "success", "length")


def find_domains(policy: ForeignPolicy, domain: str | None) -> list[Domain]:
    """Return where a policy was trained, if it says so, and the domain that was named, else the
    one that it is for.

    Raises BadValue where there is neither.
    """
    from isthmus.domains.parse import parse_domain

    places = []
    for text in dict.fromkeys((policy.trained_in, domain or policy.deployed_to)):
        if text:
            places.append(parse_domain(text))
    if not places:
        raise BadValue(
            f"{policy.name} does not say where it was trained: name a domain to play it in, "
            "--domain hopper"
        )
    return places


def evaluate_foreign(policy: ForeignPolicy, domain: str | None, episodes: int) -> None:
    """Play a policy from elsewhere and print a row a domain, with intervals over episodes."""
    from isthmus.cli.progress import show_episodes
    from isthmus.evaluation.episode_intervals import OVER_EPISODES
    from isthmus.evaluation.evaluate import evaluate

    places = find_domains(policy, domain)
    if domain:
        places = places[-1:]
    table = make_table(*COLUMNS)
    for i, column in enumerate(table.columns):
        column.no_wrap = i > 0
    for place in places:
        with show_episodes(str(place), episodes) as bar:
            played = evaluate(policy, place, episodes, on_step=bar).episodes
        table.add_row(str(place), *format_episodes(played))
    screen.print(table)
    print_text(OVER_EPISODES)
    print_description(policy)


def format_episodes(played: Any) -> list[str]:
    """Return the cells of a table: episodes, return, its spread, falls, success, length."""
    from isthmus.evaluation.episode_intervals import summarize_episodes

    summary = summarize_episodes(played)
    return [
        str(len(played.returns)),
        f"{summary.returns.value:.1f} {format_return_interval(summary.returns)}",
        f"{summary.spread:.1f}",
        format_share(summary.fell),
        format_share(summary.success),
        f"{summary.length:.0f}",
    ]


def format_return_interval(estimate: Estimate) -> str:
    """Return an interval as text; empty where there is none, as of one episode."""
    if estimate.n < 2:
        return ""
    return f"[{estimate.low:.1f}, {estimate.high:.1f}]"


def format_share(estimate: Estimate) -> str:
    """Return a share and its interval, in per cent."""
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{estimate.value:.0%} [{low:.0f}, {high:.0f}]"


def print_description(policy: ForeignPolicy) -> None:
    """Print what the numbers depend on."""
    described = policy.describe()
    parts = [str(described.pop("policy"))]
    for name, value in described.items():
        parts.append(f"{name} {str(value)[:16]}")
    print_text(", ".join(parts))


def play_grid(policy: ForeignPolicy, grid: Domain, episodes: int) -> Landscape:
    """Play a policy from elsewhere in every cell of a grid."""
    from isthmus.cli.progress import show_episodes
    from isthmus.domains.parse import parse_domain
    from isthmus.evaluation.landscape import landscape

    cells, box = prod(map(len, grid.grid.values())), None
    if policy.trained_in:
        box = parse_domain(policy.trained_in)
    with show_episodes(f"{cells} cells", cells * episodes) as bar:
        return landscape(policy, grid, episodes, trained_in=box, on_step=bar)


def name_files(policy: ForeignPolicy, kind: str, axes: Sequence[str]) -> Path:
    """Return a CSV's path: beside a model, or in the working folder."""
    path = getattr(policy, "path", Path("policy"))
    return path.with_name(f"{'-'.join([path.stem, kind, *axes])}.csv")
