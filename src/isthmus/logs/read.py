"""The one door to a log: `read_log` reads any kind of file, repairs and checks it."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

from isthmus.domains.domain import Domain
from isthmus.logs.checks import check_log
from isthmus.logs.log import DataSet, Log, LogFile
from isthmus.logs.paths import path_exists, split_cut
from isthmus.logs.read_npz import read_npz
from isthmus.types import BadValue

UNREADABLE_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and h5py raise for files that are torn, encrypted or of another kind."""


def read_log(text: str, domain: Domain) -> DataSet:
    """Read the log `PATH[:cut]` of a domain, checked. Raises BadValue, in one line.

    Nothing on this path unpickles, evaluates or makes an environment.
    """
    name, cut = split_cut(text)
    path = Path(name)
    if not path_exists(path):
        raise BadValue(f"the data set {path} is missing; put it back where it was")
    try:
        file = _read_file(path, domain)
        log = _cut(check_log(file.log, file.metadata, domain), cut[1:])
    except BadValue as error:
        raise BadValue(f"{path} {error}") from None
    for column in log:
        column.flags.writeable = False  # one log is shared by all who ask for it
    notes = (*file.notes, *_note_other_domain(file.metadata, domain))
    return DataSet(text, log, file.metadata, notes)


def _note_other_domain(metadata: dict[str, Any], domain: Domain) -> tuple[str, ...]:
    made_in = metadata.get("domain", str(domain))
    if not domain.measurable or made_in == str(domain):
        return ()
    return (f"this log was made in {made_in}, the target is {domain}",)


def _read_file(path: Path, domain: Domain) -> LogFile:
    """Read a file of either kind. Raises BadValue where it cannot be read."""
    try:
        if path.suffix == ".npz":
            return read_npz(path, domain)
        from isthmus.logs.read_minari import read_minari

        return read_minari(path, domain)
    except BadValue:
        raise
    except PermissionError:
        raise BadValue("cannot be read: permission denied") from None
    except UNREADABLE_ERRORS as error:
        reason = " ".join(str(error).split())
        if "pickle" in reason:
            reason = "it holds pickled objects, or is no .npz"
        raise BadValue(f"cannot be read as a data set: {reason}") from None


def _cut(log: Log, cut: str) -> Log:
    """Return the begin of a log: `5000` transitions, `2episodes`, or all of it for no cut."""
    if not cut:
        return log
    match = re.match(r"\d+", cut)
    assert match
    count = int(match[0])
    if match[0] == cut:
        _check_count(count, log.size, "transitions")
        return log.first(count)
    _check_count(count, log.episodes, "episodes")
    return log.first(int(log.lengths[:count].sum()))


def _check_count(count: int, held: int, unit: str) -> None:
    if not 1 <= count <= held:
        raise BadValue(f"holds {held:,} {unit}; {count:,} were asked for")
