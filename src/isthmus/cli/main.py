"""The `isthmus` command: thin functions over the Python API. Heavy imports happen inside: help is
instant.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import OmitSubcommandPrefixes, Positional, UseAppendAction, arg

from isthmus.cli.output import accept_any_text
from isthmus.types import BadValue, IsthmusError, UnknownName

out = Console(highlight=False)

Access = Literal["none", "dataset", "online", "few_shot"]
Imports = Annotated[
    UseAppendAction[tuple[str, ...]],
    arg(name="import", metavar="FILE", help="a Python file of yours to import first"),
]
Target = Annotated[
    str,
    arg(
        help="settings to change the target by, e.g. gravity=x2; or gym:Hopper-v5; or log: known by --data alone"
    ),
]
Moving = Annotated[
    str, arg(help="settings to change the target by, e.g. gravity=x2; or another: gym:Hopper-v5")
]
Settings = Annotated[
    UseAppendAction[tuple[str, ...]],
    arg(
        name="set",
        metavar="NAME=VALUE",
        help="change a method's setting, e.g. learner.epochs=5; see: isthmus methods NAME",
    ),
]
Data = Annotated[
    str | None,
    arg(
        metavar="D[:SIZE]",
        help="the target's log, .npz or Minari; D:5000 and D:1episode read its begin",
    ),
]
ExecutorName = Literal["processes", "ray"]
Kind = Annotated[
    ExecutorName, arg(help="where the trainings run: processes of this machine, or a Ray cluster")
]
Workers = Annotated[int | None, arg(help="how many at once (if not said: one a CPU)")]
Sharing = Annotated[
    int | None,
    arg(help="how many at once (if not said: this process alone; with --executor one a CPU)"),
]
Address = Annotated[
    str | None,
    arg(
        metavar="HOST:PORT",
        help="a Ray cluster's, or auto on one of its machines (default: this machine alone)",
    ),
]
Spread = Annotated[
    ExecutorName | None,
    arg(
        help="who does the rounds of a method that can share them out (default: this process, or --workers processes)"
    ),
]
ProblemName = Annotated[
    str, arg(aliases=["-p"], help="a row of `isthmus problems`, or task/name=setting,...")
]


def methods(name: Positional[str | None] = None) -> None:
    """What there is to train with; with a NAME, its algorithm box, its settings and their defaults."""
    from isthmus.methods import registry

    if name:
        method = registry.build(name)
        box = (sys.modules[type(method).__module__].__doc__ or "").strip()
        own = (type(method).__doc__ or "").partition("\n\n")[0].strip()
        out.print(f"[bold]{name}[/]")
        out.print(f"{box}\n\n{name}: {own}\n", markup=False, soft_wrap=True)
        for key, value in registry.settings_of(method).items():
            out.print(
                f"  --set {key}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
            )
        return
    table = _table("method", "needs access", "learners", "from")
    for key, row in registry.METHODS.items():
        table.add_row(key, row.access, row.learners, row.citation)
    out.print(table)


def problems() -> None:
    """Problems by name. Any shift is a problem too: half_cheetah/gravity=x2."""
    from isthmus.problems.catalog import CATALOG

    width = max(map(len, CATALOG))
    for citation in dict.fromkeys(row.citation for row in CATALOG.values()):
        out.print(f"[bold]{citation}[/]")
        for key, row in CATALOG.items():
            if row.citation == citation:
                said = f"  {key:{width}}  {row.access:8}  {row.source} -> {row.target}"
                note = f"\n  {'':{width}}    {row.note}" * bool(row.note)
                out.print(said + note, markup=False, soft_wrap=True)


def tasks(imports: Imports = ()) -> None:
    """Robots, what they observe, and what they can be paid for: hopper/reward=sparse."""
    from isthmus.tasks.imports import import_files
    from isthmus.tasks.task import VARIANTS, find_task, list_tasks

    import_files(imports)
    table = _table("task", "observation", "steps at most", "equals", "in one line")
    for name in list_tasks():
        task = find_task(name)
        first = (sys.modules[type(task).__module__].__doc__ or "").strip().splitlines()
        table.add_row(
            name,
            str(len(task.observation_names)),
            str(task.time_limit),
            task.reference or "-",
            first[0] if first else "",
        )
    out.print(table)
    out.print("\n[bold]rewards[/], chosen apart for source and target:")
    found = {name: find_task(name).variants for name in list_tasks()}
    for variant, meaning in VARIANTS.items():
        having = [name for name in found if variant in found[name]]
        where = "all" if len(having) == len(found) else ", ".join(having)
        out.print(f"  reward={variant}: {meaning} ({where})", markup=False, soft_wrap=True)


def parameters(task: Positional[str] = "hopper", imports: Imports = ()) -> None:
    """Physical parameters of a robot by name, and the effects, with units, defaults and bounds.

    Write them name=2 (absolute), name=x2 (relative), name=1..9 or name=log:0.1..10 or
    name=normal:6:1.5:3..9 (drawn per task), name=1..9:5 (a grid).
    """
    from isthmus.domains.domain import Domain
    from isthmus.domains.effects import EFFECTS
    from isthmus.tasks.imports import import_files

    import_files(imports)
    table = _table("parameter", "default", "unit", "bounds", "what it changes")
    for p in Domain.parse(task).table().values():
        table.add_row(
            _escape(p.name), f"{p.default:.4g}", p.unit, f"{p.low:g}..{p.high:g}", p.meaning
        )
    table.add_section()
    for gap in EFFECTS.values():
        table.add_row(gap.name, "off", gap.unit, f"{gap.low:g}..{gap.high:g}", gap.meaning)
    out.print(table)


def audit(
    problem: Positional[str],
    source: Annotated[str, arg(help="settings to change the source by")] = "",
    target: Target = "",
    data: Data = None,
    policy: Annotated[
        Path | None,
        arg(metavar="RUN", help="act by this run's policy too; hold the log against it"),
    ] = None,
    seed: int = 0,
    imports: Imports = (),
) -> None:
    """Is the shift real, how large, and in which states; the contact friction that results.

    With --data also what the log covers; of a target that cannot be put into a given state, that
    alone.
    """
    from isthmus.audit.audit import audit as run_audit
    from isthmus.problems.problem import make_problem
    from isthmus.tasks.imports import import_files

    import_files(imports)
    made = make_problem(problem, source=source, target=target, data=data)
    opened = _open(policy) if policy else None
    acting = opened.policy if opened else None
    said = []
    if not data or (made.source.replayable and made.target.replayable):
        said += run_audit(made.source, made.target, seed=seed, policy=acting).lines()
    if data:
        from isthmus.logs.coverage import describe_coverage, log_in_source

        own = (
            log_in_source(made.source, opened.behaviour, made.log().size, seed) if opened else None
        )
        simulated = opened.source_policy if opened else None
        said += [""] * bool(said) + describe_coverage(
            made.dataset, made.target, acting, own, simulated
        ).lines()
    for line in said:
        out.print(line, markup=False, soft_wrap=True)


def collect(
    problem: Positional[str],
    policy: Annotated[Path, arg(metavar="RUN", help="the run whose policy acts")],
    out_: Annotated[
        Path, arg(name="out", aliases=["-o"], help="a Minari data set's folder, or a file D.npz")
    ],
    steps: Annotated[int, arg(help="transitions")] = 20_000,
    deterministic: Annotated[
        bool, arg(help="act as deployed (default: explore, as in training)")
    ] = False,
    source: Annotated[str, arg(help="settings to change the source by")] = "",
    target: Moving = "",
    seed: int = 0,
    imports: Imports = (),
) -> None:
    """Log the target under a run's policy: what methods of access `dataset` learn from, by --data."""
    from isthmus.problems.problem import make_problem
    from isthmus.tasks.imports import import_files

    import_files(imports)
    made = make_problem(problem, source=source, target=target)
    from isthmus.cli.show import steps_bar
    from isthmus.training.collect import log_target

    opened = _open(policy)
    with steps_bar(str(made.target), steps) as bar:
        log = log_target(
            opened, made, out_, steps, seed=seed, deterministic=deterministic, on_step=bar
        )
    if log.size < steps:
        out.print("stopped early; what was made is written", style="yellow")
    episodes = f"{log.episodes} episode{'s' * (log.episodes != 1)}"
    said = f"{log.size:,} transitions of {episodes} in {made.target}\n{out_}"
    out.print(said, markup=False, soft_wrap=True)


