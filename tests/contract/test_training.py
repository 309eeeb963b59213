"""The training loop: the same bits again, what it logs, evaluates, saves and tells."""

from __future__ import annotations

import io
import json
import platform
import threading

import jax
import numpy as np
import pytest
import tiny
from rich.console import Console

import isthmus
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.evaluation.evaluate import SEED
from isthmus.methods.registry import METHODS
from isthmus.tasks.imports import import_files
from isthmus.training import checkpoint, progress
from isthmus.training import train as loop
from isthmus.training.progress import Progress
from isthmus.training.run import FORMAT, Run, cpu_kind, new_folder, versions
from isthmus.types import BadValue

EPISODE_STEPS = 2 * 100  # of the ball's first evaluation, in either domain, at most
HEALTH = {
    "explained_variance",
    "kl",
    "clip_fraction",
    "entropy",
    "policy_loss",
    "value_loss",
    "seconds",
    "episodes",
}


@pytest.fixture
def run() -> Run:
    return tiny.trained("source_only")


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_same_seed_gives_the_same_bits(run, tmp_path, monkeypatch, threads):
    """On one MuJoCo thread and on two, from simulations made anew."""
    monkeypatch.setenv("ISTHMUS_THREADS", threads)
    tiny.forget_simulations()
    again = tiny.train("source_only", tmp_path / "run")
    tiny.forget_simulations()
    assert checkpoint.differences(run.checkpoint()[0], again.checkpoint()[0]) is None
    assert tiny.lines(again) == tiny.lines(run)


def test_another_seed_gives_others(run, tmp_path):
    other = tiny.train("source_only", tmp_path / "run", seed=1)
    assert other.digest != run.digest


def test_a_rounds_line(run):
    rounds = [row for row in run.metrics() if row["kind"] == "round"]
    assert [row["source_steps"] for row in rounds] == [i * tiny.ROUND for i in range(2, 7)]
    for row in rounds:
        assert row.keys() >= HEALTH and row["target_transitions"] == 0
        assert all(np.isfinite(value) for value in row.values() if not isinstance(value, str))
    assert any("training_return" in row for row in rounds)


@pytest.mark.parametrize("rounds", [3, 13, 24])
def test_evaluations_are_spread_evenly(tmp_path, monkeypatch, rounds):
    """The first before any round; then at most ten, each as soon as its share of the steps is done,
    the last at the end.
    """
    monkeypatch.setattr(loop, "_evaluate", lambda *_: {"source_return": 1.0})
    run = tiny.train("source_only", tmp_path / "run", rounds, evaluations=10)
    first, *told = [row["source_steps"] for row in tiny.lines(run) if row["kind"] == "evaluation"]
    steps = [i * tiny.ROUND for i in range(2, rounds + 1)]
    total = rounds * tiny.ROUND
    due = {next(s for s in steps if s * 10 >= k * total) for k in range(1, 11)}
    assert told == sorted(due) and told[-1] == total and len(told) == min(10, len(steps))
    assert first == tiny.ROUND and tiny.lines(run)[0]["kind"] == "evaluation"


def test_the_first_evaluation_is_of_the_initial_policy(run):
    first = tiny.lines(run)[0]
    initial = isthmus.evaluate(
        run.method.policy(run.initial()), run.problem.target, loop.EVALUATION_EPISODES, SEED + 1
    )
    assert first["target_return"] == pytest.approx(initial.mean, rel=1e-5)


def test_evaluation_is_in_both_domains_with_seeds_of_its_own(run):
    last = [row for row in tiny.lines(run) if row["kind"] == "evaluation"][-1]
    for name, domain in (("source", run.problem.source), ("target", run.problem.target)):
        e = isthmus.evaluate(run.policy, domain, loop.EVALUATION_EPISODES, seed=SEED + 1).episodes
        assert last[f"{name}_return"] == pytest.approx(e.returns.mean(), rel=1e-5)
        assert last[f"{name}_length"] == pytest.approx(e.lengths.mean(), rel=1e-5)
    assert SEED >= 2**24, "far from the seeds that people train with"


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (["X86_V3", "X86_V4", "AVX512_ICL"], "m AVX512"),  # NumPy 2.4
        (["SSE41", "AVX2", "AVX512F", "AVX512_SKX"], "m AVX512"),  # NumPy 2.2
        (["X86_V3"], "m AVX2"),
        (["SSE41", "FMA3", "AVX2"], "m AVX2"),
        (["SSE41"], "m"),
        (["NEON", "ASIMDHP"], "m"),
    ],
)
def test_the_kind_of_cpu_is_told(found, kind, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "m")
    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": {"found": found}})
    assert cpu_kind() == versions()["cpu"] == kind


