"""Commands that measure: the shift between the domains, and a policy in them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.table import Table
from tyro.conf import Positional, arg

from isthmus.cli.console import make_table, print_text, screen
from isthmus.cli.foreign import (
    evaluate_foreign,
    find_domains,
    name_files,
    play_grid,
    print_description,
)
from isthmus.cli.options import Data, PolicyOptions, PolicyReference, ShiftOptions, is_run
from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.deploy.policy import ForeignPolicy
    from isthmus.domains.domain import Domain
    from isthmus.evaluation.evaluate import Evaluation
    from isthmus.evaluation.landscape import Landscape
    from isthmus.problems.problem import Problem
    from isthmus.training.run import Run

EVALUATION_COLUMNS = ("domain", "episodes", "return", "sd", "fell", "success", "length")


def run_audit(
    shift: ShiftOptions,
    code: PolicyOptions,
    data: Data = None,
    policy: Annotated[
        str | None,
        arg(
            metavar="POLICY",
            help="act by this policy too, a run's or another's; hold the log against it",
        ),
    ] = None,
    crossing: Annotated[
        bool, arg(help="instead: how much could any second action of the policy's give here")
    ] = False,
    seed: int = 0,
) -> None:
    """Is the shift real, how large, and in which states; the contact friction that results.

    With --data also what the log covers; of a target that cannot be put into a given state, that
    alone. With --crossing whether a policy could cross the shift by acting otherwise.
    """
    from isthmus.audit.audit import audit

    code.load()
    problem = shift.make(data)
    opened, acting = None, None
    if policy:
        opened = code.open_policy(policy)
        acting = opened.policy if is_run(opened) else opened
    if crossing:
        _audit_crossing(problem, acting, seed)
        return
    lines = []
    if not data or (problem.source.replayable and problem.target.replayable):
        lines += audit(problem.source, problem.target, seed=seed, policy=acting).lines()
    if data:
        if lines:
            lines.append("")
        lines += _describe_log(problem, opened, seed)
    for line in lines:
        print_text(line)


def _audit_crossing(problem: Problem, policy: Any, seed: int) -> None:
    """Print how much any second action of a policy's could give."""
    from isthmus.audit.crossing import measure_crossing

    if policy is None:
        raise BadValue("--crossing asks what a policy could do: give it with --policy")
    crossing = measure_crossing(problem.source, problem.evaluation_target, policy, seed=seed)
    for line in crossing.lines():
        print_text(line)


def _describe_log(problem: Problem, opened: Run | ForeignPolicy | None, seed: int) -> list[str]:
    """Say what the log of a problem's target covers, held against a policy where one is given."""
    from isthmus.audit.coverage import describe_coverage, log_in_source

    if opened is None:
        return describe_coverage(problem.dataset, problem.target, None, None, None).lines()
    acting, exploring, simulated = opened, opened, None
    if is_run(opened):
        acting, exploring, simulated = opened.policy, opened.behaviour, opened.source_policy
    source_log = log_in_source(problem.source, exploring, problem.log().size, seed)
    return describe_coverage(problem.dataset, problem.target, acting, source_log, simulated).lines()


def run_evaluate(
    policy: Positional[PolicyReference],
    code: PolicyOptions,
    domain: Annotated[
        str | None,
        arg(
            help="where (default: the run's source, and its target by the true reward; where "
            "another policy says that it was trained)"
        ),
    ] = None,
    episodes: int = 100,
) -> None:
    """Play a policy, a run's or another's: mean return, its spread over episodes, falls, episodes
    that end at the task's goal.

    A run's target's return is by the source's reward, whatever the target paid in training. One
    policy is one seed: of another's, intervals are over episodes.
    """
    opened = code.open_policy(policy)
    if is_run(opened):
        _evaluate_run(opened, domain, episodes)
    else:
        evaluate_foreign(opened, domain, episodes)


def _evaluate_run(opened: Run, domain: str | None, episodes: int) -> None:
    """Play what a run deploys, and print a row a domain."""
    state = opened.state()
    table = _make_evaluation_table(opened.method.adapts)
    for place in _choose_domains(opened, domain):
        in_source = not domain and place == opened.problem.source
        evaluation = _evaluate_in(opened, state, place, episodes, in_source)
        table.add_row(*_format_evaluation(evaluation, str(place), opened.method.adapts))
    screen.print(table)
    if opened.method.has_source_action:
        actions = "by the deployed action"
        if not domain:
            actions = "in the source by the action that is simulated, elsewhere by the deployed one"
        print_text(f"{opened.name}: {actions}")


