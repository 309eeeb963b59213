"""Recurrent PPO on Hopper: our training loop against sb3-contrib's RecurrentPPO, with its default
sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bare import sizes
from measure import Row, alternate
from ppo_training import Training, begin, choose, told
from sb3 import Peer

from isthmus.learning.recurrent_ppo import RecurrentPPO

CANDIDATES = tuple((16, processes, threads) for processes in (False, True) for threads in (1, 2))
"""16 environments, each in a process of its own or not, torch's threads."""


@dataclass(frozen=True)
class Sizes:
    learner: RecurrentPPO = field(
        default_factory=lambda: RecurrentPPO(units=256, minibatch=128, sequence=16)
    )
    rounds: int = 1  # a turn
    pairs: int = 5
    candidates: tuple[tuple[int, bool, int], ...] = CANDIDATES
    finalists: int = 2


def compare(size: Sizes, peer: Peer) -> Iterator[Row]:
    """A minibatch of theirs is one stretch of steps, through all of which the gradient goes back,
    cut where episodes begin; ours is several sequences, shorter ones: that is the one size which is
    not equal.
    """
    learner = size.learner
    equal = {
        "steps": learner.worlds * learner.steps,
        "minibatch": learner.minibatch,
        "epochs": learner.epochs,
        "hidden": list(learner.hidden),
        "units": learner.units,
    }
    best = choose(size, peer, equal)
    begin(peer, best, equal)
    training = Training(learner, size.rounds)
    theirs = lambda: training.count / peer.ask("train", rounds=size.rounds)
    with training:
        a, b = alternate("recurrent PPO training", size.pairs, training.turn, theirs)
    own = {
        "cell": learner.cell,
        "sequence": learner.sequence,
        "rounds": size.rounds,
        "pairs": size.pairs,
    }
    yield Row(
        "recurrent PPO training, Hopper, LSTM, equal network, steps per round, minibatch and "
        "epochs",
        f"sb3-contrib RecurrentPPO, {told(best)}", 10, "steps", a, b, 15,
        sizes(training.domain, learner.worlds, **equal, **own),
    )  # fmt: skip
