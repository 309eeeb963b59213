"""A dual action policy by inverse dynamics: ours, as well as DAP's own (`dap.py`, 2410.12250).

Eq. 3's estimator is not the ratio that it stands for where the two actions differ. What a_tgt
should be is known without it: the action that in the target leads from s to the s' that a_src led
to. Nor is a reward needed to find it, for it changes nothing but itself.

    input: source, log of the target, w
1.  g_1..g_N <- inverse models a = g_i(s, s') fitted to the log; pi (SAC), h <- initialize
    repeat:
2.      a_src ~ pi(s) is applied in the source and leads to s'
3.      pi <- SAC with r - w cost(s, s'), g = mean_i g_i(s, s'): what the target cannot be trusted
        to do costs mean_i |g_i - g|^2, the models' disagreement, + |g - clip(g)|^2, what is beyond
        the motors
4.      h <- gradient steps on |h(s, a_src) - clip(g)|^2, over the replay
    deploy a_tgt = h(s, a_src), a_src the mean of pi(s)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import finished_returns, rollout_steps
from isthmus.learning.inverse import InverseModels, InverseState
from isthmus.learning.keys import beside
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.policies import SquashedPolicy, squashed_parameters
from isthmus.learning.sac import SAC, SACBatch, SACState
from isthmus.learning.settings import NonNegativeFloat, NonNegativeInt, Settings
from isthmus.methods.darc import check_learner
from isthmus.methods.logged import log_view
from isthmus.methods.method import MethodDefaults, State, fold_key, start_in_source
from isthmus.problems.problem import Access, Problem
from isthmus.types import Array, BadValue, Metrics

Translation = tuple[MLP, optax.OptState]  # h and its optimizer

FIT_STEPS = 500  # steps a round of line 1, at most
SAC_UPDATES_EACH = 4  # SAC's updates to one of line 4


class DAPInverseState(NamedTuple):
    """What is learned."""

    sac: SACState
    inverse: InverseState
    translator: MLP  # h
    optimizer: optax.OptState


class Cost(NamedTuple):
    """Of transitions (...), squared and summed over the motors."""

    disagreement: Array  # of the models
    beyond: Array  # how far g is beyond -1..1
    correction: Array  # how far g is from a_src


def translate(translator: MLP, obs: Array, action: Array) -> Array:
    """Return h(s, a_src), all in -1..1 and h a little beyond.

    The network is what is added to a_src, which is right where nothing differs.
    """
    return action + mlp(translator, jnp.concatenate([obs, action], -1), jax.nn.relu)


class TranslatedPolicy(NamedTuple):
    """What is deployed: the action that does in the target what the source's did there."""

    source: SquashedPolicy
    translator: MLP

    def memory(self) -> tuple:
        """Return the empty memory."""
        return ()

    def act(self, memory: tuple, observation: Array) -> tuple[Array, tuple]:
        """Return an action (A,) for an observation (O,), and the memory."""
        mean = jnp.tanh(squashed_parameters(self.source.actor, observation)[0])
        return self.source.scaled(translate(self.translator, observation, mean)), memory


