"""Commands that train many runs and say what came out: comparisons, and papers' experiments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from tyro.conf import Positional, arg

from isthmus.cli.console import print_text, screen
from isthmus.cli.options import (
    MethodOptions,
    ProblemOptions,
    TrainingsExecutorOptions,
    open_run,
)
from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.domains.domain import Domain
    from isthmus.problems.problem import Problem
    from isthmus.studies.policies import PolicyComparison
    from isthmus.studies.study import Study
    from isthmus.studies.trial import Measurement, Trial

Scale = Literal["smoke", "laptop", "paper"]


@dataclass(frozen=True)
class ComparisonOptions:
    """What is compared, how often and for how long each method trains, and how it is played."""

    methods: Annotated[
        tuple[str, ...], arg(help="besides the floor source_only and the ceiling target_only")
    ] = ()
    policies: Annotated[
        tuple[str, ...],
        arg(
            metavar="POLICY",
            help="instead of methods: runs, policy.onnx, module:factory, played as they are and "
            "compared with the first",
        ),
    ] = ()
    contract: Annotated[
        str | None,
        arg(metavar="FILE|task", help="of the policies that do not say what they observe"),
    ] = None
    over: Annotated[
        tuple[str, ...],
        arg(
            metavar="NAME=LOW..HIGH:COUNT",
            help="of --policies: two parameters over which to map where each beats the first; "
            "--episodes is then a cell's",
        ),
    ] = ()
    seeds: int = 5
    steps: int = 1_000_000
    episodes: Annotated[int, arg(help="episodes a seed, in the target")] = 100
    ceiling: Annotated[bool, arg(help="also train target_only, with free access to the target")] = (
        True
    )


def run_compare(
    problem: ProblemOptions,
    configuration: MethodOptions,
    comparison: ComparisonOptions,
    trainings: TrainingsExecutorOptions,
    out: Annotated[
        Path, arg(help="the comparison's folder; the same command goes on in it")
    ] = Path("runs/comparison"),
) -> None:
    """Train methods on several seeds and say, with intervals, which of them works in the target; or
    play --policies there, and train nothing.
    """
    configuration.load()
    made = problem.make()
    if comparison.over and not comparison.policies:
        raise BadValue("--over maps --policies; trained methods are mapped over the target's grid")
    if comparison.policies:
        _compare_policies(made, comparison, out)
        return
    if not comparison.methods:
        raise BadValue("name methods to train, --methods, or --policies to play as they are")
    from isthmus.cli.progress import TrainingBars
    from isthmus.cli.tables import tabulate_comparison
    from isthmus.studies.compare import compare

    with trainings.make() as executor, TrainingBars() as bars:
        result = compare(
            made,
            comparison.methods,
            seeds=comparison.seeds,
            steps=comparison.steps,
            out=out,
            episodes=comparison.episodes,
            settings=configuration.parse_settings(),
            ceiling=comparison.ceiling,
            executor=executor,
            imports=configuration.imports,
            poll=bars.poll,
        )
    screen.print(tabulate_comparison(result))
    print_text(f"pictures: isthmus report {out} -o report.html")


def _compare_policies(problem: Problem, comparison: ComparisonOptions, out: Path) -> None:
    """Play policies in a problem's target, write what came out and print it."""
    from isthmus.cli.progress import show_episodes
    from isthmus.cli.tables import tabulate_policies
    from isthmus.studies.policies import EPISODES_FILE, compare_policies

    if comparison.methods:
        raise BadValue("--methods are trained, --policies are played as they are: give one of both")
    policies = {}
    for reference in comparison.policies:
        policies[reference] = _open_policy(reference, comparison.contract)
    domain, episodes = problem.evaluation_target, comparison.episodes
    if comparison.over:
        domain, episodes = _make_cells(domain, comparison)
    with show_episodes(str(domain), episodes) as bar:
        result = compare_policies(policies, domain, episodes, on_step=bar)
    result.save(out)
    screen.print(tabulate_policies(result))
    print_text(out / EPISODES_FILE)
    if comparison.over:
        _write_maps(result, out)