def train(
    method: Positional[str],
    problem: ProblemName,
    source: Annotated[str, arg(help="settings to change the source by")] = "",
    target: Target = "",
    access: Annotated[Access | None, arg(help="how training may touch the target")] = None,
    uncertainty: Annotated[
        str | None, arg(help="what you believe of the target, as laws: torso_mass=1..9")
    ] = None,
    data: Data = None,
    budget: Annotated[
        int | None, arg(help="most target transitions that training may take")
    ] = None,
    steps: Annotated[
        int,
        arg(
            help="environment steps in all, source and target, rounded up to whole rounds; 0: deploy what --start left"
        ),
    ] = 1_000_000,
    seed: int = 0,
    start: Annotated[
        Path | None,
        arg(
            metavar="RUN",
            help="a run whose policy to start from; RUN@best: the one of its best return in the source",
        ),
    ] = None,
    out_: Annotated[
        Path | None, arg(name="out", help="the run's folder (default: a new one under runs/)")
    ] = None,
    settings: Settings = (),
    imports: Imports = (),
    quiet: bool = False,
    executor: Spread = None,
    workers: Sharing = None,
    address: Address = None,
) -> None:
    """Train a method on a problem into a run folder. Ctrl-C is safe: it saves, and `isthmus resume`
    goes on.
    """
    from isthmus.problems.problem import Budget, make_problem
    from isthmus.tasks.imports import import_files

    import_files(imports)
    made = make_problem(
        problem, source=source, target=target, access=access, uncertainty=uncertainty, data=data,
        budget=Budget(transitions=budget),
    )  # fmt: skip
    from isthmus.training.train import train as run_train

    with _spreading(executor, workers, address) as spread:
        run = run_train(
            method, made, seed=seed, steps=steps, out=out_, settings=_pairs(settings), start=start, imports=imports,
            quiet=quiet, executor=spread,
        )  # fmt: skip
    _after(run)


