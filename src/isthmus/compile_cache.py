"""XLA's programs, kept on the disk: what one process compiled, the next one reads.

JAX's persistent cache does the work; here is where it lies, how it is turned off, and how large it
may grow. `ISTHMUS_COMPILE_CACHE` says `off`, or names another folder. A `JAX_COMPILATION_CACHE_DIR`
that the user set stays as it is, with JAX's own settings.

A program is found by JAX's key: a hash of its text, jaxlib's version, XLA's flags, and the devices'
topology, which for a CPU holds its features (its fingerprint is another for each
`--xla_cpu_max_isa`). A program of another CPU or version is therefore never taken. The folder of
each kind of CPU is a second bar, for XLA only warns where a program was compiled for features that
the CPU lacks; and it keeps the bound on the size to what this kind of CPU compiled.
"""

from __future__ import annotations

import atexit
import os
import warnings
import zlib
from contextlib import suppress
from typing import Any

from platformdirs import user_cache_dir

VARIABLE = "ISTHMUS_COMPILE_CACHE"
OFF = "off"
MAX_BYTES = 256 * 2**20
"""Of one kind of CPU: some ten thousand programs. The whole test suite makes 5 MB of them."""
MIN_FREE_BYTES = 64 * 2**20
"""On the disk; JAX never writes an entry again that a full disk cut short."""
SUFFIX = "-cache"  # of JAX's entries
THRESHOLD = "jax_persistent_cache_min_compile_time_secs"


def describe_cpu() -> str:
    """Return what programs are compiled for, short enough for a folder's name."""
    machine = os.uname().machine if hasattr(os, "uname") else "windows"
    features = os.environ.get("PROCESSOR_IDENTIFIER", "")  # Windows
    with (
        suppress(OSError, StopIteration),
        open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file,
    ):
        features = next(line for line in file if line.startswith(("flags", "Features")))
    return f"{machine}-{zlib.crc32(features.encode()):08x}"


def choose_folder() -> str | None:
    """Return the folder of this kind of CPU's programs; None where the cache is turned off."""
    chosen = os.environ.get(VARIABLE) or user_cache_dir("isthmus", appauthor=False)
    if chosen == OFF:
        return None
    return os.path.join(os.path.abspath(os.path.expanduser(chosen)), f"compiled-{describe_cpu()}")


def enable_compile_cache(jax: Any) -> None:
    """Let jax keep its programs, before it computes anything. A folder that cannot be used leaves
    it without a cache, and one that the user told it of stays.
    """
    folder = choose_folder()
    if folder is None:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if jax.config.jax_compilation_cache_dir or _find_fault(folder):
        return
    # What cannot be read or written is compiled, as it would be without a cache.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", folder)
    # Each of our programs compiles in less than JAX's threshold of a second; together they are what
    # a user waits for.
    if THRESHOLD.upper() not in os.environ:
        jax.config.update(THRESHOLD, 0.0)
    atexit.register(prune, folder)


def describe_compile_cache(jax: Any) -> str:
    """Return a line on where programs are kept and how much they take, or why none are."""
    how = f"{VARIABLE}={OFF} turns it off, {VARIABLE}=FOLDER moves it"
    folder = choose_folder()
    if folder is None:
        return f"compiled programs are not kept: {VARIABLE}={OFF}"
    told = jax.config.jax_compilation_cache_dir
    if told not in (None, folder):
        return f"compiled programs are kept where jax was told to: {told}"
    if fault := _find_fault(folder):
        return f"compiled programs are not kept: {folder}: {fault} ({how})"
    entries = _list_entries(folder)
    megabytes = sum(size for _, size, _ in entries) / 1e6
    return f"{len(entries)} compiled programs, {megabytes:.1f} MB, in {folder} ({how})"


def prune(folder: str, max_bytes: int = MAX_BYTES) -> None:
    """Remove the programs of a folder that were not used for longest, until they take `max_bytes`.

    JAX can bound its cache itself. But then it takes a lock for each program that it reads, looks
    at all entries for each one that it writes, and writes none any more once a process was killed
    between an entry and its time.
    """
    entries = sorted(_list_entries(folder), reverse=True)
    kept = 0
    for _, size, path in entries:
        kept += size
        if kept > max_bytes:
            _remove(path)


def _remove(path: str) -> None:
    with suppress(OSError):  # another process was faster, or the folder is read-only
        os.unlink(path)


def _list_entries(folder: str) -> list[tuple[float, int, str]]:
    """Return (seconds of the last use, bytes, path) of each program in a folder."""
    entries = []
    with suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            if entry.name.endswith(SUFFIX):
                status = entry.stat()
                # Many file systems note a day's first reading, some none.
                used = max(status.st_atime, status.st_mtime)
                entries.append((used, status.st_size, entry.path))
    return entries


def _find_fault(folder: str) -> str:
    """Make the folder; return why it cannot be used, or an empty text."""
    try:
        os.makedirs(folder, exist_ok=True)
        if hasattr(os, "statvfs"):
            disk = os.statvfs(folder)
            if disk.f_bavail * disk.f_frsize < MIN_FREE_BYTES:
                return "the disk is full"
    except OSError as error:
        return error.strerror or str(error)
    return ""
