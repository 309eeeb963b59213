"""The discriminator against distributions whose ratio is known, and the memory that makes its
sequences.
"""

from __future__ import annotations

import jax
import numpy as np
import probes
import pytest

from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_steps
from isthmus.learning.policies import UniformBehaviour
from isthmus.learning.sequence_discriminator import LOSSES, SequenceDiscriminator, WithHistory
from isthmus.types import BadValue, UnknownName


def learned(
    loss: str, shift: float, rounds: int = 40, seed: int = 0, rows: int = 2000, minibatch: int = 256
):
    """A discriminator of simulator N(shift, 1) and robot N(-shift, 1), and the metrics of its last
    round.
    """
    d, random = SequenceDiscriminator(loss=loss, minibatch=minibatch), np.random.default_rng(seed)
    s, metrics = d.init(1, jax.random.key(seed)), {}
    for i in range(rounds):
        a, b = (random.normal(at, 1, (rows, 1)).astype(np.float32) for at in (shift, -shift))
        s, metrics = d.learn(s, a, b, jax.random.key(1000 * seed + i))
    return d, s, metrics


@probes.over_seeds
def test_it_learns_the_log_ratio(seeds: range) -> None:
    """The best D has logit log N(x; 0.5, 1) / N(x; -0.5, 1) = x, and says who it was in Phi(0.5) =
    0.69 of cases.

    From 2,000 rows a round what it says at -1 has a deviation of 0.07, for it fits the newest ones.
    """
    x = np.array([[-0.5], [0.0], [0.5]], np.float32)
    log_d = -np.log1p(np.exp(-x[:, 0]))

    def found(seed: int) -> list[float]:
        d, s, metrics = learned("confusion", 0.5, seed=seed, rows=10_000, minibatch=1024)
        rho_s, rho_r = d.rewards(s, x)
        np.testing.assert_array_equal(rho_s, -rho_r)
        return [*(rho_r - log_d), metrics["discriminator_accuracy"]]

    probes.check(found, seeds, *probes.around([0, 0, 0, 0.69], np.array([0.1, 0.1, 0.1, 0.03])))


@probes.over_seeds
def test_the_wasserstein_form_measures_how_far_apart_they_are(seeds: range) -> None:
    def found(seed: int) -> np.ndarray:
        d, s, _ = learned("wasserstein", 1.0, seed=seed)
        f = d.rewards(s, np.linspace(-2, 2, 9, dtype=np.float32)[:, None])[1]
        spread = np.sqrt(s.sequences.variance[0])  # f is 1-Lipschitz in normalized sequences
        return np.diff(f) / 0.5 * spread

    probes.check(found, seeds, *probes.around(1.0, 0.15))


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_either_agent_is_paid_for_looking_like_the_other(loss: str) -> None:
    d, s, _ = learned(loss, 1.0, rounds=10)
    rho_s, rho_r = d.rewards(
        s, np.array([[-1.0], [1.0]], np.float32)
    )  # where the robot is, where the simulator is
    assert rho_r[1] > rho_r[0] and rho_s[0] > rho_s[1]


@probes.over_seeds
def test_equal_agents_cannot_be_told_apart(seeds: range) -> None:
    def found(seed: int) -> float:
        return learned("confusion", 0.0, seed=seed)[2]["discriminator_accuracy"]

    probes.check(found, seeds, *probes.around(0.5, 0.04))


def test_the_signs_of_the_confusion_rewards_are_the_trap_that_the_page_describes() -> None:
    d, s, _ = learned("confusion", 1.0, rounds=5)
    rho_s, rho_r = d.rewards(s, np.linspace(-5, 5, 50, dtype=np.float32)[:, None])
    assert (rho_r <= 0).all() and (rho_s >= 0).all()


@pytest.mark.parametrize(("n", "k"), [(0, 4), (1, 4), (3, 2)])
def test_a_sequence_ends_now_and_does_not_reach_over_the_episodes_begin(n: int, k: int) -> None:
    domain = parse_domain("hopper")
    spaces = domain.spaces
    behaviour = WithHistory.of(UniformBehaviour(spaces.low, spaces.high), spaces.observation, n, k)
    worlds, first = rollout_steps(domain, domain.worlds(6, 0), behaviour, 40)
    _, second = rollout_steps(domain, worlds, behaviour, 40)  # goes on in mid-episode
    obs, zeta, start, time = (
        np.concatenate([get(first), get(second)])
        for get in (
            lambda t: t.obs,
            *(lambda t, name=name: t.extra[name] for name in ("zeta", "start", "time")),
        )
    )
    done = np.concatenate([np.logical_or(x.terminated, x.truncated) for x in (first, second)])
    assert zeta.shape[2:] == (n + 1, spaces.observation) and done.sum() > 12
    for w in range(6):
        begun = 0
        for t in range(80):
            assert time[t, w] == t - begun
            np.testing.assert_array_equal(start[t, w], obs[begun, w])
            np.testing.assert_array_equal(
                zeta[t, w], obs[[max(t - j * k, begun) for j in range(n, -1, -1)], w]
            )
            begun = t + 1 if done[t, w] else begun


def test_remembering_changes_no_decision() -> None:
    domain = parse_domain("hopper")
    plain = UniformBehaviour(domain.spaces.low, domain.spaces.high)
    a = rollout_steps(domain, domain.worlds(2, 0), plain, 10)[1]
    b = rollout_steps(domain, domain.worlds(2, 0), WithHistory.of(plain, 11, 1, 4), 10)[1]
    np.testing.assert_array_equal(a.next_obs, b.next_obs)


def test_wrong_settings_are_one_line() -> None:
    with pytest.raises(UnknownName, match="min_max"):
        SequenceDiscriminator(loss="minmax")
    with pytest.raises(BadValue, match=r"discriminator\.steps=0"):
        SequenceDiscriminator(steps=0)