def resume(
    run: Positional[Path],
    imports: Imports = (),
    quiet: bool = False,
    executor: Spread = None,
    workers: Sharing = None,
    address: Address = None,
) -> None:
    """Go on with a run from its newest good checkpoint: the same bits as if it had never stopped."""
    from isthmus.tasks.imports import import_files

    import_files(imports)
    from isthmus.training.train import resume as run_resume

    with _spreading(executor, workers, address) as spread:
        resumed = run_resume(run, quiet, spread, imports)
    _after(resumed)


def _spreading(kind: str | None, workers: int | None, address: str | None):
    """The executor that was asked for, or None: a training's own process."""
    from contextlib import nullcontext

    from isthmus.training.executors import make_executor

    return (
        make_executor(kind or "processes", workers, address)
        if kind or workers or address
        else nullcontext()
    )


def _after(run) -> None:
    from isthmus.training.progress import NO_RETURN

    if not run.finished:
        raise SystemExit(130)
    last = [row for row in run.metrics() if row["kind"] == "evaluation"][-1:]
    for row in last:
        scores = ", ".join(
            f"{k.removesuffix('_return')} {v:.0f}" for k, v in row.items() if k.endswith("_return")
        )
        told = f"last evaluation, mean return: {scores}" if scores else NO_RETURN
        out.print(told, markup=False, soft_wrap=True)
    out.print(f"{run.folder}", markup=False, soft_wrap=True)