def test_what_the_folder_holds(run):
    kept = {"run.json", "metrics.jsonl", "checkpoints", "best", "finished.json"}
    assert {p.name for p in run.folder.iterdir()} == kept
    config = json.loads((run.folder / "run.json").read_text())
    assert config["format"] == FORMAT and config["settings"]["learner.hidden"] == [64, 64]
    assert (
        config["settings"]["learner.worlds"] == 8
        and config["seed"] == 0
        and config["steps"] == 6 * tiny.ROUND
    )
    assert config["problem"]["target"] == "hopper/gravity=19.62" and config["start"] is None
    depends = {"isthmus", "jax", "mujoco", "numpy", "scipy", "python", "NPROC", "cpu"}
    assert depends <= config["versions"].keys()
    finished = json.loads((run.folder / "finished.json").read_text())
    assert finished == {
        "digest": run.digest,
        "source_steps": 6 * tiny.ROUND,
        "target_transitions": 0,
    }
    state, extra, notes = run.restore()
    assert notes == [] and extra["metrics_offset"] == (run.folder / "metrics.jsonl").stat().st_size
    assert int(state.source_steps) == 6 * tiny.ROUND


def test_checkpoints_are_saved_on_the_way_and_two_are_kept(tmp_path, monkeypatch):
    saved = []
    save = checkpoint.save

    def watched(folder, tree, **named):
        if folder.name == "checkpoints":  # and not the best, which is saved as it is found
            saved.append(named["name"])
        return save(folder, tree, **named)

    monkeypatch.setattr(checkpoint, "save", watched)
    tiny.train("source_only", tmp_path / "rare", 5)
    assert saved == [tiny.ROUND, 5 * tiny.ROUND], "under twenty seconds: the first and the last"
    saved.clear()
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)
    run = tiny.train("source_only", tmp_path / "often", 5)
    assert saved == [i * tiny.ROUND for i in range(1, 6)]
    kept = sorted(p.name for p in (run.folder / "checkpoints").iterdir())
    assert kept == [f"{i * tiny.ROUND:012d}" for i in (4, 5)]
    assert run.digest == Run.open(tmp_path / "rare").digest, "saving changes nothing"


def test_steps_are_whole_rounds(tmp_path):
    for steps, done in ((1, tiny.ROUND), (tiny.ROUND + 1, 2 * tiny.ROUND)):
        run = tiny.train("source_only", tmp_path / str(steps), steps=steps)
        assert run.finished and int(run.state().source_steps) == done


@pytest.mark.parametrize("method", tiny.each(METHODS))
def test_a_run_gives_its_policy(method):
    """By every method, from its files alone."""
    run = tiny.trained(method)
    tiny.forget_simulations()
    policy = Run.open(run.folder).policy
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), policy, run.method.policy(run.state()))
    assert all(jax.tree.leaves(same))
    action, _ = policy.act(policy.memory(), np.zeros(11, np.float32))
    assert action.shape == (3,) and np.isfinite(action).all()


@pytest.mark.parametrize(("method", "learner"), [("source_only", "ppo"), ("matl", "trpo")])
def test_a_run_that_left_something_else_cannot_be_started_from(tmp_path, method, learner):
    """PPO's state for a TRPO, two agents for one: one line."""
    tiny.train(method, tmp_path / "first", 3, settings=tiny.settings(method) | {"learner": learner})
    with pytest.raises(BadValue, match=r"left a (PPOState|Agents), this run needs a TRPOState"):
        tiny.train("matlf", tmp_path / "second", start=tmp_path / "first")
    assert not (tmp_path / "second").exists(), (
        "what is left behind would be in the way of the right command"
    )


