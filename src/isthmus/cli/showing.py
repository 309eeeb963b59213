"""Commands that show runs: a clip, a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from isthmus.cli.console import print_text
from isthmus.cli.foreign import find_domains
from isthmus.cli.options import PolicyOptions, PolicyReference, is_run
from isthmus.types import BadValue


def run_watch(
    policy: Positional[PolicyReference],
    code: PolicyOptions,
    domain: Annotated[
        str | None, arg(help="another target to watch it in; needed where a policy names no domain")
    ] = None,
    out: Annotated[Path, arg(aliases=["-o"], help=".webp, .gif or .png")] = Path("clip.webp"),
    seconds: float = 10.0,
    seed: int = 0,
) -> None:
    """Render a rollout of a policy, source beside target."""
    from isthmus.domains.parse import parse_domain
    from isthmus.domains.robots import check_fits

    opened = code.open_policy(policy)
    if not is_run(opened):
        from isthmus.report.watch import watch

        source, *targets = [*find_domains(opened, domain), None]
        print_text(watch(opened, source, targets[0], out, seconds, seed))
        return
    source = opened.problem.source
    target = parse_domain(domain) if domain else opened.problem.target
    check_fits(source, target)
    from isthmus.report.watch import watch

    print_text(watch(opened.policy, source, target, out, seconds, seed, opened.source_policy))


def run_report(
    runs: Positional[tuple[Path, ...]],
    out: Annotated[Path, arg(aliases=["-o"])] = Path("report.html"),
    title: Annotated[str | None, arg(help="the page's (default: the problem's name)")] = None,
) -> None:
    """One self-contained page of runs or comparisons: tables, curves, landscapes, an animation,
    provenance.
    """
    if not runs:
        raise BadValue("name at least one run's or comparison's folder")
    from isthmus.report.page import write_report

    print_text(write_report(runs, out, title))
