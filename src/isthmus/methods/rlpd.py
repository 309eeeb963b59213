"""RLPD: online reinforcement learning with prior data (Ball et al. 2023, arXiv 2302.02948).

The source is the prior data; ODRL's "symmetric sampling" of a source and a target.

1.  pi and Q_1 .. Q_E, layers normalized (EnsembleSAC) <- initialize; D_src, D_tgt as two_replays'
    repeat:
2.      collect, as two_replays'
        for each source step:
3.          half a batch of D_src, half of D_tgt, as they are
4.          Q_i <- squared error to r + gamma (min of Z slow critics, drawn anew - alpha log pi)
5.          pi <- by the mean of all Q_i
    deploy pi
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from isthmus.learning.ensemble_sac import EnsembleSAC
from isthmus.learning.learner import Health
from isthmus.learning.sac import SAC
from isthmus.methods.two_replays import Halves, Knowledge, TwoReplays
from isthmus.types import Array


@dataclass(frozen=True)
class RLPD(TwoReplays):
    """As the box. With `learner=sac` it is the plain control: two critics, nothing normalized.

    There are as many updates as source steps, so `target_interval` a target step; the paper's
    are 20.
    """

    learner: SAC = field(default_factory=EnsembleSAC)

    def update(
        self, known: Knowledge, halves: Halves, context: Any, key: Array
    ) -> tuple[Knowledge, Health]:
        """Do box lines 3 to 5."""
        learned, health = self.learner.update(known.learned, halves.joined, key)
        return known._replace(learned=learned), health