@dataclass(frozen=True)
class DAPInverse(Settings, MethodDefaults):
    """As the box. Raises BadValue for a learner other than SAC or a number that cannot be."""

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.DATASET})
    has_source_action: ClassVar[bool] = True
    explores: ClassVar[bool] = True
    learner: SAC = field(default_factory=SAC)
    inverse: InverseModels = field(default_factory=InverseModels)
    fitting: NonNegativeInt = 5_000  # gradient steps
    weight: NonNegativeFloat = 3.0  # w
    hidden: tuple[int, ...] = (256, 256)  # of h

    def __post_init__(self) -> None:
        check_learner(self.learner)
        super().__post_init__()

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(1e-3))

    def trained_in(self, problem: Problem) -> Domain:
        """Return the domain in which the deployed policy learned."""
        return problem.source

    def policy(self, s: State) -> Any:
        """Return the policy that is deployed."""
        return TranslatedPolicy(self.source_policy(s), s.learner.translator)

    def source_policy(self, s: State) -> Any:
        """Return the policy that acts in the source."""
        return self.learner.policy(s.learner.sac)

    def behaviour(self, s: State) -> Any:
        """Return the behaviour that collects, which explores."""
        return self.learner.behaviour(s.learner.sac)

    def learner_state(self, s: State) -> Any:
        """Return the learner's part of what is learned."""
        return s.learner.sac

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Do box line 1, but for the fitting; of a `start` of this method h goes on, too."""
        before = start if isinstance(start, DAPInverseState) else None
        s = start_in_source(self.learner, problem.source, seed, before.sac if before else start)
        log, spaces = problem.log(), problem.source.spaces
        inverse = self.inverse.init(log.obs, log.next_obs, spaces.action, fold_key(s.key, 5))
        sizes = (spaces.observation + spaces.action, *self.hidden, spaces.action)
        translator = init_mlp(fold_key(s.key, 6), sizes, 0.01)
        if before:
            if jax.tree.map(np.shape, before.translator) != jax.tree.map(np.shape, translator):
                raise BadValue(
                    "the run to start from has an h of other shapes; set the same hidden"
                )
            translator = before.translator
        return s._replace(
            learner=DAPInverseState(s.learner, inverse, translator, self._adam.init(translator))
        )

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do a round of box line 1's fitting, then of lines 2 to 4."""
        if s.phase == 0 and s.round * FIT_STEPS < self.fitting:
            return self._fit(problem, s)
        if s.phase == 0:
            s = s._replace(phase=np.int64(1), round=np.int64(0))
        key = fold_key(s.key, 1, int(s.phase), int(s.round))
        # 2.
        worlds, tr = rollout_steps(problem.source, s.worlds, self.behaviour(s), self.learner.steps)
        # 3.
        cost = self.cost(s.learner.inverse, tr.obs, tr.extra["sample"], tr.next_obs)
        charge = np.float32(self.weight) * np.asarray(cost.disagreement + cost.beyond)
        charged = tr._replace(reward=tr.reward - charge)
        sac, metrics = self.learner.learn(s.learner.sac, charged, key)
        learned = s.learner._replace(sac=sac)
        # 4.
        if self.learner.ready(sac):
            n = max(1, tr.reward.size // SAC_UPDATES_EACH)
            learned, metrics["translation_error"] = self._learn_translator(learned, n, key)
        metrics |= {name: float(x.mean()) for name, x in cost._asdict().items()}
        returns = finished_returns(s.worlds, tr)
        metrics["episodes"] = float(len(returns))
        if len(returns):
            metrics["training_return"] = float(returns.mean())
        return s._replace(
            learner=learned,
            worlds=worlds,
            round=np.int64(s.round + 1),
            source_steps=np.int64(s.source_steps + tr.reward.size),
        ), metrics

    def _fit(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do a part of box line 1: at most FIT_STEPS gradient steps."""
        log = log_view(problem).old
        key = fold_key(s.key, 1, int(s.phase), int(s.round))
        n = min(FIT_STEPS, self.fitting - int(s.round) * FIT_STEPS)
        inverse, error = self.inverse.fit(
            s.learner.inverse, n, log.obs, log.next_obs, log.action, key
        )
        s = s._replace(learner=s.learner._replace(inverse=inverse), round=np.int64(s.round + 1))
        return s, {"inverse_error": float(error)}

    @partial(jax.jit, static_argnums=0)
    def cost(self, inverse: InverseState, obs: Array, action: Array, next_obs: Array) -> Cost:
        """Return the cost of transitions (..., O)."""
        actions = self.inverse.actions(inverse, obs, next_obs)
        g = actions.mean(0)
        return Cost(
            actions.var(0).sum(-1),
            jnp.square(g - jnp.clip(g, -1, 1)).sum(-1),
            jnp.square(g - action).sum(-1),
        )

    def _learn_translator(
        self, learned: DAPInverseState, n: int, key: Array
    ) -> tuple[DAPInverseState, float]:
        """Do box line 4, n times; also return the mean squared error."""
        batches = self.learner.draw(learned.sac.replay, n, beside(key))
        (translator, optimizer), error = self._translate(
            (learned.translator, learned.optimizer), learned.inverse, batches
        )
        return learned._replace(translator=translator, optimizer=optimizer), float(error)

    @partial(jax.jit, static_argnums=0)
    def _translate(
        self, carry: Translation, inverse: InverseState, batches: SACBatch
    ) -> tuple[Translation, Array]:
        """Do box line 4 on each of the batches [n, B, ...].

        Returns h and its optimizer, and the mean squared error.
        """
        carry, errors = jax.lax.scan(partial(self._descend, inverse), carry, batches)
        return carry, errors.mean()

    def _descend(
        self, inverse: InverseState, carry: Translation, batch: SACBatch
    ) -> tuple[Translation, Array]:
        """Do box line 4 on a batch (B, ...)."""
        translator, optimizer = carry
        actions = self.inverse.actions(inverse, batch.obs, batch.next_obs)
        g = jnp.clip(actions.mean(0), -1.0, 1.0)

        def loss(network: MLP) -> Array:
            return jnp.square(translate(network, batch.obs, batch.action) - g).mean()

        error, gradient = jax.value_and_grad(loss)(translator)
        change, optimizer = self._adam.update(gradient, optimizer)
        return (optax.apply_updates(translator, change), optimizer), error
