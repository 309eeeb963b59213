"""Commands that check the bits of runs."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from isthmus.cli.console import print_text


def run_verify(run: Positional[Path]) -> None:
    """Check every hash of a run's checkpoints, the newest and the best."""
    from isthmus.training import checkpoint
    from isthmus.training.best import check_best
    from isthmus.training.run import Run

    opened = Run.open(run)  # hashes need no task, nor the file that defines one
    path, notes = opened.checkpoint()
    for note in notes:
        print_text(f"damaged: {note}")
    print_text(f"{path.name}: good, {checkpoint.digest(path)}")
    best_is_good = True
    if not opened.which:
        best_is_good, line = check_best(opened.folder)
        if line:
            print_text(line)
    if notes or not best_is_good:
        raise SystemExit(1)


def run_diff(first: Positional[Path], second: Positional[Path]) -> None:
    """The first number in which two runs' newest checkpoints differ; status 1 where they do."""
    from isthmus.training import checkpoint
    from isthmus.training.run import Run

    paths = [Run.open(folder).checkpoint()[0] for folder in (first, second)]
    difference = checkpoint.differences(*paths)
    if difference is None:
        print_text("the same to the bit")
        return
    index = ""
    if difference.index is not None:
        index = f"[{', '.join(map(str, difference.index))}]"
    print_text(f"{difference.leaf}{index}: {difference.first} and {difference.second}")
    raise SystemExit(1)
