"""A whole run is data: exact to the bit, whole after any crash, refused where it is not what was
written.
"""

# pyright: reportAttributeAccessIssue=false

import errno
import functools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from isthmus.learning.networks import init_mlp, mlp
from isthmus.training import checkpoint
from isthmus.training.checkpoint import (
    CheckpointError,
    differences,
    digest,
    latest,
    load,
    save,
    verify,
)
from isthmus.types import IsthmusError


class Counters(NamedTuple):
    steps: np.int64
    rounds: int


def everything() -> dict:
    """One leaf of each kind, with the values that a careless path would change."""
    return {
        "numpy": {
            "signed zero": np.array([0.0, -0.0, np.inf, -np.inf]),
            "nan payloads": np.array([0x7FF8000000000123, 0xFFF0DEADBEEF0001], np.uint64).view(
                np.float64
            ),
            "float32 nan": np.array([0x7FC12345, 0xFF812345, 1], np.uint32).view(np.float32),
            "beyond 2^53": np.array([2**53 + 1, -(2**63), 2**63 - 1]),
            "uint64": np.array([2**64 - 1, 2**63 + 1], np.uint64),
            "half": np.array([1.5, -0.0], np.float16),
            "bool": np.array([[True, False]]),
            "empty": np.zeros((0, 3)),
            "none wide": np.zeros((3, 0), np.int32),
            "transposed": np.arange(6.0).reshape(2, 3).T,
            "zero-dimensional": np.array(7, np.int8),
        },
        "jax": [
            jnp.array([-0.0, 1e-42, jnp.nan]),
            jnp.int32(5),
            jnp.zeros((0, 2)),
            jnp.arange(4, dtype=jnp.uint8),
        ],
        "keys": (jax.random.key(3), jax.random.split(jax.random.key(4, impl="rbg"), 5)),
        "counters": Counters(np.int64(2_400_000_000_000_000_001), 2**62 + 1),
        "scalars": (
            np.float64(0.1),
            np.float32(-0.0),
            np.bool_(True),
            0.1,
            -0.0,
            float("nan"),
            3,
            True,
            None,
        ),
    }


def big(rows: int = 100, changed: int | None = None) -> dict:
    """A buffer of several pieces beside small leaves; `changed` names a row that differs."""
    buffer = np.arange(rows * 16, dtype=np.float64).reshape(rows, 16)
    if changed is not None:
        buffer[changed] = -1.0
    return {
        "buffer": buffer,
        "count": rows if changed is None else changed,
        "key": jax.random.key(0),
    }


@pytest.fixture
def small_pieces(monkeypatch):
    """Ten rows of `big` to a piece, so that tests need no megabytes."""
    monkeypatch.setattr(checkpoint, "PIECE", 10 * 16 * 8)


def assert_same(first, second) -> None:
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second)):
        assert type(a) is type(b)
        if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            assert a.dtype == b.dtype
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def one_line(error: pytest.ExceptionInfo) -> str:
    assert isinstance(error.value, IsthmusError) and "\n" not in str(error.value)
    return str(error.value)


def test_every_kind_of_leaf_comes_back_to_the_bit(tmp_path):
    tree, extra = (
        everything(),
        {"steps": np.int64(2**60), "offset": 12, "versions": {"b": "1", "a": [1.5, None]}},
    )
    path = save(tmp_path, tree, extra=extra, name=7)
    restored, got = load(path, everything())
    assert_same(restored, tree)
    assert got == extra and type(got["steps"]) is int
    assert latest(tmp_path) == (path, []) and verify(path) == digest(path) == digest(
        tree
    ) == digest(restored)


def test_a_tree_may_be_one_leaf_or_none(tmp_path):
    for name, tree in enumerate((np.arange(3), {}, (None, []))):
        assert_same(load(save(tmp_path, tree, extra={}, name=name), tree)[0], tree)


