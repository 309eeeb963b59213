"""Measures of a run that MATL's claims need besides its returns: exploration, how alike two agents
are, a gait.

entropy         of the policy, mean over the first quarter of its rounds, nats
coverage        log determinant of the covariance of the target's states under the run's initial
                behaviour
accuracy        of a fresh classifier that tells the simulator's states from the robot's, on worlds
                that it has not learned from; both agents as they train (stochastic). 0.5: they
                cannot be told apart
visited_return  what the simulator's policy reaches in the source from states that the robot
                visits, moved there
ankle_work      the foot joint's share of all joint work, ankle_range its share of the joints'
                ranges of motion, speed in m/s: the deployed policy in the target (for source_only
                in the source)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import rollout_episodes, rollout_steps
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.evaluation.evaluate import SEED
from isthmus.logs.record import Deterministic
from isthmus.physics.random import keys
from isthmus.studies.results import Row, measure_row
from isthmus.tasks.task import SimView
from isthmus.training.run import Run
from isthmus.types import Transition, Worlds

WORLDS, MAX_STEPS = 32, 250  # of a rollout
LEGGED_TASKS = ("hopper",)


class _Agents(NamedTuple):
    """The states of a run's learners: the robot's, and the simulator's where there is one."""

    robot: Any
    simulator: Any
    trained_together: bool


def measure_matl_run(run: Run, reference: Run | None) -> list[Row]:
    """Return the rows of a trial's file; `reference` is the run whose policy is the simulator's
    agent, where the run has none.
    """
    measures = _measure_entropy(run)
    if run.name != "source_only":
        measures["coverage"] = _measure_coverage(run)
    agents = _find_agents(run, reference)
    if agents.simulator is not None:
        measures |= _compare_agents(run, agents)
    if run.problem.evaluation_target.task in LEGGED_TASKS:
        measures |= _measure_gait_of_policy(run)
    return [measure_row(key, value) for key, value in measures.items()]


def _find_agents(run: Run, reference: Run | None) -> _Agents:
    state = run.state().learner
    if hasattr(state, "robot"):
        return _Agents(state.robot, state.simulator, True)
    return _Agents(state, reference.state().learner if reference else None, False)