@pytest.mark.parametrize("name", ["source_only", "dap"])
def test_it_is_said_where_sac_only_acted_at_random(tmp_path, capsys, name):
    settings = {
        "learner": "sac",
        **tiny.settings(name),
        **tiny.SAC,
        "learner.random_steps": 100 * tiny.ROUND,
    }
    settings = {k: v for k, v in settings.items() if not k.startswith("learner.") or k in tiny.SAC}
    tiny.train(name, tmp_path / "run", 2, settings=settings, quiet=False)
    assert (
        "nothing was learned: SAC acts at random for its first 12,800 steps"
        in capsys.readouterr().err
    )


@pytest.mark.full
def test_what_starts_may_have_another_replay(tmp_path):
    """Its capacity is the method's own."""
    settings = {"learner": "sac", **tiny.SAC}
    tiny.train("source_only", tmp_path / "first", 2, settings=settings)
    larger = {**tiny.settings("h2o"), "learner.capacity": 1000}
    run = tiny.train("h2o", tmp_path / "second", 2, settings=larger, start=tmp_path / "first")
    assert run.state().learner.sac.replay.capacity == 1000


@pytest.mark.parametrize(
    ("first", "second"), [("darc", "darc"), ("dap_inverse", "dap_inverse"), ("dap_inverse", "darc")]
)
def test_a_start_from_a_method_that_holds_more_than_its_learner(tmp_path, first, second):
    """Its SAC goes on, unless what acts in the source is another policy than the one that it
    deploys.
    """
    left = tiny.train(first, tmp_path / "first", 3)
    if second != first:
        with pytest.raises(
            BadValue, match="acts by another policy in the source than the one that it deploys"
        ):
            tiny.train(second, tmp_path / "second", start=tmp_path / "first")
        return
    begun = tiny.train(second, tmp_path / "second", 1, start=tmp_path / "first").initial()
    assert checkpoint.digest(begun.learner.sac.learned.actor) == checkpoint.digest(
        left.state().learner.sac.learned.actor
    )
    assert checkpoint.digest(left.method.policy(begun)) == checkpoint.digest(left.policy), (
        "what it deploys"
    )


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        ("source_only", "learner.minibatch"),
        ("rl2", "learner.sequence"),
        ("matl", "learner.minibatch"),
        ("target_only", "learner.minibatch"),
        ("garat", "transformer.minibatch"),
    ],
)
def test_a_run_that_could_not_learn_leaves_no_folder(tmp_path, method, setting):
    with pytest.raises(BadValue, match="round's"):
        tiny.train(method, tmp_path / "run", settings=tiny.settings(method) | {setting: 513})
    assert not (tmp_path / "run").exists()


ROBOT = """
import numpy as np
from isthmus.tasks.task import Task, register

@register
class {name}(Task):
    name = "{task}"
    model = {model!r}
    frame_skip = 1
    time_limit = 20
    observation_names = ("angle", "speed")

    def start(self, simulator, random):
        qpos = random.uniform(-0.1, 0.1, 1)
        return qpos, np.zeros_like(qpos)

    def remember(self, view):
        return np.empty((len(view.ids), 0))

    def observe(self, view):
        {observe}

    def rewards(self, view, memory, action):
        return {{"speed": view.qvel[:, 0]}}

    def progress(self, view):
        return view.qpos[:, 0]
"""


def own_task(
    tmp_path,
    name: str,
    model: str,
    observe: str = "return np.concatenate([view.qpos, view.qvel], 1)",
) -> str:
    """The name of a task of one's own, of which the file is written and imported."""
    file = tmp_path / f"{name}.py"
    file.with_suffix(".xml").write_text(model)
    file.write_text(
        ROBOT.format(
            name=name, task=f"{name}_early", model=str(file.with_suffix(".xml")), observe=observe
        )
    )
    import_files([str(file)])
    return f"{name}_early"


GOOD_MODEL = """<mujoco><worldbody><body><joint name="hip"/><geom size=".1"/></body></worldbody>
<actuator><motor joint="hip" ctrlrange="-1 1" ctrllimited="true"/></actuator></mujoco>"""


def test_a_task_that_fails_at_its_first_step_leaves_no_folder(tmp_path):
    """Nor the folders above that were made for it."""
    task = own_task(tmp_path, "Stumbling", GOOD_MODEL, observe="raise IndexError('of my own')")
    with pytest.raises(Exception, match="of my own"):
        tiny.train("source_only", tmp_path / "runs" / "deep" / "run", problem=isthmus.problem(task))
    assert not (tmp_path / "runs").exists()


