"""The replay against a plain list: what is held, what is drawn, that it is a value, and what its
checkpoints cost.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny import compilations

from isthmus.learning import blocks
from isthmus.learning import replay as module
from isthmus.learning.blocks import Blocks
from isthmus.learning.replay import Replay, sample
from isthmus.training.checkpoint import digest, load, save

ROW = {"name": np.float32(0), "pair": np.zeros(2, np.float32), "flag": np.bool_(False)}


def rows(first: int, n: int) -> dict[str, np.ndarray]:
    """Rows numbered from `first`, each of whose parts says its number."""
    name = np.arange(first, first + n, dtype=np.float32)
    return {"name": name, "pair": np.stack([name, -name], -1), "flag": name % 2 == 1}


draw = jax.jit(sample, static_argnums=1)


def drawn(replay: Replay, n: int = 4000, seed: int = 0) -> dict[str, np.ndarray]:
    return jax.tree.map(np.asarray, draw(replay.view(), n, jax.random.key(seed)))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECENT_ROWS", 8)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 6)


@pytest.mark.parametrize("capacity", [5, 8, 20, 21])
@pytest.mark.parametrize(
    "batch", [1, 3, 8, 30]
)  # the last is more than `recent` and than each ring
def test_it_holds_the_last_rows_through_every_wrap(capacity: int, batch: int) -> None:
    replay, count = Replay.empty(capacity, ROW), 0
    while count < 3 * capacity + 2 * batch:
        replay, count = replay.add(rows(count, batch)), count + batch
        found = drawn(replay, 40 * capacity)
        held = set(range(max(0, count - capacity), count))
        assert set(found["name"].astype(int)) <= held
        if count < 2 * batch or count > 3 * capacity:
            assert set(found["name"].astype(int)) == held
        np.testing.assert_array_equal(found["pair"], np.stack([found["name"], -found["name"]], -1))
        np.testing.assert_array_equal(found["flag"], found["name"] % 2 == 1)
        assert replay.size == len(held)
        assert type(replay.added) is np.int64 and type(replay.merged) is np.int64


@pytest.mark.parametrize(
    "count", [6, 12, 27]
)  # all in `recent`; old and recent; a full ring, partly overlaid
def test_every_row_held_is_drawn_as_often(count: int) -> None:
    replay = Replay.empty(20, ROW)
    for first in range(0, count, 3):
        replay = replay.add(rows(first, 3))
    held, n = min(count, 20), 20_000
    names, times = np.unique(drawn(replay, n)["name"], return_counts=True)
    np.testing.assert_array_equal(names, np.arange(count - held, count))
    expected = n / held
    # Chi-squared with held - 1 degrees of freedom: mean held - 1, variance twice that; four
    # deviations.
    assert np.sum((times - expected) ** 2 / expected) < held - 1 + 4 * np.sqrt(2 * (held - 1))
    assert len(np.unique(drawn(replay, n, seed=1)["name"][:50])) > 1
    assert digest(drawn(replay, n)) == digest(drawn(replay, n)) != digest(drawn(replay, n, seed=1))


def test_a_replay_that_was_added_to_stays_what_it_was() -> None:
    replays = [Replay.empty(20, ROW)]
    digests = [digest(replays[0])]
    for first in range(0, 60, 3):
        replays.append(replays[-1].add(rows(first, 3)))
        digests.append(digest(replays[-1]))
    assert [digest(each) for each in replays] == digests
    assert len(set(digests)) == len(digests)
    # Two futures of one past do not meet.
    one, other = replays[7].add(rows(100, 3)), replays[7].add(rows(200, 3))
    assert {100, 101, 102} <= set(drawn(one)["name"].astype(int))
    assert not {100, 101, 102} & set(drawn(other)["name"].astype(int))


def test_adding_copies_the_recent_rows_alone() -> None:
    replay = Replay.empty(20, ROW).add(rows(0, 8)).add(rows(8, 3))
    more = replay.add(rows(11, 3))
    assert all(a is b for a, b in zip(jax.tree.leaves(replay.old), jax.tree.leaves(more.old)))
    assert {leaf.shape[0] for leaf in jax.tree.leaves(more.recent)} == {8}


def test_a_merge_copies_the_blocks_that_it_falls_into_alone() -> None:
    replay = Replay.empty(20, ROW).add(rows(0, 20))
    merged = replay._merge().add(rows(20, 3))._merge()
    before, after = replay._merge().old["pair"].parts, merged.old["pair"].parts
    assert [len(part) for part in after] == [6, 6, 6, 2]
    assert len({id(part) for part in Replay.empty(20, ROW).old["name"].parts[:3]}) == 1
    held = replay.old["pair"].parts
    assert [a is b for a, b in zip(held, replay._merge().old["pair"].parts)] == [
        True,
        True,
        False,
        False,
    ]
    np.testing.assert_array_equal(before[0][:3], rows(0, 3)["pair"])
    np.testing.assert_array_equal(after[0][:3], rows(20, 3)["pair"])


@pytest.mark.parametrize("count", [5, 14, 20, 27, 61])
def test_minibatches_are_what_sample_draws(count: int) -> None:
    """To the bit, from rows in `recent`, in blocks, and in both."""
    replay = Replay.empty(20, ROW)
    for first in range(0, count, 3):
        replay = replay.add(rows(first, min(3, count - first)))
    keys = jax.random.split(jax.random.key(3), 4)
    batches, view = replay.draw(50, keys), replay.view()
    for i, key in enumerate(keys):
        assert digest(jax.tree.map(lambda x, i=i: x[i], batches)) == digest(draw(view, 50, key))
    assert len(np.unique(batches["name"])) > min(count, 20) // 2


def test_a_replay_of_whole_arrays_goes_on_as_one_in_blocks() -> None:
    """As older checkpoints hold it."""
    replay = Replay.empty(20, ROW).add(rows(0, 30))
    older, keys = replay._replace(old=replay.view().old), jax.random.split(jax.random.key(3), 4)
    assert all(isinstance(leaf, jax.Array) for leaf in older.old.values())
    assert digest(older) == digest(replay) and older.capacity == 20
    assert digest(older.draw(50, keys)) == digest(replay.draw(50, keys))
    assert digest(older.add(rows(30, 9))) == digest(replay.add(rows(30, 9)))
    assert digest(older.view()) == digest(replay.view())


def test_blocks_are_the_array_that_they_were_made_of() -> None:
    whole = np.arange(40, dtype=np.float32).reshape(20, 2)
    whole[6:12] = -0.0
    split = Blocks.split(whole)
    assert np.asarray(split).tobytes() == whole.tobytes() == np.asarray(split.whole).tobytes()
    assert (split.shape, split.dtype, split.nbytes) == (whole.shape, whole.dtype, whole.nbytes)
    for start in range(20):
        for stop in range(start, 24):
            np.testing.assert_array_equal(split[start:stop], whole[start:stop])
    zeros = Blocks.split(np.zeros((20, 2), np.float32)).parts
    assert zeros[0] is zeros[1] is zeros[2]


def test_cleared_is_as_new() -> None:
    new = Replay.empty(20, ROW)
    assert digest(new.add(rows(0, 30)).cleared()) == digest(new)


def test_nothing_compiles_anew_as_it_fills() -> None:
    replay = Replay.empty(20, ROW).add(rows(0, 3))
    drawn(replay, 4)
    with compilations() as compiled:
        for first in range(3, 60, 3):
            replay = replay.add(rows(first, 3))
            drawn(replay, 4)
    assert compiled == []


def test_counts_go_beyond_32_bits() -> None:
    replay = Replay.empty(20, ROW).add(rows(0, 19))
    many = np.int64(3 * 2**32 // 20 * 20)
    replay = replay._replace(added=replay.added + many, merged=replay.merged + many)
    assert set(drawn(replay.add(rows(19, 4)))["name"].astype(int)) == set(range(3, 23))


# On disk.


def size(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.glob("*.safetensors")}


def test_a_save_after_one_round_writes_few_new_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECENT_ROWS", 4096)
    row: Any = {"obs": np.zeros(64, np.float32), "next_obs": np.zeros(64, np.float32)}
    random = np.random.default_rng(0)
    some = lambda n: {name: random.normal(size=(n, 64)).astype(np.float32) for name in row}
    replay = Replay.empty(60_000, row).add(some(50_000))  # 31 MB
    first = size(save(tmp_path, replay, extra={}, name=1))
    replay = replay.add(some(64))
    second = size(save(tmp_path, replay, extra={}, name=2))
    assert sum(first.values()) > 25e6
    new = sum(n for name, n in second.items() if name not in first)
    assert new < 3e6  # `recent`, 2 MB
    merged = replay.add(some(4096))
    third = size(save(tmp_path, merged, extra={}, name=3))
    assert (
        sum(n for name, n in third.items() if name not in second) < 21e6
    )  # and the pieces that the merge touched
    restored, _ = load(tmp_path / f"{3:012d}", merged)
    assert digest(restored) == digest(merged)
    assert digest(restored.add(some(1)).view()[1:]) != digest(merged.view()[1:])


def test_a_checkpoint_of_whole_arrays_and_one_of_blocks_are_the_same(tmp_path: Path) -> None:
    replay = Replay.empty(20, ROW).add(rows(0, 30))
    older = replay._replace(old=replay.view().old)
    for name, each in enumerate((replay, older)):
        path = save(tmp_path, each, extra={}, name=name)
        for like in (None, replay, older):
            restored, _ = load(path, like, packages=["isthmus"])
            assert digest(restored) == digest(path) == digest(replay)
            assert digest(restored.add(rows(30, 9))) == digest(replay.add(rows(30, 9)))


PEAK = """
import sys, tempfile
from pathlib import Path
import jax, numpy as np
from isthmus.learning.replay import Replay
from isthmus.training.checkpoint import save

def peak():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])

def fill(capacity):
    replay = Replay.empty(capacity, {"obs": np.zeros(32, "f"), "next_obs": np.zeros(32, "f")})
    rows = {name: np.ones((4096, 32), "f") for name in replay.old}
    for _ in range(capacity // 4096 + 6):
        past, replay = replay, replay.add(rows)
    replay.draw(256, jax.random.split(jax.random.key(0), 64))
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), replay, extra={}, name=1)
    return past, replay

def test():
    fill(5000)
    base, capacity = peak(), 500_000
    empty = Replay.empty(capacity, {"obs": np.zeros(64, "f")})
    unused = peak() - base
    states = fill(capacity)
    print(unused / (256 * capacity), (peak() - base) / (256 * capacity))

test()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux")
def test_a_full_replay_takes_the_memory_of_its_rows() -> None:
    """Two values at once, merged, drawn from and saved; 128 MB of rows."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK], capture_output=True, text=True, check=True, timeout=300
    )
    unused, full = map(float, done.stdout.split())
    assert unused < 0.05
    assert 0.9 < full < 1.5