def _measure_entropy(run: Run) -> dict[str, float]:
    entropies = [line["entropy"] for line in run.metrics() if "entropy" in line]
    if not entropies:
        return {}
    first_quarter = -(-len(entropies) // 4)
    return {"entropy": float(np.mean(entropies[:first_quarter]))}


def _measure_coverage(run: Run) -> float:
    first = run.initial().learner
    behaviour = run.method.learner.behaviour(getattr(first, "robot", first))
    states = _flatten(_visit_states(run.problem.evaluation_target, behaviour).observations)
    spread = np.cov(states.T) + 1e-6 * np.eye(states.shape[-1])
    return float(np.linalg.slogdet(spread)[1])


def _compare_agents(run: Run, agents: _Agents) -> dict[str, float]:
    """Return how alike two agents' states are, and what the simulator's is worth where the robot
    goes.
    """
    learner, problem = run.method.learner, run.problem
    source, target = problem.source, problem.evaluation_target
    visited = _visit_states(target, learner.behaviour(agents.robot))
    simulated = _visit_states(source, learner.behaviour(agents.simulator))
    measures = {"accuracy": measure_accuracy(simulated.observations, visited.observations)}
    if agents.trained_together and source.engine == target.engine:
        moved = move_worlds(target, source, visited.worlds)
        episodes = rollout_episodes(source, moved, learner.policy(agents.simulator))
        measures["visited_return"] = float(episodes.returns.mean())
    return measures


def _measure_gait_of_policy(run: Run) -> dict[str, float]:
    problem = run.problem
    domain = problem.source if run.name == "source_only" else problem.evaluation_target
    worlds = domain.worlds(WORLDS, SEED + 2)
    _, transitions = rollout_steps(domain, worlds, Deterministic(run.policy), MAX_STEPS)
    return measure_gait(transitions)


class _Visit(NamedTuple):
    """Observations [T, N, O], and the worlds at ten moments on the way."""

    observations: np.ndarray
    worlds: list[Worlds]


def _visit_states(domain: Domain, behaviour: Any) -> _Visit:
    """Roll a behaviour out and return the states that it visits."""
    steps = max(1, min(domain.time_limit, MAX_STEPS) // 10)
    worlds = domain.worlds(WORLDS, SEED + 2)
    observations: list[np.ndarray] = []
    moments: list[Worlds] = []
    for _ in range(10):
        worlds, transitions = rollout_steps(domain, worlds, behaviour, steps)
        observations.append(transitions.obs)
        moments.append(worlds)
    return _Visit(np.concatenate(observations), moments)


def _flatten(states: np.ndarray) -> np.ndarray:
    """Return states [T, N, O] as rows [T N, O]."""
    return states.reshape(-1, states.shape[-1])


def measure_accuracy(first: np.ndarray, second: np.ndarray, steps: int = 500) -> float:
    """Return how well a fresh MLP tells two agents' states [T, N, O] apart in the second half of
    the worlds, which it has not learned from: the mean of both agents' shares of states told right.
    """
    import jax

    from isthmus.learning.sequence_discriminator import SequenceDiscriminator

    half, discriminator = first.shape[1] // 2, SequenceDiscriminator(steps=steps)

    def learn(state: Any, worlds: slice, seed: int) -> tuple[Any, Any]:
        batches = _flatten(first[:, worlds]), _flatten(second[:, worlds])
        return discriminator.learn(state, *batches, jax.random.key(seed))

    state = discriminator.init(first.shape[-1], jax.random.key(0))
    state, _ = learn(state, slice(None, half), 1)
    _, metrics = learn(state, slice(half, None), 2)
    return metrics["discriminator_accuracy"]


def move_worlds(target: Domain, source: Domain, visited: list[Worlds]) -> Worlds:
    """Return worlds of the source in the configurations of the target's worlds, an episode each
    from there.
    """
    qpos: list[np.ndarray] = []
    qvel: list[np.ndarray] = []
    for worlds in visited:
        simulator = _simulation(SteppedWorlds.resume(target, worlds, "play")).simulator
        qpos.append(np.array(simulator.qpos))
        qvel.append(np.array(simulator.qvel))
    positions, velocities = np.concatenate(qpos), np.concatenate(qvel)
    stepped = SteppedWorlds.new(source, keys(SEED + 3, len(positions)), purpose="play")
    simulation = _simulation(stepped)
    simulation.simulator.reset(stepped.all, positions, velocities)
    view = SimView(simulation.simulator, stepped.all)
    stepped.state["observation"][:] = simulation.task.observe(view)
    stepped.state["task_memory"][:] = simulation.task.remember(view)
    return stepped.worlds()


def _simulation(stepped: SteppedWorlds) -> Any:
    """Return a simulation whose engine has `qpos` and `qvel`, which no contract asks for."""
    return stepped.simulation


def measure_gait(transitions: Transition) -> dict[str, float]:
    """Return, of Hopper's transitions [T, N], the foot's share of sum |a w| over the joints, whose
    motors are alike, and of the joints' ranges (5 % to 95 % of their angles), and the speed.
    """
    joint_speeds = transitions.next_obs[..., -3:]
    work = np.abs(transitions.action * joint_speeds).sum((0, 1))
    speed = transitions.next_obs[..., 5].mean()
    angles = transitions.next_obs[..., 2:5].reshape(-1, 3)
    ranges = 1e-9 + np.ptp(np.quantile(angles, (0.05, 0.95), axis=0), axis=0)
    return {
        "ankle_work": float(work[2] / work.sum()),
        "ankle_range": float(ranges[2] / ranges.sum()),
        "speed": float(speed),
    }
