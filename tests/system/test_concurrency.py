"""Threads give the bits of one after the other; a forked process raises a line instead of
hanging.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest
import tiny
from gymnasium.spaces import Box

import isthmus
from isthmus.learning import networks
from isthmus.physics import concurrency
from isthmus.physics.concurrency import ThreadCache, ThreadList, count_cpus


class Reaching:
    """A policy without a state: a fixed linear map to three actions."""

    def memory(self):
        return ()

    def act(self, memory, observation):
        return jax.numpy.tanh(observation[: self.actions] * 3.0 - 0.2), ()

    def __init__(self, actions: int):
        self.actions = actions


jax.tree_util.register_pytree_node(
    Reaching, lambda p: ((), p.actions), lambda actions, _: Reaching(actions)
)


class Counter(gymnasium.Env):
    """Somebody else's environment: its observation counts the actions that it was given."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=2)
        return self.state.copy(), {}

    def step(self, action):
        time.sleep(0)  # let another thread go on
        self.state = self.state * 0.9 + action
        return self.state.copy(), float(self.state.sum()), False, False, {}


def make_counter() -> gymnasium.Env:
    return Counter()


FOREIGN = f"{__name__}:make_counter/time_limit=200,step_seconds=0.1"


def in_threads(function: Callable[[int], Any], count: int = 2) -> list[Any]:
    """What `function(i)` returns in so many threads that begin together."""
    results: list[Any] = [None] * count
    together = threading.Barrier(count)

    def call(i: int) -> None:
        together.wait()
        try:
            results[i] = function(i)
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=call, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@pytest.mark.parametrize(
    ("text", "actions"), [("ball", 2), ("hopper/torso_mass=1..9,action_delay=1", 3), (FOREIGN, 2)]
)
def test_evaluations_in_threads_have_the_returns_of_one(text, actions):
    domain = isthmus.parse_domain(text)

    def returns(_: int = 0) -> list[float]:
        return isthmus.evaluate(Reaching(actions), domain, episodes=6).episodes.returns.tolist()

    one = returns()
    assert len(set(one)) > 1
    assert in_threads(returns, 6) == [one] * 6


@pytest.mark.parametrize("text", ["ball", FOREIGN])
def test_no_simulation_is_given_to_two_threads(text):
    domain = isthmus.parse_domain(text)

    def given(_: int = 0) -> list[Any]:
        return [domain.simulation(2) for _ in range(4)]

    mine = {id(simulation) for simulation in given()}
    one, other = ({id(simulation) for simulation in each} for each in in_threads(given))
    assert not mine & one and not mine & other and not one & other


def test_evaluations_in_dart_in_threads_have_the_returns_of_one():
    pytest.importorskip("dartpy")
    domain = isthmus.parse_domain("ball/engine=dart")

    def returns(_: int = 0) -> list[float]:
        return isthmus.evaluate(Reaching(2), domain, episodes=3).episodes.returns.tolist()

    one = returns()
    assert in_threads(returns) == [one] * 2


def test_landscapes_and_audits_in_threads_are_those_of_one():
    grid = isthmus.parse_domain("ball/ball_mass=x0.5..x2:2,x_damping=x1..x3:2")
    source, target = isthmus.parse_domain("ball"), isthmus.parse_domain("ball/ball_mass=x2")

    def both(_: int = 0) -> tuple[Any, list[str]]:
        returns = isthmus.landscape(Reaching(2), grid, episodes=2).returns.tolist()
        return returns, isthmus.audit(source, target, episodes=2).lines()

    one = both()
    assert in_threads(both) == [one] * 2


def test_trainings_in_threads_have_the_digests_of_one_after_the_other(tmp_path):
    def digest(seed: int, folder: str) -> str:
        return tiny.train("source_only", tmp_path / f"{folder}{seed}", 3, seed=seed).digest

    after = [digest(seed, "after") for seed in (0, 1)]
    assert after[0] != after[1]
    assert in_threads(lambda seed: digest(seed, "beside")) == after


def test_runs_of_one_name_in_threads_have_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problem = tiny.problem()
    runs = in_threads(lambda _: tiny.train("source_only", None, 1, problem=problem), 3)  # pyright: ignore
    assert len({run.folder for run in runs}) == 3
    assert len({run.digest for run in runs}) == 1


def test_first_weights_do_not_depend_on_threads():
    shapes = [(3, 4), (64, 64), (5, 2)]
    alone = [
        np.asarray(networks.orthogonal(jax.random.key(i), shape)) for i, shape in enumerate(shapes)
    ]
    together = in_threads(
        lambda i: np.asarray(networks.orthogonal(jax.random.key(i), shapes[i])), 3
    )
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_threads_cache_is_its_own_and_bounded():
    made: list[int] = []

    def make(key: int) -> object:
        made.append(key)
        return object()

    cached = ThreadCache(make, maxsize=2)
    mine = cached(1)
    assert cached(1) is mine
    others = in_threads(lambda _: cached(1))
    assert len({id(mine), *map(id, others)}) == 3
    for value in (2, 3):
        cached(value)
    assert cached(1) is not mine, "the third has taken its place"
    assert made == [1, 1, 1, 2, 3, 1]
    cached.cache_clear()
    cached(1)
    assert made[-1] == 1 and len(made) == 7


