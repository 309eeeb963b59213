"""Domain randomization whose motors are disturbed as well: random force injection.

input: source, what is believed of the target, strength
    repeat:
1.      collect in the source, dynamics drawn per task from what is believed of the target;
        what is applied is a + strength h e, e ~ N(0, I), h half the range of each motor
2.      learn, from a: the disturbance is part of the world
    deploy as it is

After Valassakis, Ding and Johns 2020, "Crossing the gap" (arXiv 2008.06686), who push the robot's
joints; here the push goes through its motors.
"""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge, Le

from isthmus.domains.rollout import rollout_steps
from isthmus.learning.keys import beside
from isthmus.methods.method import State, learn
from isthmus.methods.registry import register_method
from isthmus.methods.single_domain import DomainRandomization


class DisturbedBehaviour(NamedTuple):
    """A behaviour, of one world, whose actions are disturbed before they reach the motors."""

    behaviour: Any
    strength: float
    low: Any  # (A,)
    high: Any  # (A,)

    def memory(self):
        return self.behaviour.memory()

    def act(self, memory, observation, key):
        decision, memory = self.behaviour.act(memory, observation, key)
        noise = jax.random.normal(beside(key), decision.action.shape)
        push = self.strength * 0.5 * (self.high - self.low) * noise
        applied = jnp.clip(decision.action + push, self.low, self.high)
        return decision._replace(applied=applied), memory


@register_method("force_injection", learners="PPO, TRPO, SAC", citation="Valassakis et al. 2020")
@dataclass(frozen=True)
class ForceInjection(DomainRandomization):
    """Domain randomization under pushes that the policy does not choose."""

    strength: Annotated[float, Ge(0), Le(10)] = 0.2  # checked when an instance is made

    def step(self, problem, s: State):
        domain = self.trained_in(problem)
        behaviour = DisturbedBehaviour(
            self.behaviour(s), self.strength, domain.spaces.low, domain.spaces.high
        )
        # 1.
        _, steps = self.learner.rollout_shape
        worlds, transitions = rollout_steps(domain, s.worlds, behaviour, steps)
        # 2.
        s, metrics = learn(self.learner, s, s.worlds, worlds, transitions)
        return s._replace(source_steps=s.source_steps + transitions.reward.size), metrics
