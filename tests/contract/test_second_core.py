"""A second process computes what this one would: no bit depends on it, nor on its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import probes
import pytest
import test_probes

from isthmus.learning import second_core
from isthmus.learning.second_core import SecondCore, run_both

WAIT = 120.0  # seconds, at most, until it has compiled a program


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Iterator[SecondCore]:
    """One that is wanted from the first round on, wherever tests run."""
    core = SecondCore()
    core.work_seconds = second_core.PATIENCE
    monkeypatch.setattr(second_core, "_get_core", lambda process: core)
    monkeypatch.setattr(second_core, "is_wanted", lambda: True)
    yield core
    core.close()


def compute(x: Any) -> tuple[Any, int]:
    return jax.numpy.sqrt(x), os.getpid()


def give_away(x: Any) -> tuple[int, Any]:
    """Do both until the second is done elsewhere."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        mine, (root, process) = run_both(os.getpid, compute, x)
        if process != mine:
            return process, root
        time.sleep(0.01)
    return pytest.fail("no second process was ready")


def test_work_is_done_elsewhere_once_its_program_is_compiled_there(core: SecondCore) -> None:
    x = jax.numpy.arange(4.0)
    mine, (_, process) = run_both(os.getpid, compute, x)
    assert process == mine, "the first time it is done here"
    process, root = give_away(x)
    np.testing.assert_array_equal(root, np.sqrt(np.arange(4.0, dtype=np.float32)))
    assert isinstance(root, jax.Array)
    assert run_both(os.getpid, compute, x)[1][1] == process, "it stays"
    assert run_both(os.getpid, compute, x[:2])[1][1] == mine, "other shapes, another program"


def test_what_a_process_that_was_killed_has_not_done_is_done_here(core: SecondCore) -> None:
    x = jax.numpy.arange(4.0)
    process, _ = give_away(x)
    os.kill(process, signal.SIGKILL)
    mine, (root, process) = run_both(os.getpid, compute, x)
    assert process == mine
    np.testing.assert_array_equal(root, np.sqrt(np.arange(4.0, dtype=np.float32)))
    assert run_both(os.getpid, compute, x)[1][1] == mine, "and no other is begun"


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import test_second_core
from isthmus.learning import second_core
second_core.PATIENCE = 0.0
second_core.is_wanted = lambda: True
print(test_second_core.give_away(test_second_core.jax.numpy.arange(4.0))[0], flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it ends by itself, later")
def test_it_ends_with_a_parent_that_was_killed() -> None:
    here = os.path.dirname(__file__)
    path = os.pathsep.join([here, os.path.dirname(here), *sys.path])
    command, environment = [sys.executable, "-c", KILLED, here], {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    process, end = int(done.stdout), time.monotonic() + WAIT
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    pytest.fail("it is still there")


def test_an_error_of_the_second_is_raised_here(core: SecondCore) -> None:
    give_away(jax.numpy.arange(4.0))
    with pytest.raises(TypeError):
        for _ in range(3):
            run_both(os.getpid, compute, None)


@pytest.mark.parametrize("name", ["ppo", "recurrent_ppo"])
def test_a_learners_bits_are_those_of_one_core(
    name: str, core: SecondCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner: Any = test_probes.LEARNERS[name]
    s = learner.init(probes.SPACES, jax.random.key(0))
    random = np.random.default_rng(0)
    worlds, steps = learner.rollout_shape
    behaviour = learner.behaviour(s)
    played = probes.Played.begin(worlds, random)
    _, tr = probes.collect(probes.ACTION, played, behaviour, steps, random)
    given = []
    submit = core.submit
    monkeypatch.setattr(core, "submit", lambda *args: given.append(args) or submit(*args))
    alone, _ = learner.learn(s, tr, jax.random.key(1))
    assert len(given) == 1, "compiles"
    next(iter(core._programs.values())).result(WAIT)
    together, _ = learner.learn(s, tr, jax.random.key(1))
    assert len(given) == 2
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_it_is_begun_only_where_it_has_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISTHMUS_THREADS", raising=False)
    monkeypatch.delenv("ISTHMUS_SECOND_CORE", raising=False)
    monkeypatch.setattr(second_core, "cpu_count", lambda: 2)
    assert second_core.is_wanted()
    monkeypatch.setenv("ISTHMUS_SECOND_CORE", "off")
    assert not second_core.is_wanted()
    monkeypatch.delenv("ISTHMUS_SECOND_CORE")
    monkeypatch.setenv("ISTHMUS_THREADS", "1")
    assert not second_core.is_wanted()
    monkeypatch.delenv("ISTHMUS_THREADS")
    monkeypatch.setattr(second_core, "cpu_count", lambda: 1)
    assert not second_core.is_wanted()


ONE_CORE = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
import jax
from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_steps
from isthmus.learning import second_core
from isthmus.methods.registry import find_learner
from isthmus.training.checkpoint import digest

second_core.PATIENCE = 0.0
given, submit = [], second_core.SecondCore.submit

def counted(core, *work):
    given.append(work)
    future = submit(core, *work)
    future.exception(120)  # compiled by the next round
    return future

second_core.SecondCore.submit = counted
small = dict(worlds=8, steps=16, hidden=(16, 16), minibatch=32)
more = {"sac": dict(random_steps=128), "recurrent_ppo": dict(sequence=8)}
domain = parse_domain("hopper")
for name in ("ppo", "recurrent_ppo", "trpo", "sac"):
    learner = find_learner(name)(**small, **more.get(name, {}))
    s, worlds = learner.init(domain.spaces, jax.random.key(0)), domain.worlds(8, seed=0)
    for step in range(4):
        worlds, tr = rollout_steps(domain, worlds, learner.behaviour(s), 16)
        s, _ = learner.learn(s, tr, jax.random.key(step))
    print(name, len(given), digest(s))
"""


@pytest.mark.full
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no CPUs")
def test_every_learner_finds_the_same_bits_on_one_core() -> None:
    found = []
    for cores in ("1", "2"):
        command = [sys.executable, "-c", ONE_CORE, cores]
        switches = "ISTHMUS_THREADS", "ISTHMUS_SECOND_CORE"
        environment = {k: v for k, v in os.environ.items() if k not in switches}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found.append([line.split() for line in done.stdout.splitlines()])
    one, two = found
    assert [line[1] for line in one] == ["0"] * 4, "nothing is given away"
    assert [name for name, _, _ in one] == ["ppo", "recurrent_ppo", "trpo", "sac"]
    assert [line[2] for line in one] == [line[2] for line in two]
    if len(os.sched_getaffinity(0)) > 1:
        assert int(two[0][1]) == 4 and int(two[1][1]) == 8, "each of PPO's rounds"