def evaluate(
    run: Positional[Path],
    domain: Annotated[
        str | None, arg(help="where (default: the run's source, and its target by the true reward)")
    ] = None,
    episodes: int = 100,
    imports: Imports = (),
) -> None:
    """Play a run's policy: mean return, its spread over episodes, falls, episodes that end at the
    task's goal.

    The target's return is by the source's reward, whatever the target paid in training. One run is
    one seed: no interval.
    """
    from isthmus.domains.domain import Domain
    from isthmus.evaluation.evaluate import evaluate as run_evaluate
    from isthmus.evaluation.evaluate import evaluate_method
    from isthmus.tasks.imports import import_files

    import_files(imports)
    opened = _open(run)
    state = opened.state()
    where = (
        [Domain.parse(domain)]
        if domain
        else [opened.problem.source, opened.problem.evaluation_target]
    )
    for each in [] if domain else [d for d in where if not d.measurable]:
        where.remove(each)
        said = f"{each}: known only by its log, its return is not measured; --domain names one to measure in"
        out.print(said, markup=False, soft_wrap=True)
    table = _table("domain", "episodes", "return", "sd", "fell", "success", "length")
    if opened.method.adapts:
        table.add_column("adaptation")
    table.columns[0].no_wrap = False  # a long name folds, not the numbers
    for column in table.columns[1:]:
        column.no_wrap = True
    for each in dict.fromkeys(where):
        simulated = opened.method.has_source_action and not domain and each == opened.problem.source
        with _bar(f"{each}", episodes) as step:
            if simulated:
                e = run_evaluate(opened.method.source_policy(state), each, episodes, on_step=step)
            else:
                e = evaluate_method(
                    opened.method, state, opened.problem, each, episodes, on_step=step
                )
        r = e.episodes
        took = [f"{int(e.adaptation.transitions):,}"] if opened.method.adapts else []
        table.add_row(
            str(each), str(len(r.returns)), f"{e.mean:.1f}", f"{r.returns.std():.1f}", f"{r.terminated.mean():.0%}",
            f"{r.success.mean():.0%}", f"{r.lengths.mean():.0f}", *took,
        )  # fmt: skip
    out.print(table)
    if opened.method.has_source_action:
        said = (
            "in the source by the action that is simulated, elsewhere by the deployed one"
            if not domain
            else ""
        )
        out.print(
            f"{opened.name}: {said or 'by the deployed action'}", markup=False, soft_wrap=True
        )


def landscape(
    run: Positional[Path],
    over: Annotated[tuple[str, ...], arg(metavar="NAME=LOW..HIGH:COUNT", help="the two axes")],
    episodes: Annotated[int, arg(help="episodes a cell")] = 20,
    out_: Annotated[
        Path | None, arg(name="out", help="CSV; the picture lies beside it (default: in the run)")
    ] = None,
    imports: Imports = (),
) -> None:
    """Mean return over a grid of two parameters, the training box drawn: a CSV and a PNG."""
    from isthmus.evaluation.landscape import landscape as run_landscape
    from isthmus.evaluation.landscape import over as grid_over
    from isthmus.tasks.imports import import_files
    from isthmus.training.run_files import write_text

    import_files(imports)
    opened = _open(run)
    grid = grid_over(opened.problem.evaluation_target, ",".join(over))
    name = "-".join(["landscape", *([opened.which] if opened.which else []), *grid.grid])
    folder = (
        opened.folder if opened.folder.is_dir() else opened.folder.parent
    )  # of what is kept of a run
    path = out_ or folder / f"{name}.csv"
    cells = 1
    for values in grid.grid.values():
        cells *= len(values)
    adapting = (opened.method, opened.state(), opened.problem) if opened.method.adapts else None
    with _bar(f"{cells} cells", cells * episodes) as step:
        result = run_landscape(
            opened.policy,
            grid,
            episodes,
            trained_in=opened.method.trained_in(opened.problem),
            method=adapting,
            on_step=step,
        )
    write_text(path, result.csv())
    from isthmus.report.figures import draw_landscapes

    picture = path.with_suffix(".png")
    draw_landscapes([(f"{opened.name}, seed {opened.seed}", result)], picture, grid)
    inside = result.inside
    if inside.any() and not inside.all():
        box, rest = result.mean[inside].mean(), result.mean[~inside].mean()
        out.print(
            f"mean return in the training box {box:.0f} ({inside.sum()} cells), outside {rest:.0f}"
        )
    else:
        out.print(f"mean return {result.mean.mean():.0f}")
    out.print(f"{path}\n{picture}", markup=False, soft_wrap=True)


