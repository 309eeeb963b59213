"""Ray as an executor, on a cluster of two nodes on this machine: the same bits, also where a node
is lost.
"""

# pyright: reportOperatorIssue=false

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jobs
import pytest
import tiny
from comparing import Here, few
from test_executor import SPREAD, wait_for

from isthmus.cli.main import main
from isthmus.training import ray as ours
from isthmus.training import train as loop
from isthmus.training.ray import Ray
from isthmus.training.run import Run
from isthmus.types import IsthmusError

TRAIN = ["train", "es_maml", "-p", "hopper/gravity=x2", "--access=few_shot", "--executor=ray"]


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_without_ray(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    line = refused(capsys, *TRAIN, f"--out={tmp_path / 'run'}")
    assert "pip install 'isthmus[ray]'" in line and not (tmp_path / "run").exists()


def test_a_worker_without_isthmus(monkeypatch):
    do = ours._traveller()
    assert do.__code__.co_freevars == (), "all that it needs travels with it"
    monkeypatch.setitem(sys.modules, "isthmus.training.ray", None)
    assert "cannot import isthmus" in do("", {}, b"")


def test_a_ray_of_ones_own_says_nothing():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'isthmus[ray]'")
    code = (
        "import jobs; from isthmus.training.ray import Ray\nwith Ray(1) as ray: "
        "print(*ray.map(jobs.square, [3]))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert (told.stdout, told.stderr) == ("(0, 9)\n", "")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Any]:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'isthmus[ray]'")
    folder = tmp_path_factory.mktemp("lost")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # where workers find the jobs
        patch.setenv("LOST", str(folder))
        for name, value in ours.QUIET_ENVIRONMENT.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 * 2**20}
        made = Cluster(initialize_head=True, head_node_args=node)
        lost = made.add_node(**node)
        (folder / "node").write_text(lost.node_id)
        yield made, lost, folder
        made.shutdown()


@pytest.fixture(scope="module")
def ray(cluster) -> Iterator[Ray]:
    with Ray(address=cluster[0].address) as executor:
        yield executor


@pytest.mark.parametrize(
    "address", ["HOST:PORT", "ray://HOST:PORT", "nowhere.invalid:6379", "HOST:port"]
)
def test_no_cluster_at_an_address(tmp_path, capsys, monkeypatch, address):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'isthmus[ray]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = address.replace("HOST", "127.0.0.1").replace("PORT", str(free.getsockname()[1]))
        line = refused(capsys, *TRAIN, f"--address={address}", f"--out={tmp_path / 'run'}")
    assert f"no Ray cluster answers at {address}" in line and not (tmp_path / "run").exists()


def test_results_and_where_they_are_made(ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    polls = []
    assert ray.workers == 2
    assert (
        dict(ray.map(jobs.square, range(5), lambda: polls.append(1)))
        == {i: i * i for i in range(5)}
        and polls
    )
    assert dict(ray.map(jobs.environment, [0, 1])) == {0: ("1", "1"), 1: ("1", "1")}
    assert set(dict(ray.map(jobs.place, [0, 1])).values()) == {str(tmp_path)}, (
        "relative paths mean the same"
    )


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        ("value", ValueError, "no such value"),
        ("name", IsthmusError, "unknown colour 'gren'; did you mean green?"),
        ("untellable", RuntimeError, "Untellable: 1 and 2"),
        ("interrupted", KeyboardInterrupt, ""),
    ],
)
def test_a_job_that_fails(ray, tmp_path, what, error, said):
    asked = [(w, tmp_path) for w in (what, "slow", "later", "last")]
    with pytest.raises(error) as raised:
        list(ray.map(jobs.fail, asked))
    assert said in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "last-begun").exists()


def test_a_worker_that_dies(ray, tmp_path):
    assert dict(ray.map(jobs.fail, [("die-once", tmp_path)])) == {0: "die-once"}
    assert (tmp_path / "die-once-begun").read_text() == "2"
    with pytest.raises(IsthmusError, match="Ray lost this work 3 times") as raised:
        list(ray.map(jobs.fail, [("die", tmp_path)]))
    assert "\n" not in str(raised.value) and (tmp_path / "die-begun").read_text() == "3"


def test_other_versions_are_told(ray, monkeypatch):
    monkeypatch.setattr(ours, "_versions", lambda: {"jax": "0.1", "numpy": "0.2"})
    with pytest.raises(
        IsthmusError,
        match=r"a worker on .* has jax .* instead of 0.1, numpy .* instead of 0.2: inst",
    ):
        list(ray.map(jobs.square, [2]))


def test_ctrl_c_lets_what_trains_save(ray, tmp_path):
    def poll() -> None:
        if (tmp_path / "ready").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(ray.map(jobs.fail, [(what, tmp_path) for what in ("saves", "slow", "last")], poll))
    assert (tmp_path / "saved").exists() and not (tmp_path / "last-begun").exists()


def test_seeds_are_the_same(ray, tmp_path, monkeypatch):
    monkeypatch.setattr(
        loop, "EVALUATION_EPISODES", 16
    )  # as a worker, which knows nothing of `tiny`, has it
    made = [few(tmp_path / name, ceiling=False, seeds=1, steps=2 * tiny.ROUND, executor=executor)
            for name, executor in (("ray", ray), ("here", Here()))]  # fmt: skip
    assert made[0].rows == made[1].rows
    a, b = (Run.open(c.folder / "source_only-s0") for c in made)
    assert a.digest == b.digest and tiny.lines(a) == tiny.lines(b)


def test_a_node_lost_amid_a_generation_changes_no_bit(cluster, ray, tmp_path, monkeypatch):
    """Its shard, which has begun, is done again by the other."""
    made, lost, folder = cluster
    monkeypatch.setattr("isthmus.methods.es_maml.PAIRS_PER_SHARD", 1)
    asked, gone = {**SPREAD, "steps": 1200}, []

    def lose() -> None:
        wait_for((folder / "begun").exists)
        made.remove_node(lost, allow_graceful=False)
        gone.append(lost)

    thread = threading.Thread(target=lose)
    thread.start()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "run_shard", jobs.work_or_wait)
        run = tiny.train("es_maml", tmp_path / "ray", executor=ray, **asked)
    thread.join()
    assert gone, "a shard had begun there"
    alone = tiny.train("es_maml", tmp_path / "alone", **asked)
    assert run.digest == alone.digest and tiny.lines(run) == tiny.lines(alone)
    assert int(run.state().round) >= 2