def test_the_kind_of_leaf_is_the_like_trees(tmp_path):
    path = save(tmp_path, {"x": np.arange(3, dtype=np.float32), "n": np.int64(3)}, extra={}, name=0)
    restored, _ = load(path, {"x": jnp.zeros(3), "n": 0})
    assert isinstance(restored["x"], jax.Array) and type(restored["n"]) is int
    restored, _ = load(path, {"x": np.zeros(3, np.float32), "n": np.array(0)})
    assert isinstance(restored["x"], np.ndarray) and restored["n"].shape == ()
    restored["x"][0] = 9.0  # NumPy leaves are the run's own to write to
    assert load(path, restored)[0]["x"][0] == 0.0


def test_training_goes_on_with_the_same_bits_and_no_new_compilation(tmp_path):
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(network, state, key):
        key, draw = jax.random.split(key)
        x = jax.random.normal(draw, (8, 3))
        gradient = jax.grad(lambda net: jnp.mean(mlp(net, x) ** 2))(network)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(network, updates), state, key

    network = init_mlp(jax.random.key(0), (3, 2), 1.0)
    run = begin = (network, optimizer.init(network), jax.random.key(1))
    for _ in range(3):
        run = step(*run)
    resumed, _ = load(save(tmp_path, run, extra={}, name=3), begin)
    for _ in range(3):
        run, resumed = step(*run), step(*resumed)
    assert_same(run, resumed)
    assert step._cache_size() == 1


def test_pieces_are_of_four_mebibytes(tmp_path):
    buffer = np.random.default_rng(0).random((1_200, 1_024))  # 9.4 MiB
    path = save(tmp_path, {"buffer": buffer, "small": np.arange(3)}, extra={}, name=0)
    sizes = sorted(file.stat().st_size for file in path.glob("*.safetensors"))
    assert len(sizes) == 4 and sizes[0] < 1_000 and all(size < 4 * 2**20 + 1_000 for size in sizes)
    assert_same(load(path, {"buffer": buffer, "small": np.arange(3)})[0]["buffer"], buffer)


def test_unchanged_pieces_are_linked(tmp_path, small_pieces):
    first = save(tmp_path, big(), extra={}, name=1)
    second = save(tmp_path, big(changed=35), extra={}, name=2)
    inodes = [
        {file.stat().st_ino for file in path.glob("*.safetensors")} for path in (first, second)
    ]
    assert [len(i) for i in inodes] == [11, 11], "ten pieces of the buffer, one of the small leaves"
    assert len(inodes[0] & inodes[1]) == 9, "all but the changed rows' and the small leaves'"
    for path, tree in ((first, big()), (second, big(changed=35))):
        assert_same(load(path, big())[0], tree)


def test_pieces_are_copied_where_links_are_not_to_be_had(tmp_path, small_pieces, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    save(tmp_path, big(), extra={}, name=1)
    assert_same(load(save(tmp_path, big(), extra={}, name=2), big())[0], big())


def test_a_damaged_piece_is_not_handed_on(tmp_path, small_pieces):
    first = save(tmp_path, big(), extra={}, name=1)
    for file in first.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    assert_same(load(save(tmp_path, big(), extra={}, name=2), big())[0], big())


def test_equal_rows_are_stored_once(tmp_path, small_pieces):
    tree = {"buffer": np.zeros((100, 16))}
    path = save(tmp_path, tree, extra={}, name=1)
    assert len(list(path.glob("*.safetensors"))) == 1
    assert_same(load(path, tree)[0], tree)


def test_older_ones_and_left_futures_are_removed(tmp_path):
    def names():
        return sorted(path.name for path in tmp_path.iterdir())

    for name in (1, 2, 3):
        save(tmp_path, np.arange(name), extra={}, name=name)
    assert names() == ["000000000002", "000000000003"]
    (tmp_path / "000000000003" / "manifest.json").write_text(
        "{"
    )  # so the run goes on from 2, by shorter rounds
    assert latest(tmp_path)[0].name == "000000000002"
    save(tmp_path, np.arange(9), extra={}, name=2)
    assert names() == ["000000000002"], "replaced, and the damaged future is gone"
    assert latest(tmp_path)[1] == []
    save(tmp_path, np.arange(5), extra={}, name=5, keep=1)
    assert names() == ["000000000005"]


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    replace(file, bytes(data))


def replace(file: Path, data: bytes) -> None:
    """A new file, so that what the other checkpoint has linked stays."""
    file.unlink()
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        Path.unlink,
        lambda file: replace(file, b""),
        lambda file: replace(file, file.read_bytes()[:-1]),
        lambda file: replace(file, pickle.dumps({"x": 1})),
        lambda file: replace(file, b'{"format": 1}'),
        lambda file: replace(file, b"[]"),
    ],
)
def test_any_damaged_file_means_the_checkpoint_before(tmp_path, small_pieces, damage):
    first = save(tmp_path / "good", big(), extra={}, name=1)
    second = save(tmp_path / "good", big(changed=35), extra={}, name=2)
    files = [file.name for file in second.iterdir()]
    assert len(files) == 12
    for file in files:
        folder = tmp_path / f"{file}.damaged"
        shutil.copytree(tmp_path / "good", folder)
        damage(folder / second.name / file)
        path, notes = latest(folder)
        assert path == folder / first.name and len(notes) == 1
        assert notes[0].startswith(f"skipped {folder / second.name}: ") and "\n" not in notes[0]
        assert_same(load(path, big())[0], big())
        with pytest.raises(CheckpointError):
            load(folder / second.name, big())


