"""Where a log's episodes end: what autoreset wrote is no transition, and ends without a mark are
not passed over.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from isthmus.domains.parse import parse_domain
from isthmus.learning.policies import UniformBehaviour
from isthmus.logs.log import DataSet, Log
from isthmus.logs.next_obs import add_next_obs
from isthmus.logs.read import read_log
from isthmus.logs.record import record_log
from isthmus.logs.rows import LogRows
from isthmus.logs.starts import StartBox, note_unmarked_starts
from isthmus.logs.worlds_in_turn import sort_worlds
from isthmus.logs.write import write_log
from isthmus.types import BadValue

HOPPER = parse_domain("hopper")
FOREIGN = parse_domain("log:gym:Hopper-v5")  # its starts are not known
NAMES = {
    "obs": "observations",
    "action": "actions",
    "reward": "rewards",
    "next_obs": "next_observations",
    "terminated": "terminals",
    "truncated": "timeouts",
}
MODES = {"next": AutoresetMode.NEXT_STEP, "same": AutoresetMode.SAME_STEP}


@cache
def made(text: str, steps: int) -> Log:
    domain = parse_domain(text)
    return record_log(
        domain, UniformBehaviour(domain.spaces.low, domain.spaces.high), steps, seed=3
    )


def columns(log: Any) -> dict[str, np.ndarray]:
    return {theirs: getattr(log, ours) for ours, theirs in NAMES.items()}


def saved(folder: Path, held: dict[str, np.ndarray], without: tuple[str, ...] = ()) -> str:
    kept: dict[str, Any] = {name: x for name, x in held.items() if name not in without}
    np.savez(folder / "d.npz", **kept)
    return str(folder / "d.npz")


def same(first: Log, second: Log) -> bool:
    return all(
        x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(first, second, strict=True)
    )


# Unmarked ends


def unmarked(text: str, rows: int, recorded: int = 0) -> dict[str, np.ndarray]:
    held = columns(made(text, recorded or rows).first(rows))
    nothing = np.zeros(rows, bool)
    return {**held, "terminals": nothing, "timeouts": nothing}


@pytest.mark.parametrize(
    ("rows", "transitions", "episodes"), [(5000, 4950, 50), (4950, 4900, 50), (4901, 4851, 49)]
)
def test_rows_without_an_end_are_cut_by_the_time_limit(tmp_path, rows, transitions, episodes):
    """The ball's episodes have 100 steps: of each the last has no next observation."""
    ball = parse_domain("ball")
    data = read_log(saved(tmp_path, unmarked("ball", rows, 5000), ("next_observations",)), ball)
    marked = read_log(
        saved(tmp_path, columns(made("ball", 5000).first(rows)), ("next_observations",)), ball
    )
    assert (data.log.size, data.log.episodes) == (transitions, episodes) and same(
        data.log, marked.log
    )
    said = (
        f"{rows:,} rows in a row without a marked end, more than the 100 steps of an episode "
        f"of ball: cut every 100"
    )
    assert any(note.startswith(said) for note in data.notes)
    assert marked.notes == data.notes[:1]


def test_only_the_timeouts_are_missing(tmp_path):
    """A fall after 30 rows, then 120 rows without an end: 50, 50 and 20."""
    reacher = parse_domain("reacher")
    log = made("reacher", 150)
    obs = np.concatenate([log.obs[:30], log.obs[50:150], log.obs[:20]])
    fell = np.arange(150) == 29
    held = {"observations": obs, "actions": log.action, "rewards": log.reward, "terminals": fell,
            "timeouts": np.zeros(150, bool)}  # fmt: skip
    data = read_log(saved(tmp_path, held), reacher)
    assert data.log.lengths.tolist() == [29, 49, 49, 19]
    assert any(note.startswith("120 rows in a row without a marked end") for note in data.notes)


@pytest.mark.parametrize("limit", [49, 51])
def test_what_the_time_limit_does_not_cut_rightly_is_refused(tmp_path, limit):
    """Episodes of 49 or 51 rows of a robot whose have 50: their starts would lie inside."""
    log = made("reacher", 500)
    rows = np.concatenate([np.arange(start, start + 49) for start in range(0, 500, 50)])
    if limit == 51:
        rows = np.concatenate(
            [np.append(np.arange(start, start + 50), start + 49) for start in range(0, 500, 50)]
        )
    nothing = np.zeros(len(rows), bool)
    held = {"observations": log.obs[rows], "actions": log.action[rows], "rewards": log.reward[rows],
            "terminals": nothing, "timeouts": nothing}  # fmt: skip
    with pytest.raises(
        BadValue,
        match=r"rows in a row without a marked end, .* 9 transitions still .* give timeouts",
    ):
        read_log(saved(tmp_path, held), parse_domain("reacher"))


