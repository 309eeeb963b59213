"""MuJoCo 3.5 adds the margins of two geoms up, where the larger held before: which robots that made
others.
"""

from __future__ import annotations

import json
from typing import Any

import mujoco
import numpy as np
import pytest

from isthmus.audit.coverage import describe_coverage
from isthmus.cli.main import main
from isthmus.domains.parse import parse_domain
from isthmus.learning.policies import UniformBehaviour
from isthmus.logs.log import DataSet
from isthmus.logs.margins import adds_margins, contact_margin, mujoco_version, note_other_margins
from isthmus.logs.record import record_log
from isthmus.logs.write import write_log
from isthmus.physics.mujoco import load_model
from isthmus.tasks.task import BUILT_IN, find_task

OLD: dict[str, Any] = {"requirements": ["gymnasium>=1.0", "mujoco>=3.1.1,<3.2"]}


@pytest.mark.parametrize("name", BUILT_IN)
def test_which_robots_have_margins(name):
    margin = contact_margin(load_model(find_task(name).model_path()))
    assert margin == {"ant": (0.01, 0.02), "hopper": (0.001, 0.002)}.get(name, (0.0, 0.0))
    assert margin.differs == (name in ("ant", "hopper"))


def test_one_margin_alone_is_the_same_by_either_rule():
    text = (
        "<mujoco><worldbody><geom type='plane' size='1 1 1'/><body><freejoint/><geom size='.1' "
        "margin='{}'/></body>"
        "<body pos='1 0 0'><geom size='.1' margin='.5' contype='0' "
        "conaffinity='0'/></body></worldbody></mujoco>"
    )
    assert not contact_margin(mujoco.MjModel.from_xml_string(text.format(0.01))).differs, (
        "the floor has none"
    )
    two = text.replace("size='1 1 1'", "size='1 1 1' margin='.003'").format(0.01)
    assert contact_margin(mujoco.MjModel.from_xml_string(two)) == pytest.approx((0.01, 0.013))


def test_the_installed_mujoco_adds_margins_up():
    """A ball of radius 0.1 comes to rest within the sum of both margins of 1 cm: at 0.12, not at
    0.11.
    """
    text = (
        "<mujoco><worldbody><geom type='plane' size='1 1 1' margin='.01'/><body pos='0 0 "
        ".2'><freejoint/>"
        "<geom size='.1' margin='.01'/></body></worldbody></mujoco>"
    )
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    for _ in range(2000):
        mujoco.mj_step(model, data)
    assert data.qpos[2] == pytest.approx(0.12, abs=2e-3)


@pytest.mark.parametrize(
    ("version", "since"),
    [
        ("3.1.6", False),
        ("3.4.0", False),
        ("3.5.0", True),
        ("4.0.0", True),
        ("2.3.7", False),
        ("3.10.0", True),
        (">=3.1.1,<3.2", False),
        ("<3.5", False),
        ("<3.5.0", False),
        ("<=3.4.0", False),
        ("==3.2.3", False),
        ("==3.4.*", False),
        ("~=3.4.0", False),
        (">=3.5", True),
        ("==4.0", True),
        (">=3.5,<4", True),
        (">=2.3", None),
        ("~=3.1", None),
        ("<4", None),
        ("==3.*", None),
        ("!=3.2", None),
        (">=3.1,<=3.6", None),
    ],
)
def test_what_a_version_says(version, since):
    assert adds_margins(version) is since


@pytest.mark.parametrize(
    ("metadata", "version"),
    [
        (OLD, ">=3.1.1,<3.2"),
        ({"requirements": ["mujoco == 3.2.3 ; python_version > '3.8'"]}, "== 3.2.3"),
        ({"requirements": ["MuJoCo[usd] (<3.5)"]}, "<3.5"),
        ({"versions": {"mujoco": "3.4.0"}}, "3.4.0"),
        ({"requirements": ["mujoco-py<2.2", "mujoco"]}, ""),
        ({"requirements": "mujoco<3"}, ""),
        ({}, ""),
        ({"versions": None, "requirements": [5, None]}, ""),
    ],
)
def test_what_metadata_names(metadata, version):
    assert mujoco_version(metadata) == version


@pytest.mark.parametrize(
    "text", ["ant", "ant/gravity=x2", "log:ant", "log:gym:Ant-v5", "log:gym:Hopper-v5"]
)
def test_an_old_ant_is_another_robot(text):
    (note,) = note_other_margins(OLD, parse_domain(text))
    title, since, before = ("Ant", 20, 10) if "nt" in text else ("Hopper", 2, 1)
    assert note.startswith(
        f"made under MuJoCo >=3.1.1,<3.2, for which {title} is another robot: since 3.5"
    )
    assert f"within {since} mm and not {before};" in note and note.endswith(
        f"MuJoCo is {mujoco.__version__}"
    )


@pytest.mark.parametrize(("text", "metadata"), [
    ("half_cheetah", OLD), ("walker2d", OLD), ("log:gym:InvertedPendulum-v5", OLD), ("ant", {}),
    ("ant", {"versions": {"mujoco": "4.0.0"}}), ("ant", {"requirements": ["mujoco>=2.3"]}),
])  # fmt: skip
def test_nothing_is_said_of_what_is_the_same_or_unknown(text, metadata):
    assert note_other_margins(metadata, parse_domain(text)) == ()


def test_the_audit_says_it(tmp_path, capsys):
    """Of a Minari data set, whose metadata is Minari's own."""
    hopper = parse_domain("hopper")
    log = record_log(hopper, UniformBehaviour(hopper.spaces.low, hopper.spaces.high), 60)
    write_log(tmp_path / "d", log, {}, hopper)
    file = tmp_path / "d" / "data" / "metadata.json"
    held = json.loads(file.read_text())
    held.pop("isthmus")
    file.write_text(json.dumps({**held, **OLD}))
    main(["audit", "hopper", "--target", "log", "--data", str(tmp_path / "d")])
    assert (
        capsys.readouterr().out.count(
            "made under MuJoCo >=3.1.1,<3.2, for which Hopper is another robot"
        )
        == 1
    )
    found = describe_coverage(
        DataSet("D", log, {"versions": {"mujoco": mujoco.__version__}}, ()), hopper
    )
    assert not np.any(["MuJoCo" in note for note in found.notes])
