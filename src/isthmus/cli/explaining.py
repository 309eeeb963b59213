"""The command that says in words what a policy's return and its falls depend on."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.table import Table
from tyro.conf import Positional, arg

from isthmus.cli.console import make_table, print_text, screen
from isthmus.cli.foreign import find_domains, name_files, print_description
from isthmus.cli.options import PolicyOptions, PolicyReference, is_run
from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.deploy.policy import ForeignPolicy
    from isthmus.domains.domain import Domain
    from isthmus.evaluation.explain import Explanation
    from isthmus.evaluation.sensitivity import SobolIndex
    from isthmus.evaluation.statistics import Estimate
    from isthmus.training.run import Run


def run_explain(
    policy: Positional[PolicyReference],
    code: PolicyOptions,
    over: Annotated[
        tuple[str, ...],
        arg(metavar="NAME=LOW..HIGH", help="laws to vary parameters by: friction=log:x0.2..x2"),
    ],
    domain: Annotated[
        str | None,
        arg(help="where (default: the run's target; where another policy was trained)"),
    ] = None,
    episodes: Annotated[
        int, arg(aliases=["-n"], help="episodes in all: half explore, half are fresh")
    ] = 4000,
    threshold: Annotated[
        float | None, arg(help="an episode of a lower return has failed, too, not only a fall")
    ] = None,
    out: Annotated[
        Path | None,
        arg(aliases=["-o"], help="the picture (default: in the run, or beside the model)"),
    ] = None,
    json: Annotated[bool, arg(help="print all numbers as JSON instead of text")] = False,
) -> None:
    """Which parameters matter, where the policy fails, and the box in which it does not.

    Sobol indices with bootstrap intervals; regions of failure, from a tree, with Wilson's
    intervals; the largest box found around the nominal values in which fewer than 5 % fail, at
    95 % confidence. Regions and box are chosen by one half of the episodes, measured by the
    other.
    """
    opened = code.open_policy(policy)
    if is_run(opened) and opened.method.adapts:
        raise BadValue(
            f"{opened.name} adapts to each target first, and explain plays thousands: use "
            "isthmus landscape"
        )
    place = _choose_domain(opened, domain)
    explanation = _play(
        opened.policy if is_run(opened) else opened, place, over, episodes, threshold
    )
    from isthmus.report.explain_figures import plot_explanation
    from isthmus.report.style import save_figure

    path = out or _name_picture(opened, explanation)
    picture = save_figure(plot_explanation(explanation, opened.name), path)
    if json:
        from isthmus.report.explain_text import to_data

        print_text(dumps(to_data(explanation), indent=1))
        return
    _print_explanation(explanation)
    print_text(picture)
    if not is_run(opened):
        print_description(opened)


def _choose_domain(opened: Run | ForeignPolicy, domain: str | None) -> Domain:
    """Return the domain that was named, else a run's target, or where a policy was trained."""
    from isthmus.domains.parse import parse_domain

    if not is_run(opened):
        return find_domains(opened, domain)[-1]
    return parse_domain(domain) if domain else opened.problem.evaluation_target


def _play(
    policy: Any, place: Domain, over: tuple[str, ...], episodes: int, threshold: float | None
) -> Explanation:
    from isthmus.cli.progress import show_episodes
    from isthmus.evaluation.explain import explain

    with show_episodes(str(place), episodes // 2) as bar:
        return explain(policy, place, ",".join(over), episodes, threshold, on_step=bar)


def _name_picture(opened: Run | ForeignPolicy, explanation: Explanation) -> Path:
    """Return a file in a run's folder, or beside a model."""
    names = [parameter.name for parameter in explanation.parameters]
    if not is_run(opened):
        return name_files(opened, "explain", names).with_suffix(".png")
    folder = opened.folder if opened.folder.is_dir() else opened.folder.parent
    return folder / f"{'-'.join(filter(None, ['explain', opened.which, *names]))}.png"


def _print_explanation(explanation: Explanation) -> None:
    """Print a table of indices, and what they and the fresh episodes say."""
    from isthmus.report.explain_text import write_lines

    for what, indices in explanation.indices.items():
        screen.print(_tabulate_indices(what, indices))
    for line in write_lines(explanation):
        print_text(line)
    print_text(
        f"{explanation.explored:,} episodes explored, {explanation.fresh:,} fresh; intervals of "
        "95 % over episodes of this one policy, each by itself"
    )


def _tabulate_indices(what: str, indices: list[SobolIndex]) -> Table:
    table = make_table(f"share of the variance of {what}", "alone", "with all others")
    for index in indices:
        table.add_row(index.name, _format_share(index.first), _format_share(index.total))
    return table


def _format_share(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} \\[{estimate.low:.2f}, {estimate.high:.2f}]"
