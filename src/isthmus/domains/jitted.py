"""The jitted calls of behaviours and policies on worlds: no bit of a row depends on the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache


@cache
def decide_worlds() -> Callable:
    """Return the jitted call of a behaviour on worlds.

    Parameters are shared; each world has its own memory, observation and key.
    """
    import jax

    @jax.jit
    def decide(behaviour, memory, obs, keys):
        def decide_one(m, o, k):
            return behaviour.act(m, o, jax.random.wrap_key_data(k))

        return jax.vmap(decide_one)(memory, obs, keys)

    return decide


@cache
def decide_members() -> Callable:
    """Return the same with M stacked behaviours, worlds [M, N/M].

    One member comes after the other, so that bits do not depend on M.
    """
    import jax

    def decide_one(behaviour, memory, obs, key):
        return behaviour.act(memory, obs, jax.random.wrap_key_data(key))

    def decide_member(arguments):
        return jax.vmap(decide_one, (None, 0, 0, 0))(*arguments)

    @jax.jit
    def decide(behaviours, *worlds):
        members = len(jax.tree.leaves(behaviours)[0])

        def split(x):
            return x.reshape(-1, len(x) // members, *x.shape[1:])

        out = jax.lax.map(decide_member, (behaviours, *jax.tree.map(split, worlds)))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)

    return decide


@cache
def act_worlds() -> Callable:
    """Return the jitted call of a policy: shared parameters, one memory and observation a world."""
    import jax

    return jax.jit(lambda policy, memory, obs: jax.vmap(policy.act)(memory, obs))


@cache
def act_members() -> Callable:
    """Return the same of M stacked policies, rows [M, blocks, MAX_BATCH].

    One member comes after the other, and one block, so that bits do not depend on their numbers.
    """
    import jax

    def act_member(arguments):
        policy, *rows = arguments
        return jax.lax.map(lambda block: jax.vmap(policy.act)(*block), tuple(rows))

    return jax.jit(lambda *arguments: jax.lax.map(act_member, arguments))