def _make_cells(domain: Domain, comparison: ComparisonOptions) -> tuple[Domain, int]:
    """Return the grid over two parameters, and the episodes in all its cells.

    Raises BadValue for other than two axes, and less than two episodes a cell.
    """
    from isthmus.evaluation.landscape import make_grid

    grid = make_grid(domain, ",".join(comparison.over))
    counts = [len(values) for values in grid.grid.values()]
    if len(counts) != 2:
        raise BadValue(f"--over has {len(counts)} axes, a map two: write name=low..high:count each")
    if comparison.episodes < 2:
        raise BadValue("--over needs 2 --episodes a cell at least")
    return grid, comparison.episodes * counts[0] * counts[1]


def _write_maps(result: PolicyComparison, out: Path) -> None:
    """Write and say where each policy beats the first: a CSV a policy, and a picture."""
    from isthmus.report.map_figures import plot_maps
    from isthmus.report.style import save_figure
    from isthmus.training.run_files import write_text

    maps = result.maps()
    for number, compared in enumerate(maps, 1):
        print_text(compared.sentence())
        path = out / f"map-{number}.csv"
        write_text(path, compared.csv())
        print_text(path)
    print_text(save_figure(plot_maps(maps), out / "map.png"))


def _open_policy(reference: str, contract: str | None) -> Any:
    """Open a run or a policy from elsewhere; the contract is of those that do not say theirs."""
    from isthmus.deploy.policy import is_foreign, load_foreign

    if not is_foreign(reference):
        return open_run(Path(reference))
    policy = load_foreign(reference)
    if contract is not None and not policy.is_described:
        return load_foreign(reference, contract)
    return policy


class _Reproduction(NamedTuple):
    """What is asked of a study: its units at a scale, and where their files and runs are."""

    study: Study
    scale: Scale
    figure: str | None
    units: Sequence[Trial | Measurement]
    results: Path
    runs: Path

    @property
    def scenes(self) -> Sequence[tuple[str, str]] | None:
        return self.study.scenes.get(self.figure or "")


def run_reproduce(
    study: Positional[str],
    trainings: TrainingsExecutorOptions,
    figure: Annotated[str | None, arg(help="one figure of the paper only")] = None,
    scale: Annotated[
        Scale,
        arg(
            help="smoke: does it run; laptop: hours to days, see --forecast; paper: the papers' "
            "own sizes"
        ),
    ] = "laptop",
    forecast: Annotated[
        bool, arg(help="say what is left to run and what it costs, and stop")
    ] = False,
    report: Annotated[
        bool, arg(help="run nothing: what comes out of the units that are there")
    ] = False,
    results: Annotated[Path, arg(help="where units' files are")] = Path("results"),
    runs: Annotated[Path, arg(help="where runs are kept")] = Path("runs"),
) -> None:
    """A paper's experiment as a table of units: runs those that have no result file yet, then
    writes what came out.
    """
    asked = _plan(study, figure, scale, results, runs)
    if forecast or not report:
        _print_state(asked)
    if forecast:
        _print_forecast(asked, trainings.workers)
        return
    if not report:
        _run_missing(asked, trainings)
    if asked.scenes:
        _draw_scenes(asked, asked.scenes)
    if asked.units:
        _write_results(asked)


def _plan(name: str, figure: str | None, scale: Scale, results: Path, runs: Path) -> _Reproduction:
    """Return what is asked of a study. Raises BadValue where there is nothing to run or draw."""
    from isthmus.papers.registry import find_study

    study = find_study(name)
    if figure and figure not in study.figures:
        known = ", ".join(study.figures) or "none"
        raise BadValue(f"{name} has no figure {figure} here; it has: {known}")
    units = study.trials(scale, figure)
    asked = _Reproduction(study, scale, figure, units, results / name, runs / name)
    if not units and not asked.scenes:
        raise BadValue(
            f"figure {figure} of {name} has nothing to run at {scale} scale; say --scale laptop"
        )
    return asked