def test_a_changed_manifest_is_noticed(tmp_path):
    """Well-formed JSON that says something else: an offset, a digit of which has changed."""
    path = save(tmp_path, big(), extra={"offset": 123456}, name=1)
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace("123456", "123457"))
    with pytest.raises(CheckpointError) as error:
        load(path, big())
    assert "manifest.json does not have the hash" in one_line(error)


def test_no_good_checkpoint_is_said(tmp_path):
    with pytest.raises(CheckpointError) as error:
        latest(tmp_path / "nowhere")
    assert "holds no good checkpoint" in one_line(error)
    (save(tmp_path, big(), extra={}, name=1) / "manifest.json").write_text("")
    with pytest.raises(CheckpointError) as error:
        latest(tmp_path)
    assert "manifest.json" in one_line(error)


def rewrite(path: Path, change) -> None:
    """A manifest with a hash that fits: what a forger, not a bad disk, would write."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    change(manifest)
    (path / "manifest.json").write_text(
        json.dumps(manifest | {"sha256": checkpoint.hash_json(manifest)})
    )


class Payload:
    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_pickle_is_refused_even_where_all_hashes_fit(tmp_path):
    path = save(tmp_path, {"x": np.arange(3)}, extra={}, name=1)
    trap = tmp_path / "unpickled"
    data = pickle.dumps(Payload(trap))
    (path / checkpoint.piece_name(data)).write_bytes(data)
    rewrite(
        path, lambda manifest: manifest["leaves"][0].update(pieces=[checkpoint.piece_name(data)])
    )
    with pytest.raises(CheckpointError) as error:
        load(path, {"x": np.arange(3)})
    assert "not a safetensors file; a pickle" in one_line(error)
    assert not trap.exists()


def test_a_manifest_that_contradicts_its_pieces_is_refused(tmp_path):
    path = save(tmp_path, {"x": np.arange(4), "y": 1}, extra={}, name=1)
    for change, like in (
        ({"shape": [5]}, np.arange(5)),
        ({"dtype": "float64"}, np.arange(4.0)),
        ({"pieces": []}, np.arange(4)),
    ):
        shutil.copytree(path, forged := path.with_name("forged"))
        rewrite(forged, lambda manifest, change=change: manifest["leaves"][0].update(change))
        with pytest.raises(CheckpointError) as error:
            load(forged, {"x": like, "y": 1})
        assert "leaf ['x']" in one_line(error)
        shutil.rmtree(forged)


def test_another_version_is_refused(tmp_path):
    path = save(tmp_path, big(), extra={}, name=1)
    rewrite(path, lambda manifest: manifest.update(format=2))
    with pytest.raises(CheckpointError) as error:
        load(path, big())
    assert "of format 2" in one_line(error)


@pytest.mark.parametrize(
    ("like", "said"),
    [
        (
            {"a": np.zeros((2, 4)), "k": jax.random.key(0)},
            "leaf ['a'] is array of float64[2, 3] in the checkpoint and ",
        ),
        ({"a": np.zeros((2, 3), np.float32), "k": jax.random.key(0)}, "float32[2, 3] in this run"),
        (
            {"k": jax.random.key(0)},
            "leaf ['a'] is array of float64[2, 3] in the checkpoint and absent in this run",
        ),
        (
            {"a": np.zeros((2, 3)), "b": 1, "k": jax.random.key(0)},
            "leaf ['b'] is absent in the checkpoint and array of int64[] in this run",
        ),
        (
            {"a": np.zeros((2, 3)), "k": jax.random.key(0, impl="rbg")},
            "leaf ['k'] is key<threefry2x32> of uint32[2]",
        ),
        ({"a": np.zeros((2, 3)), "k": np.zeros(2, np.uint32)}, "array of uint32[2] in this run"),
    ],
)
def test_a_run_of_another_shape_is_refused(tmp_path, like, said):
    path = save(tmp_path, {"a": np.zeros((2, 3)), "k": jax.random.key(0)}, extra={}, name=1)
    with pytest.raises(CheckpointError) as error:
        load(path, like)
    assert said in one_line(error)


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        ("text", "leaf ['x'] is a str"),
        (jnp.tanh, "leaf ['x'] is a"),
        (2**70, "beyond 64 bits"),
        (np.array([None]), "object"),
        (np.arange(2, dtype=">i4"), ">i4"),
        (jnp.zeros(2, jnp.bfloat16), "bfloat16"),
        (jnp.asarray(1.0), "weakly typed"),
    ],
)
def test_leaves_that_cannot_be_kept_exactly_are_refused(tmp_path, leaf, said):
    good = save(tmp_path, big(), extra={}, name=1)
    with pytest.raises(CheckpointError) as error:
        save(tmp_path, {"x": leaf}, extra={}, name=2)
    assert said in one_line(error)
    assert latest(tmp_path) == (good, [])


def test_the_first_difference_is_found(tmp_path, small_pieces):
    def pair(first, second):
        paths = [
            save(tmp_path / side, tree, extra={}, name=1)
            for side, tree in (("a", first), ("b", second))
        ]
        return differences(*paths)

    assert pair(everything(), everything()) is None
    found = pair(big(), big(changed=35))
    assert (found.leaf, found.index, found.first, found.second) == (
        "['buffer']",
        (35, 0),
        35 * 16.0,
        -1.0,
    )
    found = pair(
        {"e": np.zeros((0, 2)), "z": np.array([1.0, 0.0])},
        {"e": np.zeros((0, 2)), "z": np.array([1.0, -0.0])},
    )
    assert (found.leaf, found.index, str(found.second)) == ("['z']", (1,), "-0.0")
    assert pair({"n": 3}, {"n": 4}).index == ()
    found = pair({"a": np.zeros(3)}, {"a": np.zeros(4)})
    assert (found.index, found.first, found.second) == (
        None,
        "array of float64[3]",
        "array of float64[4]",
    )
    assert pair({"a": 1}, {"a": 1, "b": 2}).first == "absent"


def test_a_digest_sees_every_bit():
    assert digest({"x": np.float32([0.0])}) == digest({"x": jnp.zeros(1)})
    others = (
        {"x": np.float32([-0.0])},
        {"y": np.float32([0.0])},
        {"x": np.int32([0])},
        {"x": np.float32([[0.0]])},
    )
    assert len({digest(tree) for tree in ({"x": np.float32([0.0])}, *others)}) == 5


class Killed(BaseException):
    """Stands for kill -9: no handler of ours runs after it."""


class Torn:
    """A file of which a write, when its moment comes, leaves half of its bytes."""

    def __init__(self, file, strike):
        self._file, self._strike = file, strike

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        try:
            self._strike()
        except BaseException:
            self._file.write(data[: len(data) // 2])
            raise
        self._file.write(data)


def interrupted(monkeypatch, at: int, failure: BaseException, work) -> tuple[str, int]:
    """What becomes of `work` ("saved", "refused", "killed") while the operating system fails at its
    call number `at`, and at a full disk also at every later call but those that free space; and the
    number of calls.
    """
    calls = 0

    def strike(frees_space=False):
        nonlocal calls
        calls += 1
        if calls == at or (calls > at and isinstance(failure, OSError) and not frees_space):
            raise failure

    def watched(function, frees_space):
        def call(*args, **kwargs):
            strike(frees_space)
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("mkdir", "link", "rename", "fsync", "unlink", "rmdir"):
            patch.setattr(
                os, name, watched(getattr(os, name), frees_space=name in ("unlink", "rmdir"))
            )
        patch.setattr(checkpoint, "open", lambda *args: Torn(open(*args), strike), raising=False)
        try:
            work()
            return "saved", calls
        except CheckpointError as error:
            assert "No space left on device" in str(error) and "\n" not in str(error)
            return "refused", calls
        except Killed:
            return "killed", calls


@pytest.mark.parametrize("name", [2, 3], ids=["replacing", "rising"])
@pytest.mark.parametrize(
    "failure", [Killed(), OSError(errno.ENOSPC, "No space left on device")], ids=["kill", "full"]
)
def test_whatever_stops_a_save_the_last_good_checkpoint_is_there(
    tmp_path, monkeypatch, small_pieces, failure, name
):
    base = tmp_path / "base"
    save(base, big(30), extra={"save": 1}, name=1)
    save(base, big(30, changed=3), extra={"save": 2}, name=2)
    (base / "000000000009.partial").mkdir()  # what an earlier kill left is cleaned on the way
    trees = {2: big(30, changed=3), 3: big(30, changed=17)}
    outcomes = []
    while True:
        folder = tmp_path / str(len(outcomes))
        shutil.copytree(base, folder)
        work = functools.partial(save, folder, trees[3], extra={"save": 3}, name=name)
        outcome, calls = interrupted(monkeypatch, len(outcomes), failure, work)
        outcomes.append(outcome)
        if outcome == "refused":
            assert not (folder / f"{name:012d}.partial").exists(), (
                "what was half written gives its room back"
            )

        path, notes = latest(folder)
        tree, extra = load(path, big(30))
        assert notes == [] and extra["save"] in ((3,) if outcome == "saved" else (2, 3))
        assert_same(tree, trees[extra["save"]])
        for whole in folder.glob("*[!l]"):  # all but *.partial
            verify(whole)

        save(folder, big(30, changed=20), extra={"save": 4}, name=4)
        left = sorted(path.name for path in folder.iterdir())
        assert (
            len(left) == 2 and left[1] == "000000000004" and all(len(name) == 12 for name in left)
        )
        assert verify(folder / left[0]) and verify(folder / left[1]) == digest(big(30, changed=20))
        shutil.rmtree(folder)
        if calls < len(outcomes) - 1:
            break
    assert outcomes[-1] == "saved"
    assert outcomes.count("killed" if isinstance(failure, Killed) else "refused") >= 15


def test_all_is_synced_before_it_gets_its_name(tmp_path, monkeypatch, small_pieces):
    """A machine that loses power, too, must find whole files under a final name."""
    save(tmp_path, big(), extra={}, name=1)
    events = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.fstat(fd).st_ino), fsync(fd)))
    monkeypatch.setattr(os, "rename", lambda *paths: (events.append("renamed"), rename(*paths)))
    path = save(tmp_path, big(changed=35), extra={}, name=2)
    renamed = events.index("renamed")
    new = {file.stat().st_ino for file in path.iterdir() if file.stat().st_nlink == 1}
    assert len(new) == 3 and new == set(events[: renamed - 1]), (
        "two pieces and the manifest; the rest is linked"
    )
    assert events[renamed - 1 :] == [path.stat().st_ino, "renamed", tmp_path.stat().st_ino]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError) as error:
        save(tmp_path / "file" / "checkpoints", big(), extra={}, name=1)
    assert "cannot write the checkpoint" in one_line(error)


def test_a_real_kill(tmp_path):
    """Saves as fast as it can, killed with -9 at several moments: each time the newest checkpoint
    is whole.
    """
    program = """
