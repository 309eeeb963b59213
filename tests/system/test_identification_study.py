"""The study of identification: its table, its units, verdicts on made-up results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isthmus.cli.main import main
from isthmus.identification.log_space import WHOLE_ROBOT
from isthmus.papers import registry as studies
from isthmus.papers.identification.coverage import measure_coverage
from isthmus.papers.identification.hidden_robots import (
    COMMON_FACTOR,
    draw_robot,
    record_robot,
)
from isthmus.papers.identification.study import STUDY, report_identification
from isthmus.papers.identification.trials import SCALES, list_identification_trials
from isthmus.studies.contrasts import HOLDS, NOT, NOT_RUN
from isthmus.studies.results import Results, Row


@pytest.mark.parametrize("scale", SCALES)
def test_names_are_one_units(scale: str) -> None:
    trials = list_identification_trials(scale, None)
    assert len({trial.name for trial in trials}) == len(trials)
    assert studies.find_study("identification") is STUDY


def test_hidden_robots_are_drawn_within_a_factor_of_two() -> None:
    robots = [draw_robot("hopper", seed) for seed in range(50)]
    assert {len(robot.factors) for robot in robots} == {4, 5, 6}
    factors = np.concatenate([list(robot.factors.values()) for robot in robots])
    assert 0.5 <= factors.min() < 0.55 and 1.8 < factors.max() <= 2.0
    untold = {robot.untold for robot in robots}
    assert untold == {frozenset(), COMMON_FACTOR}
    cheetah = draw_robot("half_cheetah", 3)._replace(factors=dict.fromkeys(WHOLE_ROBOT, 1.0))
    assert not cheetah.untold  # it has springs


def test_a_log_swings_and_its_noise_is_of_each_numbers_spread() -> None:
    robot = draw_robot("half_cheetah", 1)
    clean = record_robot(robot, 1200, 0.0, 1)
    noisy = record_robot(robot, 1200, 0.05, 1)
    assert np.array_equal(clean.action, noisy.action)
    share = (noisy.obs - clean.obs).std(axis=0) / clean.obs.std(axis=0)
    assert np.allclose(share, 0.05, rtol=0.15)
    joined = clean.episode[1:] == clean.episode[:-1]
    assert np.array_equal(noisy.next_obs[:-1][joined], noisy.obs[1:][joined])  # read once
    swing = np.abs(np.fft.rfft(clean.action[:1000], axis=0))[1:]
    assert (swing.max(axis=0) > 5 * np.median(swing, axis=0)).all()
    assert not np.array_equal(clean.action[:50], clean.action[1000:1050])  # another phase


def test_exact_states_are_covered_and_what_cannot_be_told_is_called_so() -> None:
    seed = next(s for s in range(50) if draw_robot("hopper", s).untold)
    measures = measure_coverage(seed, "hopper", 300, 0.0)
    for name in draw_robot("hopper", seed).factors:
        assert measures[f"{name}_tellable"] == (name not in COMMON_FACTOR)
        assert measures[f"{name}_identified"] == measures[f"{name}_tellable"]
        assert abs(measures[f"{name}_error"]) < (1e-2 if measures[f"{name}_tellable"] else 0.7)


def make_results(held: float, identified: bool, tellable: bool, seed: int) -> Results:
    """A made-up robot: of 40 parameters' worth of draws a share `held`."""
    rng = np.random.default_rng(seed)
    rows = [Row("measure", "refused", "", "", "0")]
    for name in WHOLE_ROBOT:
        values = {
            "held": float(rng.uniform() < held),
            "identified": float(identified),
            "tellable": float(tellable),
            "width": 0.01,
            "error": 0.002,
        }
        rows += [Row("measure", f"{name}_{key}", "", "", f"{v:g}") for key, v in values.items()]
    return Results([{**dict(zip(Row._fields, map(str, row), strict=True))} for row in rows])


@pytest.mark.parametrize(("held", "verdict"), [(0.95, HOLDS), (0.6, NOT)])
def test_coverage_is_judged(held: float, verdict: str) -> None:
    done = {
        f"laptop-coverage_hopper-noise0.01-s{seed}": make_results(held, True, True, seed)
        for seed in range(100)
    }
    claims = {claim.id: claim for claim in STUDY.claims(done)}
    assert claims["I1"].verdict == verdict
    assert claims["I2"].verdict == NOT_RUN
    assert claims["I3"].verdict == HOLDS
    assert "100 hidden robots" in report_identification(done)[0]


def test_what_no_log_tells_and_is_called_identified_is_a_mistake() -> None:
    done = {
        f"laptop-coverage_hopper-noise0-s{seed}": make_results(0.5, True, False, seed)
        for seed in range(10)
    }
    claims = {claim.id: claim for claim in STUDY.claims(done)}
    assert claims["I2"].verdict == NOT and claims["I1"].verdict == NOT_RUN


def test_smoke_scale_runs_from_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    command = ["reproduce", "identification", "--scale", "smoke", "--figure", "coverage"]
    main([*command, *where, "--workers", "1"])
    folder = tmp_path / "results" / "identification"
    assert len([*folder.glob("smoke-coverage_hopper-noise0-s*.csv")]) == 2
    assert "coverage" in (folder / "smoke.txt").read_text()
    assert (folder / "smoke-claims.csv").exists()
    capsys.readouterr()
    main([*command, *where, "--forecast"])
    assert "all 2 units are there" in capsys.readouterr().out