def _print_state(asked: _Reproduction) -> None:
    """Print what there is to say of the units' files, and which units wait for others."""
    from isthmus.studies.results import read_results
    from isthmus.studies.scheduling import describe_waiting, find_waiting

    _, notes = read_results(asked.units, asked.results)
    waiting = find_waiting(asked.units, asked.results, asked.runs)
    for line in [*notes, *describe_waiting(waiting, asked.results)]:
        print_text(line)


def _print_forecast(asked: _Reproduction, workers: int | None) -> None:
    """Print what is left to run, and what it will cost."""
    from isthmus.physics.concurrency import count_cpus
    from isthmus.studies.forecast import forecast

    text = forecast(asked.units, asked.results, asked.runs, workers or count_cpus())
    screen.print(text, markup=False)


def _run_missing(asked: _Reproduction, trainings: TrainingsExecutorOptions) -> None:
    """Run the units that have no file yet."""
    from isthmus.cli.progress import TrainingBars
    from isthmus.studies.running import run_trials

    folders = [asked.runs / unit.name for unit in asked.units]
    with trainings.make() as executor, TrainingBars() as bars:
        run_trials(
            asked.units,
            asked.results,
            asked.runs,
            executor,
            lambda: bars.poll(folders),
            asked.study.measure,
        )


def _draw_scenes(asked: _Reproduction, scenes: Sequence[tuple[str, str]]) -> None:
    """Draw the figure that shows robots as they move."""
    from isthmus.domains.parse import parse_domain
    from isthmus.report.scene_figures import plot_scenes
    from isthmus.report.style import save_figure

    figure = plot_scenes([(title, parse_domain(text)) for title, text in scenes])
    print_text(save_figure(figure, asked.results / f"figure{asked.figure}.png"))


def _write_results(asked: _Reproduction) -> None:
    """Write and print what came out: the report, the claims, the pictures.

    Raises BadValue where no unit has a file.
    """
    from isthmus.studies.results import read_results
    from isthmus.training.run_files import write_text

    study, scale, folder = asked.study, asked.scale, asked.results
    units = [*study.trials(scale, None), *asked.units]  # other figures' too
    done, notes = read_results(units, folder)
    if not done:
        raise BadValue(
            f"no unit of {study.name} at {scale} scale has a file in {folder}; leave out --report "
            "to run them"
        )
    lines = [*notes, *study.report(done)]
    print_text("\n".join(lines))
    claims = study.claims(done)
    if claims:
        lines += ["", *_write_claims(claims, folder / f"{scale}-claims.csv")]
    write_text(folder / f"{scale}.txt", "\n".join(lines) + "\n")
    for name, panels in study.pictures(done).items():
        print_text(_draw_panels(panels, folder / f"{scale}-{name}"))


def _write_claims(claims: Sequence[Any], path: Path) -> list[str]:
    """Print the claims, write them as CSV, and return them as lines of text."""
    from isthmus.cli.tables import tabulate_claims
    from isthmus.studies.claims_table import describe_claims, format_claims_csv
    from isthmus.training.run_files import write_text

    screen.print(tabulate_claims(claims))
    write_text(path, format_claims_csv(claims))
    return describe_claims(claims)


def _draw_panels(panels: Sequence[Any], path: Path) -> Path:
    """Draw a study's panels of curves, or its landscapes."""
    from isthmus.report.curve_figures import plot_panels
    from isthmus.report.landscape_figures import plot_landscapes
    from isthmus.report.style import save_figure
    from isthmus.studies.study import Panel

    plot = plot_panels if isinstance(panels[0], Panel) else plot_landscapes
    return save_figure(plot(panels), path)