def test_falls_that_are_not_marked_are_counted(tmp_path):
    data = read_log(saved(tmp_path, unmarked("hopper", 300), ("next_observations",)), HOPPER)
    assert data.log.episodes == 1 and data.log.size == 299
    falls = made("hopper", 300).episodes - 1
    assert falls > 5
    assert any(
        note.startswith(f"{falls} transitions without a marked end lead to what looks")
        for note in data.notes
    )
    plain = read_log(saved(tmp_path, unmarked("hopper", 300)), HOPPER)
    assert plain.log.episodes == falls + 1 and plain.notes == (), "next observations show the ends"


def test_a_foreign_robot_is_cut_by_its_own_limit(tmp_path):
    foreign = parse_domain("log:gym:Reacher-v5")
    data = read_log(saved(tmp_path, unmarked("reacher", 150), ("next_observations",)), foreign)
    assert data.log.lengths.tolist() == [49, 49, 49]
    assert any(
        "more than the 50 steps of an episode of log:gym:Reacher-v5" in note for note in data.notes
    )


def test_an_endless_episode_of_minari_is_said(tmp_path):
    """Minari says where an episode ends: it is left whole, and what speaks against it is
    counted.
    """
    reacher = parse_domain("reacher")
    log = made("reacher", 150)
    write_log(
        tmp_path / "d",
        log._replace(truncated=np.arange(150) == 149, episode=np.zeros(150, np.int64)),
        {},
        reacher,
    )
    data = read_log(str(tmp_path / "d"), reacher)
    assert data.log.episodes == 1
    assert data.notes[0].startswith(
        "the longest episode has 150 transitions, more than the 50 steps of reacher's"
    )
    assert data.notes[1].startswith(
        "2 transitions without a marked end lead to what looks like the start"
    )


def test_starts_that_are_wide_say_nothing(tmp_path):
    """Cart-pole begins anywhere near its middle, where it also comes by itself."""
    log = made("cartpole_swingup", 300)
    data = read_log(saved(tmp_path, columns(log)), parse_domain("cartpole_swingup"))
    assert same(data.log, log) and data.notes == ()


def test_a_target_known_by_its_log_has_the_starts_of_its_domain():
    known, logged = (
        StartBox.of(parse_domain(text)) for text in ("hopper", "log:hopper/gravity=x2")
    )
    assert logged.known and np.array_equal(logged.low, known.low)
    assert not StartBox.of(FOREIGN).known


# Vector environments


class Walk(gymnasium.Env):
    """A random walk of 11 numbers that begins within 0.05 of `start` and knows every step that it
    took.
    """

    def __init__(self, seed: int, start: float, paid: float):
        self.observation_space, self.action_space = Box(-np.inf, np.inf, (11,)), Box(-1, 1, (3,))
        self.random, self.begin, self.paid = np.random.default_rng(seed), start, paid
        self.steps: list[tuple] = []

    def reset(self, **_: Any):
        self.state = (self.begin + self.random.uniform(-0.05, 0.05, 11)).astype(np.float32)
        return self.state, {}

    def step(self, action):
        before = self.state
        self.state = (before + self.random.normal(0, 0.1, 11)).astype(np.float32)
        fell, over = self.random.uniform() < 0.05, self.random.uniform() < 0.05
        reward = float(self.paid and self.paid + self.random.uniform())
        self.steps.append((before, np.array(action), reward, self.state, fell, over and not fell))
        return self.state, reward, fell, over, {}


class Vector(NamedTuple):
    """What a loop over a vector environment saves, [T, N, ...], and every world's true transitions,
    in order.
    """

    columns: dict[str, np.ndarray]
    truth: list[LogRows]

    def held(self, order: str = "NT") -> dict[str, np.ndarray]:
        turned = {
            name: x.swapaxes(0, 1) if order == "NT" else x for name, x in self.columns.items()
        }
        return {name: x.reshape(-1, *x.shape[2:]) for name, x in turned.items()}

    def true_rows(self) -> LogRows:
        return LogRows(*(np.concatenate(each) for each in zip(*self.truth, strict=True)))


