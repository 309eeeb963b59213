"""The order in which a study's trials run, and which of them cannot be run here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from isthmus.studies.needed_runs import is_available, is_finished, kept_path, name_checkpoint
from isthmus.studies.results import read_whole
from isthmus.studies.trial import AnyTrial, Trial
from isthmus.training.run import cpu_kind


def list_missing(trials: Sequence[AnyTrial], results: Path) -> list[AnyTrial]:
    """Return the trials that have no file yet."""
    return [trial for trial in trials if not (results / f"{trial.name}.csv").exists()]


def schedule(trials: Sequence[AnyTrial], results: Path, runs: Path) -> list[list[AnyTrial]]:
    """Order the trials without a file, and those that have one but whose run others need and is not
    there: each after what it needs, the trials of one wave side by side. Trials that wait for a run
    which cannot be had here are left out.
    """
    table = {trial.name: trial for trial in trials}
    missing = {trial.name: trial for trial in list_missing(trials, results)}
    for name in find_waiting(trials, results, runs):
        del missing[name]
    wave = [*missing.values()]
    waves: list[list[AnyTrial]] = []
    while wave:
        waves = [wave, *_remove(wave, waves)]
        needed: set[str] = set()
        for trial in wave:
            needed |= _find_lacking(trial, results, runs)
        wave = [table[name] for name in table if name in needed]
    return [*filter(None, waves)]


def _remove(trials: Sequence[AnyTrial], waves: Sequence[list[AnyTrial]]) -> list[list[AnyTrial]]:
    """Return the waves without these trials, which come before them."""
    remaining = []
    for wave in waves:
        remaining.append([trial for trial in wave if trial not in trials])
    return remaining


def _find_lacking(trial: AnyTrial, results: Path, runs: Path) -> set[str]:
    """Return the names of what has to be trained before a trial."""
    lacking = {name for name in trial.needs if not is_available(name, results, runs)}
    if isinstance(trial, Trial) and _lacks_best(trial, results, runs):
        lacking.add(str(trial.start))
    return lacking


def _lacks_best(trial: Trial, results: Path, runs: Path) -> bool:
    """Return whether a trial that starts at another's best evaluation finds neither that run nor
    what is kept of it.
    """
    if not (trial.start and trial.start_at):
        return False
    best = kept_path(results, name_checkpoint(trial.start, trial.start_at))
    return not (is_finished(trial.start, runs) or best.exists())


def find_waiting(trials: Sequence[AnyTrial], results: Path, runs: Path) -> dict[str, str]:
    """Return the trials without a file that cannot be run here, each with the run that it waits
    for.

    That run is neither there nor kept, and what it was made by cannot be had here: an older version
    of first weights, or another kind of CPU. Trained again it would have other bits, and what
    starts from it would be no pair.
    """
    waits_for: dict[str, str] = {}
    missing = list_missing(trials, results)
    for trial in missing:
        for name in sorted(trial.needs):
            if not _can_be_had(name, results, runs):
                waits_for.setdefault(trial.name, name)
    while indirectly := _find_waiting_indirectly(missing, waits_for):
        waits_for |= indirectly
    return waits_for


def _find_waiting_indirectly(
    missing: Sequence[AnyTrial], waits_for: Mapping[str, str]
) -> dict[str, str]:
    """Return the trials that need one that waits, each with the run that this one waits for."""
    waiting = {}
    for trial in missing:
        needed = sorted(trial.needs & waits_for.keys())
        if needed and trial.name not in waits_for:
            waiting[trial.name] = waits_for[needed[0]]
    return waiting


def _can_be_had(name: str, results: Path, runs: Path) -> bool:
    """Return whether a run is there or kept, or may be trained again to the bits that its trial's
    file tells of, if there is such a file.
    """
    path = results / f"{name}.csv"
    if is_available(name, results, runs) or not path.exists():
        return True
    return read_whole(path, "digest").meta.get("cpu") == cpu_kind()


def describe_waiting(waits_for: Mapping[str, str], results: Path) -> list[str]:
    """Return a line for each run that trials wait for: why, and what can be done."""
    lines = []
    for name, number in sorted(Counter(waits_for.values()).items()):
        lines.append(
            f"{number} units wait for the run of {name}, which cannot be made again here to the "
            "bits that its file tells of (an older version, or another kind of CPU): put back "
            f"{kept_path(results, name)}, or run the study anew with --results and --runs elsewhere"
        )
    return lines