def compare(
    problem: ProblemName,
    methods: Annotated[
        tuple[str, ...], arg(help="besides the floor source_only and the ceiling target_only")
    ],
    seeds: int = 5,
    steps: int = 1_000_000,
    episodes: Annotated[int, arg(help="episodes a seed, in the target")] = 100,
    source: Annotated[str, arg(help="settings to change the source by")] = "",
    target: Moving = "",
    access: Annotated[Access | None, arg(help="how training may touch the target")] = None,
    uncertainty: Annotated[
        str | None, arg(help="what you believe of the target, as laws: torso_mass=1..9")
    ] = None,
    data: Data = None,
    ceiling: Annotated[
        bool, arg(help="also train target_only, with free access to the target")
    ] = True,
    out_: Annotated[
        Path, arg(name="out", help="the comparison's folder; the same command goes on in it")
    ] = Path("runs/comparison"),
    executor: Kind = "processes",
    workers: Workers = None,
    address: Address = None,
    settings: Settings = (),
    imports: Imports = (),
) -> None:
    """Train methods on several seeds and say, with intervals, which of them works in the target."""
    from isthmus.problems.problem import make_problem
    from isthmus.tasks.imports import import_files

    import_files(imports)
    made = make_problem(
        problem, source=source, target=target, access=access, uncertainty=uncertainty, data=data
    )
    from isthmus.cli.show import Jobs, comparison_table
    from isthmus.studies.compare import compare as run_compare
    from isthmus.training.executors import make_executor

    with make_executor(executor, workers, address) as spread, Jobs() as jobs:
        result = run_compare(
            made, methods, seeds=seeds, steps=steps, out=out_, episodes=episodes, settings=_pairs(settings),
            ceiling=ceiling, executor=spread, imports=imports, poll=jobs.poll,
        )  # fmt: skip
    out.print(comparison_table(result))
    out.print(f"pictures: isthmus report {out_} -o report.html", markup=False, soft_wrap=True)