@cache
def vector(mode: str, start: float = 5.0, paid: float = 1.0) -> Vector:
    worlds = [Walk(seed, start, paid) for seed in range(4)]
    made_of: list[Any] = [lambda world=world: world for world in worlds]
    env = SyncVectorEnv(made_of, autoreset_mode=MODES[mode])
    env.action_space.seed(0)
    obs, _ = env.reset()
    kept = []
    for _ in range(200):
        action = env.action_space.sample()
        following, *paid_and_ended, _ = env.step(action)
        kept.append((obs, action, *paid_and_ended, following))
        obs = following
    names = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
    truth = [LogRows(*map(np.array, zip(*world.steps, strict=True))) for world in worlds]
    return Vector(
        {name: np.array(x) for name, x in zip(names, zip(*kept, strict=True), strict=True)}, truth
    )


def is_log_of(log: Log, rows: LogRows) -> bool:
    """Whether a log holds these transitions and no other, in this order; where it was cut it says
    truncated.
    """
    cast = [np.asarray(x, column.dtype) for x, column in zip(rows, log, strict=False)]
    return all(np.array_equal(x, y) for x, y in zip(cast[:5], log[:5], strict=True)) and bool(
        (log[5] >= cast[5]).all()
    )


@pytest.mark.parametrize("paid", [1.0, 0.0])
@pytest.mark.parametrize("order", ["NT", "TN"])
def test_a_next_step_reset_is_no_transition(tmp_path, order, paid):
    """Also where nothing is ever paid, for these rows lead back to a start."""
    made_by = vector("next", paid=paid)
    resets = 800 - len(made_by.true_rows().reward)
    assert resets > 50
    data = read_log(saved(tmp_path, made_by.held(order)), FOREIGN)
    assert is_log_of(data.log, made_by.true_rows())
    assert data.notes[-1].startswith(
        f"{resets} rows after an end are left out: they lead to the next start, pay 0"
    )
    assert ("the rows are of 4 worlds in turn" in data.notes[0]) == (order == "TN")
    ends = made_by.true_rows().ended
    assert data.log.episodes == ends.sum() + sum(not world.ended[-1] for world in made_by.truth)


def test_a_next_step_reset_shows_where_an_end_led(tmp_path):
    """Without next observations: the reset's row begins in the state that the robot ended in, and
    nothing is lost.
    """
    made_by = vector("next")
    one = {name: x[:, 0] for name, x in made_by.columns.items()}
    assert one["terminals"][-2] or one["timeouts"][-2], "the log's last row is a reset"
    data = read_log(saved(tmp_path, one, ("next_observations",)), FOREIGN)
    assert is_log_of(data.log, made_by.truth[0]) and made_by.truth[0].terminated.sum() > 3
    assert [note.split(":")[0] for note in data.notes] == [
        f"{made_by.truth[0].ended.sum()} rows after an end are left out"
    ]


def test_a_first_reward_of_nothing_is_no_reset(tmp_path):
    """A logger that has no reward for the first row of an episode: the log's first row has none
    either.
    """
    log = made("hopper", 300)
    first = np.append(True, np.diff(log.episode) != 0)
    held = {**columns(log), "rewards": np.where(first, 0, log.reward)}
    for without in ((), ("next_observations",)):
        data = read_log(saved(tmp_path, held, without), HOPPER)
        assert not any("rows after an end" in note for note in data.notes)
        assert data.log.size == (300 if not without else 300 - log.episodes)


@pytest.mark.parametrize("order", ["NT", "TN"])
def test_a_same_step_reset_hides_where_an_end_led(tmp_path, order):
    made_by = vector("same")
    size = (
        int(made_by.truth[0].ended.nonzero()[0][-1]) + 1
    )  # the log stops at an end, from which nothing goes on
    cut = Vector({name: x[:size] for name, x in made_by.columns.items()},
                 [world.take(np.arange(size)) for world in made_by.truth])  # fmt: skip
    truth = cut.true_rows()
    data = read_log(saved(tmp_path, cut.held(order)), FOREIGN)
    lost = truth.ended
    assert is_log_of(data.log, truth.take(~lost)) and lost.sum() > 50
    assert any(
        note.startswith(
            f"{lost.sum()} ends are left out, {truth.terminated[lost].sum()} of them falls"
        )
        for note in data.notes
    )


