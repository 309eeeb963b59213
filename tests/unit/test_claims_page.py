"""`isthmus claims`: the page is that of the units' files, and a change of verdict says what made
it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.cli.main import main
from isthmus.papers.evidence import (
    BY_STATISTICS,
    BY_UNITS,
    PAPERS,
    Evidence,
    collect_evidence,
    extend_history,
    list_last_verdicts,
    read_history,
    write_history,
)
from isthmus.report.claims_page import format_claims_page
from isthmus.studies.claims import Claim, adjust_p_values
from isthmus.studies.contrasts import HOLDS, NOT, contrast

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "lab" / "claims.md"
HIGH, LOW = [10.0, 11.0, 12.0, 11.0, 10.0], [1.0, 2.0, 1.0, 2.0, 1.0]


@pytest.fixture(scope="module")
def evidence() -> list[Evidence]:
    return collect_evidence(ROOT / "results")


def test_the_page_is_that_of_the_units_files(evidence: list[Evidence]) -> None:
    """Else: isthmus claims --page docs/lab/claims.md."""
    history = read_history(ROOT / "results")
    assert extend_history(history, evidence) == history
    assert PAGE.read_text(encoding="utf-8") == format_claims_page(evidence, history)


def test_each_claim_has_its_evidence(evidence: list[Evidence]) -> None:
    assert [len([e for e in evidence if e.paper == paper]) for paper in PAPERS] == [30, 26, 13]
    by_id = {each.claim.id: each for each in evidence}
    assert by_id["M4"].command == "isthmus reproduce matl --figure 3"
    assert by_id["M26"].command == "isthmus reproduce matl", "two figures"
    assert by_id["D24"].patterns == ("laptop-pair-*.csv",)
    assert "laptop-es_maml-*.csv" in by_id["E3"].patterns
    assert by_id["D24"].num_files == by_id["D24"].num_planned == 20
    for each in evidence:
        files = [file for p in each.patterns for file in (ROOT / "results" / each.paper).glob(p)]
        assert len(files) >= each.num_files, each.claim.id


def make_evidence(digest: str, *contrasts: tuple[list[float], list[float]]) -> Evidence:
    tests = tuple(contrast("a | b", *sides) for sides in contrasts)
    (claim,) = adjust_p_values([Claim("D1", "one is above", "a - b > 0", "2", tests)])
    return Evidence("dap", claim, ("laptop-*.csv",), 3, 5, digest, "isthmus reproduce dap")


def test_a_verdict_that_statistics_alone_changed_is_marked(tmp_path: Path) -> None:
    before, after = make_evidence("aa", (LOW, HIGH)), make_evidence("aa", (HIGH, LOW))
    assert (before.claim.verdict, after.claim.verdict) == (NOT, HOLDS)
    history = extend_history([], [before])
    assert history == [before.verdict] and extend_history(history, [before]) == history
    sharper = extend_history(history, [after])
    assert sharper[1].changed_by == BY_STATISTICS and sharper[1].verdict == HOLDS
    more = extend_history(sharper, [replace(before, digest="bb")])
    assert more[2].changed_by == BY_UNITS
    assert list_last_verdicts(more) == {("dap", "D1"): more[2]}
    write_history(tmp_path, more)
    assert read_history(tmp_path) == more and read_history(tmp_path / "none") == []
    page = format_claims_page([after], sharper)
    assert f"| D1 | {NOT} | {HOLDS} | **{BY_STATISTICS}** |" in page
    assert "a \\| b 9.40" in page and "| 3 of 5: `laptop-*.csv` |" in page


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    main(["claims", "--paper", "dap", "--undecided", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found and {each["paper"] for each in found} == {"dap"}
    assert not {each["verdict"] for each in found} & {HOLDS, NOT}
    assert all(each["undecided_by"] or each["verdict"] != "undecided" for each in found)
    main(["claims", "--paper", "es-sim2real"])
    printed = capsys.readouterr().out
    assert "E13" in printed and "M1 " not in printed and "isthmus reproduce es-sim2real" in printed


def test_without_units_the_command_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["claims", "--results", str(tmp_path)])
    assert "isthmus reproduce fills it" in capsys.readouterr().err
