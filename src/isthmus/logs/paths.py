"""Where a log lies: `PATH[:cut]`.

D            a folder with Minari's data/main_data.hdf5, or the id of one in Minari's own folder
D.npz        a file of arrays
D:5000       its first 5,000 transitions
D:1episode   its first episode
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from isthmus.types import BadValue


def resolve_path(text: str) -> str:
    """Return `PATH[:cut]` with its path made absolute.

    The path is one in the working directory, or else an id in Minari's own folder. Raises BadValue
    where nothing is there, or where the cut is not understood.
    """
    path, cut = split_cut(text)
    minari = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    resolved = _find(path, minari)
    if resolved:
        return f"{resolved.resolve()}{cut}"
    stem = path.rpartition(":")[0]
    if _find(stem, minari):
        raise BadValue(
            f"the cut {text[len(stem) :]!r} of {stem} is not understood; write D:5000 or D:1episode"
        )
    where = "" if Path(path).is_absolute() else f" here or in {minari}"
    advice = "make one: isthmus collect PROBLEM --policy RUN --out D"
    if re.fullmatch(r"[-\w]+(/[-\w]+)*-v\d+", path):  # a name of Minari's
        advice = (
            f"get it: minari download {path}, or set MINARI_DATASETS_PATH to the folder that "
            "holds it"
        )
    raise BadValue(f"there is no data set {path or text!r}{where}; {advice}")


def split_cut(text: str) -> tuple[str, str]:
    """Return the path and the cut (`:5000`, `:1episode`, or nothing) of `PATH[:cut]`."""
    match = re.fullmatch(r"(.*?)(:\d+(?:episodes?)?)?", text, re.DOTALL)
    assert match
    return match[1], match[2] or ""


def check_path_is_free(path: Path) -> None:
    """Raise BadValue where no log can be written to a path; called before one is made."""
    cut = split_cut(path.name)[1]
    if cut:
        raise BadValue(
            f"{path} ends in {cut}, which --data reads as a cut; name another with --out"
        )
    if path_exists(path):
        raise BadValue(f"{path} is there already; name another with --out, or remove it")


def path_exists(path: Path) -> bool:
    """Return whether something is at a path. Raises BadValue where that cannot be told."""
    try:
        return path.exists()
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise BadValue(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _find(path: str, minari: Path) -> Path | None:
    if not path:
        return None
    for candidate in (Path(path), minari / path):
        if path_exists(candidate):
            return candidate
    return None