@pytest.mark.parametrize("paid", [1.0, 0.0])
def test_a_robot_that_is_not_reset_goes_on(tmp_path, paid):
    """A real robot: marks every 50 rows, and the next row begins where the last ended. All are
    transitions.
    """
    random = np.random.default_rng(0)
    path = np.cumsum(random.normal(0, 0.1, (301, 11)), axis=0).astype(np.float32)
    over = np.arange(300) % 50 == 49
    rows = LogRows(
        path[:-1],
        np.zeros((300, 3), np.float32),
        paid * random.uniform(1, 2, 300),
        path[1:],
        np.zeros(300, bool),
        over,
    )
    known, foreign = (
        read_log(saved(tmp_path, columns(rows)), domain) for domain in (HOPPER, FOREIGN)
    )
    assert is_log_of(known.log, rows) and is_log_of(foreign.log, rows) and known.log.episodes == 6
    assert any(
        note.startswith("5 episodes end in the observation in which the next begins")
        for note in foreign.notes
    )


def test_equal_starts_are_no_resets(tmp_path):
    """Episodes that all begin in the very same observation, at a reward of 0: none leads there but
    from a start.
    """
    log = made("hopper", 300)
    first = np.append(True, np.diff(log.episode) != 0)
    obs = np.where(first[:, None], log.obs[:1], log.obs)
    held = {**columns(log), "observations": obs, "rewards": np.where(first, 0, log.reward)}
    data = read_log(saved(tmp_path, held), HOPPER)
    assert data.log.size == 300 and data.log.episodes == log.episodes and data.notes == ()


@pytest.mark.parametrize("mode", ["next", "same"])
def test_resets_in_minari(tmp_path, mode):
    """Episodes of several worlds in the order in which they ended, cut behind every marked end."""
    made_by = vector(mode)
    stretches = []
    for world in range(4):
        held = {name: x[:, world] for name, x in made_by.columns.items()}
        last = np.flatnonzero(held["terminals"] | held["timeouts"])
        for begin, end in zip(np.append(0, last[:-1] + 1), last, strict=True):
            stretches.append((end, {name: x[begin : end + 1] for name, x in held.items()}))
    stretches.sort(key=lambda stretch: stretch[0])
    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "data" / "main_data.hdf5", "w") as file:
        for number, (_, held) in enumerate(stretches):
            group = file.create_group(f"episode_{number}")
            group["observations"] = np.concatenate(
                [held["observations"], held["next_observations"][-1:]]
            )
            group["actions"], group["rewards"] = held["actions"], held["rewards"]
            group["terminations"], group["truncations"] = held["terminals"], held["timeouts"]
    data: DataSet = read_log(str(tmp_path), FOREIGN)
    rows = LogRows(*data.log[:6])
    true = {
        (*before, *after)
        for world in made_by.truth
        for before, after in zip(world.obs, world.next_obs, strict=True)
    }
    assert all(
        (*before, *after) in true for before, after in zip(rows.obs, rows.next_obs, strict=True)
    )
    said = "rows after an end are left out" if mode == "next" else "ends are left out"
    assert said in data.notes[0] and data.log.size > 600


def test_worlds_are_sorted_only_where_they_are_in_turn():
    log = made("hopper", 120)
    rows = LogRows(*log[:6])
    assert sort_worlds(rows) == (rows, ())
    shuffled = rows.take(np.random.default_rng(0).permutation(120))
    assert sort_worlds(shuffled)[1] == ()
    turn = rows.take(np.arange(120).reshape(3, 40).T.ravel())
    back, notes = sort_worlds(turn)
    assert np.array_equal(back.obs, rows.obs)
    assert notes == ("the rows are of 3 worlds in turn: read one world after the other",)


def vectorized(id: str, worlds: int, steps: int) -> dict[str, np.ndarray]:
    """What a loop over Gymnasium's `make_vec` saves, one world after the other: 0 are rewards of
    resets alone.
    """
    env = gymnasium.make_vec(id, num_envs=worlds, vectorization_mode="sync")
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    kept = []
    for _ in range(steps):
        action = env.action_space.sample()
        following, *ended, _ = env.step(action)
        kept.append((obs, action, *ended, following))
        obs = following
    names = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
    held = {
        n: np.array(x).swapaxes(0, 1) for n, x in zip(names, zip(*kept, strict=True), strict=True)
    }
    return {name: x.reshape(-1, *x.shape[2:]) for name, x in held.items()}


