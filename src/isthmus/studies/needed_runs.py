"""Runs that other trials stand on: where they are, and what is kept of them with the results."""

from __future__ import annotations

from pathlib import Path

from isthmus.training.run import Run


def kept_path(results: Path, name: str) -> Path:
    """Return where what a run hands over, or a log, is kept with a study's results: see
    `isthmus.training.kept`.
    """
    return results / "starts" / f"{name}.safetensors"


def name_checkpoint(name: str, at: str) -> str:
    """Return a reference to a trial's run: to its last checkpoint, or `at` another one ("best")."""
    return f"{name}@{at}" if at else name


def open_needed(name: str, results: Path, runs: Path, at: str = "") -> Run:
    """Open the finished run of a trial that another one needs, or what is kept of it with the
    results.

    `at` is the checkpoint: the last one, or "best".
    """
    reference = name_checkpoint(name, at)
    kept = kept_path(results, reference)
    if kept.exists() and not is_finished(name, runs):
        return Run.open(kept)
    return Run.open(runs / reference)


def is_finished(name: str, runs: Path) -> bool:
    """Return whether a trial's run is there, trained to its end."""
    return (runs / name / "finished.json").exists()


def is_available(name: str, results: Path, runs: Path) -> bool:
    """Return whether a trial's finished run is there, or what is kept of it."""
    return is_finished(name, runs) or kept_path(results, name).exists()