def test_an_engine_that_refuses_a_model_leaves_no_folder(tmp_path):
    """MuJoCo's batch has no worlds that sleep where it keeps none."""
    model = GOOD_MODEL.replace("<mujoco>", '<mujoco><option><flag sleep="enable"/></option>')
    task = own_task(tmp_path, "Sleeping", model)
    (tmp_path / "run").mkdir()
    with pytest.raises(Exception, match=r"persistent|sleep"):
        tiny.train("source_only", tmp_path / "run", problem=isthmus.problem(task))
    assert list((tmp_path / "run").iterdir()) == [], (
        "the folder was there before: it stays, as empty as it was"
    )


def test_a_file_that_came_meanwhile_is_not_removed(tmp_path, monkeypatch):
    def initial(run: Run):
        (run.folder / "notes.txt").write_text("mine")
        raise MemoryError

    monkeypatch.setattr(Run, "initial", initial)
    with pytest.raises(MemoryError):
        tiny.train("source_only", tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_run_that_fails_once_it_has_begun_stays(tmp_path, monkeypatch):
    step, calls = PhysicsSimulation.step, 0

    def breaks(self, *given, **actions):
        nonlocal calls
        calls += 1
        if calls > 16 + EPISODE_STEPS:  # the random steps and the first evaluation
            raise IndexError("late")
        return step(self, *given, **actions)

    monkeypatch.setattr(PhysicsSimulation, "step", breaks)
    with pytest.raises(IndexError, match="late"):
        tiny.train("source_only", tmp_path / "run", 40, problem=isthmus.problem("ball"))
    left = Run.open(tmp_path / "run")
    assert left.begun and not left.finished
    monkeypatch.undo()
    assert isthmus.resume(left.folder, quiet=True).finished


def test_a_disk_that_refuses_the_first_checkpoint_leaves_what_can_be_resumed(tmp_path, monkeypatch):
    def refused(*given, **named):
        raise checkpoint.CheckpointError("make room, then resume the run")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", refused)
        with pytest.raises(checkpoint.CheckpointError):
            tiny.train("source_only", tmp_path / "run", 1)
    assert isthmus.resume(tmp_path / "run", quiet=True).finished


@pytest.mark.parametrize(
    "given", [lambda run: run, lambda run: run.folder, lambda run: str(run.folder)]
)
def test_a_start(run, tmp_path, given):
    """The learner goes on from where the other stopped; the worlds and the optimizer are new."""
    begun = tiny.train("source_only", tmp_path / "run", steps=1, start=given(run))
    first, last = begun.state().learner, run.state().learner
    assert begun.config["start"] == str(run.folder)
    kept = ("actor", "critic", "log_std")
    rounds = [row for row in tiny.lines(begun) if row["kind"] == "round"]
    assert [row["source_steps"] for row in rounds] == [tiny.ROUND], "no random steps first"
    assert any(
        not np.array_equal(a, b)
        for name in kept
        for a, b in zip(
            jax.tree.leaves(getattr(first.networks, name)),
            jax.tree.leaves(getattr(last.networks, name)),
            strict=True,
        )
    ), "it learned"
    assert int(first.obs_moments.count) == int(last.obs_moments.count) + tiny.ROUND


def test_no_steps_deploy_what_another_run_left(run, tmp_path, capsys):
    """A method that adapts, from a policy that is there: nothing is trained, and nothing said of
    it.
    """
    begun = tiny.train("few_shot_ppo", tmp_path / "run", steps=0, start=run, quiet=False)
    assert begun.finished and int(begun.state().source_steps) == 0
    assert [row["kind"] for row in tiny.lines(begun)] == ["evaluation"]
    assert checkpoint.digest(begun.policy) == checkpoint.digest(run.policy)
    assert "nothing was learned" not in capsys.readouterr().err
    with pytest.raises(BadValue, match="or 0 to deploy what --start left"):
        tiny.train("few_shot_ppo", tmp_path / "other", steps=0)


def test_diverged_worlds_are_kept_and_told(tmp_path, monkeypatch):
    step, calls = PhysicsSimulation.step, 0

    def blows_up(self, ids, memory, **actions):
        nonlocal calls
        calls += 1
        result = step(self, ids, memory, **actions)
        if calls == 40:
            result = result._replace(diverged=result.diverged.copy())
            result.diverged[2] = True
            result.observation[2], result.reward[2] = np.nan, np.inf
        return result

    said: list[str] = []
    monkeypatch.setattr(PhysicsSimulation, "step", blows_up)
    monkeypatch.setattr(loop, "_evaluate", lambda *_: {})  # the 40th step is one of training
    monkeypatch.setattr(Progress, "note", staticmethod(said.append))
    run = tiny.train("source_only", tmp_path / "run", quiet=False)
    assert said == [
        f"1 worlds diverged and began anew; their last states are in {run.folder / 'diverged'}"
    ]
    with np.load(run.folder / "diverged" / "0.npz", allow_pickle=False) as kept:
        assert kept["times"].tolist() == [1] and np.isfinite(kept["rows"]).all()
        assert kept["rows"].shape == (1, run.state().worlds.rows.shape[1])
    leaves = jax.tree.leaves(run.state())
    assert all(np.isfinite(leaf).all() for leaf in leaves), "it poisoned nothing"
    assert run.state().worlds.diverged.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]


