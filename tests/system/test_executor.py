"""The executor's contract on processes: results, errors, lost workers, Ctrl-C; and trainings that
are spread out.
"""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import jobs
import pytest
import tiny

import isthmus
from isthmus.methods.registry import METHODS, find_method
from isthmus.training import train as loop
from isthmus.training.executor import MAX_WORKERS_A_JOB, Executor, Processes
from isthmus.training.executors import make_executor
from isthmus.training.run import Run
from isthmus.types import BadValue, IsthmusError, UnknownName


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_as_they_end(workers):
    polls = []
    with Processes(workers) as executor:
        results = dict(executor.map(jobs.square, [0, 1, 2, 3, 4], lambda: polls.append(1)))
    assert results == {i: i * i for i in range(5)} and polls


def test_no_jobs():
    assert list(Processes().map(jobs.square, [])) == []


@pytest.mark.parametrize("workers", [0, -1, 10**6])
@pytest.mark.parametrize("kind", ["processes", "ray"])
def test_a_number_of_workers_that_is_none(kind, workers):
    with pytest.raises(BadValue, match="needs a whole number in"):
        make_executor(kind, workers)


def test_an_address_is_a_clusters():
    with pytest.raises(BadValue, match="say --executor ray"):
        make_executor("processes", 2, "auto")


def test_a_worker_computes_on_one_cpu_and_shares_the_threads(monkeypatch):
    monkeypatch.setattr("isthmus.training.executor.count_cpus", lambda: 4)
    monkeypatch.setenv("ISTHMUS_THREADS", "7")  # the parent's own
    with Processes(2) as executor:
        assert dict(executor.map(jobs.environment, [0, 1])) == {0: ("1", "2"), 1: ("1", "2")}
        assert dict(executor.map(jobs.environment, [0])) == {0: ("1", "4")}, "alone it has all"
    assert os.environ["ISTHMUS_THREADS"] == "7"


def test_workers_stay_until_they_are_closed():
    with Processes(2) as executor:
        first, second = (set(dict(executor.map(jobs.number, [0.1] * 2)).values()) for _ in range(2))
        assert first == second and len(first) == 2
        assert all(alive(number) for number in first)
    assert not any(alive(number) for number in first)
    (later,) = dict(executor.map(jobs.number, [0.0])).values()
    assert later not in first, "closed is not the end"
    executor.close()
    assert not alive(later)


def alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        ("value", ValueError, "no such value"),
        ("name", IsthmusError, "unknown colour 'gren'; did you mean green?"),
        ("untellable", RuntimeError, "Untellable: 1 and 2"),
        ("die", IsthmusError, "a worker process was killed (Killed)"),
        ("leave", IsthmusError, "a worker process was killed (exit status 7)"),
        ("interrupted", KeyboardInterrupt, ""),
    ],
)
def test_a_job_that_fails(tmp_path, what, error, said):
    """Its own error comes back, and jobs that had not begun never do."""
    asked = [(w, tmp_path) for w in (what, "good", "later", "last")]
    with Processes(1) as executor, pytest.raises(error) as raised:
        list(executor.map(jobs.fail, asked))
    assert said in str(raised.value) and "\n" not in str(raised.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{what}-begun"]


def test_a_result_that_cannot_travel():
    with Processes(1) as executor:
        with pytest.raises(Exception, match="pickle"):
            list(executor.map(jobs.untellable, [0]))
        assert dict(executor.map(jobs.square, [3])) == {0: 9}, "the worker is none the worse"


def test_a_job_beside_one_that_fails_ends_first(tmp_path):
    with Processes(2) as executor:
        with pytest.raises(ValueError):
            list(executor.map(jobs.fail, [(w, tmp_path) for w in ("slow", "value", "later")]))
        assert (tmp_path / "slow-ended").exists() and not (tmp_path / "later-begun").exists()
        assert dict(executor.map(jobs.square, [2, 3])) == {0: 4, 1: 9}


def test_one_that_fails_as_another_ends(tmp_path):
    """Both are told of at once: neither is waited for again."""
    with Processes(2) as executor:
        assert len(dict(executor.map(jobs.square, [1, 2]))) == 2  # both workers are there
        with pytest.raises(ValueError):
            list(
                executor.map(
                    jobs.fail,
                    [(w, tmp_path) for w in ("value", "good")],
                    poll=lambda: time.sleep(1.0),
                )
            )
        assert dict(executor.map(jobs.square, [2, 3])) == {0: 4, 1: 9}


def test_what_is_no_longer_asked_for_is_dropped(tmp_path):
    with Processes(1) as executor:
        results = executor.map(jobs.fail, [(w, tmp_path) for w in ("good", "slow", "later")])
        assert next(results) == (0, "good")
        results.close()
        assert not (tmp_path / "later-begun").exists()
        assert dict(executor.map(jobs.square, [2])) == {0: 4}


def test_a_lost_workers_job_is_done_again(tmp_path):
    """The one beside it goes on; one that dies of every job is given up after so many."""
    with Processes(2) as executor:
        asked = [("die-once", tmp_path), ("slow", tmp_path)]
        assert dict(executor.map(jobs.fail, asked)) == {0: "die-once", 1: "slow"}
        assert (tmp_path / "slow-begun").read_text() == "1" and (
            tmp_path / "die-once-begun"
        ).read_text() == "2"
        with pytest.raises(IsthmusError, match=f"as were the {MAX_WORKERS_A_JOB - 1} before it"):
            list(executor.map(jobs.fail, [("die", tmp_path)]))
        assert (tmp_path / "die-begun").read_text() == str(MAX_WORKERS_A_JOB)
        (first,) = dict(executor.map(jobs.number, [0.0])).values()
        os.kill(first, signal.SIGKILL)
        (second,) = dict(executor.map(jobs.number, [0.0])).values()
        assert second != first, "one killed while idle is replaced"


PARENT = """
import signal
import sys
from pathlib import Path
import jobs
from isthmus.training.executor import Processes

folder = Path(sys.argv[1])
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it as ignored
    list(Processes(2).map(jobs.fail, [("saves", folder), ("slow", folder), ("later", folder)]))
"""  # noqa: E501


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_stop_with_their_parent(tmp_path, number):
    """What trains saves first; nothing new begins; no process is left. Ctrl-C reaches the whole
    group of processes.
    """
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, script, tmp_path],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for((tmp_path / "ready").exists)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, said = process.communicate(
        timeout=60
    )  # ends when all that hold the pipe have ended: workers too
    assert process.returncode != 0
    wait_for((tmp_path / "saved").exists)
    wait_for(lambda: not group(process.pid))
    assert not (tmp_path / "later-begun").exists()
    assert said.count("Traceback") == (number == signal.SIGINT), (
        "the parent's own, which the command line catches"
    )


