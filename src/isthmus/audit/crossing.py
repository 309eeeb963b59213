"""How much any second action could give: an oracle that knows both domains picks, at each step in
the target, the action whose next state is nearest to where the policy's would have led in the
source.

A policy that is to cross a shift by acting otherwise can do no better, step by step, than this one.
Nearest is by least squares over what is observed, by Gauss-Newton within the motors' bounds, its
Jacobians by finite differences over a batch of worlds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from isthmus.domains.batched import fit_policy
from isthmus.domains.behaviours import PolicyLike
from isthmus.domains.domain import Domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.rollout import act_in_worlds, repeated
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.types import BadValue

NUDGE = 1e-4  # of an action, in half ranges: what a column of the Jacobian is measured by
ITERATIONS, SWEEPS = 5, 30  # of Gauss-Newton; of coordinate descent in each
AT_BOUND = 0.999  # of a half range
CROSSABLE, HOPELESS = 0.8, 0.2  # shares of what the shift costs
SMALLEST_GAP = 0.05  # of the return in the source: a shift that costs less has nothing to cross


class MotorCrossing(NamedTuple):
    """What the oracle does with one motor, actions in -1..1."""

    name: str
    at_bounds: float  # share of the steps
    gap: float  # mean |a_tgt - a_src|
    scale: float  # k of a_tgt = k a_src, by least squares


@dataclass(frozen=True)
class OracleCrossing:
    """Returns of a policy in the source, in the target as it is, and by the oracle's actions, [E]
    each; how far one step leads from the source's, before and after (mean squares, what is observed
    in its own units); and motor by motor what it takes.
    """

    source: str
    target: str
    in_source: np.ndarray
    in_target: np.ndarray
    by_oracle: np.ndarray
    mismatch: float
    best_mismatch: float
    motors: tuple[MotorCrossing, ...]

    @property
    def cost(self) -> float:
        """What the shift takes from the policy's return."""
        return float(self.in_source.mean() - self.in_target.mean())

    @property
    def costs_something(self) -> bool:
        """Whether the shift takes so much of the return that there is something to cross."""
        return self.cost > SMALLEST_GAP * abs(self.in_source.mean())

    @property
    def recovered(self) -> float:
        """Which share of that the oracle's actions give back, where it takes anything."""
        return float(self.by_oracle.mean() - self.in_target.mean()) / self.cost

    @property
    def verdict(self) -> str:
        """Whether a second action can cross the shift, in words."""
        if not self.costs_something:
            return "nothing to cross: the policy loses next to nothing"
        if self.recovered >= CROSSABLE:
            return "crossable by a second action"
        if self.recovered < HOPELESS:
            return "not crossable by a second action"
        return "crossable in part"

    def lines(self) -> list[str]:
        """Return what was found as lines of text."""
        from isthmus.audit.text import format_crossing

        return format_crossing(self)


def measure_crossing(
    source: Domain,
    target: Domain,
    policy: PolicyLike,
    episodes: int = 8,
    seed: int = 0,
    steps: int | None = None,
) -> OracleCrossing:
    """Play a policy in the source, in the target, and there by the oracle's actions.

    `steps` cuts the episodes (None: the task's own limit). Raises BadValue for domains that are not
    of one engine whose worlds can be put back, or that delay, lag or blur.
    """
    _check(source, target)
    steps = min(steps or source.time_limit, source.time_limit)
    in_source = _Player(source, policy, episodes, seed).play(steps, None)
    in_target = _Player(target, policy, episodes, seed).play(steps, None)
    player = _Player(target, policy, episodes, seed)
    oracle = _Oracle(source, target, player.live, seed)
    by_oracle = player.play(steps, oracle)
    return OracleCrossing(
        source=str(source),
        target=str(target),
        in_source=in_source,
        in_target=in_target,
        by_oracle=by_oracle,
        mismatch=float(np.concatenate(oracle.before).mean()),
        best_mismatch=float(np.concatenate(oracle.after).mean()),
        motors=oracle.motors(),
    )


def _check(source: Domain, target: Domain) -> None:
    for domain in (source, target):
        if not domain.replayable:
            raise BadValue(
                f"{domain}: its worlds cannot be put back; a crossing is measured in MuJoCo"
            )
        if effects := domain.effect_chain().effects:
            raise BadValue(
                f"{domain} has {effects[0]}, which a single step does not show; leave out its "
                "delays, lags and noise to ask what its dynamics allow"
            )
    if source.engine != target.engine:
        raise BadValue(
            f"{source} and {target} are of two engines; a crossing is measured within one"
        )


class _Player:
    """A policy in E worlds of a domain, whose actions something else may replace."""

    def __init__(self, domain: Domain, policy: PolicyLike, episodes: int, seed: int):
        worlds = domain.worlds(episodes, seed)
        self.live = SteppedWorlds.resume(domain, worlds, purpose="play")
        self.policy = fit_policy(policy, domain)
        self.memory = repeated(self.policy.memory(), episodes)

    def play(self, steps: int, oracle: _Oracle | None) -> np.ndarray:
        """Play an episode in each world, not longer than `steps`; return the returns [E]."""
        ended = np.zeros(len(self.live.all), bool)
        for _ in range(steps):
            observed = self.live.state["observation"].astype(np.float32)
            action, self.memory = act_in_worlds(self.policy, self.memory, observed)
            if oracle:
                action = oracle.choose(action, ~ended)
            living = np.flatnonzero(~ended)
            outcome = self.live.step(living, commanded=action[living])
            ended[living] = outcome.terminated | outcome.truncated
            if ended.all():
                break
        return self.live.state["returns"].copy()