def _choose_domains(run: Run, domain: str | None) -> Sequence[Domain]:
    """Return where to play: the domain that was named, or the run's source and target."""
    from isthmus.domains.parse import parse_domain

    if domain:
        return [parse_domain(domain)]
    places = []
    for place in dict.fromkeys((run.problem.source, run.problem.evaluation_target)):
        if place.measurable:
            places.append(place)
        else:
            print_text(
                f"{place}: known only by its log, its return is not measured; --domain names one "
                "to measure in"
            )
    return places


def _make_evaluation_table(adapts: bool) -> Table:
    """Return an empty table, in which a long domain's name folds, not the numbers."""
    table = make_table(*EVALUATION_COLUMNS)
    if adapts:
        table.add_column("adaptation")
    for i, column in enumerate(table.columns):
        column.no_wrap = i > 0
    return table


def _evaluate_in(run: Run, state: Any, place: Domain, episodes: int, in_source: bool) -> Evaluation:
    """Play a run's policy in a domain; in its source by the action that is simulated there."""
    from isthmus.cli.progress import show_episodes
    from isthmus.evaluation.evaluate import evaluate, evaluate_method

    method = run.method
    with show_episodes(str(place), episodes) as bar:
        if in_source and method.has_source_action:
            return evaluate(method.source_policy(state), place, episodes, on_step=bar)
        return evaluate_method(method, state, run.problem, place, episodes, on_step=bar)


def _format_evaluation(evaluation: Evaluation, place: str, adapts: bool) -> list[str]:
    """Return a row of the table."""
    played = evaluation.episodes
    row = [
        place,
        str(len(played.returns)),
        f"{evaluation.mean:.1f}",
        f"{played.returns.std():.1f}",
        f"{played.terminated.mean():.0%}",
        f"{played.success.mean():.0%}",
        f"{played.lengths.mean():.0f}",
    ]
    if adapts:
        row.append(f"{int(evaluation.adaptation.transitions):,}")
    return row


def run_landscape(
    policy: Positional[PolicyReference],
    code: PolicyOptions,
    over: Annotated[tuple[str, ...], arg(metavar="NAME=LOW..HIGH:COUNT", help="the two axes")],
    domain: Annotated[
        str | None,
        arg(help="where (default: the run's target; where another policy was trained)"),
    ] = None,
    episodes: Annotated[int, arg(help="episodes a cell")] = 20,
    out: Annotated[
        Path | None,
        arg(help="CSV; the picture lies beside it (default: in the run, or beside the model)"),
    ] = None,
) -> None:
    """Mean return over a grid of two parameters, the training box drawn: a CSV and a PNG."""
    from isthmus.domains.parse import parse_domain
    from isthmus.evaluation.landscape import make_grid
    from isthmus.training.run_files import write_text

    opened, axes = code.open_policy(policy), ",".join(over)
    if is_run(opened):
        place = parse_domain(domain) if domain else opened.problem.evaluation_target
        grid = make_grid(place, axes)
        path, title = out or _name_landscape(opened, grid), f"{opened.name}, seed {opened.seed}"
        landscape = _play_grid(opened, grid, episodes)
    else:
        grid = make_grid(find_domains(opened, domain)[-1], axes)
        path, title = out or name_files(opened, "landscape", list(grid.grid)), opened.name
        landscape = play_grid(opened, grid, episodes)
    write_text(path, landscape.csv())
    from isthmus.report.landscape_figures import plot_landscapes
    from isthmus.report.style import save_figure

    picture = save_figure(plot_landscapes([(title, landscape)], grid), path.with_suffix(".png"))
    screen.print(_summarize(landscape))
    print_text(f"{path}\n{picture}")
    if not is_run(opened):
        print_description(opened)


def _name_landscape(run: Run, grid: Domain) -> Path:
    """Return a file in the run's folder; beside it, where the run is a kept one's file."""
    folder = run.folder if run.folder.is_dir() else run.folder.parent
    name = "-".join(filter(None, ["landscape", run.which, *grid.grid]))
    return folder / f"{name}.csv"


def _play_grid(run: Run, grid: Domain, episodes: int) -> Landscape:
    """Play a run's policy in every cell of a grid."""
    from isthmus.cli.progress import show_episodes
    from isthmus.evaluation.landscape import landscape

    cells = prod(map(len, grid.grid.values()))
    adapting = (run.method, run.state(), run.problem) if run.method.adapts else None
    with show_episodes(f"{cells} cells", cells * episodes) as bar:
        return landscape(
            run.policy,
            grid,
            episodes,
            trained_in=run.method.trained_in(run.problem),
            method=adapting,
            on_step=bar,
        )


def _summarize(landscape: Landscape) -> str:
    """Return the mean return in the training box and outside, or over all."""
    inside, mean = landscape.inside, landscape.mean
    if not inside.any() or inside.all():
        return f"mean return {mean.mean():.0f}"
    box, rest = mean[inside].mean(), mean[~inside].mean()
    return f"mean return in the training box {box:.0f} ({inside.sum()} cells), outside {rest:.0f}"
