"""Methods: one contract for every row of the table, and what each may touch, counts, and shares
with the others.
"""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
import pytest
import tiny
from tiny import compilations

import isthmus
from isthmus.domains import domain as domains
from isthmus.domains.domain import Domain, RobotDomain
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.rollout import rollout_steps
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.learning import sac as learners
from isthmus.learning.normalization import Moments
from isthmus.learning.ppo import PPO
from isthmus.learning.trpo import TRPO
from isthmus.methods import operators, registry
from isthmus.methods.es_maml import Evolution
from isthmus.methods.method import State
from isthmus.methods.osi import UPOSI
from isthmus.methods.single_domain import SourceOnly, TargetOnly
from isthmus.problems.problem import Access, Budget, Problem, TargetUsage, make_problem
from isthmus.training.checkpoint import digest, load, save
from isthmus.types import BadValue, BudgetExceeded, Transition, UnknownName, Worlds

ROUND = tiny.ROUND
SETTINGS = tiny.SETTINGS
OWN: dict[str, dict[str, Any]] = {
    "few_shot_ppo": {"updates": 2},
    "recurrent_randomization": {"learner.cell": "gru"},
    "rma": {"latents": 3, "encoder": (8,)},
    "garat": {"pretraining": 2 * ROUND, "inner": 2, "updates": 2},
    "learned_reward": {"fitting": 20},
}
"""Where a method is not as in `tiny`."""

ADAPTATION = 2 * 4 * 16  # transitions a target
ROUNDS = 5  # the fine tuning of them: two in the source, three in the target

SOURCE, TARGET = parse_domain("hopper/torso_mass=6"), parse_domain("hopper/torso_mass=3")


def build(name: str, **changed: Any) -> Any:
    """A method of the table, small; `name+learner` with another learner."""
    name, _, learner = name.partition("+")
    chosen = {"learner": learner} if learner else {}
    small = tiny.settings_of(name, chosen) | OWN.get(name, {})
    if "learner.random_steps" in small:
        small["learner.random_steps"] = ROUND
    return registry.build(
        name, chosen | small | {k.replace("__", "."): v for k, v in changed.items()}
    )


def problem_for(method: Any, target: Domain = TARGET, budget: Budget = Budget()) -> Problem:
    access = min(method.accepts)
    data = tiny.log(str(TARGET)) if access == Access.DATASET else None
    return Problem(SOURCE, target, access, budget, uncertainty="torso_mass=1..9", data=data)


def run(
    method: Any, rounds: int, seed: int = 0, problem: Problem | None = None, start: Any = None
) -> State:
    problem = problem or problem_for(method)
    s = method.init(problem, seed, start)
    for _ in range(rounds):
        s, _ = method.step(problem, s)
    return s


def tiny_problem(method: Any) -> Problem:
    """The problem of `tiny`, whose runs in other files need the same programs."""
    access = min(method.accepts)
    data = tiny.log("hopper/gravity=x2") if access == Access.DATASET else None
    return replace(tiny.problem("source_only"), access=access, data=data)


class Trained(NamedTuple):
    name: str
    method: Any
    problem: Problem
    states: list[State]  # before the first round, and after each
    digests: list[str]  # of each, taken when it was new
    metrics: list[dict[str, float]]
    compiled: list[list[Any]]  # in each round


OTHERS = (
    "source_only+trpo",
    "few_shot_ppo+trpo",
    "source_only+sac",
    "up_osi+sac",
    "up_osi+trpo",
    "fine_tuning+sac",
    "few_shot_ppo+sac",
)


@pytest.fixture(scope="module", params=tiny.each([*sorted(registry.METHODS), *OTHERS]))
def trained(request: pytest.FixtureRequest) -> Trained:
    """A run of each method, from cold caches."""
    jax.clear_caches()
    method = build(request.param)
    problem = tiny_problem(method)
    states = [method.init(problem, 0)]
    out = Trained(request.param, method, problem, states, [digest(states[0])], [], [])
    for _ in range(ROUNDS):
        with compilations() as compiled:
            s, metrics = method.step(problem, states[-1])
        states.append(s)
        out.digests.append(digest(s))
        out.metrics.append(metrics)
        out.compiled.append(compiled)
    return out


# The contract, for every method in the table.


def test_the_table_says_what_the_class_is(trained: Trained) -> None:
    row = registry.METHODS[trained.name.partition("+")[0]]
    assert trained.method.accepts == {Access.parse(text) for text in row.access.split(", ")}
    assert type(trained.method.learner).__name__ in row.learners.split(", ")
    assert row.citation
    assert isinstance(trained.method.trained_in(trained.problem), Domain)


