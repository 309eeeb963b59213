"""RLPD, PAR and VGDF: what they learn where it is known how domains differ, s' = s + g a + noise,
with a gain g of 1 in the source and of 1.5 in the target; and what they take of a target.

Means (deviations) over ten seeds, with AVX-512:

    RLPD   Q                                      0.503 (0.009)   0.5
    PAR    deviation, source to target            1.87 (0.12)     above 1
           of large actions to that of small      1.98 (0.08)     above 1
    T_i    mean error of s'                       0.009 (0.003)   0
           spread of the members                  0.011 (0.002)   0
           loss, less the noise's                 0.004 (0.012)   0
"""

# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest
import tiny
from scipy.stats import norm

import isthmus
from isthmus.learning.classifiers import TransitionBatch
from isthmus.learning.dynamics_ensemble import DynamicsEnsemble, DynamicsMoments
from isthmus.learning.ensemble_sac import EnsembleSAC, normalized_relu
from isthmus.learning.networks import normalize_layer
from isthmus.learning.sac import SAC, Learned, SACBatch
from isthmus.methods.par import PAR, measure_deviation
from isthmus.methods.registry import build
from isthmus.methods.rlpd import RLPD
from isthmus.methods.two_replays import Halves, Knowledge, scan_updates
from isthmus.methods.vgdf import VGDF, VGDFContext, VGDFModel
from isthmus.papers.dap.linear_gaussian import NOISE_SD as SD
from isthmus.papers.dap.linear_gaussian import TARGET_GAIN as GAIN
from isthmus.papers.dap.linear_gaussian import draw_uniform as draw
from isthmus.types import BadValue

f32 = np.float32
ROWS, HALF = 20_000, 128
SMALL: dict[str, Any] = {
    "hidden": (32, 32),
    "learning_rate": 3e-3,
    "minibatch": 2 * HALF,
    "capacity": 2 * HALF,
}
STATES = np.linspace(-1, 1, 9, dtype=f32)[:, None]
NAMES = ["rlpd", "par", "vgdf"]


def pay(seen: TransitionBatch, reward: float) -> SACBatch:
    """Return transitions that end their episodes, each with one reward."""
    count = len(seen.obs)
    return SACBatch(*seen[:2], np.full(count, reward, f32), seen.next_obs, np.ones(count, bool))


def draw_halves(n: int, source: SACBatch, target: SACBatch, key: Any) -> Halves:
    """Return n batches of either domain's rows, [n, HALF, ...]."""

    def choose(rows: SACBatch, key: Any) -> SACBatch:
        which = jax.random.randint(key, (n, HALF), 0, len(rows.reward))
        return jax.tree.map(lambda x: x[which], rows)

    first, second = jax.random.split(key)
    return Halves(choose(source, first), choose(target, second))


def learn(method: Any, n: int, seed: int, pays: tuple[float, float], context: Any) -> Any:
    """Return what a method knows after n updates, and mean metrics of the last fifth."""
    random, key = np.random.default_rng(seed), jax.random.key(seed)
    source, target = draw(random, ROWS, 1.0), draw(random, ROWS, GAIN)
    sac = method.learner.init(probes.SPACES, key)
    known = Knowledge(sac.learned, method.init_model(probes.SPACES, sac, key))
    health: dict[str, Any] = {}
    for k in jax.random.split(key, 5):
        halves = draw_halves(n // 5, pay(source, pays[0]), pay(target, pays[1]), k)
        known, health = scan_updates(method, known, halves, context, k)
    return known, {name: float(value) for name, value in health.items()}


@probes.over_seeds
def test_rlpd_believes_both_halves_alike(seeds: range) -> None:
    """Where the source pays 1 and the target 0, and nothing else differs: 0.5."""
    method = RLPD(learner=EnsembleSAC(**SMALL, critics=4))

    def found(seed: int) -> float:
        known, _ = learn(method, 2000, seed, (1.0, 0.0), ())
        q = method.learner.q_values(known.learned.critics, STATES, np.zeros_like(STATES))
        return float(q.mean())

    probes.check(found, seeds, *probes.around([0.5], np.array([0.05])))


def test_layers_are_normalized() -> None:
    x = np.random.default_rng(0).normal(3, 5, (7, 64)).astype(f32)
    found = np.asarray(normalize_layer(x))
    expected = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(normalized_relu(x)), np.maximum(found, 0))


