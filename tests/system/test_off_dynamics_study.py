"""The off-dynamics study: its table, and scores of made-up results whose truth is known."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from isthmus.methods import registry
from isthmus.papers import registry as studies
from isthmus.papers.off_dynamics.study import (
    STUDY,
    draw_off_dynamics,
    measure_way,
    report_off_dynamics,
)
from isthmus.papers.off_dynamics.trials import (
    CEILING,
    FLOOR,
    INTERVAL,
    LOGGED,
    METHODS,
    SCALES,
    list_off_dynamics_trials,
)
from isthmus.problems.catalog import CATALOG
from isthmus.problems.problem import make_problem
from isthmus.studies.results import Results, read_results
from isthmus.types import UnknownName


@pytest.mark.parametrize("scale", SCALES)
def test_every_unit_can_be_built_and_has_its_home_in_the_table(scale: str) -> None:
    table = {trial.name: trial for trial in list_off_dynamics_trials(scale, None)}
    homes = {name for name in table if "-home-" in name}
    for trial in table.values():
        method = registry.build(trial.method, trial.settings)
        assert trial.access in {str(access) for access in method.accepts}
        assert trial.needs <= homes
        for name in trial.needs:
            assert make_problem(table[name].problem).source == make_problem(trial.problem).source
            assert table[name].seed == trial.seed
    targets, seeds = SCALES[scale].targets, SCALES[scale].seeds
    robots = {target.split("-")[0] for target in targets}
    assert len(table) == seeds * (len(robots) + len(targets) * len(METHODS))


def test_all_that_learn_from_the_target_take_a_tenth_of_it() -> None:
    steps = SCALES["laptop"].steps
    for trial in list_off_dynamics_trials("laptop", "half_cheetah-gravity-0.5"):
        approach = trial.name.split("-")[-2]
        if approach in LOGGED:
            assert trial.log_steps == steps // 10
        if approach in ("rlpd", "par", "vgdf"):
            assert registry.build(trial.method, trial.settings).target_interval == INTERVAL == 10
        if approach == "fine_tuning":
            assert (trial.steps, trial.access) == (steps // 10, "online")


def test_odrls_targets_are_all_in_the_paper_scale() -> None:
    odrl = {name for name, entry in CATALOG.items() if entry.citation.startswith("ODRL")}
    assert len(odrl) == 53
    assert odrl < set(SCALES["paper"].targets)
    assert len(SCALES["laptop"].targets) == 8
    assert studies.find_study("off-dynamics") is STUDY
    with pytest.raises(UnknownName, match="target"):
        list_off_dynamics_trials("laptop", "half_cheetah-gravity-7")


def make_results(
    returns: dict[str, list[float]], target: str = "hopper-gravity-2"
) -> dict[str, Results]:
    """Return results of final returns by approach, a number a seed."""
    made = {}
    for approach, values in returns.items():
        for seed, value in enumerate(values):
            rows = [
                {"kind": "final", "key": "target_return", "x": "", "y": "", "value": str(value)},
                {"kind": "curve", "key": "target_return", "x": "0", "y": "0", "value": "1"},
                {
                    "kind": "curve",
                    "key": "target_return",
                    "x": "100",
                    "y": "10",
                    "value": str(value),
                },
            ]
            made[f"laptop-{target}-{approach}-s{seed}"] = Results(rows)
    return made


def test_scores_are_shares_of_the_way_between_the_targets_own_ends() -> None:
    made = make_results(
        {FLOOR: [900, 1100], CEILING: [3000, 3000], "rlpd": [2000, 2000], "par": [0]}
    )
    lines = {line.split()[0]: line for line in report_off_dynamics(made) if line.startswith("  ")}
    assert "0.50 [0.50, 0.50] of the way" in lines["rlpd"]
    assert "-0.50 of the way" in lines["par"]
    assert "of the way" not in lines[FLOOR] + lines[CEILING]
    assert "hopper-gravity-2: floor 1000, ceiling 3000" in report_off_dynamics(made)


def test_where_nothing_is_to_cross_no_share_is_given() -> None:
    made = make_results({FLOOR: [2950], CEILING: [3000], "rlpd": [3100]})
    text = "\n".join(report_off_dynamics(made))
    assert "leave nothing to cross" in text and "of the way" not in text
    assert measure_way({}) is None
    assert "floor or ceiling not run" in "\n".join(report_off_dynamics(make_results({"par": [1]})))


def test_published_numbers_stand_beside_the_rows_they_share() -> None:
    made = make_results({"vgdf": [1], "par": [1]}, "half_cheetah-broken_thigh")
    lines = report_off_dynamics(made)
    told = {line.split()[0]: "4834" in line for line in lines if line.startswith("  ")}
    assert told == {"par": False, "vgdf": True}


def test_pictures_have_a_panel_a_target_and_levels_for_its_ends() -> None:
    made = make_results({FLOOR: [1, 2], CEILING: [5, 6], "vgdf": [3, 4]})
    made |= make_results({FLOOR: [1, 2]}, "half_cheetah-gravity-0.5")
    pictures = draw_off_dynamics(made)
    assert set(pictures) == {"hopper.png", "half_cheetah.png"}
    (panel,) = pictures["hopper.png"]
    roles = {line.name: line.role for line in panel.lines}
    assert roles == {"source_only": "floor", "target_only": "ceiling", "vgdf": ""}
    np.testing.assert_allclose(panel.lines[-1].seeds[0], [[0, 1], [100, 3]])


def test_the_published_files_are_whole() -> None:
    folder = Path(__file__).parents[2] / "results" / "off-dynamics"
    trials = list_off_dynamics_trials("laptop", None)
    done, notes = read_results(trials, folder)
    assert not notes
    for name in done:
        with open(folder / f"{name}.csv", newline="", encoding="utf-8") as file:
            kinds = {row["kind"] for row in csv.DictReader(file)}
        assert "final" in kinds
