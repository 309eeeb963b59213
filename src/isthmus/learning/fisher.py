"""The Fisher matrix of a Gaussian policy, as a product with vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp

from isthmus.learning.distributions import gaussian_kl, gaussian_log_prob
from isthmus.learning.networks import MLP, mlp
from isthmus.types import Array


class PolicyNetworks(Protocol):
    """A tree that holds a policy's mean and deviations."""

    @property
    def actor(self) -> MLP:
        """The network of the mean."""
        ...

    @property
    def log_std(self) -> Array:
        """Log standard deviations (A,)."""
        ...


Networks = TypeVar("Networks", bound=PolicyNetworks)


class Gaussians(NamedTuple):
    """The policy's distributions in B states."""

    mean: Array  # (B, A)
    log_std: Array  # (A,)

    @staticmethod
    def of(networks: PolicyNetworks, obs: Array) -> Gaussians:
        """Return the distributions at normalized observations (B, O)."""
        return Gaussians(mlp(networks.actor, obs), networks.log_std)

    def log_prob(self, sample: Array) -> Array:
        """Return log densities (B,) of samples (B, A)."""
        return jax.vmap(gaussian_log_prob, (0, 0, None))(sample, *self)

    def kl(self, new: Gaussians) -> Array:
        """Return the mean over the states of KL(self || new)."""
        return jax.vmap(gaussian_kl, (0, None, 0, None))(*self, *new).mean()

    def metric(self, tangent: Gaussians) -> Gaussians:
        """Return the Hessian of `kl` by `new`, at `new` = `self`, times a tangent.

        It is 1/sd^2 for means and 2 for log deviations.
        """
        return Gaussians(
            tangent.mean * jnp.exp(-2 * self.log_std) / len(self.mean), 2 * tangent.log_std
        )


def fisher_product(
    networks: Networks, obs: Array
) -> tuple[Gaussians, Callable[[Networks], Networks]]:
    """Return the distributions at `obs`, and v -> F v of trees like `networks`.

    F = J^T M J, J the Jacobian of the distributions' parameters and M the `metric`: at `networks`
    itself this is the whole Hessian of the mean KL, since the KL's slope, which would multiply
    second derivatives, is zero there.
    """
    old, push = jax.linearize(lambda n: Gaussians.of(n, obs), networks)
    pull = jax.linear_transpose(push, networks)
    return old, lambda v: pull(old.metric(push(v)))[0]