def test_a_target_is_the_least_of_two_critics_drawn_anew() -> None:
    learner = EnsembleSAC(**SMALL, critics=5, asked=2)
    critics = learner.init(probes.SPACES, jax.random.key(0)).learned.critics
    numbered = tuple(
        jax.tree.map(lambda x, i=i: jnp.full_like(x, i), c) for i, c in enumerate(critics)
    )
    asked = set()
    for seed in range(60):
        chosen = learner.choose_targets(numbered, jax.random.key(seed))
        asked.add(tuple(sorted(int(c[0][1][0]) for c in chosen)))
    assert all(len(set(pair)) == 2 for pair in asked)
    assert len(asked) == 10  # each pair of five


def test_the_ensembles_actor_climbs_the_mean() -> None:
    learner = EnsembleSAC(**SMALL, critics=3)
    q = np.array([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]], f32)
    np.testing.assert_allclose(learner.value_of_actor(q), [3, 5])
    np.testing.assert_allclose(SAC().value_of_actor(q), [1, 5])


@probes.over_seeds
def test_par_pays_less_for_what_the_target_does_not_do(seeds: range) -> None:
    """The encoders learn of the target alone; the source's transitions deviate from them, the more
    the larger the action.
    """
    small = {"latent": 8, "encoder_hidden": (32, 32), "encoder_rate": 3e-3}
    method = PAR(learner=SAC(**SMALL), penalty=1.0, **small)

    def found(seed: int) -> list[float]:
        known, _ = learn(method, 2000, seed, (0.0, 0.0), ())
        random = np.random.default_rng(seed + 100)
        of_target = pay(draw(random, ROWS, GAIN), 0.0)
        of_source = pay(draw(random, ROWS, 1.0), 0.0)
        there, here = (
            np.asarray(measure_deviation(known.model.slow, batch))
            for batch in (of_target, of_source)
        )
        size = np.abs(of_source.action[:, 0])
        return [here.mean() / there.mean(), here[size > 0.5].mean() / here[size < 0.5].mean()]

    probes.check(found, seeds, np.array([1.1, 1.1]), np.array([4.0, 4.0]))


def test_par_takes_the_deviation_off_the_sources_reward_alone() -> None:
    method = PAR(learner=SAC(**SMALL), penalty=0.5, latent=4, encoder_hidden=(8,))
    plain = PAR(learner=SAC(**SMALL), penalty=0.0, latent=4, encoder_hidden=(8,))
    random, key = np.random.default_rng(0), jax.random.key(0)
    halves = Halves(pay(draw(random, HALF, 1.0), 1.0), pay(draw(random, HALF, GAIN), 1.0))
    sac = method.learner.init(probes.SPACES, key)
    known = Knowledge(sac.learned, method.init_model(probes.SPACES, sac, key))
    deviates, told = method.update(known, halves, (), key)
    model, _ = method._learn_encoders(known.model, halves.target)
    deviation = np.asarray(measure_deviation(model.slow, halves.source))
    assert told["deviation"] == pytest.approx(deviation.mean(), rel=1e-5)
    by_hand = halves.source._replace(reward=halves.source.reward - 0.5 * deviation)
    same, _ = plain.update(known, halves._replace(source=by_hand), (), key)
    for one, other in zip(jax.tree.leaves(deviates.learned), jax.tree.leaves(same.learned)):
        np.testing.assert_allclose(one, other, atol=1e-6)


def linear_critics(*slopes: float) -> Any:
    """Return critics Q_i(s, a) = s + slope_i a."""
    return tuple(((np.array([[1.0], [slope]], f32), np.zeros(1, f32)),) for slope in slopes)


def believe(learned: Learned, critics: Any) -> Learned:
    """Return what is learned with other critics, slow ones as well, and no temperature."""
    return learned._replace(critics=critics, targets=critics, log_temperature=f32(-20))


@probes.over_seeds
def test_an_ensemble_knows_the_targets_dynamics(seeds: range) -> None:
    """Its members' mean is s + 1.5 a, and their spread is less than the noise."""
    ensemble = DynamicsEnsemble(members=5, hidden=(32,))

    def found(seed: int) -> list[float]:
        random, key = np.random.default_rng(seed), jax.random.key(seed)
        target = draw(random, ROWS, GAIN)
        scales = DynamicsMoments.empty(1, 1).merge(target).scales()
        seen = jax.tree.map(jnp.asarray, target)

        def step(s: Any, key: Any) -> Any:
            which = jax.random.randint(key, (HALF,), 0, ROWS)
            return ensemble.update(s, scales, jax.tree.map(lambda x: x[which], seen), key)

        begun = ensemble.init(1, 1, key)
        s, losses = jax.jit(lambda s: jax.lax.scan(step, s, jax.random.split(key, 3000)))(begun)
        predicted = np.asarray(ensemble.predict(s, scales, seen.obs, seen.action))
        error = np.abs(predicted.mean(0) - (target.obs + GAIN * target.action)).mean()
        # The log likelihood's own terms, of changes divided by their deviation.
        relative = SD / scales.changes.std[0]
        return [error, predicted.std(0).mean(), np.mean(losses[-500:]) - 1 - 2 * np.log(relative)]

    probes.check(found, seeds, np.array([0.0, 0.0, -0.1]), np.array([0.05, 0.1, 0.15]))


