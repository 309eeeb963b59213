"""Policies that are no tree of parameters act wherever a jitted one does, with its bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import isthmus
from isthmus.audit.coverage import policy_actions
from isthmus.domains.batched import BatchPolicy, fit_policy
from isthmus.domains.memories import MAX_BATCH
from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_episodes, rollout_steps
from isthmus.evaluation.episode_intervals import paired_episodes, summarize_episodes, wilson
from isthmus.logs.read import read_log
from isthmus.logs.record import Deterministic
from isthmus.studies.policies import compare_policies
from isthmus.types import BadValue

HOPPER = parse_domain("hopper/torso_mass=1..9")
GRID = "hopper/torso_mass=1..9:3,foot_friction=0.5..2:2"


class Jitted(NamedTuple):
    """Pushes against three joints' angles."""

    gain: Any = np.float32(-0.5)

    def memory(self) -> tuple:
        return ()

    def act(self, memory: tuple, obs: Any) -> tuple[Any, tuple]:
        return jnp.clip(obs[2:5] * self.gain, -1, 1), memory


class Foreign:
    """The same of N worlds."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        return observations[:, 2:5] * np.float32(-0.5)


def push(observations: np.ndarray) -> np.ndarray:
    return Foreign().act(observations)


class JittedCounter(NamedTuple):
    """Pushes harder from step to step of an episode."""

    rise: Any = np.float32(0.125)

    def memory(self) -> dict[str, Any]:
        return {"count": np.float32(-1), "last": np.zeros(2, np.float32)}

    def act(self, memory: Any, obs: Any) -> tuple[Any, Any]:
        count = memory["count"] + self.rise
        return jnp.full(3, jnp.clip(count, -1, 1)), {"count": count, "last": obs[:2]}


class ForeignCounter:
    def memory(self) -> dict[str, Any]:
        return {"count": np.float32(-1), "last": np.zeros(2, np.float32)}

    def act(self, memory: Any, observations: np.ndarray) -> tuple[np.ndarray, Any]:
        count = memory["count"] + np.float32(0.125)
        return np.repeat(count[:, None], 3, 1), {"count": count, "last": observations[:, :2]}


def same(a: Any, b: Any) -> bool:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in leaves)


PAIRS = [(Jitted(), Foreign()), (Jitted(), push), (JittedCounter(), ForeignCounter())]


@pytest.mark.parametrize(("jitted", "foreign"), PAIRS)
def test_episodes_have_the_bits_of_a_jitted_policy(jitted: Any, foreign: Any) -> None:
    expected = isthmus.evaluate(jitted, HOPPER, 70).episodes
    assert same(isthmus.evaluate(foreign, HOPPER, 70).episodes, expected)
    assert len(set(expected.lengths)) > 1  # worlds end apart from each other


@pytest.mark.parametrize(("jitted", "foreign"), PAIRS)
def test_steps_have_the_bits_of_a_jitted_policy(jitted: Any, foreign: Any) -> None:
    """Also a memory, which begins anew with each episode and goes on between two rollouts."""
    worlds = [HOPPER.worlds(5, seed=1)] * 2
    for _ in range(2):
        after, expected = rollout_steps(HOPPER, worlds[0], Deterministic(jitted), 120)
        foreign_after, played = rollout_steps(HOPPER, worlds[1], foreign, 120)
        assert same(played, expected) and same(foreign_after, after)
        worlds = [after, foreign_after]
    assert np.asarray(expected.terminated).any()


def test_a_landscape_an_audit_and_a_log_do_not_ask_which(tmp_path: Any) -> None:
    expected, found = (isthmus.landscape(policy, GRID, 3) for policy in (Jitted(), Foreign()))
    assert found.csv() == expected.csv()
    target = "hopper/gravity=x1.2"
    audits = [isthmus.audit("hopper", target, 2, policy=p).lines() for p in (Jitted(), push)]
    assert audits[0] == audits[1]
    problem = isthmus.problem("hopper/gravity=x1.2")
    logs = []
    for name, policy in (("jitted", Jitted()), ("foreign", Foreign())):
        path = tmp_path / f"{name}.npz"
        isthmus.collect_log(policy, problem, path, 60)
        logs.append(read_log(str(path), problem.target))
    assert same(logs[0].log, logs[1].log)
    assert logs[1].metadata["policy"]["name"] == "Foreign" and logs[1].metadata["deterministic"]
    acting = fit_policy(Foreign(), problem.target)
    assert same(policy_actions(acting, logs[1].log.obs), logs[1].log.action)


def test_no_world_depends_on_the_others() -> None:
    """Calls have one size: a policy whose rows depend on it gives each world the same."""
    sizes = []

    def act(observations: np.ndarray) -> np.ndarray:
        sizes.append(len(observations))
        return observations[:, :3] / len(observations)

    worlds = HOPPER.worlds(70, seed=3)
    among = rollout_episodes(HOPPER, worlds, act)
    for world in (0, 69):
        one = jax.tree.map(lambda x, i=world: x[i : i + 1], worlds)
        alone = rollout_episodes(HOPPER, one, act)
        assert alone.returns[0] == among.returns[world]
    assert set(sizes) == {MAX_BATCH}


def test_policies_share_worlds_out() -> None:
    worlds = HOPPER.worlds(6, seed=1)
    together = rollout_episodes(HOPPER, worlds, [push, ForeignCounter()])
    first = rollout_episodes(HOPPER, jax.tree.map(lambda x: x[:3], worlds), Foreign())
    second = rollout_episodes(HOPPER, jax.tree.map(lambda x: x[3:], worlds), ForeignCounter())
    assert same(together.returns, np.concatenate([first.returns, second.returns]))
    with pytest.raises(BadValue, match="6 worlds cannot be shared out evenly among 4"):
        rollout_episodes(HOPPER, worlds, [push] * 4)
    with pytest.raises(BadValue, match="Jitted is jitted, others are not: play them apart"):
        rollout_episodes(HOPPER, worlds, [push, Jitted()])


def test_actions_are_clipped_to_the_bounds() -> None:
    policy = fit_policy(lambda obs: np.full((len(obs), 3), 7.0), HOPPER)
    actions, _ = policy.act((), np.zeros((2, 11)))
    assert isinstance(policy, BatchPolicy) and (actions == 1).all()


class Predicts:
    def predict(self, observation: Any) -> None: ...


class Loses:
    def memory(self) -> np.ndarray:
        return np.zeros(2)

    def act(self, memory: Any, obs: np.ndarray) -> Any:
        return obs[:, :3], memory[:, :1]


class Silent(Loses):
    def act(self, memory: Any, obs: np.ndarray) -> Any:
        return obs[:, :3]


@pytest.mark.parametrize(
    ("policy", "line"),
    [
        (lambda obs: obs[:, :2], "gives float32 of shape (64, 2) for N=64, A=3"),
        (lambda obs: obs[0, :3], "gives float32 of shape (3,) for N=64, A=3"),
        (lambda obs: (obs[:, :3], None), "gives a tuple of 2; act(observations [N, O]) gives"),
        (lambda obs: {"action": obs[:, :3]}, "gives a dict; act(observations [N, O]) gives"),
        (lambda obs: obs[:, :3].astype(str), "gives <U32 of shape (64, 3)"),
        (lambda obs: obs[:, :3] * np.nan, "<lambda>: action 0 is nan at a finite observation"),
        (lambda obs: obs["joints"], "IndexError: only integers, slices"),
        (Predicts(), "of SB3: lambda obs: model.predict(obs, deterministic=True)[0]"),
        ("policy.onnx", "str is no policy: it is not called, nor has it an act"),
        (Loses(), "gives a memory of shapes [(64, 1)], not [(64, 2)]"),
        (Silent(), "Silent gives a ndarray; act(memory, observations [N, O]) gives"),
    ],
)
def test_what_is_no_policy_is_one_line(policy: Any, line: str) -> None:
    with pytest.raises(BadValue) as caught:
        isthmus.evaluate(policy, "hopper", 2)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_a_policy_that_is_fitted_to_a_domain() -> None:
    """`for_domain` says how: a policy's observations may be named."""

    class Named:
        name = "mine"

        def for_domain(self, domain: Any) -> Any:
            return push if domain.task == "hopper" else Jitted()

    expected = isthmus.evaluate(push, "hopper", 3).episodes
    assert same(isthmus.evaluate(Named(), "hopper", 3).episodes, expected)
    assert fit_policy(Named(), parse_domain("walker2d")) == Jitted()