import sys, numpy as np
from pathlib import Path
from isthmus.training import checkpoint
checkpoint.PIECE = 10_000
start = int(sys.argv[2])
for i in range(start, start + 100_000):
    tree = {"buffer": np.arange(50_000) // 10_000 * i, "i": i}
    checkpoint.save(Path(sys.argv[1]), tree, extra={"i": i}, name=i)
    print(i, flush=True)
"""
    start = 1
    for delay in (0.0, 0.013, 0.031):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), str(start)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        ) as process:
            assert process.stdout is not None
            for _ in range(3):
                said = int(process.stdout.readline())
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        path, notes = latest(tmp_path)
        tree, extra = load(path, {"buffer": np.zeros(50_000, np.int64), "i": 0})
        assert notes == [] and extra["i"] == tree["i"] >= said
        assert_same(tree["buffer"], np.arange(50_000) // 10_000 * tree["i"])
        start = tree["i"] + 1


class Grown(NamedTuple):
    weights: np.ndarray
    paid: np.bool_


class Before(NamedTuple):
    weights: np.ndarray


def test_what_came_later_has_a_default_in_an_older_checkpoint(tmp_path):
    """A version that adds to its state still reads what older ones left; nothing else may be
    missing.
    """
    path = save(tmp_path, {"learner": Before(np.arange(3.0))}, extra={}, name=1)
    like = {"learner": Grown(np.zeros(3), np.bool_(False))}
    with pytest.raises(CheckpointError, match="paid is absent in the checkpoint"):
        load(path, like)
    state, _ = load(path, like, defaults={"paid": np.True_})
    np.testing.assert_array_equal(state["learner"].weights, np.arange(3.0))
    assert state["learner"].paid is np.True_, (
        "what the older version did, and not what a new state begins with"
    )
    with pytest.raises(CheckpointError, match="weights is"):
        load(path, {"learner": Grown(np.zeros(4), np.bool_(False))}, defaults={"paid": np.True_})


# The structure, from which a tree is made without one that is like it


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["weights", "inner"], meta_fields=[]
)
@dataclass(frozen=True)
class Layer:
    weights: np.ndarray
    inner: tuple


@partial(jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=["size"])
@dataclass(frozen=True)
class Sized:
    weights: np.ndarray
    size: int


@dataclass(frozen=True)
class NoTree:
    weights: np.ndarray


HERE = (__name__.partition(".")[0], "optax")


def test_a_tree_is_made_again_from_its_structure(tmp_path):
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    tree = everything() | {
        "optimizer": optimizer.init({"w": jnp.zeros(3)}),
        "dataclass": Layer(np.arange(3.0), (None, [], (), {}, Counters(np.int64(1), 2))),
    }
    path = save(tmp_path, tree, extra={}, name=1)
    assert checkpoint.has_structure(path)
    assert_same(load(path, packages=HERE)[0], tree)
    assert verify(path) == digest(path) == digest(tree), "of the leaves alone"


def test_the_structure_is_in_no_digest(tmp_path):
    path = save(tmp_path, {"a": Counters(np.int64(1), 2)}, extra={}, name=1)
    before = verify(path)
    rewrite(path, lambda manifest: manifest.pop("structure"))
    assert verify(path) == before


def test_an_older_checkpoint_needs_a_tree_that_is_like_it(tmp_path):
    tree = {"a": Counters(np.int64(1), 2)}
    path = save(tmp_path, tree, extra={}, name=1)
    rewrite(path, lambda manifest: manifest.pop("structure"))
    assert not checkpoint.has_structure(path)
    with pytest.raises(CheckpointError) as error:
        load(path, packages=HERE)
    assert "holds no structure" in one_line(error)
    assert_same(load(path, tree)[0], tree)


def test_static_fields_are_not_taken_for_leaves(tmp_path):
    """JAX keeps them beside the leaves, and no checkpoint holds them: the tree that a run makes
    anew has them.
    """
    tree = {"a": Sized(np.arange(3.0), 5)}
    path = save(tmp_path, tree, extra={}, name=1)
    assert not checkpoint.has_structure(path)
    assert load(path, {"a": Sized(np.zeros(3), 5)})[0]["a"].size == 5


def test_classes_that_a_reader_does_not_know_are_told_before_they_are_needed(tmp_path):
    path = save(tmp_path, {"a": Counters(np.int64(1), 2)}, extra={}, name=1)
    assert checkpoint.has_structure(path, HERE) and not checkpoint.has_structure(path, ("optax",))


def test_a_class_that_cannot_be_found_again_is_loaded_as_an_older_version_is(tmp_path):
    class Local(NamedTuple):
        x: np.ndarray

    tree = {"a": Local(np.arange(3))}
    path = save(tmp_path, tree, extra={}, name=1)
    assert not checkpoint.has_structure(path)
    assert_same(load(path, tree)[0], tree)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("os:system", "is no class of a state"),
        ("builtins:dict", "is no class of a state"),
        ("antigravity:Counters", "is no class of a state"),
        ("isthmus.types:UnknownName", "UnknownName is no class of a state"),
        ("isthmus.types:Nothing", "is no class of a state"),
        ("isthmus:train", "is no class of a state"),
        ("isthmus.training.checkpoint:json", "is no class of a state"),
        ("urllib.parse:SplitResult", "is no class of a state"),
        (f"{__name__}:NoTree", "has no field rounds"),
        (f"{__name__}:Before", "has no field rounds"),
        (f"{__name__}:Grown", "has no field rounds"),
    ],
)
def test_a_forged_class_is_neither_imported_nor_called(tmp_path, name, said):
    """What a file names is looked up among what is imported already, of the packages asked for."""
    path = save(tmp_path, Counters(np.int64(1), 2), extra={}, name=1)
    rewrite(path, lambda manifest: manifest["structure"].update({"class": name}))
    before = set(sys.modules)
    with pytest.raises(CheckpointError, match=said) as error:
        load(path, packages=(*HERE, "isthmus"))
    one_line(error)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "structure",
    [
        7, "text", True, [], {}, {"tuple": 3}, {"class": 3, "fields": {}}, {"other": []},
        {"dict": {"x": "pickle"}}, {"dict": {"x": "key"}}, {"dict": {"x": "int"}}, {"dict": {}},
        {"class": f"{__name__}:NoTree", "fields": {"weights": "numpy"}},
        {"dict": {"x": "numpy", "y": "numpy"}}, {"dict": {"y": "numpy"}}, None,
    ],
)  # fmt: skip
def test_a_forged_structure_is_refused_in_a_line(tmp_path, structure):
    path = save(tmp_path, {"x": np.arange(3)}, extra={}, name=1)
    rewrite(path, lambda manifest: manifest.update(structure=structure))
    with pytest.raises(CheckpointError) as error:
        load(path, packages=HERE)
    one_line(error)


def test_a_structure_that_is_too_deep_is_refused_in_a_line(tmp_path):
    path = save(tmp_path, {"x": np.arange(3)}, extra={}, name=1)
    manifest = path / "manifest.json"
    deep = '{"list": [' * 100_000 + "null" + "]}" * 100_000
    manifest.write_text(
        manifest.read_text().replace('"structure": {', f'"structure": {deep}, "x": {{')
    )
    with pytest.raises(CheckpointError) as error:
        load(path, packages=HERE)
    one_line(error)


def test_what_came_later_has_a_default_in_a_structure_too(tmp_path, monkeypatch):
    path = save(tmp_path, {"learner": Before(np.arange(3.0))}, extra={}, name=1)
    later = NamedTuple("Before", [("weights", np.ndarray), ("paid", np.bool_)])
    later.__module__ = __name__
    monkeypatch.setitem(globals(), "Before", later)
    with pytest.raises(CheckpointError, match="paid is absent in the checkpoint"):
        load(path, packages=HERE)
    state, _ = load(path, defaults={"paid": np.True_}, packages=HERE)
    assert type(state["learner"]) is later and state["learner"].paid is np.True_


def test_a_renamed_field_is_found_by_its_name_on_disk(tmp_path, monkeypatch):
    path = save(tmp_path, Before(np.arange(3.0)), extra={}, name=1)
    renamed = NamedTuple("Before", [("parameters", np.ndarray)])
    renamed.__module__ = __name__
    monkeypatch.setitem(checkpoint.STORED_FIELDS, ".parameters", ".weights")
    monkeypatch.setitem(globals(), "Before", renamed)
    tree, _ = load(path, packages=HERE)
    assert type(tree) is renamed and tree.parameters.tolist() == [0, 1, 2]