def test_training_in_a_thread(tmp_path, run):
    """Signals belong to the main thread; elsewhere the loop goes without them."""
    done: list[Run] = []
    thread = threading.Thread(
        target=lambda: done.append(tiny.train("source_only", tmp_path / "run"))
    )
    thread.start()
    thread.join()
    assert done[0].digest == run.digest


# What a person sees


def screen(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=text, force_terminal=terminal, width=120))
    return text


def test_a_bar_on_a_terminal(tmp_path, monkeypatch):
    text = screen(monkeypatch, terminal=True)
    tiny.train("source_only", tmp_path / "run", quiet=False)
    seen = text.getvalue()
    assert (
        "source_only s0" in seen
        and "100 %" in seen
        and "steps/s" in seen
        and "return " in seen
        and "left" in seen
    )


def test_lines_elsewhere(tmp_path, monkeypatch):
    text = screen(monkeypatch, terminal=False)
    run = tiny.train("target_only", tmp_path / "run", quiet=False)
    last = [row for row in tiny.lines(run) if row["kind"] == "evaluation"][-1]
    line = text.getvalue().splitlines()[-1]
    assert line == (
        f"target_only s0: 0 source steps, 768 target transitions; "
        f"return: source {last['source_return']:.0f}, target {last['target_return']:.0f}"
    )
    assert "\x1b" not in text.getvalue()


@pytest.mark.parametrize("method", ["fine_tuning", "matlf"])
def test_a_last_phase_that_never_began_is_said(tmp_path, monkeypatch, method):
    """One round from the end of the first phase, and one beyond it."""
    text = screen(monkeypatch, terminal=False)
    rounds = tiny.OWN["pretraining"] // tiny.ROUND
    assert int(tiny.train(method, tmp_path / "short", rounds, quiet=False).state().phase) == 0
    line = text.getvalue().splitlines()[-1]
    assert line.startswith(f"all {tiny.OWN['pretraining']} steps went into the first phase")
    assert line.endswith(f"--set pretraining={tiny.OWN['pretraining']}")
    assert int(tiny.train(method, tmp_path / "long", rounds + 1, quiet=False).state().phase) == 1
    assert text.getvalue().count("went into the first phase") == 1


def test_nothing_when_quiet(tmp_path, monkeypatch, capsys):
    text = screen(monkeypatch, terminal=True)
    tiny.train("source_only", tmp_path / "run", 3)
    assert text.getvalue() == "" and capsys.readouterr() == ("", "")


def test_names_of_folders(tmp_path):
    problem = isthmus.problem("hopper/gravity=x2,torso_mass=1..9:3")
    first = new_folder(tmp_path, "source_only", problem, 3)
    assert first == tmp_path / "source_only-hopper-gravity=x2-torso_mass=1..9-3-s3"
    first.mkdir()
    assert new_folder(tmp_path, "source_only", problem, 3).name == f"{first.name}-2"
    long = isthmus.problem(
        "hopper/" + ",".join(f"{name}=1" for name in isthmus.parse_domain("hopper").table())
    )
    assert len(new_folder(tmp_path, "m", long, 0).name) < 80
