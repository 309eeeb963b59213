"""One self-contained HTML page of runs and comparisons: numbers, pictures, where they are from.

The page asks no other machine for anything: pictures, styles and a few lines of script are in it.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import jinja2

from isthmus.evaluation import statistics
from isthmus.report.entries import read_runs
from isthmus.report.numbers import format_number, format_whole
from isthmus.report.sections import make_section
from isthmus.training.run import write_text

TEMPLATE = "report.html.j2"


def write_report(runs: Sequence[Path | str], out: Path | str, title: str | None = None) -> Path:
    """Write the page about `runs`: folders of runs, of comparisons, or holding runs.

    What is damaged, empty or unfinished is said on the page. Raises RunError, in one line, for a
    folder that is none of these, where nothing in any of them can be read, and where `out` cannot
    be written.
    """
    groups = read_runs(list(map(Path, runs)))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": format_number, "whole": format_whole}
    text = environment.get_template(TEMPLATE).render(
        title=title or ", ".join(dict.fromkeys(group.title for group in groups)),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        sections=list(map(make_section, groups)),
        few=statistics.FEW_SEEDS,
    )
    write_text(Path(out), text)
    return Path(out)
