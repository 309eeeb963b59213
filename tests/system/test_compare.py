"""Comparisons: equal conditions, honest verdicts, nothing trained twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from comparing import few

import isthmus
from isthmus.cli.tables import tabulate_comparison
from isthmus.domains import rollout as collecting
from isthmus.evaluation import evaluate as evaluation
from isthmus.evaluation import statistics
from isthmus.methods import registry
from isthmus.report.entries import Group
from isthmus.report.sections import write_lede
from isthmus.studies.compare import Comparison, run_job
from isthmus.training.executor import Processes
from isthmus.training.run import Run
from isthmus.types import BadValue, IsthmusError, UnknownName


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> tuple[Comparison, list[tuple]]:
    """A comparison in a grid, and what every evaluation began with."""
    met = []
    patch = pytest.MonkeyPatch()
    play = evaluation.rollout_episodes
    patch.setattr(
        evaluation,
        "rollout_episodes",
        lambda d, worlds, p, s=None: (met.append((d, worlds)), play(d, worlds, p, s))[1],
    )
    problem = isthmus.problem(
        "hopper/torso_mass=3..9:2,friction=1..2:2", access="few_shot", source="torso_mass=6",
        uncertainty="torso_mass=5..7",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("compare") / "c"
    made = few(folder, ["domain_randomization", "few_shot_ppo"], problem=problem, episodes=8)
    patch.undo()
    return made, met


def test_the_floor_and_the_ceiling_are_there(watched):
    made, _ = watched
    roles = {row.method: row.role for row in made.rows}
    assert roles == {
        "source_only": "floor",
        "domain_randomization": "",
        "few_shot_ppo": "",
        "target_only": "ceiling",
    }
    assert next(iter(roles)) == "source_only"
    taken = {
        row.method: (row.source_steps, row.target_transitions, row.adaptation_transitions)
        for row in made.rows
    }
    steps = 3 * tiny.ROUND
    assert taken == {
        "source_only": (steps, 0, 0),
        "domain_randomization": (steps, 0, 0),
        "few_shot_ppo": (steps, 0, 64),
        "target_only": (0, steps, 0),
    }
    for row in made.rows:
        assert (
            len(row.scores) == 2
            and row.low < row.value < row.high
            and row.interval == "Student over seeds"
        )
        assert row.value == pytest.approx(np.mean(row.scores))
        assert (
            row.verdict == "the floor"
            or "detectable" in row.verdict
            or row.verdict.startswith("points to")
        )
        assert (row.against_floor is None) == (row.role == "floor")
        assert row.against_floor_interval == ("" if row.role == "floor" else "Welch over seeds")
    assert made.intervals == "Student over seeds; of differences: Welch over seeds"
    assert made.intervals in str(tabulate_comparison(made).title)
    assert Comparison.read(made.folder) == made and made.unlike == "", "all learn by PPO"


def test_a_floor_that_learns_by_something_else_is_said(tmp_path):
    problem = isthmus.problem("hopper/gravity=x2", data=tiny.log("hopper/gravity=x2"))
    made = few(tmp_path / "c", ["darc", "dap"], problem=problem, seeds=1, steps=1, ceiling=False)
    said = (
        "source_only, the floor, learned by ppo, darc, dap by sac: give both the same, "
        "--set learner=sac, or compare them apart."
    )
    assert made.unlike == said == str(tabulate_comparison(made).caption)
    assert said in write_lede(Group(made.folder, [], made))


def test_all_methods_met_the_same_starts_and_dynamics(watched):
    made, met = watched
    assert len(met) == 8, "4 methods, 2 seeds"
    first = met[0][1]
    for domain, worlds in met:
        assert domain == met[0][0]
        for name in ("observation", "parameters", "rows", "key"):
            assert np.array_equal(getattr(worlds, name), getattr(first, name)), name
    tables = []
    for row in made.rows:
        for run in row.runs:
            with (made.folder / run / "evaluation.csv").open(newline="") as file:
                tables.append(list(csv.DictReader(file)))
    for table, score in zip(tables, (s for row in made.rows for s in row.scores), strict=True):
        assert [(r["friction"], r["torso_mass"]) for r in table] == [
            (r["friction"], r["torso_mass"]) for r in tables[0]
        ]
        assert len(table) == 8 and np.mean([float(r["return"]) for r in table]) == pytest.approx(
            score, abs=1e-3
        )
    assert len({(r["friction"], r["torso_mass"]) for r in tables[0]}) == 4


def test_a_grid_of_two_axes_gives_landscapes(watched):
    made, _ = watched
    for name, inside in (
        ("source_only", "0000"),
        ("domain_randomization", "0000"),
        ("target_only", "1111"),
    ):
        with (made.folder / f"{name}-s0" / "landscape.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 4 and {row["episodes"] for row in rows} == {"2"}
        assert "".join(row["in_training_box"] for row in rows) == inside, name


def test_a_second_time_trains_nothing(watched, monkeypatch):
    made, _ = watched
    monkeypatch.setattr("isthmus.training.train._loop", lambda *_: pytest.fail("it trained again"))
    problem = isthmus.Problem.from_data(made.problem)
    polled: list[list[Path]] = []
    again = few(
        made.folder,
        ["domain_randomization", "few_shot_ppo"],
        problem=problem,
        episodes=8,
        poll=polled.append,
    )
    assert again == made and len(polled) == 8 and len(polled[0]) == 8


@pytest.mark.parametrize(
    ("changes", "other"),
    [({"steps": 500}, "steps"), ({"settings": {**tiny.SETTINGS, "learner.epochs": 3}}, "settings")],
)
def test_another_experiment_in_the_same_folder_is_refused(watched, changes, other):
    """Runs of other settings must not be taken for these."""
    made, _ = watched
    with pytest.raises(BadValue, match=f"holds a run of another {other}"):
        few(
            made.folder,
            ["domain_randomization"],
            problem=isthmus.Problem.from_data(made.problem),
            **changes,
        )


def test_two_names_of_one_thing_do_not_differ(tmp_path):
    """Randomization over nothing is the floor to the bit; the comparison must not tell them
    apart.
    """
    problem = isthmus.problem("hopper/gravity=x2", uncertainty="")
    made = few(tmp_path / "c", ["domain_randomization"], problem=problem, ceiling=False, seeds=3)
    floor, other = made.rows
    assert floor.scores == other.scores and len(set(floor.scores)) == 3
    runs = [
        Run.open(tmp_path / "c" / f"{name}-s1") for name in ("source_only", "domain_randomization")
    ]
    assert runs[0].digest == runs[1].digest
    # Unpaired, as methods are that share nothing by seed: the difference is 0, and its interval as
    # wide as theirs.
    wanted = statistics.difference(other.scores, floor.scores)
    assert (
        wanted.value == other.against_floor == 0.0
        and other.against_floor_interval == "Welch over seeds"
    )
    assert (other.against_floor_low, other.against_floor_high) == (wanted.low, wanted.high)
    assert other.verdict == "no detectable difference"


def test_one_seed_gives_no_verdict(tmp_path):
    made = few(tmp_path / "c", ["domain_randomization"], ceiling=False, seeds=1)
    for row in made.rows:
        assert row.low is None and row.high is None and row.interval == "no interval from one seed"
    assert made.rows[1].verdict == "no verdict from one seed"
    assert Comparison.read(tmp_path / "c") == made
    json.loads(
        (tmp_path / "c" / "comparison.json").read_text(),
        parse_constant=lambda name: pytest.fail(name),
    )


def test_workers_change_no_bit(tmp_path):
    """One process after another, and two at once: the same rows and the same weights."""
    made = [
        few(tmp_path / str(n), ceiling=False, steps=2 * tiny.ROUND, executor=Processes(n))
        for n in (1, 2)
    ]
    assert made[0].rows == made[1].rows
    digests = {Run.open(c.folder / f"source_only-s{s}").digest for c in made for s in (0, 1)}
    assert len(digests) == 2, "one a seed"


def test_an_interrupted_comparison_goes_on(tmp_path, monkeypatch):
    whole = few(tmp_path / "whole", ceiling=False)
    stopped = Run.create(
        tmp_path / "c" / "source_only-s1",
        json.loads((whole.folder / "source_only-s1" / "run.json").read_text()),
    )
    from isthmus.training import train as loop

    class Stop(Exception):
        pass

    def write(self, kind, values):  # a round: after the first checkpoint
        if kind == "round":
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(loop.MetricsLog, "write", write)
        isthmus.resume(stopped.folder, quiet=True)
    assert stopped.begun and not stopped.finished
    assert few(tmp_path / "c", ceiling=False).rows == whole.rows


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"methods": ["sorce_only"]}, UnknownName, "did you mean source_only"),
        ({"seeds": 0}, BadValue, "seeds=0: needs a whole number in 1..1000"),
        ({"seeds": 10**12}, BadValue, "needs a whole number in 1..1000"),
        ({"steps": 0}, BadValue, "steps=0"),
        ({"episodes": 0}, BadValue, "needs 1 to 200,000"),
        ({"settings": {"learner.epoch": 3}}, UnknownName, "did you mean learner.epochs"),
        ({"settings": {"learner.epochs": "many"}}, BadValue, "needs a value like 10"),
        (
            {"methods": ["few_shot_ppo"], "problem": "hopper-dap"},
            BadValue,
            "few_shot_ppo needs access",
        ),
    ],
)
def test_what_cannot_run_is_said_before_anything_trains(tmp_path, changes, error, said):
    if "problem" in changes:
        changes = {**changes, "problem": isthmus.problem(changes["problem"])}
    with pytest.raises(error) as raised:
        few(tmp_path / "c", **changes)
    assert said in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "c").exists()


def test_a_job_is_refused_where_its_folder_is_taken(tmp_path):
    (tmp_path / "c" / "source_only-s0").mkdir(parents=True)
    (tmp_path / "c" / "source_only-s0" / "mine.txt").touch()
    with pytest.raises(IsthmusError, match="is not empty"):
        few(tmp_path / "c", ceiling=False)


def test_a_comparison_made_before_logs_were_counted(tmp_path, watched):
    made, _ = watched
    data = json.loads((made.folder / "comparison.json").read_text())
    for row in data["rows"]:
        del row["logged_transitions"]
    (tmp_path / "comparison.json").write_text(json.dumps(data))
    assert Comparison.read(tmp_path).rows == made.rows
    for row in data["rows"]:
        del row["against_floor_interval"]
    (tmp_path / "comparison.json").write_text(json.dumps(data))
    assert (
        Comparison.read(tmp_path).intervals == "Student over seeds; of differences: paired by seed"
    ), "as they were"


@pytest.mark.parametrize("access", ["online", "dataset"])
def test_every_method_can_be_compared(tmp_path, access):
    logged = access == "dataset"
    names = [
        m
        for m in registry.METHODS
        if m != "source_only" and (tiny.access(m) == "dataset") == logged
    ]
    problem = tiny.problem("dap" if logged else "fine_tuning")
    made = few(tmp_path / "c", names, seeds=1, problem=problem, steps=4 * tiny.ROUND)
    assert {row.method for row in made.rows} == {*names, "source_only", "target_only"}
    assert all(np.isfinite(row.scores).all() for row in made.rows)
    for row in made.rows:
        assert row.logged_transitions == (300 if logged and row.method in names else 0), row.method
    assert run_job.__module__ == "isthmus.studies.compare", (
        "a job's function can be found by a worker"
    )
    assert collecting.rollout_episodes is evaluation.rollout_episodes