def parts(tree: Any, kind: type) -> list[Any]:
    """All of a kind in a tree."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, kind))
    return [leaf for leaf in leaves if isinstance(leaf, kind)]


def batches(name: str, rounds: int) -> int:
    """A batch of random steps and one a round, of source or target; MATL has both, and an inner one
    a round.

    The first round of `dap_inverse` fits its models and steps nothing. Four members of `es_maml`
    take half a batch each; what members play comes on top.
    """
    if name == "evolution":
        return 1
    if name == "dap_inverse":
        return max(1, rounds)
    if name == "matlf" and rounds > 2:  # three batches of its first phase
        return 3 + 3 * (rounds - 2)
    if name in ("es_maml", "maml"):  # two tasks, two rollouts of half a batch each
        return 1 + 2 * rounds
    if name == "learned_reward":  # and one to fit its reward to
        return 2 + 2 * rounds
    return 2 + 3 * rounds if name in ("matl", "matlu", "state_alignment") else 1 + rounds


def test_a_state_is_a_tree_of_finite_arrays(trained: Trained) -> None:
    for s in trained.states:
        for path, leaf in jax.tree_util.tree_flatten_with_path(s)[0]:
            name = jax.tree_util.keystr(path)
            assert isinstance(leaf, np.ndarray | np.generic | jax.Array), name
            assert np.isfinite(np.asarray(leaf)).all(), name


def test_counters_are_wide_and_count_every_step(trained: Trained) -> None:
    for number, s in enumerate(trained.states):
        counters = [s.phase, s.round, s.source_steps, s.usage.transitions, s.usage.episodes]
        counters += [moments.count for moments in parts(s.learner, Moments)]
        for sac in parts(s.learner, learners.SACState):
            counters += [sac.seen, sac.replay.added, sac.replay.merged]
        assert len(counters) > 5 and all(isinstance(c, np.int64) for c in counters)
        assert isinstance(s.usage.seconds, np.float64)
        for worlds in parts(s.worlds, Worlds):
            for name in ("task", "episode", "step", "total", "finished", "diverged"):
                assert getattr(worlds, name).dtype == np.int64
        played = sum(int(metrics.get("played_steps", 0)) for metrics in trained.metrics[:number])
        assert (
            s.source_steps + s.usage.transitions == batches(trained.name, number) * ROUND + played
        )
        if isinstance(trained.method, SourceOnly | TargetOnly) and not isinstance(
            trained.method.learner, learners.SAC
        ):
            crossed = s.usage.transitions if s.phase else 0  # from a crossing on moments stay
            assert s.learner.obs_moments.count == batches(trained.name, number) * ROUND - crossed


def test_metrics_are_numbers(trained: Trained) -> None:
    off_policy = isinstance(trained.method.learner, learners.SAC)
    health = {"entropy", "episodes"} | (
        {"critic_loss", "temperature"} if off_policy else {"explained_variance", "kl"}
    )
    if isinstance(trained.method, Evolution):
        health = {"episodes", "fitness_best", "fitness_sd", "slope", "moved"}
    for metrics, s in list(zip(trained.metrics, trained.states[1:]))[
        trained.name == "dap_inverse" :
    ]:
        if isinstance(trained.method, UPOSI) and s.phase:
            health = {"episodes", "estimation_error", "estimation_spread"}
        assert health <= set(metrics)
        assert all(type(value) is float and np.isfinite(value) for value in metrics.values())
    assert any("training_return" in metrics for metrics in trained.metrics)


def test_learning_changes_the_policy_and_no_state_that_was_handed_in(trained: Trained) -> None:
    assert [digest(s) for s in trained.states] == trained.digests
    states = trained.states[trained.name == "dap_inverse" :]
    if (
        trained.name == "garat"
    ):  # which grounds its simulator in odd phases, and leaves the policy alone
        states = [s for s in states if s.phase % 2 == 0]
    policies = [digest(trained.method.policy(s)) for s in states]
    assert len(set(policies)) == len(policies)


def test_a_policy_acts_within_the_bounds(trained: Trained) -> None:
    policy = trained.method.policy(trained.states[-1])
    spaces = trained.problem.target.spaces
    for observation in (
        np.zeros(spaces.observation, np.float32),
        np.full(spaces.observation, 1e3, np.float32),
    ):
        action, _ = policy.act(policy.memory(), observation)
        action = np.asarray(action)
        assert action.shape == (spaces.action,)
        assert action.dtype == np.float32
        assert (action >= spaces.low).all() and (action <= spaces.high).all()


def test_adapting_gives_one_policy_a_target_or_one_for_all(trained: Trained) -> None:
    method, s = trained.method, trained.states[-1]
    parameters = np.array([[3.0], [6.0]])
    policies, book = method.adapt(s, trained.problem, trained.problem.target, parameters, 7)
    if method.adapts:
        assert len(policies) == 2
    else:
        assert [digest(each) for each in policies] == [digest(method.policy(s))]
        assert book == TargetUsage()
    assert [type(count) for count in book] == [np.int64, np.int64, np.float64]
    assert digest(s) == trained.digests[-1]


def test_a_checkpoint_takes_the_state_and_the_run_goes_on_with_the_same_bits(
    trained: Trained, tmp_path: Path
) -> None:
    s = trained.states[-2]
    path = save(tmp_path, s, extra={}, name=1)
    restored, _ = load(path, s)
    assert digest(restored) == trained.digests[-2]
    assert digest(trained.method.step(trained.problem, restored)[0]) == trained.digests[-1]


def test_the_same_seed_gives_the_same_bits(trained: Trained) -> None:
    assert digest(run(build(trained.name), ROUNDS, problem=trained.problem)) == trained.digests[-1]
    domains._simulation.cache_clear()  # a new engine as well
    assert digest(run(build(trained.name), ROUNDS, problem=trained.problem)) == trained.digests[-1]


def test_another_seed_gives_others(trained: Trained) -> None:
    other = run(trained.method, 1, seed=1, problem=trained.problem)
    assert digest(trained.method.policy(other)) != digest(trained.method.policy(trained.states[1]))
    for mine, theirs in zip(parts(other.worlds, Worlds), parts(trained.states[1].worlds, Worlds)):
        assert digest(mine.rows) != digest(theirs.rows)
    assert (np.asarray(other.key) != np.asarray(trained.states[1].key)).any()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_mujocos_threads_change_no_bit(
    trained: Trained, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_THREADS", threads)
    domains._simulation.cache_clear()
    try:
        assert digest(run(trained.method, ROUNDS, problem=trained.problem)) == trained.digests[-1]
    finally:
        domains._simulation.cache_clear()  # the next test's engines have the usual number again


def test_nothing_compiles_after_the_first_round_of_a_phase(trained: Trained) -> None:
    phases = [int(s.phase) for s in trained.states]
    assert trained.compiled[0]  # the count sees what there is
    for number, compiled in enumerate(trained.compiled):
        if number > 0 and phases[number + 1] == phases[number]:
            assert compiled == [], f"round {number + 1} compiled"


def test_the_count_of_compilations_sees_a_new_shape() -> None:
    with compilations() as found:
        double = jax.jit(lambda x: x * 2)
        for shape in (3, 4):
            double(np.zeros(shape, np.float32))
        double(np.ones(3, np.float32))
    assert len(found) == 2


# What a method must not see.


@dataclass(frozen=True)
class Forbidden(RobotDomain):
    """A target of which only the spaces may be known."""

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("training touched its target")

    simulation = build = worlds = draw = _refuse


class UnpaidSimulation(PhysicsSimulation):
    def step(self, ids, memory, *, commanded, applied):
        result = super().step(ids, memory, commanded=commanded, applied=applied)
        return result._replace(reward=result.reward * np.nan)


@dataclass(frozen=True)
class Unpaid(RobotDomain):
    """A target whose rewards are NaN."""

    def build(self, n: int) -> UnpaidSimulation:
        return UnpaidSimulation(self, n)


def disguised(kind: type[Domain], like: Domain) -> Domain:
    return kind(**{field.name: getattr(like, field.name) for field in fields(Domain)})


@pytest.mark.parametrize("poison", [Forbidden, Unpaid])
@pytest.mark.parametrize(
    "name", ["source_only", "domain_randomization", "up_osi", "rma", "few_shot_ppo", "fine_tuning"]
)
def test_training_in_the_source_never_touches_the_target(name: str, poison: type[Domain]) -> None:
    method = build(name)
    rounds = ROUNDS if isinstance(method, UPOSI) else 2
    poisoned = run(method, rounds, problem=problem_for(method, target=disguised(poison, TARGET)))
    assert poisoned.usage == TargetUsage()
    assert digest(poisoned) == digest(run(method, rounds))


def test_the_poisons_are_poisonous() -> None:
    method = build("target_only")
    with pytest.raises(AssertionError, match="touched its target"):
        run(method, 0, problem=problem_for(method, target=disguised(Forbidden, TARGET)))
    s = run(method, 0, problem=problem_for(method, target=disguised(Unpaid, TARGET)))
    assert np.isnan(s.learner.returns.mean)


# Randomization.


class Recorder(PPO):
    """The learner, and all transitions that it was given."""

    seen: ClassVar[list[Transition]] = []

    def learn(self, s, tr, key):
        self.seen.append(tr)
        return PPO(**vars(self)).learn(s, tr, key)  # not its own: that would compile once more


def transitions_of(name: str, rounds: int) -> Transition:
    method = build(name)
    Recorder.seen.clear()
    run(
        replace(method, learner=Recorder(**vars(method.learner))),
        rounds,
        problem=problem_for(method),
    )
    return jax.tree.map(lambda *x: np.concatenate(x), *Recorder.seen)


def test_randomization_draws_each_episode_from_the_law_and_records_it() -> None:
    tr = transitions_of("domain_randomization", 10)
    mass = tr.parameters[..., 0]
    done = tr.terminated | tr.truncated
    assert done.sum() > 40
    changed = mass[1:] != mass[:-1]
    np.testing.assert_array_equal(changed, done[:-1])
    drawn = np.concatenate([mass[0], mass[1:][changed]])
    assert len(set(drawn)) == len(drawn)
    assert (drawn >= 1).all() and (drawn <= 9).all()
    # Uniform over 1..9: mean 5, sd 8/sqrt(12) = 2.3; four standard errors.
    assert drawn.mean() == pytest.approx(5.0, abs=4 * 2.31 / np.sqrt(len(drawn)))
    assert drawn.min() < 2.5 and drawn.max() > 7.5


def test_the_source_is_what_it_says() -> None:
    np.testing.assert_array_equal(transitions_of("source_only", 2).parameters, 6.0)


def test_without_uncertainty_randomization_is_source_only() -> None:
    certain = Problem(SOURCE, TARGET, Access.NONE)
    plain, randomized = (
        run(build(name), 2, problem=certain) for name in ("source_only", "domain_randomization")
    )
    assert digest(plain) == digest(randomized)


def test_a_privileged_critic_sees_the_draw_and_the_policy_does_not() -> None:
    method = build("domain_randomization", learner__privileged=True)
    s = run(method, 1)
    assert s.learner.networks.critic[0][0].shape[0] == 12
    assert s.learner.networks.actor[0][0].shape[0] == 11
    assert s.learner.parameters.mean[0] == pytest.approx(5, abs=2)
    assert s.learner.parameters.variance[0] > 1
    plain = build("domain_randomization")
    shapes = [jax.tree.map(np.shape, m.policy(t)) for m, t in ((method, s), (plain, run(plain, 1)))]
    assert shapes[0] == shapes[1]


# The meter.


def test_the_book_holds_exactly_what_was_stepped() -> None:
    s = run(build("target_only"), 3)
    assert s.source_steps == 0
    assert s.usage.transitions == 4 * ROUND == s.worlds.total.sum()
    assert s.usage.episodes == s.worlds.episode.sum() > 8
    assert s.usage.seconds == pytest.approx(4 * ROUND * 0.008)  # Hopper: 4 substeps of 2 ms
    assert s.usage.episodes == s.worlds.finished.sum() + 8


@pytest.mark.parametrize(
    ("budget", "rounds"),
    [
        (Budget(transitions=3 * ROUND), 2),
        (Budget(transitions=3 * ROUND - 1), 1),
        (Budget(seconds=3 * ROUND * 0.008 + 1e-9), 2),
        (Budget(seconds=3 * ROUND * 0.008 - 1e-3), 1),
        (Budget(episodes=8), 0),  # the first batch begins others, and refuses the next
    ],
    ids=str,
)
def test_a_budget_grants_a_batch_whole_or_refuses_it_before_anything_moves(
    budget: Budget, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = build("target_only")
    problem = problem_for(method, budget=budget)
    s = run(method, rounds, problem=problem)
    before = digest(s)

    def moved(*args: Any) -> Any:
        raise AssertionError("the refused batch moved the robot")

    monkeypatch.setattr(SteppedWorlds, "step", moved)
    with pytest.raises(BudgetExceeded, match="the target's budget is"):
        method.step(problem, s)
    assert digest(s) == before


def test_a_budget_below_the_first_batch_refuses_the_run() -> None:
    method = build("target_only")
    with pytest.raises(BudgetExceeded, match="127 transitions"):
        method.init(problem_for(method, budget=Budget(transitions=ROUND - 1)), 0)
    with pytest.raises(BudgetExceeded, match="7 episodes"):
        method.init(problem_for(method, budget=Budget(episodes=7)), 0)


@pytest.mark.parametrize("access", [Access.NONE, Access.DATASET])
def test_without_access_the_target_cannot_be_stepped(access: Access) -> None:
    with pytest.raises(BudgetExceeded, match=f"access is {access}"):
        build("target_only").init(Problem(SOURCE, TARGET, access), 0)


# Fine tuning.


def test_fine_tuning_is_source_only_and_goes_on_from_there() -> None:
    tuning = build("fine_tuning")
    problem = problem_for(tuning)
    first = run(build("source_only"), 2, problem=problem)  # 3 batches: `pretraining`
    whole = run(tuning, 2, problem=problem)
    assert digest(whole) == digest(first)
    begun = tuning.init(problem, 0, start=first.learner)
    assert (begun.phase, begun.source_steps, begun.usage.episodes) == (1, 0, 8)
    assert begun.usage.transitions == 0
    for number in (1, 2):
        whole, _ = tuning.step(problem, whole)
        begun, _ = tuning.step(problem, begun)
        assert (whole.phase, whole.round) == (1, number)
        assert digest(whole._replace(source_steps=np.int64(0))) == digest(begun)
    assert whole.source_steps == 3 * ROUND
    assert whole.usage.transitions == 2 * ROUND
    assert digest(whole.worlds.parameters) == digest(np.full((8, 1), 3.0))


def test_a_started_run_keeps_the_weights_and_moments_it_starts_from() -> None:
    first = run(build("source_only"), 2)
    for name in ("source_only", "target_only", "domain_randomization", "fine_tuning"):
        begun = run(build(name), 0, start=first.learner).learner
        kept = ("networks", "obs_moments", "returns")
        assert all(
            digest(getattr(begun, part)) == digest(getattr(first.learner, part)) for part in kept
        )
        assert digest(begun.optimizer) != digest(first.learner.optimizer)


def test_a_fine_tuned_run_opens_where_its_domains_record_different_parameters(
    tmp_path: Path,
) -> None:
    problem = make_problem(
        "hopper/torso_mass=3"
    )  # nothing recorded in the source, the mass in the target
    settings = SETTINGS | {"pretraining": 0}
    folder = isthmus.train(
        "fine_tuning", problem, steps=2 * ROUND, settings=settings, out=tmp_path / "run", quiet=True
    ).folder
    assert isthmus.Run.open(folder).state().phase == 1


# Adaptation.


@pytest.fixture(scope="module")
def randomized() -> State:
    return run(build("few_shot_ppo"), 2)


def adapted(
    s: State, masses: list[float], seed: int = 3, budget: Budget = Budget()
) -> tuple[list[str], TargetUsage]:
    method = build("few_shot_ppo")
    policies, book = method.adapt(
        s, problem_for(method, budget=budget), TARGET, np.array(masses)[:, None], seed
    )
    return [digest(policy) for policy in policies], book


def test_before_adaptation_few_shot_is_randomization(randomized: State) -> None:
    assert digest(run(build("domain_randomization"), 2)) == digest(randomized)


def test_a_target_is_adapted_to_whatever_stands_beside_it(randomized: State) -> None:
    """Each at its own place in the list: a place has its own starts."""
    three, _ = adapted(randomized, [3.0, 5.0, 8.0])
    others, _ = adapted(randomized, [3.0, 8.0])
    alone, _ = adapted(randomized, [3.0])
    second, _ = adapted(randomized, [7.0, 5.0])
    assert len(set(three)) == 3
    assert three[0] == others[0] == alone[0]
    assert three[1] == second[1]
    assert others[1] != three[1]
    assert digest(build("few_shot_ppo").policy(randomized)) not in three


def test_adaptation_is_decided_by_its_seed(randomized: State) -> None:
    assert adapted(randomized, [3.0]) == adapted(randomized, [3.0])
    assert adapted(randomized, [3.0])[0] != adapted(randomized, [3.0], seed=4)[0]


def test_a_seed_may_have_more_bits_than_a_key(randomized: State) -> None:
    found = {*adapted(randomized, [3.0], seed=2**40 + 3)[0]} | {
        *adapted(randomized, [3.0], seed=3)[0]
    }
    assert len(found) == 2, "other worlds"


@pytest.mark.parametrize("learner", ["ppo", "trpo", "recurrent_ppo"])
def test_a_minibatch_beyond_an_update_in_a_target_is_told_before_the_training(learner: str) -> None:
    small = {"learner__sequence": 8, "learner__minibatch": 64} if learner == "recurrent_ppo" else {}
    few = build(f"few_shot_ppo+{learner}", adaptation_worlds=1, **small)
    with pytest.raises(
        BadValue,
        match=r"is more than a round's 16 transitions; lower it, or raise adaptation_worlds",
    ):
        few.init(problem_for(few), 0)


def test_adapting_again_compiles_nothing(randomized: State) -> None:
    adapted(randomized, [3.0, 8.0])
    with compilations() as compiled:
        adapted(randomized, [2.0, 4.0], seed=5)
    assert compiled == []


@pytest.mark.parametrize("masses", [[3.0], [3.0, 8.0, 5.0]])
def test_adaptation_counts_what_each_target_gave(randomized: State, masses: list[float]) -> None:
    _, book = adapted(randomized, masses)
    assert book.transitions == ADAPTATION
    assert book.seconds == pytest.approx(ADAPTATION * 0.008)
    assert 4 <= book.episodes <= ADAPTATION
    assert randomized.usage == TargetUsage()  # training's own: evaluation is metered apart


@pytest.mark.parametrize(
    ("enough", "less"),
    [
        (Budget(transitions=ADAPTATION), Budget(transitions=ADAPTATION - 1)),
        (Budget(seconds=ADAPTATION * 0.008 + 1e-9), Budget(seconds=ADAPTATION * 0.008 - 1e-3)),
        (Budget(episodes=ADAPTATION), Budget(episodes=3)),
        (
            Budget(episodes=ADAPTATION),
            Budget(episodes=4),
        ),  # enough to begin with, and not for those that follow
    ],
    ids=str,
)
def test_adaptation_beyond_the_budget_is_refused(
    randomized: State, enough: Budget, less: Budget
) -> None:
    assert adapted(randomized, [3.0], budget=enough) == adapted(randomized, [3.0])
    with pytest.raises(
        BudgetExceeded, match=r"a target and the budget is .*; lower updates"
    ) as error:
        adapted(randomized, [3.0], budget=less)
    assert "\n" not in str(error.value)


def test_a_privileged_critic_does_not_go_on_among_other_parameters() -> None:
    other = parse_domain("hopper/gravity=x2")
    tuning = build("fine_tuning", learner__privileged=True)
    with pytest.raises(BadValue, match="cannot go on in hopper/gravity"):
        tuning.init(problem_for(tuning, target=other), 0)
    assert tuning.init(problem_for(tuning), 0).learner.networks.critic[0][0].shape[0] == 12


ONLINE = (
    "target_only",
    "fine_tuning",
    "fine_tuning+trpo",
    "fine_tuning+recurrent_ppo",
    "matl",
    "state_alignment",
)


@pytest.mark.represented("fine_tuning", "matl")
@pytest.mark.parametrize("name", ONLINE)
def test_what_learns_in_the_target_is_not_told_its_dynamics(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others in the place of what is recorded of them change no bit, though the critic sees
    dynamics.
    """
    recurrent = {"learner__units": 8, "learner__sequence": 8} if "recurrent" in name else {}
    method = build(name, learner__privileged=True, **recurrent)
    expected = run(method, ROUNDS)
    assert np.isfinite(expected.usage.transitions) and expected.usage.transitions > 0, (
        "it was there"
    )
    recorded = []

    def other(domain, *args, **named):
        worlds, tr = rollout_steps(domain, *args, **named)
        if domain == TARGET:
            recorded.append(tr.parameters)
            tr = tr._replace(parameters=tr.parameters + 5)
        return worlds, tr

    monkeypatch.setattr("isthmus.domains.rollout.rollout_steps", other)
    assert digest(run(method, ROUNDS)) == digest(expected)
    assert recorded and all((each == 3).all() for each in recorded), "it could have been told"


