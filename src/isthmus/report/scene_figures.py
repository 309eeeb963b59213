"""The figure of robots in several domains as they move."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from isthmus.domains.domain import Domain
from isthmus.report.style import in_style
from isthmus.report.watch import film_stills
from isthmus.types import BadValue


@in_style
def plot_scenes(
    scenes: Sequence[tuple[str, Domain]], seconds: Sequence[float] = (0.0, 0.2, 0.4, 0.6)
) -> Figure:
    """Plot robots from the same start under the same constant forces of their motors.

    A row a (name, domain), a column a moment. Raises BadValue for none, CannotRender where nothing
    renders.
    """
    if not scenes:
        raise BadValue("no scene to draw")
    figure = Figure(figsize=(1.9 * len(seconds), 1.55 * len(scenes) + 0.2))
    panels = figure.subplots(len(scenes), len(seconds), squeeze=False)
    for row, (name, domain) in zip(panels, scenes, strict=True):
        pictures = film_stills(domain, seconds)
        for ax, moment, picture in zip(row, seconds, pictures, strict=True):
            ax.imshow(picture)
            ax.set_axis_off()
            ax.set_title(f"{moment:g} s", loc="left", fontsize=8)
        row[0].set_title(f"{name}, {seconds[0]:g} s", loc="left", fontsize=8)
    return figure
