"""Hidden robots for the coverage of a fit's intervals: parameters drawn, a log of them, its noise.

A log is of a scripted excitation: each joint swings at its own frequency, from a phase that each
episode draws, and a part of the command is drawn at each step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.parse import parse_domain
from isthmus.identification.log_space import WHOLE_ROBOT
from isthmus.logs.log import Log
from isthmus.logs.record import record_log
from isthmus.types import Array, Decision

LARGEST_FACTOR = 2.0  # parameters are drawn log-uniformly in 1 / 2 .. 2 of their defaults
FEWEST, MOST = 4, 6  # parameters that are drawn
SWING = 0.6  # of the action's range; the rest is drawn at each step
FREQUENCIES = 0.5, 3.0  # Hz
COMMON_FACTOR = frozenset({"density", "damping", "armature", "motor_strength"})
"""Of a robot without springs, scaled together they change nothing; no log tells their factor."""
WITHOUT_SPRINGS = ("hopper", "walker2d")


class HiddenRobot(NamedTuple):
    """A robot whose parameters a fit is to find: factors on the defaults, by name."""

    task: str
    factors: dict[str, float]

    @property
    def domain(self) -> str:
        """Return the robot as a domain's text."""
        settings = [f"{name}=x{factor:.8g}" for name, factor in self.factors.items()]
        return f"{self.task}/{','.join(settings)}"

    @property
    def untold(self) -> frozenset[str]:
        """Return the parameters that no log of this robot can tell."""
        if self.task in WITHOUT_SPRINGS and self.factors.keys() >= COMMON_FACTOR:
            return COMMON_FACTOR
        return frozenset()


def draw_robot(task: str, seed: int) -> HiddenRobot:
    """Draw which parameters differ, and by what factors."""
    rng = np.random.default_rng([seed, 1])
    count = int(rng.integers(FEWEST, MOST + 1))
    chosen = rng.permutation(len(WHOLE_ROBOT))[:count]
    factors = np.exp(rng.uniform(-1.0, 1.0, count) * np.log(LARGEST_FACTOR))
    names = [WHOLE_ROBOT[i] for i in sorted(chosen)]
    return HiddenRobot(task, dict(zip(names, factors.tolist(), strict=True)))


class Swinging(NamedTuple):
    """Joints that swing at `turns` [A] a step within `reach` [A]; its memory is their phase."""

    turns: Any
    reach: Any

    def memory(self) -> Any:
        """Return a phase that is yet to be drawn: NaN."""
        return np.full(self.turns.shape, np.nan, np.float32)

    def act(self, memory: Any, observation: Array, key: Array) -> tuple[Decision, Any]:
        """Return the commands (A,) and the next step's phase."""
        import jax
        import jax.numpy as jnp

        phase_key, noise_key = jax.random.split(key)
        drawn = jax.random.uniform(phase_key, self.turns.shape)
        phase = jnp.where(jnp.isnan(memory), drawn, memory)
        noise = jax.random.uniform(noise_key, self.turns.shape, minval=-1.0, maxval=1.0)
        action = SWING * jnp.sin(2 * jnp.pi * phase) + (1 - SWING) * noise
        return Decision(self.reach * action), phase + self.turns


def record_robot(robot: HiddenRobot, transitions: int, noise: float, seed: int) -> Log:
    """Record a log of a robot; `noise` is of each observed number's spread, one draw a reading."""
    domain = parse_domain(robot.domain)
    rng = np.random.default_rng([seed, 2])
    hertz = rng.uniform(*FREQUENCIES, domain.spaces.action)
    reach = np.minimum(-domain.spaces.low, domain.spaces.high).astype(np.float32)
    behaviour = Swinging((hertz * domain.step_seconds).astype(np.float32), reach)
    return add_noise(record_log(domain, behaviour, transitions, seed), noise, rng)


def add_noise(log: Log, share: float, rng: np.random.Generator) -> Log:
    """Return a log whose readings have noise of a share of each number's spread.

    The reading after a step is the one before the next step: it is drawn once.
    """
    if not share:
        return log
    size = share * log.obs.std(axis=0)
    before, after = rng.normal(size=(2, *log.obs.shape)) * size
    joined = np.append(log.episode[1:] == log.episode[:-1], False)
    after = np.where(joined[:, None], np.roll(before, -1, axis=0), after)
    return log._replace(
        obs=(log.obs + before).astype(np.float32),
        next_obs=(log.next_obs + after).astype(np.float32),
    )