def test_a_threads_list_is_its_own():
    values: ThreadList[int] = ThreadList()
    values.append(3)
    assert in_threads(lambda i: (list(values), values.append(i), list(values))) == [
        ([], None, [0]),
        ([], None, [1]),
    ]
    assert list(values) == [3]


def test_cpus_are_counted_where_the_system_does_not_say_which_are_ours(monkeypatch):
    """As on macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert count_cpus() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert count_cpus() == 1


FORKS = f"""
import json, multiprocessing, os, sys
import numpy as np
sys.path[:0] = {[str(path) for path in Path(__file__).parents[:2]]!r}
import isthmus
from test_concurrency import Reaching
from isthmus.domains.gym import Environment, VectorEnvironment

domain = isthmus.parse_domain("ball")
first = domain.worlds(4, 0).observation.tolist()
one, several = Environment("ball"), VectorEnvironment(4, "ball")
one.reset(seed=0)
several.reset(seed=0)
if "jax" in sys.argv:
    isthmus.evaluate(Reaching(2), domain, 2)

def worlds():
    assert domain.worlds(4, 0).observation.tolist() == first

def one_world():
    one.step(one.action_space.sample())

def several_worlds():
    several.step(several.action_space.sample())

def evaluate():
    isthmus.evaluate(Reaching(2), domain, 2)

def train():
    isthmus.train("source_only", isthmus.problem("ball"), steps=1, out="/nowhere/at/all")

def call(function, pipe):
    try:
        function()
        pipe.send("went well")
    except Exception as error:
        pipe.send(f"{{type(error).__name__}}: {{error}}")

said = {{}}
context = multiprocessing.get_context("fork")
for function in (worlds, one_world, several_worlds, *([evaluate, train] if "jax" in sys.argv else [evaluate])):
    ours, theirs = context.Pipe()
    process = context.Process(target=call, args=(function, theirs))
    process.start()
    said[function.__name__] = ours.recv() if ours.poll(20) else "hangs"
    process.join(5)
    process.kill()
if "jax" not in sys.argv:
    pid = os.fork()
    if pid == 0:
        sys.exit(0)  # which destroys what the parent kept
    import signal
    signal.alarm(20)
    said["exit"] = os.waitpid(pid, 0)[1]
print(json.dumps(said))
"""  # noqa: E501


def forked(*words: str) -> dict[str, Any]:
    environment = {**os.environ, "ISTHMUS_THREADS": "2", "PYTHONWARNINGS": "ignore"}
    done = tiny.process([sys.executable, "-c", FORKS, *words], env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_steps_what_it_makes_itself():
    """Its parent's worlds of several threads are refused, one world needs none; nothing hangs, not
    even the end.
    """
    said = forked()
    assert said.pop("several_worlds").startswith(
        "ForkedError: this simulation was made before a fork"
    )
    assert said == {
        "worlds": "went well",
        "one_world": "went well",
        "evaluate": "went well",
        "exit": 0,
    }


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_forked_after_jax_computed_says_how_to_start_it():
    said = forked("jax")
    assert said["worlds"] == said["one_world"] == "went well"
    for name in ("evaluate", "train"):
        assert said[name].startswith("ForkedError: this process was forked after jax had computed")
        assert "multiprocessing.get_context('spawn')" in said[name] and "\n" not in said[name]


def test_where_jax_cannot_be_asked_it_is_taken_to_have_computed(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", object())  # pyright: ignore[reportArgumentType]
    assert concurrency._has_jax_computed()
    monkeypatch.delitem(sys.modules, "jax._src.xla_bridge")
    assert not concurrency._has_jax_computed()


ELSEWHERE = f"""
import os, signal, sys
import jax, loky, mujoco, platformdirs, multiprocessing, numpy, shutil, subprocess, threading
from pathlib import Path
sys.path.insert(0, {os.path.dirname(os.path.dirname(__file__))!r})
LINUX = "sched_getaffinity sched_setaffinity pread preadv posix_fadvise posix_fallocate fdatasync sync getresuid pipe2"
UNIX = "register_at_fork fork O_DIRECTORY getuid geteuid statvfs getloadavg mkfifo chown"
lacking = LINUX.split() + UNIX.split() * ("windows" in sys.argv)
for name in lacking:
    vars(os).pop(name, None)
if "windows" in sys.argv:
    del signal.pthread_sigmask

import tiny
import isthmus
from isthmus.problems.ledger import UsageLedger
from isthmus.physics.mujoco import threads
from isthmus.training.executor import Processes

folder = Path(sys.argv[1])
assert threads() == os.cpu_count()
run = tiny.train("source_only", folder / "run", 1)
ledger = UsageLedger(folder / "ledger")
ledger.enter(transitions=3)
(folder / "ledger").open("a", encoding="utf-8").write('{{"transi')
ledger.enter(transitions=4)
assert UsageLedger(folder / "ledger").transitions == 7
with Processes(1) as processes:
    assert list(processes.map(abs, [-3])) == [(0, 3)]
assert not [name for name in lacking if hasattr(os, name)]
print(run.digest)
"""  # noqa: E501


@pytest.mark.parametrize("system", ["macos", "windows"])
def test_a_system_without_linuxs_calls_trains_to_the_same_bits(tmp_path, system):
    """What Linux alone has is asked for nowhere without another way; nor what Windows lacks."""
    environment = {k: v for k, v in os.environ.items() if k != "ISTHMUS_THREADS"}
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path), system]
    done = tiny.process(command, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [tiny.train("source_only", tmp_path / "here", 1).digest]