def test_gymnasiums_own_hopper(tmp_path):
    """Every transition read is one that Hopper-v5 took, with the default autoreset of
    `make_vec`.
    """
    flat = vectorized("Hopper-v5", 4, 150)
    resets = int((flat["rewards"] == 0).sum())
    data = read_log(saved(tmp_path, flat), HOPPER)
    assert resets > 15 and data.log.size == 600 - resets and (data.log.reward != 0).all()
    assert np.array_equal(
        data.log.obs, flat["observations"][flat["rewards"] != 0].astype(np.float32)
    )
    assert data.notes == (
        f"{resets} rows after an end are left out: they lead to the next start, pay 0 and ignore "
        "their action, as a vector environment's next-step autoreset does",
    )
    bare = read_log(saved(tmp_path, flat, ("next_observations",)), HOPPER)
    assert any(note.startswith(f"{resets} rows after an end are left out") for note in bare.notes)


@pytest.mark.parametrize("steps", [152, 153])
@pytest.mark.parametrize("without", [(), ("next_observations",)])
def test_resets_behind_ends_that_are_not_marked(tmp_path, without, steps):
    """Reacher's two worlds end by the time limit alone: 50 steps and a reset, three times, the last
    one cut at 152.
    """
    flat = vectorized("Reacher-v5", 2, steps)
    resets = 2 * (steps - 150)
    assert (np.flatnonzero(flat["timeouts"])[:3] == [49, 100, 151]).all() and (
        flat["rewards"] == 0
    ).sum() == resets
    nothing = {**flat, "timeouts": np.zeros(2 * steps, bool)}
    marked, unmarked = (
        read_log(saved(tmp_path, held, without), parse_domain("reacher"))
        for held in (flat, nothing)
    )
    assert marked.log.size == 300 - 2 * (steps == 152 and bool(without))
    # The log's last row shows a reset by its mark alone: without, the end before it has no next
    # observation.
    last = int(steps == 153 and bool(without))
    assert same(marked.log.first(marked.log.size - last), unmarked.log)
    for data, found in ((marked, resets), (unmarked, resets - last)):
        assert any(
            note.startswith(f"{found} rows after an end are left out") for note in data.notes
        )


# Several worlds in turn, without next observations


def true_transitions(log: Log, held: dict[str, np.ndarray]) -> int:
    """How many of a log's rows lead where its file's next observations say, reset rows not
    counted.
    """
    before, after = (
        held[name].astype(np.float32) for name in ("observations", "next_observations")
    )
    led = {obs.tobytes(): following for obs, following in zip(before, after, strict=True)}
    return sum(
        np.allclose(led[obs.tobytes()], following, atol=1e-5)
        for obs, following in zip(log.obs, log.next_obs, strict=True)
    )


def turned(held: dict[str, np.ndarray], worlds: int) -> dict[str, np.ndarray]:
    """Rows that lie one world after the other, put in turn."""
    return {
        name: x.reshape(worlds, -1, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)
        for name, x in held.items()
    }


@pytest.mark.parametrize(
    ("id", "task", "worlds"), [("Hopper-v5", "hopper", 4), ("Reacher-v5", "reacher", 3)]
)
def test_worlds_in_turn_are_told_without_next_observations(tmp_path, id, task, worlds):
    """Each world's last row alone has no next observation; falls stay, for resets show where they
    led.
    """
    flat = vectorized(id, worlds, 200)
    held, resets = turned(flat, worlds), int((flat["rewards"] == 0).sum())
    data = read_log(saved(tmp_path, held, ("next_observations",)), parse_domain(task))
    lost = int((flat["rewards"].reshape(worlds, 200)[:, -1] != 0).sum())
    assert data.log.size == 200 * worlds - resets - lost
    assert true_transitions(data.log, held) == data.log.size
    assert data.log.terminated.sum() == flat["terminals"].reshape(worlds, 200)[:, :-1].sum()
    assert (
        data.notes[0] == f"the rows are of {worlds} worlds in turn: read one world after the other"
    )
    foreign = read_log(saved(tmp_path, held, ("next_observations",)), parse_domain(f"log:gym:{id}"))
    assert same(foreign.log, data.log)


