"""SAC with an ensemble of critics whose layers are normalized, as RLPD learns (arXiv 2302.02948).

SAC's box, but for

4.  y by the least of `asked` slow critics, drawn anew for each update (REDQ, arXiv 2101.05982)
5.  critics with layer normalization before each nonlinearity, so that what no data has shown
    cannot be valued beyond what it has
6.  pi by the critics' mean
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from isthmus.learning.keys import beside
from isthmus.learning.networks import mlp, normalize_layer
from isthmus.learning.sac import SAC, Critics
from isthmus.learning.settings import PositiveInt
from isthmus.types import Array, BadValue


def normalized_relu(x: Array) -> Array:
    """Return a layer's output x (..., units), normalized, then cut at 0."""
    return jax.nn.relu(normalize_layer(x))


@dataclass(frozen=True)
class EnsembleSAC(SAC):
    """SAC with `critics` critics. Defaults are RLPD's for locomotion.

    Raises BadValue for a setting that cannot learn.
    """

    critics: PositiveInt = 10
    asked: PositiveInt = 2  # slow critics of which the least is y

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.asked > self.critics:
            raise BadValue(f"asked={self.asked} of critics={self.critics}: ask no more than all")

    def count_critics(self) -> int:
        """Return the number of critics."""
        return self.critics

    def q_values(self, critics: Critics, obs: Array, action: Array) -> Array:
        """Return the values of actions (B, A) by each of the critics, (critics, B)."""
        x = jnp.concatenate([obs, action], -1)
        return jnp.stack([mlp(critic, x, normalized_relu)[..., 0] for critic in critics])

    def value_of_actor(self, q: Array) -> Array:
        """Return what box line 6 raises (B,), of the critics' values (critics, B): their mean."""
        return q.mean(0)

    def choose_targets(self, targets: Critics, key: Array) -> Critics:
        """Return `asked` of the slow critics, drawn without replacement."""
        chosen = jax.random.permutation(beside(key), self.critics)[: self.asked]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *targets)
        return tuple(jax.tree.map(lambda x, i=i: x[i], stacked) for i in chosen)