def test_workers_that_nobody_closed_end_with_the_process():
    done = tiny.process(
        [sys.executable, "-c", "import jobs; from isthmus.training.executor import Processes as P\n"
         "p = P(2); print(dict(p.map(jobs.square, [2, 3])))"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "") and eval(done.stdout) == {0: 4, 1: 9}


WHERE = os.pathsep.join([*sys.path[1:], str(Path(__file__).parents[1])])


def script(folder: Path, text: str) -> tuple[int, str, str]:
    """Run a script that uses workers; its status, output and last line of complaint."""
    path = folder / "script.py"
    path.write_text(
        f"import sys\nimport jobs\nfrom isthmus.training.executor import Processes\n{text}"
    )
    done = tiny.process([sys.executable, path], env={**os.environ, "PYTHONPATH": WHERE}, timeout=60)
    return done.returncode, done.stdout, (done.stderr.splitlines() or [""])[-1]


ASKING = "list(Processes(2).map(jobs.square, [2, 3]))\n"


@pytest.mark.parametrize(
    "text",
    [
        f"print({ASKING.strip()})",
        f"def main():\n    print({ASKING.strip()})\nmain()",
        f"if len(sys.argv) == 1:\n    print({ASKING.strip()})",
        f'if __name__ == "__main__":\n    sys.argv.append("x")\nprint({ASKING.strip()})',
    ],
)
def test_a_script_without_a_main_guard_is_told_so(tmp_path, text):
    """Before anything begins: a worker would do all of the script again."""
    code, output, last = script(tmp_path, f"print('once')\n{text}\n")
    assert code != 0 and output.split() == ["once"]
    assert 'put what it does under if __name__ == "__main__":' in last and "script.py:" in last
    assert "memory" not in last


@pytest.mark.parametrize(
    "text",
    [
        f'if __name__ == "__main__":\n    print(sorted({ASKING.strip()}))',
        f'try:\n    if __name__ == "__main__":\n        '
        f"print(sorted({ASKING.strip()}))\nfinally:\n    pass",
        f'if "x" != "y" and "__main__" == __name__:\n    for _ in "x":\n        '
        f"print(sorted({ASKING.strip()}))",
        f'def main():\n    print(sorted({ASKING.strip()}))\nif __name__ == "__main__":\n    main()',
    ],
)
def test_a_script_with_a_main_guard_is_let_be(tmp_path, text):
    assert script(tmp_path, text) == (0, "[(0, 4), (1, 9)]\n", "")


def test_a_package_run_by_its_name_needs_no_guard(tmp_path):
    """`python -m package`: workers do not import its `__main__` again."""
    package = tmp_path / "robots"
    package.mkdir()
    (package / "__main__.py").write_text(
        f"import jobs\nfrom isthmus.training.executor import "
        f"Processes\nprint(sorted({ASKING.strip()}))\n"
    )
    done = tiny.process(
        [sys.executable, "-m", "robots"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": WHERE},
        timeout=60,
    )
    assert done.stdout == "[(0, 4), (1, 9)]\n", done.stderr


def test_a_worker_that_cannot_begin_is_not_out_of_memory(tmp_path):
    """What the script does outside of its guard fails where it is done again; it is not tried three
    times.
    """
    trace = tmp_path / "trace"
    text = (
        f"open({str(trace)!r}, 'a').write('x')\nif __name__ != '__main__':\n    raise "
        f"OSError('no robot here')\n"
    )
    text += f'if __name__ == "__main__":\n    {ASKING}'.replace("Processes(2)", "Processes(1)")
    code, _, last = script(tmp_path, text)
    assert (
        code != 0
        and "a worker process could not begin (exit status 1)" in last
        and "memory" not in last
    )
    assert trace.read_text() == "xx"


OWN = """
import isthmus
from isthmus.tasks import task
from isthmus.tasks.hopper import Hopper

class Mine(Hopper):
    name = "mine_alone"
"""
REGISTERED = (
    OWN + "\ntask.register(Mine)\nassert task.find_task('mine_alone').name == 'mine_alone'\n"
)


def test_a_task_of_a_notebook_is_told_where_it_belongs(tmp_path):
    """Known where it is registered, unknown to workers: the way out is told by them, and by a
    process that resumes.
    """
    code = f"{REGISTERED}\nimport jobs\nfrom isthmus.training.executor import Processes\n"
    code += (
        "try:\n    list(Processes(1).map(jobs.find_task, ['mine_alone']))\nexcept "
        "Exception as e:\n    print(e)"
    )
    done = tiny.process(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": WHERE}, timeout=60
    )
    assert done.stdout.startswith("unknown task 'mine_alone'") and done.stdout.count("\n") == 1, (
        done.stderr
    )
    assert "put the task in a file of its own and name that with --import" in done.stdout
    with pytest.raises(UnknownName, match="a task of your own: name its file with --import"):
        jobs.find_task("mine_alone")
    (tmp_path / "mine.py").write_text(REGISTERED.replace("mine_alone", "mine_in_a_file"))
    with Processes(1) as executor:
        assert dict(
            executor.map(jobs.import_and_find, [(str(tmp_path / "mine.py"), "mine_in_a_file")])
        ) == {0: "mine_in_a_file"}


UNGUARDED = """
import isthmus
isthmus.train("evolution", isthmus.problem("ball/ball_mass=2"), steps=64, out=OUT, quiet=True, executor=Processes(2))
"""  # noqa: E501
GUARDED = """
if __name__ == "__main__":
    exec(TASK)
    import isthmus
    problem = isthmus.problem("mine_alone/gravity=x0.5")
    isthmus.train("evolution", problem, steps=64, out=OUT, quiet=True, executor=Processes(2))
"""


@pytest.mark.parametrize(("text", "why"), [(UNGUARDED, "main guard"), (GUARDED, "unknown task")])
def test_what_workers_cannot_do_leaves_no_run_behind(tmp_path, text, why):
    """Said before there is a folder that would be in the way of the right command."""
    out = tmp_path / "run"
    code, _, last = script(tmp_path, f"OUT, TASK = {str(out)!r}, {REGISTERED!r}\n{text}")
    told = {
        "main guard": 'put what it does under if __name__ == "__main__":',
        "unknown task": "unknown task",
    }
    assert code != 0 and told[why] in last
    assert not out.exists()


def group(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(when: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not when():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Trainings


SPREAD = {"settings": tiny.settings("es_maml") | {"pairs": 3}, "steps": 2500}


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Run:
    """Some generations in one process."""
    run = tiny.train("es_maml", tmp_path_factory.mktemp("es") / "run", **SPREAD)
    assert int(run.state().round) >= 2
    return run


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr("isthmus.methods.es_maml.PAIRS_PER_SHARD", 1)


@contextmanager
def after_one():
    """In place of `stop_requested`: asked to stop in the first round."""
    asked = iter([False, True])
    yield lambda: next(asked)


def test_processes_change_no_bit(alone, tmp_path, small_shards, monkeypatch):
    """A generation in one process, one other, two others; one of them killed on the way; stopped
    and resumed on two.
    """
    with Processes(1) as executor:
        one = tiny.train("es_maml", tmp_path / "one", executor=executor, **SPREAD)
        assert one.digest == alone.digest and tiny.lines(one) == tiny.lines(alone)
    with Processes(2) as executor:
        with monkeypatch.context() as patch:
            patch.setattr(loop, "stop_requested", after_one)
            assert not tiny.train("es_maml", tmp_path / "two", executor=executor, **SPREAD).finished
        executor._idle[0].process.kill()
        two = isthmus.resume(tmp_path / "two", quiet=True, executor=executor)
    assert two.digest == alone.digest


class Here(Executor):
    """The contract without processes; results in an order that nobody may rely on."""

    workers = 2

    def map(self, function, jobs, poll=None):
        for i in reversed(range(len(jobs))):
            yield i, function(pickle.loads(pickle.dumps(jobs[i])))


@pytest.mark.parametrize("method", [name for name in METHODS if find_method(name).shares_rounds])
def test_what_is_sent_is_enough_and_cannot_touch_the_target(
    monkeypatch, tmp_path, small_shards, method
):
    asked = {"settings": tiny.settings(method) | {"pairs": 3}, "steps": 900}
    alone = tiny.train(method, tmp_path / "alone", **asked)
    met = []
    work = find_method(method).work
    monkeypatch.setattr(
        find_method(method), "work", lambda self, p, s: (met.append(p), work(self, p, s))[1]
    )
    run = tiny.train(method, tmp_path / "run", executor=Here(), **asked)
    assert run.digest == alone.digest
    assert len(met) == 3 * int(run.state().round) and {p.access for p in met} == {"none"}
    assert {p.randomized_source for p in met} == {run.problem.randomized_source}


def test_a_method_that_cannot_be_spread_is_said_before_anything_begins(tmp_path):
    with pytest.raises(BadValue, match=r"source_only does its rounds in one process, .*es_maml"):
        tiny.train("source_only", tmp_path / "run", executor=Processes(2))
    assert not (tmp_path / "run").exists()
    run = tiny.train("source_only", tmp_path / "run", 2, executor=Processes(1))
    with pytest.raises(BadValue, match="source_only does its rounds in one process"):
        isthmus.resume(run.folder, executor=Processes(2))


def test_a_users_robot_is_imported_by_the_workers(tmp_path, small_shards, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(ROBOT)
    from isthmus.tasks.imports import import_files

    import_files(["mine.py"])
    problem = isthmus.problem(
        "my_hopper/gravity=x2", access="few_shot", uncertainty="torso_mass=1..9"
    )
    asked = {**SPREAD, "problem": problem, "imports": ("mine.py",), "steps": 700}
    with Processes(2) as executor:
        run = tiny.train("es_maml", tmp_path / "run", executor=executor, **asked)
    assert run.digest == tiny.train("es_maml", tmp_path / "alone", **asked).digest


ROBOT = """
from isthmus.tasks.hopper import Hopper
from isthmus.tasks.task import register

@register
class MyHopper(Hopper):
    name = "my_hopper"
"""


def test_a_stopped_generation_is_saved_whole(tmp_path):
    """Ctrl-C to the whole group while workers share a generation: saved, one line, no process left;
    resume goes on.
    """
    command = [
        sys.executable,
        "-m",
        "isthmus",
        "train",
        "es_maml",
        "-p",
        "hopper/gravity=x2",
        "--access=few_shot",
        "--uncertainty=torso_mass=1..9",
        "--workers=2",
        f"--out={tmp_path / 'run'}",
        "--steps=100000000",
        *(f"--set={k}={v}" for k, v in SPREAD["settings"].items()),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count('"round"') >= 2)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped and saved; go on with: isthmus resume" in said
    assert "Traceback" not in said
    wait_for(lambda: not group(process.pid))
    run = Run.open(tmp_path / "run")
    assert int(run.state().round) == sum(row["kind"] == "round" for row in run.metrics()) >= 2