def test_a_hidden_order_is_told_by_what_a_row_predicts(tmp_path):
    """Six worlds that are never reset: no row has the one before for its past, and none is lost but
    the last ones.
    """
    path = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (6, 100, 11)), axis=1).astype(
        np.float32
    )
    over = np.tile(np.arange(100) == 99, (6, 1))
    held = {
        "observations": path,
        "actions": np.zeros((6, 100, 3), np.float32),
        "rewards": np.ones((6, 100)),
        "terminals": over & False,
        "timeouts": over,
    }
    data = read_log(
        saved(
            tmp_path,
            {name: x.swapaxes(0, 1).reshape(600, *x.shape[2:]) for name, x in held.items()},
        ),
        FOREIGN,
    )
    assert np.array_equal(data.log.obs, path[:, :-1].reshape(-1, 11))
    assert np.array_equal(data.log.next_obs, path[:, 1:].reshape(-1, 11))
    assert data.log.lengths.tolist() == [99] * 6


def test_rows_without_an_order_are_said_to_have_none(tmp_path):
    held = columns(made("hopper", 600))
    shuffled = {name: x[np.random.default_rng(0).permutation(600)] for name, x in held.items()}
    data = read_log(saved(tmp_path, shuffled, ("next_observations",)), HOPPER)
    assert data.notes[0].startswith(
        "no row goes on from the one before, nor from one a fixed number of rows before"
    )
    with_next = read_log(saved(tmp_path, shuffled), HOPPER)
    assert not any("no row goes on" in note for note in with_next.notes)


@pytest.mark.parametrize(("task", "worlds", "steps"), [("ball", 3, 100), ("reacher", 2, 50)])
def test_slow_worlds_that_predict_one_another_are_doubted(tmp_path, task, worlds, steps):
    """One episode each: three points that hardly move lead to one another as well as to
    themselves.
    """
    held = turned(columns(made(task, worlds * steps)), worlds)
    data = read_log(saved(tmp_path, held, ("next_observations",)), parse_domain(task))
    said = (
        f"rows are much nearer to those {worlds} rows later than to the next: if they are of "
        f"{worlds} worlds in turn"
    )
    assert data.notes[0].startswith(said)


@pytest.mark.parametrize("task", ["hopper", "half_cheetah", "ball", "reacher", "cartpole_swingup"])
@pytest.mark.parametrize("rows", [60, 300, 1500])
def test_one_world_is_taken_for_no_more(tmp_path, task, rows):
    held = columns(made(task, 1500).first(rows))
    data = read_log(saved(tmp_path, held, ("next_observations",)), parse_domain(task))
    assert true_transitions(data.log, held) == data.log.size
    assert all("without a next observation" in note for note in data.notes)


@pytest.mark.parametrize("period", [2, 3, 5, 8, 13])
def test_a_gait_is_no_turn_of_worlds(period):
    """After a period a row is back where it was; what follows is predicted all the same by the row
    before.
    """
    env: Any = gymnasium.make("HalfCheetah-v5").unwrapped
    obs, _ = env.reset(seed=0)
    kept = []
    for t in range(400):
        action = np.sin(2 * np.pi * t / period + 1.7 * np.arange(6) + 0.3)
        kept.append((obs, action))
        obs = env.step(action)[0]
    path, action = map(np.array, zip(*kept, strict=True))
    rows = LogRows(path, action, np.ones(400), path, np.zeros(400, bool), np.arange(400) == 399)
    mended = add_next_obs(rows, parse_domain("half_cheetah"), StartBox.of(FOREIGN))
    assert np.array_equal(mended.rows.next_obs, path[1:])
    assert all("without a next observation" in note for note in mended.notes)


# Rewards of resets


@pytest.mark.parametrize("domain", [HOPPER, FOREIGN])
@pytest.mark.parametrize("without", [(), ("next_observations",)])
@pytest.mark.parametrize(
    ("shift", "scale", "paid"), [(-1, 1.0, "-1"), (-1, 0.5, "-0.5"), (3, 2.0, "6")]
)
def test_a_reset_pays_what_became_of_nothing(tmp_path, domain, without, shift, scale, paid):
    flat = vectorized("Hopper-v5", 1, 400)
    moved = {**flat, "rewards": (flat["rewards"] + shift) * scale}
    plain, shifted = (read_log(saved(tmp_path, held, without), domain) for held in (flat, moved))
    assert same(plain.log._replace(reward=shifted.log.reward), shifted.log)
    resets = int((flat["rewards"] == 0).sum())
    assert resets > 10
    assert any(
        f"{resets} rows after an end are left out" in x and f"pay {paid} and" in x
        for x in shifted.notes
    )