class _Oracle:
    """Picks a_tgt for E worlds of the target, by C = A + 1 probes of each that step at once."""

    def __init__(self, source: Domain, target: Domain, live: SteppedWorlds, seed: int):
        self.live, episodes = live, len(live.all)
        self.low, self.high = target.spaces.low, target.spaces.high
        self.num_motors = len(self.low)
        self.candidates = self.num_motors + 1
        self.in_source = _build(source, episodes)
        self.in_target = _build(target, episodes * self.candidates)
        self.source_parameters = source.worlds(episodes, seed).parameters
        self.target_parameters = live.state["parameters"].repeat(self.candidates, axis=0)
        self.before: list[np.ndarray] = []  # squared distances of the next states, by a_src
        self.after: list[np.ndarray] = []  # by a_tgt
        self.wanted: list[np.ndarray] = []  # a_src, in -1..1
        self.chosen: list[np.ndarray] = []  # a_tgt

    def choose(self, action: np.ndarray, living: np.ndarray) -> np.ndarray:
        """Return the actions [E, A] that lead nearest to where `action` [E, A] would in the source;
        `living` [E] are the worlds that count.
        """
        center, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        wanted = np.clip((action - center) / half, -1.0, 1.0).astype(float)
        goal = self._step_source(center + half * wanted)
        best = wanted
        first = np.square(self._probe(wanted[:, None], goal)[:, 0]).sum(-1)
        for _ in range(ITERATIONS):
            jacobian, residual = self._differentiate(best, goal)
            step = solve_box(jacobian, residual, -1.0 - best, 1.0 - best)
            best = self._search(best, step, goal)
        last = np.square(self._probe(best[:, None], goal)[:, 0]).sum(-1)
        self.before.append(first[living])
        self.after.append(last[living])
        self.wanted.append(wanted[living])
        self.chosen.append(best[living])
        return (center + half * best).astype(np.float32)

    def _step_source(self, action: np.ndarray) -> np.ndarray:
        self.in_source.restore(self.live.simulation.rows, self.source_parameters)
        return _step(self.in_source, self.live.state["task_memory"], action)

    def _probe(self, actions: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Return how far actions [E, c, A] in -1..1 lead from the goal [E, O], as [E, C, O]; the
        last of fewer than C is tried several times.
        """
        missing = self.candidates - actions.shape[1]
        actions = np.concatenate([actions, actions[:, -1:].repeat(missing, axis=1)], axis=1)
        flat = actions.reshape(-1, self.num_motors)
        center, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        rows = self.live.simulation.rows.repeat(self.candidates, axis=0)
        memory = self.live.state["task_memory"].repeat(self.candidates, axis=0)
        self.in_target.restore(rows, self.target_parameters)
        reached = _step(self.in_target, memory, center + half * flat)
        return reached.reshape(len(goal), self.candidates, -1) - goal[:, None]

    def _differentiate(self, action: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the Jacobian [E, O, A] at an action [E, A], and the residual [E, O] there."""
        inward = np.where(action > 0.0, -NUDGE, NUDGE)
        nudged = action[:, None] + np.eye(self.num_motors) * inward[:, None]
        residuals = self._probe(np.concatenate([action[:, None], nudged], axis=1), goal)
        columns = (residuals[:, 1:] - residuals[:, :1]) / inward[..., None]
        return columns.swapaxes(1, 2), residuals[:, 0]

    def _search(self, action: np.ndarray, step: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Return the best of an action and of what halves of the step lead to, in each world."""
        fractions = np.append(0.5 ** np.arange(self.num_motors), 0.0)
        tried = action[:, None] + fractions[:, None] * step[:, None]
        errors = np.square(self._probe(tried, goal)).sum(-1)
        best = np.argmin(errors, axis=1)
        return tried[np.arange(len(action)), best]

    def motors(self) -> tuple[MotorCrossing, ...]:
        """Return what was done with each motor."""
        wanted, chosen = np.concatenate(self.wanted), np.concatenate(self.chosen)
        at_bounds = (np.abs(chosen) >= AT_BOUND).mean(0)
        gap = np.abs(chosen - wanted).mean(0)
        scale = (chosen * wanted).sum(0) / np.maximum(np.square(wanted).sum(0), 1e-12)
        model = self.in_target.simulator.model
        motors = []
        for i in range(self.num_motors):
            name = model.actuator(i).name or f"motor {i}"
            motors.append(MotorCrossing(name, float(at_bounds[i]), float(gap[i]), float(scale[i])))
        return tuple(motors)


def _build(domain: Domain, n: int) -> PhysicsSimulation:
    simulation = domain.build(n)
    assert isinstance(simulation, PhysicsSimulation)  # it is replayable
    return simulation


def _step(simulation: PhysicsSimulation, memory: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Return what is observed after a step; where a world diverged, numbers that nobody picks."""
    everyone = np.arange(len(action))
    outcome = simulation.step(everyone, memory, commanded=action, applied=action)
    return np.nan_to_num(outcome.observation, nan=1e6, posinf=1e6, neginf=-1e6)


def solve_box(
    jacobian: np.ndarray, residual: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return the steps d [E, A] within low..high that minimise |J d + r|^2, for J [E, O, A] and r
    [E, O]: coordinate descent, all E at once.
    """
    hessian = np.einsum("eoi,eoj->eij", jacobian, jacobian)
    gradient = np.einsum("eoi,eo->ei", jacobian, residual)
    diagonal = np.einsum("eii->ei", hessian)
    curvature = diagonal + 1e-9 * (1.0 + diagonal.max(1, keepdims=True))
    step = np.zeros_like(gradient)
    for _ in range(SWEEPS):
        for i in range(step.shape[1]):
            slope = gradient[:, i] + np.einsum("ej,ej->e", hessian[:, i], step)
            moved = step[:, i] - slope / curvature[:, i]
            step[:, i] = np.clip(moved, low[:, i], high[:, i])
    return step
