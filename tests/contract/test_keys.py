"""That no two purposes draw from one key: all that is drawn from, split or folded is written down
while a program is traced, with the keys themselves worked out on the way.
"""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest
import test_probes
import tiny

from isthmus.learning.keys import BESIDE_COUNTER, beside
from isthmus.learning.policies import UniformBehaviour
from isthmus.learning.proximal import _draw_bits
from isthmus.learning.replay import ReplayView
from isthmus.learning.sac import SAC, _sample_keys
from isthmus.methods import darc, garat, h2o, registry
from isthmus.methods.logged import log_view, scan
from isthmus.problems.problem import Problem, make_problem
from isthmus.types import Spaces

TEXT = "hopper/gravity=x2"
f32 = np.float32
DRAWS = {"bits": (), "normal": (), "uniform": (), "randint": (0, 1), "permutation": (0, 1)}
"""What draws from a key, and which of its children it draws from itself."""


class KeyBook:
    """Uses of keys. A key that is traced has no bits to compare and is left out."""

    def __init__(self) -> None:
        self.drawn: list[bytes] = []
        self.split: list[bytes] = []
        self.children: list[tuple[bytes, int]] = []
        self.folded: set[tuple[bytes, int]] = set()
        self.tracing = False

    def trace(self, function: Callable, *args: Any) -> None:
        """Trace a program with everything in it, without running it; arguments are constants."""
        args = jax.tree.map(
            lambda x: jnp.asarray(x) if isinstance(x, np.ndarray | np.generic) else x, args
        )
        self.clear()
        self.tracing = True
        with jax.disable_jit():
            jax.eval_shape(lambda: function(*args))
        self.tracing = False

    def clear(self) -> None:
        for uses in (self.drawn, self.split, self.children, self.folded):
            uses.clear()

    def write(self, name: str, key: Any, *args: Any) -> None:
        if isinstance(key, jax.core.Tracer):
            return
        data = derive(lambda: np.asarray(jax.random.key_data(key)).tobytes())
        if name == "fold_in":
            self.folded.add((data, int(args[0])))
        elif name == "split":
            count = int(args[0]) if args else 2
            self.split.append(data)
            self.children += [(data, i) for i in range(count)]
        else:
            self.drawn.append(data)
            self.children += [(data, i) for i in DRAWS[name]]

    def check(self) -> None:
        """Assert that a key is drawn from once or split once, not both, and that no child has two
        purposes.
        """
        assert self.drawn
        assert twice([*self.drawn, *self.split]) == []
        assert twice([*self.children, *self.folded]) == []


def twice(uses: list[Any]) -> list[Any]:
    return [use for use, count in Counter(uses).items() if count > 1]


def derive(function: Callable, *args: Any) -> Any:
    """Work out a derived key's own bits, amid a trace."""
    with jax.ensure_compile_time_eval():
        return function(*args)


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> KeyBook:
    found, real_scan = KeyBook(), jax.lax.scan

    def watched(name: str, function: Callable) -> Callable:
        def call(key: Any, *args: Any, **named: Any) -> Any:
            found.write(name, key, *args)
            if not found.tracing or isinstance(key, jax.core.Tracer):
                return function(key, *args, **named)
            if name == "fold_in":
                return derive(function, key, *args)
            return (
                derive(lambda: [*function(key, *args)])
                if name == "split"
                else function(key, *args, **named)
            )

        return call

    def scan_over_keys(step: Callable, carry: Any, xs: Any, **named: Any) -> Any:
        """As a loop where `xs`, or the last of them, are the keys of a split, for a scan would
        trace them.
        """
        arrays, keys = (xs[:-1], xs[-1]) if isinstance(xs, tuple) else ((), xs)
        if not isinstance(keys, list):
            return real_scan(step, carry, xs, **named)
        rows = []
        for i, key in enumerate(keys):
            now = jax.tree.map(lambda x, i=i: x[i], arrays)
            carry, row = step(carry, (*now, key) if isinstance(xs, tuple) else key)
            rows.append(row)
        return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)

    for name in ("split", "fold_in", *DRAWS):
        monkeypatch.setattr(jax.random, name, watched(name, getattr(jax.random, name)))
    monkeypatch.setattr(jax.lax, "scan", scan_over_keys)
    return found


def problem() -> Problem:
    return make_problem(TEXT, access="dataset", data=tiny.log(TEXT))


def build(name: str) -> Any:
    known = registry.settings_of(registry.build(name, {"learner": "sac"}))
    small = tiny.SETTINGS | tiny.OWN | tiny.SAC | {"learner.random_steps": tiny.ROUND}
    return registry.build(name, {"learner": "sac"} | {k: v for k, v in small.items() if k in known})


def test_a_key_beside_another_is_none_that_a_split_gives() -> None:
    key = jax.random.key(3)
    split = np.asarray(jax.random.key_data(jax.random.split(key, 1000))).tolist()
    folded = np.asarray(jax.random.key_data(jax.random.fold_in(key, 1))).tolist()
    assert folded in split  # why small numbers would not do
    assert np.asarray(jax.random.key_data(beside(key))).tolist() not in split


def test_two_purposes_of_one_key_are_found_out() -> None:
    """The test's own test: what stood in DARC's update, `fold_in(key, 1)` beside `split(key)`, and
    a key used twice.
    """
    for uses in (
        [("split", 2), ("fold_in", 1)], [("normal", (3,)), ("uniform", (3,))], [("normal", (3,)), ("split", 2)],  # noqa: E501
        [("randint", (3,)), ("fold_in", 1)],
    ):  # fmt: skip
        found = KeyBook()
        found.write("bits", jax.random.key(9))
        for name, argument in uses:
            found.write(name, jax.random.key(0), argument)
        with pytest.raises(AssertionError):
            found.check()
    found = KeyBook()
    found.write("bits", jax.random.key(0))
    found.write("fold_in", jax.random.key(0), BESIDE_COUNTER)
    found.check()