def test_a_shifted_reward_shows_resets_behind_ends_that_are_not_marked(tmp_path):
    flat = vectorized("Reacher-v5", 2, 204)
    nothing = {**flat, "timeouts": np.zeros(408, bool), "rewards": flat["rewards"] - 2}
    data = read_log(saved(tmp_path, nothing), parse_domain("reacher"))
    resets = int((flat["rewards"] == 0).sum())
    assert resets == 8 and data.log.size == 408 - resets
    assert any(
        f"{resets} rows after an end are left out" in x and "pay -2 and" in x for x in data.notes
    )


@pytest.mark.parametrize("domain", [HOPPER, FOREIGN])
@pytest.mark.parametrize("first", [0.0, 2.0])
def test_a_late_reward_is_no_reset(tmp_path, domain, first):
    """A log that begins within an episode, each of whose first rows pays one and the same: those
    begin in a start.
    """
    log = made("hopper", 400)
    begins = np.append(True, np.diff(log.episode) != 0)
    held = {
        name: x[7:]
        for name, x in {**columns(log), "rewards": np.where(begins, first, log.reward)}.items()
    }
    assert not begins[7] and log.episode[6] == log.episode[7]
    data = read_log(saved(tmp_path, held, ("next_observations",)), domain)
    assert data.log.size == 393 - log.episodes and true_transitions(data.log, held) == data.log.size
    assert all("without a next observation" in note for note in data.notes)


# Episodes that are joined


@pytest.mark.parametrize("task", ["hopper", "walker2d"])
def test_joined_episodes_of_a_foreign_robot_are_counted(tmp_path, task):
    """Its starts are not known: jumps that all lead to one place give them away."""
    id = {"hopper": "Hopper-v5", "walker2d": "Walker2d-v5"}[task]
    log = made(task, 900)
    data = read_log(
        saved(tmp_path, unmarked(task, 900), ("next_observations",)), parse_domain(f"log:gym:{id}")
    )
    said = [
        note
        for note in data.notes
        if "without a marked end lead to what looks like the start" in note
    ]
    assert len(said) == 1 and abs(int(said[0].split()[0]) - (log.episodes - 1)) <= 2
    marked = read_log(
        saved(tmp_path, columns(log), ("next_observations",)), parse_domain(f"log:gym:{id}")
    )
    assert not any("looks like the start" in note for note in marked.notes)
    held = unmarked(task, 1100)
    with pytest.raises(
        BadValue, match="transitions still lead to what looks like a start: give timeouts"
    ):
        read_log(saved(tmp_path, held, ("next_observations",)), parse_domain(f"log:gym:{id}"))


@pytest.mark.parametrize("length", [30, 60, 90])
def test_starts_in_one_point_are_not_there_by_chance(length):
    """A joint that begins at rest and at 0 each time, in episodes shorter than the cut's 100
    rows.
    """
    random = np.random.default_rng(0)
    speed = np.cumsum(random.uniform(-0.1, 0.1, (40, length)), axis=1)
    path = np.stack([np.cumsum(speed, axis=1), speed], axis=2)
    path[:, 0] = 0
    obs = path.reshape(-1, 2)
    starts = StartBox(np.full(2, -1e-6), np.full(2, 1e-6), known=True)
    assert starts.is_narrow(obs)
    rows = LogRows(
        obs[:-1],
        obs[:-1],
        obs[:-1, 0],
        obs[1:],
        np.zeros(len(obs) - 1, bool),
        np.zeros(len(obs) - 1, bool),
    )
    assert note_unmarked_starts(rows, starts)[0].startswith(
        "39 transitions without a marked end lead to"
    )
    ball = parse_domain("ball")
    with pytest.raises(
        BadValue, match="rows in a row without a marked end, more than the 100 steps"
    ):
        add_next_obs(rows, ball, starts)


def test_a_robot_that_stands_where_it_starts_is_not_reset():
    """It begins within 0.1 of its middle and never leaves it: that it is there says nothing."""
    obs = np.random.default_rng(0).uniform(-0.1, 0.1, (400, 2))
    assert not StartBox(np.full(2, -0.1), np.full(2, 0.1), known=True).is_narrow(obs)
