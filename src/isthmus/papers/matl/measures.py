"""What MATL's claims need to know of a run besides its returns: exploration, how alike two agents
are, a gait.

entropy         of the policy, mean over the first quarter of its rounds, nats
coverage        log determinant of the covariance of the target's states under the run's initial behaviour
accuracy        of a fresh classifier that tells the simulator's states from the robot's, on worlds it has not learned
                from; both agents as they train (stochastic). 0.5: not to be told apart
visited_return  what the simulator's policy reaches in the source from states that the robot visits, moved there
ankle_work      the foot joint's share of all joint work, speed in m/s: the deployed policy in the target (for
                source_only in the source)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import SteppedWorlds, rollout_episodes, rollout_steps
from isthmus.evaluation.evaluate import SEED
from isthmus.logs.datasets import Deterministic
from isthmus.physics.random import keys
from isthmus.studies.study import Row
from isthmus.tasks.task import SimView
from isthmus.training.run import Run
from isthmus.types import Transition, Worlds

WORLDS, MOST = 32, 250  # of a rollout: worlds and steps
LEGS = ("hopper",)


def measure(run: Run, other: Run | None) -> list[Row]:
    """The rows of a unit's file; `other` is the run whose policy is the simulator's agent, where
    the run has none.
    """
    state, learner = run.state().learner, run.method.learner
    problem, target = run.problem, run.problem.evaluation_target
    both = hasattr(state, "robot")
    found: dict[str, float] = {}
    rounds = [row["entropy"] for row in run.metrics() if "entropy" in row]
    if rounds:
        found["entropy"] = float(np.mean(rounds[: -(-len(rounds) // 4)]))
    robot = state.robot if both else state
    simulator = state.simulator if both else other.state().learner if other else None
    if run.name != "source_only":
        first = run.initial().learner
        states = _states(target, learner.behaviour(first.robot if both else first))[0]
        spread = np.cov(states.reshape(-1, states.shape[-1]).T) + 1e-6 * np.eye(states.shape[-1])
        found["coverage"] = float(np.linalg.slogdet(spread)[1])
    if simulator is not None:
        visited, worlds = _states(target, learner.behaviour(robot))
        simulated, _ = _states(problem.source, learner.behaviour(simulator))
        found["accuracy"] = accuracy(simulated, visited)
        if both and problem.source.engine == target.engine:
            moved = move(target, problem.source, worlds)
            found["visited_return"] = float(
                rollout_episodes(problem.source, moved, learner.policy(simulator)).returns.mean()
            )
    if target.task in LEGS:
        where = problem.source if run.name == "source_only" else target
        _, tr = rollout_steps(
            where, where.worlds(WORLDS, SEED + 2), Deterministic(run.policy), MOST
        )
        found |= gait(tr)
    return [("measure", key, "", "", f"{value:.6g}") for key, value in found.items()]


def _states(domain: Domain, behaviour: Any) -> tuple[np.ndarray, list[Worlds]]:
    """Observations [T, N, O] under a behaviour, and the worlds at ten moments on the way."""
    worlds, out, at = domain.worlds(WORLDS, SEED + 2), [], []
    for _ in range(10):
        worlds, tr = rollout_steps(
            domain, worlds, behaviour, max(1, min(domain.time_limit, MOST) // 10)
        )
        out.append(tr.obs)
        at.append(worlds)
    return np.concatenate(out), at


def accuracy(first: np.ndarray, second: np.ndarray, steps: int = 500) -> float:
    """How well a fresh MLP tells two agents' states [T, N, O] apart in the second half of the
    worlds, which it has not learned from: the mean of both agents' shares of states told right.
    """
    import jax

    from isthmus.learning.sequence_discriminator import SequenceDiscriminator

    rows = lambda x: x.reshape(-1, x.shape[-1])
    n, judge = first.shape[1] // 2, SequenceDiscriminator(steps=steps)
    state = judge.init(first.shape[-1], jax.random.key(0))
    state, _ = judge.learn(state, rows(first[:, :n]), rows(second[:, :n]), jax.random.key(1))
    _, told = judge.learn(state, rows(first[:, n:]), rows(second[:, n:]), jax.random.key(2))
    return told["discriminator_accuracy"]


def move(target: Domain, source: Domain, visited: list[Worlds]) -> Worlds:
    """Worlds of the source in the configurations of the target's worlds, an episode each from
    there.
    """
    qpos, qvel = [], []
    for worlds in visited:
        here: Any = SteppedWorlds.resume(target, worlds, "play").simulation
        qpos.append(np.array(here.simulator.qpos))
        qvel.append(np.array(here.simulator.qvel))
    positions, velocities = np.concatenate(qpos), np.concatenate(qvel)
    live = SteppedWorlds.new(source, keys(SEED + 3, len(positions)), purpose="play")
    simulation: Any = live.simulation
    simulation.simulator.reset(live.all, positions, velocities)
    view = SimView(simulation.simulator, live.all)
    live.state["observation"][:] = simulation.task.observe(view)
    live.state["task_memory"][:] = simulation.task.remember(view)
    return live.worlds()


def gait(tr: Transition) -> dict[str, float]:
    """Of Hopper's transitions: the foot's share of sum |a w| over the joints, whose motors are
    alike, and the speed.
    """
    work = np.abs(tr.action * tr.next_obs[..., -3:]).sum((0, 1))
    return {"ankle_work": float(work[2] / work.sum()), "speed": float(tr.next_obs[..., 5].mean())}
