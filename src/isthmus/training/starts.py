"""What a run starts from: another run's learner, which has to be the one that this run needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.training.run import Run


def take_start(run: Run, start: Run) -> Any:
    """Return what `Method.init` takes of the run to start from: its learner's state, or all that
    the method holds where that acts by a policy for each domain.

    Raises BadValue where it holds another learner, or one of other shapes.
    """
    if not run.method.takes_start:
        raise BadValue(f"{run.name} can start from no other run; leave --start out")
    if start.method.has_source_action and start.name != run.name:
        raise BadValue(
            f"{start.folder} cannot be started from: {start.name} acts by another policy in the "
            "source than the one that it deploys; start from a run of one policy, or leave --start "
            "out"
        )
    state = start.state()
    learner = start.method.learner_state(state)
    _check_learner(run, start, learner)
    return state.learner if start.method.has_source_action else learner


def initial_learner(run: Run) -> Any:
    """Return the state of a new learner of a run; no bit of it is the run's own."""
    spaces = run.method.trained_in(run.problem).spaces
    return run.method.learner.init(spaces, jax.random.key(0))


def _check_learner(run: Run, start: Run, learner: Any) -> None:
    wanted = initial_learner(run)
    if type(learner) is not type(wanted):
        raise BadValue(
            f"{start.folder} cannot be started from: {start.name} left a "
            f"{type(learner).__name__}, this run needs a {type(wanted).__name__}; start from a run "
            "of one domain with the same learner, --set learner=..."
        )
    if _shapes(run.method.learner.warm_start(learner)) != _shapes(wanted):
        raise BadValue(
            f"{start.folder} cannot be started from: its learner has other shapes than this "
            "run's; start from a run of the same robot, with the same settings of the learner"
        )


def _shapes(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path): (np.shape(leaf), str(np.asarray(leaf).dtype))
        for path, leaf in leaves
    }
