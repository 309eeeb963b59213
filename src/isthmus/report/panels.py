"""How a take looks at a moment: a panel with its title above and its return below the picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from isthmus.report.numbers import format_number
from isthmus.report.takes import Take

INK_COLOR, PALE_COLOR, ALARM_COLOR = (34, 34, 34), (110, 110, 110), (190, 70, 0)
PAPER_COLOR = (255, 255, 255)
MARGIN, LINE_HEIGHT, FOOT_HEIGHT, GAP = 10, 18, 30, 16  # pixels
TITLE_FONT_SIZE = 12


def wrap_title(take: Take) -> list[str]:
    """Return the lines above a take's picture: the domain, and what its world drew."""
    width = take.pictures[0].shape[1] - 2 * MARGIN
    lines = wrap(take.domain, width)
    if take.dynamics:
        lines += wrap("drawn: " + ", ".join(take.dynamics), width)
    return lines


def draw_panel(take: Take, t: float, rows: int) -> Image.Image:
    """Draw a take at time `t`: a title of so many rows, the picture, and the return until then."""
    index = take.find_picture(t)
    picture = Image.fromarray(take.pictures[index])
    top = 28 + LINE_HEIGHT * rows
    panel = Image.new("RGB", (picture.width, top + picture.height + FOOT_HEIGHT), PAPER_COLOR)
    panel.paste(picture, (0, top))
    draw = ImageDraw.Draw(panel)
    _draw_title(draw, take)
    y = top + picture.height + 7
    score = take.total if take.has_ended(t) else take.returns[index]
    foot = f"{min(t, take.end):.1f} s    return {format_number(score)}"
    draw.text((MARGIN, y), foot, INK_COLOR, load_font(13))
    if take.has_ended(t):
        _draw_outcome(draw, take, (picture.width - MARGIN, y))
    return panel


def _draw_title(draw: ImageDraw.ImageDraw, take: Take) -> None:
    """Write a take's name, and under it its domain."""
    draw.text((MARGIN, 4), take.name, INK_COLOR, load_font(14, bold=True))
    for row, line in enumerate(wrap_title(take)):
        position = (MARGIN, 23 + LINE_HEIGHT * row)
        draw.text(position, line, PALE_COLOR, load_font(TITLE_FONT_SIZE))


def _draw_outcome(draw: ImageDraw.ImageDraw, take: Take, right: tuple[int, int]) -> None:
    """Say how an episode ended, left of a point."""
    text, color = "end of the episode", PALE_COLOR
    if take.fell:
        text, color = f"FELL at {take.end:.1f} s", ALARM_COLOR
    draw.text(right, text, color, load_font(13, bold=take.fell), anchor="ra")


def place_side_by_side(panels: Sequence[Image.Image]) -> Image.Image:
    """Return panels of one size in a row."""
    width, height = panels[0].size
    whole = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height), PAPER_COLOR)
    for i, panel in enumerate(panels):
        whole.paste(panel, (i * (width + GAP), 0))
    return whole


@cache
def load_font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which Matplotlib brings, at a size in pixels."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def wrap(text: str, width: int) -> list[str]:
    """Break a text after commas into lines of at most `width` pixels."""
    font = load_font(TITLE_FONT_SIZE)
    lines = [""]
    for part in re.split("(?<=,)", text):
        if lines[-1] and font.getlength(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return list(map(str.strip, lines))
