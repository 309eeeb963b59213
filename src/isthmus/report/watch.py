"""Watch a policy: rendered rollouts, source beside target on one clock, as one animated picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.random import keys
from isthmus.report.clips import Clip, check_format
from isthmus.report.panels import draw_panel, place_side_by_side, wrap_title
from isthmus.report.takes import Take, open_camera, record_take
from isthmus.types import BadValue

MAX_CLIP_SECONDS = 60.0  # a clip is held in memory
HOLD_SECONDS = 1.0  # that a clip stays on the last picture once all episodes have ended
FRAME_SIZE = (480, 360)


def watch(
    policy: Any,
    source: Domain,
    target: Domain | None,
    out: Path | str,
    seconds: float = 8.0,
    seed: int = 0,
    simulated: Any = None,
) -> Path:
    """Play one episode of a policy in each domain and write them as a clip, side by side.

    `simulated` acts in the source, where that is another than the deployed `policy`. The file's
    ending chooses the format: .webp, .gif, .png (animated), or .mp4 with the extra `video`. Where a
    domain draws its dynamics, one draw is shown and said. Raises CannotRender where nothing
    renders, BadValue for `seconds` or the file's ending, RunError where the file cannot be written;
    each in one line.
    """
    path = Path(out)
    check_format(path)
    return film(policy, source, target, seconds, seed, simulated=simulated).save(path)


def film(
    policy: Any,
    source: Domain,
    target: Domain | None,
    seconds: float = 8.0,
    seed: int = 0,
    size: tuple[int, int] = FRAME_SIZE,
    simulated: Any = None,
) -> Clip:
    """Return the clip that `watch` writes; `size` is one panel's width and height in pixels."""
    if not 0 < seconds <= MAX_CLIP_SECONDS:
        raise BadValue(f"seconds={seconds:g}: needs a number above 0, at most {MAX_CLIP_SECONDS:g}")
    if simulated is None:
        simulated = policy
    takes = [record_take("source", simulated, source, seconds, seed, size)]
    if target is not None:
        takes.append(record_take("target", policy, target, seconds, seed, size))
    return _join_takes(takes, seconds)


def _join_takes(takes: Sequence[Take], seconds: float) -> Clip:
    """Return takes side by side on one clock, of at most so many seconds."""
    milliseconds = round(1000 * min(take.interval for take in takes))
    end, last = max(take.end for take in takes), seconds
    if end < seconds:
        last = end + HOLD_SECONDS
    rows = max(len(wrap_title(take)) for take in takes)
    frames = []
    for t in np.arange(0, last + 1e-9, milliseconds / 1000):
        frames.append(place_side_by_side([draw_panel(take, t, rows) for take in takes]))
    return Clip(frames, milliseconds, " ".join(take.caption for take in takes))


def film_stills(
    domain: Domain, seconds: Sequence[float], seed: int = 0, size: tuple[int, int] = FRAME_SIZE
) -> list[np.ndarray]:
    """Return pictures uint8 [height, width, 3] of a robot at rising times after its start.

    Every motor pulls with half its upper bound, and whatever falls goes on falling. Raises
    CannotRender where nothing renders.
    """
    live = SteppedWorlds.new(domain, keys(seed, 1), purpose="play")
    camera = open_camera(live, size)
    half = domain.spaces.high[None] / 2
    pictures = []
    try:
        for moment in seconds:
            while int(live.state["step"][0]) * domain.step_seconds < moment - 1e-9:
                live.step(live.all, commanded=half)
            pictures.append(camera.frame().copy())
    finally:
        camera.close()
    return pictures
