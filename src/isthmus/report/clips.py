"""A clip: pictures that follow each other, and the files that hold them."""

from __future__ import annotations

import importlib.util
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from isthmus.training.run import RunError
from isthmus.types import BadValue

FORMATS = (".webp", ".gif", ".png", ".mp4")


class Clip(NamedTuple):
    """Frames of one size, what each lasts, and what they show, in words."""

    frames: list[Image.Image]
    milliseconds: int
    caption: str

    def save(self, path: Path) -> Path:
        """Write an animated picture (WebP, GIF, PNG) or an MP4.

        Raises BadValue for another ending, RunError where the file cannot be written, in one line.
        """
        check_format(path)
        temporary = path.with_name(f"{path.stem}.partial{path.suffix}")
        try:
            if path.suffix.lower() == ".mp4":
                _save_mp4(self, temporary)
            else:
                self.write(temporary)
            os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise RunError(f"cannot write {path}: {error.strerror or error}") from None
        return path

    def write(self, file: Path | BinaryIO, kind: str | None = None) -> None:
        """Write an animated picture of a `kind` ("WEBP"; None: by the file's name) that loops."""
        first, *rest = self.frames
        # `quality` and `method` (speed) are WebP's; other formats do not read them.
        first.save(
            file,
            kind,
            save_all=True,
            append_images=rest,
            duration=self.milliseconds,
            loop=0,
            quality=70,
            method=2,
        )


def check_format(path: Path) -> None:
    """Raise BadValue where a file's ending is no clip's, or its writer is not installed."""
    if path.suffix.lower() not in FORMATS:
        raise BadValue(f"{path.name}: a clip ends in {', '.join(FORMATS)}")
    if path.suffix.lower() == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise BadValue(
            f"{path.name}: MP4 needs the extra `video`; pip install 'isthmus[video]', or write a "
            ".webp"
        )


def _save_mp4(clip: Clip, path: Path) -> None:
    import imageio.v2 as imageio

    # Its child process begins another program at once: JAX's warning of forks is not for it.
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    writer: Any = imageio.get_writer(path, fps=1000 / clip.milliseconds, macro_block_size=2)
    with writer:
        for frame in clip.frames:
            writer.append_data(np.asarray(frame))