def test_vgdf_shares_what_the_target_would_have_done() -> None:
    """With V(s) = s and models that differ by as much everywhere: the quarter whose
    |s' - s - 1.5 a| is least.
    """
    method = VGDF(learner=SAC(**SMALL), dynamics=DynamicsEnsemble(members=3, hidden=(8,)))
    learned = method.learner.init(probes.SPACES, jax.random.key(0)).learned
    learned = believe(learned, linear_critics(0.0, 0.0))
    source = draw(np.random.default_rng(0), ROWS, 1.0)
    following = source.obs + GAIN * source.action
    predicted = np.stack([following - 0.1, following, following + 0.1]).astype(f32)
    likelihood = np.asarray(method._judge_values(learned, predicted, source.next_obs))
    gap = np.abs(source.next_obs - following)[:, 0]
    deviation = np.std([-0.1, 0.0, 0.1])
    by_hand = norm.logpdf(gap, 0, deviation)
    np.testing.assert_allclose(likelihood, by_hand, rtol=2e-3, atol=2e-3)
    likeliest = likelihood >= np.quantile(likelihood, 0.75)
    assert np.abs(source.action)[likeliest].mean() == pytest.approx(0.403, abs=0.02)
    assert np.abs(source.action).mean() == pytest.approx(0.5, abs=0.02)


def test_vgdf_shares_all_before_its_warm_up_and_a_quarter_after() -> None:
    method = VGDF(
        learner=SAC(**SMALL), dynamics=DynamicsEnsemble(members=3, hidden=(8,)), warmup=100
    )
    scales = DynamicsMoments.empty(1, 1).merge(draw(np.random.default_rng(0), 100, GAIN)).scales()
    for steps, share in ((99, 1.0), (100, 0.25)):
        _, told = learn(method, 10, 0, (1.0, 0.0), VGDFContext(np.int32(steps), scales))
        assert told["shared"] == pytest.approx(share)


def test_vgdfs_explorer_climbs_the_greater_critic() -> None:
    """Where Q_1 = s + a and Q_2 = s - a, the greater is s + |a|: it goes to a bound; pi would
    stay.
    """
    method = VGDF(learner=SAC(**SMALL), dynamics=DynamicsEnsemble(members=2, hidden=(8,)))
    key = jax.random.key(0)
    sac = method.learner.init(probes.SPACES, key)
    model: VGDFModel = method.init_model(probes.SPACES, sac, key)
    learned = believe(sac.learned, linear_critics(1.0, -1.0))
    explore = jax.jit(method._explore)
    for k in jax.random.split(key, 400):
        model = explore(model, learned, STATES, jax.random.normal(k, (len(STATES), 1)))
    explorer = method.learner.policy(sac._replace(learned=learned._replace(actor=model.explorer)))
    chosen = np.array([explorer.act((), s)[0][0] for s in STATES])
    assert (np.abs(chosen) > 0.8).all()


@pytest.mark.parametrize("name", NAMES)
def test_online_takes_a_step_of_the_target_for_every_ten(name: str, tmp_path: Any) -> None:
    run = tiny.train(name, tmp_path / name)
    s = run.state()
    assert s.usage.transitions == s.source_steps // 10
    assert s.learner.target.size == s.usage.transitions


@pytest.mark.parametrize("name", NAMES)
def test_a_log_takes_nothing_of_the_target(name: str, tmp_path: Any) -> None:
    text = "hopper/gravity=x2"
    problem = isthmus.problem(text, access="dataset", data=tiny.log(text))
    run = tiny.train(name, tmp_path / name, problem=problem)
    assert run.state().usage.transitions == 0
    assert run.state().learner.target is None


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("rlpd", {"learner.asked": 11}, "ask no more than all"),
        ("rlpd", {"learner.minibatch": 33}, "half is the target's"),
        ("par", {"penalty": -0.1}, "penalty"),
        ("par", {"learner": "ppo"}, "leave learner=sac"),
        ("vgdf", {"share": 1.0}, "share"),
        ("vgdf", {"target_interval": 0}, "target_interval"),
    ],
)
def test_what_cannot_be_is_refused(name: str, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(BadValue, match=told):
        build(name, settings)