def test_wilson() -> None:
    """Agresti and Coull (1998), as tables have it: 0 of 10, and 3 of 10."""
    none, some = wilson([False] * 10), wilson([True] * 3 + [False] * 7)
    assert (none.value, none.low, round(none.high, 4)) == (0, 0, 0.2775)
    assert (some.value, round(some.low, 4), round(some.high, 4)) == (0.3, 0.1078, 0.6032)
    assert some.method == "Wilson over episodes"


def test_intervals_are_over_episodes() -> None:
    played = isthmus.evaluate(push, HOPPER, 30).episodes
    summary = summarize_episodes(played)
    half = 2.0452 * played.returns.std(ddof=1) / np.sqrt(30)  # Student's t of 29
    assert summary.returns.method == "Student over episodes"
    assert np.allclose([summary.returns.low, summary.returns.high],
                       played.returns.mean() + np.array([-half, half]), rtol=1e-4)  # fmt: skip
    difference = paired_episodes(played.returns + 1, played.returns)
    assert (difference.value, difference.low, difference.high) == pytest.approx((1, 1, 1))
    assert difference.method == "Student over episodes, paired"


def test_policies_are_compared_by_episode(tmp_path: Any) -> None:
    found = compare_policies({"mine": push, "theirs": ForeignCounter()}, HOPPER, 20)
    first, second = found.rows
    assert first.difference is None and first.verdict == "the first"
    expected = isthmus.evaluate(ForeignCounter(), HOPPER, 20).episodes.returns
    assert second.difference.value == pytest.approx((expected - found.episodes[0].returns).mean())
    found.save(tmp_path / "out")
    rows = (tmp_path / "out" / "policies.csv").read_text().splitlines()
    assert len(rows) == 41 and rows[0].startswith("policy,episode,torso_mass,return")
    with pytest.raises(BadValue, match="needs two policies"):
        compare_policies({"mine": push}, HOPPER, 20)