def reproduce(
    study: Positional[str],
    figure: Annotated[str | None, arg(help="one figure of the paper only")] = None,
    scale: Annotated[
        Literal["smoke", "laptop", "paper"],
        arg(
            help="smoke: does it run; laptop: hours to days, see --forecast; paper: the papers' own sizes"
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
    executor: Kind = "processes",
    workers: Workers = None,
    address: Address = None,
) -> None:
    """A paper's experiment as a table of units: runs those that have no result file yet, then
    writes what came out.
    """
    from isthmus.papers.registry import find_study

    found = find_study(study)
    if figure and figure not in found.figures:
        raise BadValue(
            f"{study} has no figure {figure} here; it has: {', '.join(found.figures) or 'none'}"
        )
    from isthmus.cli.show import Jobs
    from isthmus.physics.concurrency import count_cpus
    from isthmus.studies.study import Panel, describe_waiting, find_waiting, read_units, run_units
    from isthmus.studies.study import forecast as say
    from isthmus.training.executors import make_executor
    from isthmus.training.run_files import write_text

    units, scenes = found.units(scale, figure), found.scenes.get(figure or "")
    if not units and not scenes:
        raise BadValue(
            f"figure {figure} of {study} has nothing to run at {scale} scale; say --scale laptop"
        )
    folder = results / study
    for note in read_units(units, folder)[1] if forecast or not report else ():
        out.print(note, markup=False, soft_wrap=True)
    waits_for = find_waiting(units, folder, runs / study) if forecast or not report else {}
    for line in describe_waiting(waits_for, folder):
        out.print(line, markup=False, soft_wrap=True)
    if forecast:
        out.print(say(units, folder, runs / study, workers or count_cpus()), markup=False)
        return
    if not report:
        with make_executor(executor, workers, address) as spread, Jobs() as jobs:
            run_units(
                units, folder, runs / study, spread,
                lambda: jobs.poll([runs / study / u.name for u in units]), found.measure,
            )  # fmt: skip
    from isthmus.domains.domain import Domain
    from isthmus.report.figures import draw_landscapes, draw_panels, draw_scenes

    if scenes:
        picture = draw_scenes(
            [(title, Domain.parse(text)) for title, text in scenes], folder / f"figure{figure}.png"
        )
        out.print(str(picture), markup=False, soft_wrap=True)
    if not units:
        return
    done, notes = read_units([*found.units(scale, None), *units], folder)  # other figures' too
    if not done:
        raise BadValue(
            f"no unit of {study} at {scale} scale has a file in {folder}; leave out --report to "
            "run them"
        )
    lines = [*notes, *found.report(done)]
    out.print("\n".join(lines), markup=False, soft_wrap=True)
    if claims := found.claims(done):
        from isthmus.cli.show import claims_table
        from isthmus.studies import claims as judged

        out.print(claims_table(claims))
        write_text(folder / f"{scale}-claims.csv", judged.table(claims))
        lines += ["", *judged.lines(claims)]
    write_text(folder / f"{scale}.txt", "\n".join(lines) + "\n")
    for name, panels in found.pictures(done).items():
        draw = draw_panels if isinstance(panels[0], Panel) else draw_landscapes
        draw(panels, folder / f"{scale}-{name}")  # pyright: ignore[reportArgumentType]
        out.print(str(folder / f"{scale}-{name}"), markup=False, soft_wrap=True)


def watch(
    run: Positional[Path],
    domain: Annotated[str | None, arg(help="another target to watch it in")] = None,
    out_: Annotated[Path, arg(name="out", aliases=["-o"], help=".webp, .gif or .png")] = Path(
        "clip.webp"
    ),
    seconds: float = 10.0,
    seed: int = 0,
    imports: Imports = (),
) -> None:
    """Render a rollout of a run's policy, source beside target."""
    from isthmus.domains.domain import Domain, check_fits
    from isthmus.tasks.imports import import_files

    import_files(imports)
    opened = _open(run)
    target = Domain.parse(domain) if domain else opened.problem.target
    check_fits(opened.problem.source, target)
    from isthmus.report.watch import watch as render

    path = render(
        opened.policy, opened.problem.source, target, out_, seconds, seed, opened.source_policy
    )
    out.print(str(path), markup=False, soft_wrap=True)


def report(
    runs: Positional[tuple[Path, ...]],
    out_: Annotated[Path, arg(name="out", aliases=["-o"])] = Path("report.html"),
    title: Annotated[str | None, arg(help="the page's (default: the problem's name)")] = None,
) -> None:
    """One self-contained page of runs or comparisons: tables, curves, landscapes, an animation,
    provenance.
    """
    if not runs:
        raise BadValue("name at least one run's or comparison's folder")
    from isthmus.report.page import write_report

    out.print(str(write_report(runs, out_, title)), markup=False, soft_wrap=True)


def verify(run: Positional[Path]) -> None:
    """Check every hash of a run's checkpoints, the newest and the best."""
    from isthmus.training import checkpoint
    from isthmus.training.best import check_best
    from isthmus.training.run import Run

    opened = Run.open(run)  # hashes need no task, nor the file that defines one
    path, notes = opened.checkpoint()
    for note in notes:
        out.print(f"damaged: {note}", markup=False, soft_wrap=True)
    out.print(f"{path.name}: good, {checkpoint.digest(path)}", markup=False, soft_wrap=True)
    good, line = (True, "") if opened.which else check_best(opened.folder)
    if line:
        out.print(line, markup=False, soft_wrap=True)
    if notes or not good:
        raise SystemExit(1)


def diff(first: Positional[Path], second: Positional[Path]) -> None:
    """The first number in which two runs' newest checkpoints differ; exit status 1 where they do."""
    from isthmus.training import checkpoint
    from isthmus.training.run import Run

    found = checkpoint.differences(
        Run.open(first).checkpoint()[0], Run.open(second).checkpoint()[0]
    )
    if found is None:
        out.print("the same to the bit")
        return
    where = "" if found.index is None else f"[{', '.join(map(str, found.index))}]"
    out.print(
        f"{found.leaf}{where}: {found.first} and {found.second}", markup=False, soft_wrap=True
    )
    raise SystemExit(1)


def doctor() -> None:
    """Versions, threads, rendering, and a self-test of the bits."""
    from isthmus.cli.doctor import examine

    healthy = True
    for good, line in examine():
        healthy &= good
        out.print(f"{'[green]ok[/]  ' if good else '[red]no[/]  '}{line}", soft_wrap=True)
    if not healthy:
        raise SystemExit(1)


def demo(
    out_: Annotated[Path, arg(name="out")] = Path("runs/demo"),
    steps: Annotated[int, arg(help="environment steps a run")] = 400_000,
    seeds: int = 2,
) -> None:
    """The main job in a few minutes: Hopper, naive against randomized, in a grid of other bodies
    and floors.
    """
    from isthmus.cli.demo import run_demo

    run_demo(out_, steps, seeds)


COMMANDS = {
    f.__name__: f
    for f in (demo, methods, problems, tasks, parameters, audit, collect, train, resume, evaluate, landscape, compare,
              reproduce, watch, report, verify, diff, doctor)
}  # fmt: skip


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=i == 0)
    return table


def _pairs(settings: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise BadValue(f"--set {text}: write NAME=VALUE")
        pairs[name] = value
    return pairs


def _open(folder: Path):
    from isthmus.training.run import Run

    run = Run.open(folder)
    try:
        run.problem
    except IsthmusError as error:
        if run.config.get("imports"):
            named = " ".join(f"--import {name}" for name in run.config["imports"])
            raise BadValue(f"{error} (this run was made with {named})") from None
        raise
    return run


def _bar(text: str, total: int):
    from isthmus.cli.show import episodes_bar

    return episodes_bar(text, total)


def main(args: list[str] | None = None) -> None:
    """Run the command line; a user's mistake is one line and exit status 2."""
    args = sys.argv[1:] if args is None else args
    accept_any_text()
    try:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise UnknownName("command", args[0], COMMANDS)
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="isthmus",
            description="Sim-to-real reinforcement learning: does a policy that learned in a source work in a target? "
            "Begin with: isthmus demo",
            args=args,
            config=(OmitSubcommandPrefixes,),
        )
    except (IsthmusError, MemoryError) as error:
        said = (
            " ".join(str(error).split()) if str(error) else "not enough memory for so much at once"
        )
        Console(stderr=True, highlight=False).print(
            f"[red]isthmus:[/] {_escape(said)}", soft_wrap=True
        )
        raise SystemExit(2) from None
    except PermissionError as error:
        where = error.filename or "a file"
        Console(stderr=True, highlight=False).print(
            f"[red]isthmus:[/] {_escape(f'{where}: permission denied')}", soft_wrap=True
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        if args and args[0] in ("compare", "reproduce", "demo"):
            Console(stderr=True).print(
                "stopped; what was trained is saved, and the same command goes on", style="yellow"
            )
        raise SystemExit(130) from None
    except BrokenPipeError:  # | head
        sys.stdout = None
        raise SystemExit(0) from None


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
