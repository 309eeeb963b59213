"""TRPO on Hopper: our training loop against sb3-contrib's TRPO."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bare import sizes
from measure import Row, alternate
from ppo_training import CANDIDATES, Training, begin, choose, told
from sb3 import Peer

from isthmus.learning.trpo import TRPO
from isthmus.methods import registry
from isthmus.papers.trpo import SETTINGS


@dataclass(frozen=True)
class Sizes:
    learner: TRPO = registry.build(
        "source_only", SETTINGS
    ).learner  # the configuration that meets the learning bar
    rounds: int = 4  # a turn
    pairs: int = 9
    candidates: tuple[tuple[int, bool, int], ...] = tuple(CANDIDATES)
    finalists: int = 3


def compare(size: Sizes, peer: Peer) -> Iterator[Row]:
    learner = size.learner
    equal = {
        "steps": learner.worlds * learner.steps,
        "minibatch": learner.minibatch,
        "epochs": learner.epochs,
        "hidden": list(learner.hidden),
        "trust": {
            "target_kl": learner.max_kl,
            "cg_max_steps": learner.cg_iterations,
            "cg_damping": learner.damping,
            "line_search_max_iter": learner.backtracks,
            "line_search_shrinking_factor": learner.shrink,
            # which there is on the line search's states, too
            "sub_sampling_factor": learner.fisher_stride,
        },
    }
    best = choose(size, peer, equal)
    begin(peer, best, equal)
    training = Training(learner, size.rounds)
    theirs = lambda: training.count / peer.ask("train", rounds=size.rounds)
    with training:
        a, b = alternate("TRPO training", size.pairs, training.turn, theirs)
    yield Row(
        "TRPO training, Hopper, equal batch, network and CG iterations",
        f"sb3-contrib TRPO, {told(best)}",
        3,
        "steps",
        a,
        b,
        4,
        sizes(training.domain, learner.worlds, **equal, rounds=size.rounds, pairs=size.pairs),
    )
