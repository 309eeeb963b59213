"""What a person is told before a training, and after one in which little was learned."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.logs.checks import warn_if_small
from isthmus.methods.method import Method, State
from isthmus.problems.problem import Problem
from isthmus.training.run import Run


def advise_before(method: type[Method], problem: Problem, learns_from_log: bool) -> Iterator[str]:
    """Yield what may be missing in a problem, for a method of this class."""
    if method.randomizes and problem.randomized_source == problem.source:
        yield (
            "this problem has no uncertainty: nothing is randomized; say what you believe, "
            "--uncertainty ..."
        )
    if learns_from_log:
        yield from problem.dataset.notes
        yield from warn_if_small(problem.log())
    left_out = [*problem.source.left_out(), *problem.target.left_out()]
    yield from dict.fromkeys(left_out)  # each once


def advise_after(run: Run, state: State, steps: int) -> Iterator[str]:
    """Yield why a run that took its `steps` learned nothing, or never reached its last phase."""
    method, random_steps = run.method, _random_steps(run)
    if steps > 0 and state.round == 0:
        yield (
            f"nothing was learned: all {steps:,} steps were the first, random rollout; ask for "
            "more --steps"
        )
    elif steps > 0 and _count_acted(state) < random_steps:
        yield (
            f"nothing was learned: SAC acts at random for its first {random_steps:,} steps; ask "
            "for more --steps, or for fewer --set learner.random_steps"
        )
    elif method.pretraining and state.phase == 0:
        yield (
            f"all {steps:,} steps went into the first phase, in the source, and none into what "
            "follows it: ask for more --steps, or for less --set "
            f"pretraining={method.pretraining}"
        )


def _random_steps(run: Run) -> int:
    """Return how many steps a learner takes at random; one that starts from another run, none."""
    if run.config["start"]:
        return 0
    return run.method.learner.random_steps


def _count_acted(state: State) -> int:
    return int(state.source_steps) or int(state.usage.transitions)