def test_policies_of_two_networks_begin_with_keys_of_their_own(book: KeyBook) -> None:
    learner = SAC(hidden=(4,), actors=2, capacity=300)
    s = learner.init(Spaces(3, -np.ones(2, f32), np.ones(2, f32), 0), jax.random.key(0))
    assert not np.array_equal(s.learned.actor[0][0][0], s.learned.actor[1][0][0])
    book.trace(learner.behaviour(s).act, (), np.zeros(3, f32), jax.random.key(1))
    book.check()


def test_h2os_updates_draw_from_keys_of_their_own(book: KeyBook) -> None:
    method, where = build("h2o"), problem()
    s, log = method.init(where, 0), log_view(where)
    sac, classifiers = s.learner
    carry = h2o.H2OCarry(sac.learned, classifiers, log.old.obs.std(0))
    source = method.learner.draw(sac.replay.add(sac.replay.recent), 3, jax.random.key(5))
    book.trace(scan.__wrapped__, method, carry, source, log, jax.random.key(5))
    for key in _sample_keys(3, jax.random.key(5)):
        book.write("bits", key)
    book.check()
    assert len(book.drawn) >= 3 * 5  # two batches, two noises and SAC's draws, in each update


@pytest.mark.parametrize("name", ["darc", "dap", "dap_u"])
def test_updates_beside_a_log_draw_from_keys_of_their_own(
    name: str, book: KeyBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAC splits the key of a round into those of its updates, and each of these in two."""

    def draw(learner: SAC, view: ReplayView, n: int, key: Any) -> Any:
        return jax.tree.map(lambda x: jnp.zeros((n, learner.minibatch, *x.shape[1:])), view.recent)

    def learn_batches(learner: SAC, learned: Any, batches: Any, key: Any) -> tuple[Any, dict]:
        for i, each in enumerate(jax.random.split(key, len(batches.reward))):
            k_sample, k_update = jax.random.split(each)
            jax.random.bits(k_sample)
            batch = jax.tree.map(lambda x, i=i: x[i], batches)
            learned, _ = learner.update(learned, batch, k_update)
        return learned, {}

    method, where = build(name), problem()
    s, log, key = method.init(where, 0), log_view(where), jax.random.key(5)
    monkeypatch.setattr(SAC, "draw", draw)
    monkeypatch.setattr(SAC, "learn_batches", learn_batches)
    monkeypatch.setattr(darc, "fold_key", lambda *_: key)
    monkeypatch.setattr(darc, "float", lambda x: x, raising=False)  # nothing is worked out
    book.trace(lambda: darc.learn_with_classifiers(method, 3, s, s.learner, log)[0].classifiers)
    book.check()
    assert len(book.drawn) >= 3 * 4  # two batches, a noise and SAC's draws, in each update


def test_dap_u_redraws_by_a_key_of_its_own(book: KeyBook) -> None:
    method = build("dap_u")
    behaviour = method.behaviour(method.init(problem(), 0))
    book.trace(behaviour.act, (), np.zeros(11, f32), jax.random.key(1))
    book.check()
    assert len(book.drawn) == 3  # an action by the policy, one at random, and Eq. 5's noise


def test_garats_transformer_explores_by_a_key_of_its_own(book: KeyBook) -> None:
    low, high = -np.ones(2, f32), np.ones(2, f32)
    agent, transformer = UniformBehaviour(low, high), UniformBehaviour(2 * low, 2 * high)
    book.trace(
        garat.Grounded(agent, transformer, low, high).act, (), np.zeros(3, f32), jax.random.key(1)
    )
    book.check()
    assert len(book.drawn) == 2


def test_the_translator_of_dap_inverse_learns_by_a_key_of_its_own(
    book: KeyBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAC splits the key of a round into those of its updates: the translator's is none of them."""

    def learn(learner: SAC, s: Any, tr: Any, key: Any) -> tuple[Any, dict[str, float]]:
        jax.random.split(key, tr.reward.size)
        return learner.observe(s, tr), {}

    def translate(method: Any, carry: Any, inverse: Any, batches: Any) -> tuple[Any, Any]:
        return carry, f32(0)

    def draw(learner: SAC, replay: Any, n: int, key: Any) -> None:
        jax.random.bits(key)

    method, where = replace(build("dap_inverse"), fitting=0), problem()
    s = method.init(where, 0)
    monkeypatch.setattr(SAC, "learn", learn)
    monkeypatch.setattr(SAC, "draw", draw)
    monkeypatch.setattr(type(method), "_translate", translate)
    book.clear()
    method.step(where, s)
    book.check()
    assert len(book.drawn) == 1 and len(book.split) == 1


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_a_round_of_a_learner_draws_from_keys_of_its_own(name: str, book: KeyBook) -> None:
    learner = test_probes.LEARNERS[name]
    s = learner.init(probes.SPACES, jax.random.key(0))
    if name == "sac":
        batches = learner.draw(s.replay.add(s.replay.recent), 3, jax.random.key(1))
        book.trace(SAC._learn_batches.__wrapped__, learner, s.learned, batches, jax.random.key(1))
        for key in _sample_keys(3, jax.random.key(1)):
            book.write("bits", key)
    else:
        random = np.random.default_rng(0)
        _, tr = probes.collect(
            probes.ACTION, probes.Played.begin(16, random), learner.behaviour(s), 16, random
        )

        def descend(inputs: Any, key: Any) -> Any:
            return learner._prepare(inputs), _draw_bits(key, learner.epochs, 256)

        book.trace(descend, learner._gather(s, tr), jax.random.key(1))
    book.check()
