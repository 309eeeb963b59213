"""contract.toml: what is written is read; each mistake is one line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from isthmus.deploy.contract import (
    ActionContract,
    EvaluationContract,
    MemoryContract,
    ObservationContract,
    PolicyContract,
    RunContract,
    TaskContract,
)
from isthmus.types import BadValue

pytest.importorskip("tomli_w")

FULL = PolicyContract(
    control_rate_hz=125.0,
    model_sha256="ab",
    task=TaskContract("hopper", "hopper/gravity=x2", "hopper"),
    observations=ObservationContract(
        names=("z", 'a "quoted"\x7f'),
        units=("m", "rad"),
        scale=(0.5, 2.0),
        clip=(-5.0, 5.0),
        history=2,
        history_inside=3,
        previous_action_inside=True,
        normalizer_mean=(0.1, -2e-7),
        seen_low=(-1.0, -math.inf),
    ),
    actions=ActionContract(names=("hip",), low=(-1.0,), high=(1.0,), neutral=(0.0,)),
    effects={"action_delay": 2.0},
    memory=(MemoryContract("memory_cell", "next_memory_cell", (8,), "task"),),
    run=RunContract("rl2", "recurrent_ppo", 3, 768, "00ff"),
    versions={"jax": "0.11.2"},
    evaluations=(EvaluationContract("hopper", 12.5, 20_000_000, 3, 768),),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "contract.toml"
    path.write_text(FULL.to_toml(), encoding="utf-8")
    read = PolicyContract.read(path)
    assert math.isnan(read.evaluations[0].fell)
    assert repr(read) == repr(FULL)  # NaN is not equal to itself


def test_a_user_says_what_they_know(tmp_path: Path) -> None:
    path = tmp_path / "contract.toml"
    path.write_text('format = 1\n[observations]\nnames = ["z"]\nscale = [2]\n')
    assert PolicyContract.read(path).observations == ObservationContract(("z",), scale=(2.0,))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "does not say its format; write format = 1"),
        ("format = 2", "is of format 2; this version reads 1"),
        ("format = true", None),
        ("format = [", "is no TOML"),
        ("format = 1\ncontrol_rate = 3", "unknown key of a contract 'control_rate'; did you mean"),
        ("format = 1\n[task]\nnme = 'x'", "unknown key of task 'nme'"),
        ("format = 1\ntask = 3", "task is no table"),
        ("format = 1\n[observations]\nnames = 'z'", "observations.names is 'z': needs a list"),
        ("format = 1\n[observations]\nnames = [1]", "observations.names is 1: needs a text"),
        ("format = 1\n[observations]\nhistory = 0", "history needs a whole number above 0"),
        ("format = 1\n[observations]\nhistory = 1.5", "observations.history is 1.5: needs a whole"),
        ("format = 1\n[observations]\nclip = [1]", "clip needs low and high"),
        ("format = 1\n[observations]\nnames = ['a', 'a']", "observations.names has a name twice"),
        ("format = 1\n[actions]\nnames=['a']\nlow=[1, 2]", "actions.low has 2 entries for 1 names"),
        ("format = 1\n[actions]\nlow = [1]\nhigh = [0]", "low 1 is above actions.high 0"),
        ("format = 1\n[[memory]]\ninput = 'a'\noutput = 'b'", "memory has no shape"),
        (
            "format = 1\n[[memory]]\ninput='a'\noutput='b'\nshape=[1]\nreset='day'",
            "memory.reset is 'day'; needs episode or task",
        ),
        ("format = 1\n[effects]\nnoise = 'x'", "effects.noise is 'x': needs a number"),
        ("format = 1\ncontrol_rate_hz = -1", "needs a rate above 0"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, line: str | None) -> None:
    path = tmp_path / "contract.toml"
    path.write_text(text)
    with pytest.raises(BadValue, match=r"contract\.toml") as raised:
        PolicyContract.read(path)
    assert "\n" not in str(raised.value)
    assert line is None or line in str(raised.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="cannot be read: No such file"):
        PolicyContract.read(tmp_path / "contract.toml")
