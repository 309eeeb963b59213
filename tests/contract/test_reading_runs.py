"""A run is read without being begun: from its checkpoint's structure alone, once for each save."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tiny
from jax.flatten_util import ravel_pytree

from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.learning.ppo import PPOState
from isthmus.methods.registry import METHODS, find_learner, find_method
from isthmus.training import checkpoint
from isthmus.training.run import Run

LEARNERS = ("ppo", "recurrent_ppo", "trpo", "sac")


@pytest.fixture
def trained() -> Callable[[str], Run]:
    """A run of a method, trained once a session."""
    return tiny.trained


def forbid(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Let anything that begins a run, or moves a world, fail."""

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("a run was begun to read another")

    for moves in ("step", "begin", "restore"):
        monkeypatch.setattr(PhysicsSimulation, moves, fail)
    monkeypatch.setattr(SteppedWorlds, "begin", fail)
    monkeypatch.setattr(find_method(method), "init", fail)
    for learner in LEARNERS:
        monkeypatch.setattr(find_learner(learner), "init", fail)


@pytest.mark.parametrize("method", tiny.each(METHODS))
def test_a_run_is_read_without_being_begun(trained, monkeypatch, method):
    run = trained(method)
    forbid(monkeypatch, method)
    opened = Run.open(run.folder)
    assert checkpoint.digest(opened.state()) == run.digest
    assert opened.policy is opened.policy and opened.source_policy is opened.source_policy
    assert opened.behaviour is not None
    best = Run.open(f"{run.folder}@best")
    assert checkpoint.digest(best.state()) == best.digest


def test_what_is_written_to_a_state_stays_with_the_caller(trained):
    run = trained("source_only")
    run.state().worlds.rows[:] = 0
    assert checkpoint.digest(run.state()) == run.digest


def as_older(state: Any) -> Any:
    """The state of PPO as an older version had it: one Adam of policy and critic, one array."""

    def join(node: Any) -> Any:
        if not isinstance(node, PPOState):
            return node
        clip, (of_policy, rate) = node.optimizer.policy
        _, (of_critic, _) = node.optimizer.critic
        networks = node.networks
        _, policy_tree = ravel_pytree((networks.actor, networks.log_std))
        _, critic_tree = ravel_pytree(networks.critic)

        def both(policy: Any, critic: Any) -> Any:
            actor, log_std = policy_tree(policy)
            whole = networks._replace(actor=actor, log_std=log_std, critic=critic_tree(critic))
            return ravel_pytree(whole)[0]

        mu, nu = both(of_policy.mu, of_critic.mu), both(of_policy.nu, of_critic.nu)
        return node._replace(optimizer=(clip, (of_policy._replace(mu=mu, nu=nu), rate)))

    return jax.tree.map(join, state, is_leaf=lambda x: isinstance(x, PPOState))


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize(
    "method", ["fine_tuning", "garat", "learned_reward", "matlf", "darc", "dap"]
)
def test_a_run_of_an_older_version_is_read_too(trained, monkeypatch, tmp_path, method, structured):
    """The oldest checkpoints hold no structure, and PPO had one optimizer."""
    run = trained(method)
    load, likes = checkpoint.load, []

    def watched(path: Path, like: Any, *rest: Any, **named: Any) -> Any:
        likes.append(like)
        return load(path, like, *rest, **named)

    monkeypatch.setattr(checkpoint, "load", watched)
    older = tmp_path / "run"
    shutil.copytree(run.folder, older)
    path, _ = run.checkpoint()
    extra = checkpoint.read_extra(path)
    checkpoint.save(older / "checkpoints", as_older(run.state()), extra=extra, name=10**6)
    if not structured:
        monkeypatch.setattr(checkpoint, "has_structure", lambda *_: False)
    likes.clear()
    assert checkpoint.digest(Run.open(older).state()) == run.digest
    assert (likes[0] is None) == structured


def test_a_checkpoint_is_read_once_and_a_newer_one_anew(monkeypatch, tmp_path):
    run = tiny.train("source_only", tmp_path / "run", 3)
    opened = Run.open(run.folder)
    state = opened.state()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "load", lambda *_, **__: pytest.fail("it was read again"))
        assert checkpoint.digest(opened.state()) == checkpoint.digest(state)
        assert opened.policy is opened.policy
    policy, newer = opened.policy, state._replace(round=np.int64(state.round + 1))
    extra = checkpoint.read_extra(opened.checkpoint()[0])
    checkpoint.save(run.folder / "checkpoints", newer, extra=extra, name=10**6)
    assert int(opened.state().round) == int(state.round) + 1
    assert opened.policy is not policy
    checkpoint.save(run.folder / "checkpoints", state, extra=extra, name=10**6)
    assert int(opened.state().round) == int(state.round), "the same name, another content"


def test_what_a_command_reads_of_a_run_begins_nothing(trained, monkeypatch, capsys, tmp_path):
    """An audit of a log by a run's policy computes no physics for the run itself."""
    from isthmus.cli.main import main

    run = trained("darc")
    begun = []
    init = find_method("darc").init
    monkeypatch.setattr(
        find_method("darc"), "init", lambda *given: begun.append(given) or init(*given)
    )
    log = tiny.log("hopper/gravity=x2")
    main(["audit", "hopper/gravity=x2", "--data", log, "--policy", str(run.folder)])
    assert begun == [] and capsys.readouterr().out


def test_a_class_of_ones_own_is_found_by_its_file(tmp_path):
    """The method's file lies elsewhere when the run is read; without it, a line says what to do."""
    code = (
        "from typing import Any, NamedTuple\n"
        "from dataclasses import dataclass\n"
        "from isthmus.methods.single_domain import SourceOnly\n"
        "class Wrapped(NamedTuple):\n    inner: Any\n"
    )
    first, second = tmp_path / "one" / "mine.py", tmp_path / "two" / "mine.py"
    for path in (first, second):
        path.parent.mkdir()
        path.write_text(code)
    import sys

    from isthmus.tasks.imports import import_files

    import_files([str(first)])
    module = next(m for name, m in sys.modules.items() if name.endswith("one_mine_py"))
    path = checkpoint.save(tmp_path, {"a": module.Wrapped(np.arange(3))}, extra={}, name=1)
    assert str(tmp_path) not in (path / "manifest.json").read_text(), "no path of this machine"
    del sys.modules[module.__name__]
    with pytest.raises(checkpoint.CheckpointError, match=r"mine:Wrapped .* name with --import"):
        checkpoint.load(path)
    import_files([str(second)])
    tree, _ = checkpoint.load(path)
    assert type(tree["a"]).__name__ == "Wrapped" and tree["a"].inner.tolist() == [0, 1, 2]