@pytest.mark.represented("few_shot_ppo")
@pytest.mark.parametrize("name", ["few_shot_ppo", "few_shot_ppo+trpo"])
def test_what_adapts_is_not_told_the_targets_dynamics(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN in the place of what is recorded of them changes no bit, though the critic sees
    dynamics.
    """
    few = build(name, learner__privileged=True)
    problem = problem_for(few)
    s = run(few, 1)
    there = [digest(p) for p in few.adapt(s, problem, problem.target, np.array([[10.0]]), 0)[0]]

    def blind(*args, **named):
        worlds, tr = rollout_steps(*args, **named)
        return worlds, tr._replace(parameters=tr.parameters * np.nan)

    monkeypatch.setattr(operators, "rollout_steps", blind)
    assert [
        digest(p) for p in few.adapt(s, problem, problem.target, np.array([[10.0]]), 0)[0]
    ] == there


@pytest.mark.represented("ppo")
@pytest.mark.parametrize("learner", ["ppo", "trpo", "recurrent_ppo"])
def test_a_critic_may_see_dynamics_where_nothing_is_set(learner: str) -> None:
    small = {"learner__units": 8, "learner__sequence": 8} if learner == "recurrent_ppo" else {}
    method = build(f"source_only+{learner}", learner__privileged=True, **small)
    plain = parse_domain("hopper")
    s = run(method, 1, problem=replace(problem_for(method), source=plain, uncertainty=""))
    assert s.learner.parameters.mean.shape == (0,) and s.learner.obs_moments.count == 2 * ROUND


@pytest.mark.represented(
    "hopper-few_shot_ppo",
    "hopper/gravity=x1-few_shot_ppo",
    "hopper/gravity=x1,foot_friction=x1-few_shot_ppo",
)
@pytest.mark.parametrize("name", ["few_shot_ppo", "few_shot_ppo+trpo"])
@pytest.mark.parametrize(
    "elsewhere", ["hopper", "hopper/gravity=x1", "hopper/gravity=x1,foot_friction=x1"]
)
def test_what_adapts_meets_targets_that_set_other_parameters(name: str, elsewhere: str) -> None:
    """A landscape may go over what training did not draw; the same robot, whatever its target
    names.
    """
    few, target = build(name, learner__privileged=True), parse_domain(elsewhere)
    problem = problem_for(few, target=SOURCE)
    s = run(few, 1)
    expected = few.adapt(s, problem, SOURCE, np.array([[3.0]]), 0)[0]
    found = few.adapt(s, problem, target, np.full((1, len(target.names)), np.nan), 0)[0]
    assert digest(found) != digest([few.policy(s)]) and np.isfinite(found[0].actor[0][0]).all()
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, expected)


# Settings.


@pytest.mark.parametrize(
    ("method", "setting", "value", "expected"),
    [
        ("source_only", "learner.worlds", "16", 16),
        ("source_only", "learner.worlds", 16, 16),
        ("source_only", "learner.learning_rate", "1e-3", 1e-3),
        ("source_only", "learner.learning_rate", 1, 1.0),
        ("source_only", "learner.hidden", "32", (32,)),
        ("source_only", "learner.hidden", "32,16", (32, 16)),
        ("source_only", "learner.hidden", [32, 16], (32, 16)),
        ("source_only", "learner.hidden", "()", ()),
        ("domain_randomization", "learner.privileged", "True", True),
        ("fine_tuning", "pretraining", "1_000", 1000),
        ("few_shot_ppo", "updates", "5", 5),
        ("few_shot_ppo", "learner.target_kl", "0.02", 0.02),
        ("source_only", "learner", "ppo", "ppo"),
        ("few_shot_ppo", "learner", "trpo", "trpo"),
    ],
)
def test_settings_are_read(method: str, setting: str, value: Any, expected: Any) -> None:
    found = registry.settings_of(registry.build(method, {setting: value}))[setting]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("name", [*sorted(registry.METHODS), "source_only+trpo", "fine_tuning+sac"])
def test_settings_survive_being_written_down(name: str) -> None:
    method = build(name, learner__hidden=(8, 4))
    written = json.loads(json.dumps(registry.settings_of(method)))
    assert registry.build(name.partition("+")[0], written) == method


def test_settings_from_before_there_was_a_choice_mean_ppo() -> None:
    written = registry.settings_of(build("source_only"))
    assert written.pop("learner") == "ppo"
    assert registry.build("source_only", written) == build("source_only")


def test_a_learner_is_chosen_before_its_settings_whatever_their_order() -> None:
    method = registry.build(
        "source_only", {"learner.critic": "linear", "learner.max_kl": "0.02", "learner": "trpo"}
    )
    assert method.learner == TRPO(critic="linear", max_kl=0.02)
    assert registry.build("source_only", {"learner": "ppo"}) == registry.build("source_only")
    with pytest.raises(UnknownName, match=r"unknown setting of source_only 'learner\.max_kl'"):
        registry.build("source_only", {"learner.max_kl": 0.02})
    with pytest.raises(UnknownName, match="unknown learner 'trop'; did you mean trpo"):
        registry.build("source_only", {"learner": "trop"})
    with pytest.raises(UnknownName, match="unknown critic 'mpl'; did you mean mlp"):
        registry.build("source_only", {"learner": "trpo", "learner.critic": "mpl"})
    with pytest.raises(BadValue, match=r"learner\.critic=3: needs a value like 'mlp'"):
        registry.build("source_only", {"learner": "trpo", "learner.critic": 3})


def test_a_run_remembers_its_learner(tmp_path: Path) -> None:
    settings = SETTINGS | {"learner": "trpo", "learner.critic": "linear"}
    run = isthmus.train(
        "source_only",
        make_problem("hopper"),
        steps=2 * ROUND,
        settings=settings,
        out=tmp_path / "run",
        quiet=True,
    )
    opened = isthmus.Run.open(run.folder)
    assert opened.config["settings"]["learner"] == "trpo"
    assert opened.method.learner == TRPO(
        worlds=8, steps=16, epochs=2, minibatch=32, critic="linear"
    )
    assert digest(opened.policy) == digest(run.policy)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("learner.worlds", "many", "learner.worlds='many': needs a value like 64"),
        ("learner.worlds", "1.5", "learner.worlds=1.5: needs a value like 64"),
        ("learner.worlds", "True", "learner.worlds=True: needs a value like 64"),
        ("learner.worlds", "-1", "worlds=-1: needs a whole number from 1 on"),
        (
            "learner.learning_rate",
            "fast",
            "learner.learning_rate='fast': needs a value like 0.0003",
        ),
        ("learner.learning_rate", "-1", "learning_rate=-1.0: needs a number above 0"),
        ("learner.learning_rate", "__import__('os')", "needs a value like 0.0003"),
        ("learner.learning_rate", "{[1]: 2}", "needs a value like 0.0003"),
        ("learner.learning_rate", "(" * 10_000, "needs a value like 0.0003"),
        ("learner.privileged", "1", "learner.privileged=1: needs a value like False"),
        ("learner.hidden", "64,-1", "learner.hidden=(64, -1): needs a value like (64, 64)"),
        ("learner.hidden", "[64, 'x']", "needs a value like (64, 64)"),
        ("updates", "0", "updates=0: needs a whole number from 1 on"),
        ("adaptation_worlds", "0", "adaptation_worlds=0: needs a whole number from 1 on"),
        ("adaptation_steps", "-5", "adaptation_steps=-5: needs a whole number from 1 on"),
    ],
)
def test_a_wrong_value_is_one_line_that_says_what_is_needed(
    setting: str, value: Any, message: str
) -> None:
    with pytest.raises(BadValue) as error:
        registry.build("few_shot_ppo", {setting: value})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_pretraining_below_zero_is_refused() -> None:
    with pytest.raises(BadValue, match="pretraining=-1: needs a whole number from 0 on"):
        registry.build("fine_tuning", {"pretraining": -1})


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("sorce_only", "learner.worlds", "unknown method 'sorce_only'; did you mean source_only"),
        (
            "source_only",
            "learner.wrlds",
            "unknown setting of source_only 'learner.wrlds'; did you mean learner.worlds",
        ),
        ("source_only", "lerner.worlds", "'lerner.worlds'; did you mean learner.worlds"),
        ("source_only", "worlds", "'worlds'; did you mean learner.worlds"),
        (
            "few_shot_ppo",
            "update",
            "unknown setting of few_shot_ppo 'update'; did you mean updates",
        ),
        ("source_only", "updates", "unknown setting of source_only 'updates'; known: learner, "),
        (
            "source_only",
            "learner",
            "unknown learner '1'; known: ensemble_sac, ppo, recurrent_ppo, sac, trpo",
        ),
        (
            "source_only",
            "learner.worlds.more",
            "'learner.worlds.more'; did you mean learner.worlds",
        ),
        ("source_only", "", "unknown setting of source_only ''; known: learner, "),
    ],
)
def test_a_wrong_name_is_one_line_with_the_nearest(name: str, setting: str, message: str) -> None:
    with pytest.raises(UnknownName) as error:
        registry.build(name, {setting: "1"})
    assert message in str(error.value)
    assert "\n" not in str(error.value)
