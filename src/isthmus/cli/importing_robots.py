"""The command that makes an MJCF of a robot's URDF."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.markup import escape
from rich.table import Table
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from isthmus.cli.console import make_table, print_text, screen
from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.physics.urdf.actuators import ActuatorChoice
    from isthmus.physics.urdf.description import UrdfJoint
    from isthmus.physics.urdf.import_robot import ImportedRobot
    from isthmus.physics.urdf.settling import Settling

JOINT_COLUMNS = (
    "joint", "type", "range", "effort", "speed", "damping", "friction", "actuator", "kp", "kv",
    "home",
)  # fmt: skip
Flag = FlagCreatePairsOff[bool]
ENDLESS_DROP = 20.0  # m, in the seconds that a robot is watched


def run_import_robot(
    robot: Positional[Annotated[Path, arg(metavar="ROBOT.urdf", help="a robot, as ROS has it")]],
    out: Annotated[
        Path | None, arg(aliases=["-o"], metavar="ROBOT.xml", help="write the MJCF there")
    ] = None,
    actuators: Annotated[
        Literal["position", "motor"],
        arg(help="position servos, within the joints' limits; or motors, by their effort limits"),
    ] = "position",
    floating_base: Annotated[
        Flag, arg(help="the robot moves about: so by default, unless a link called world holds it")
    ] = False,
    fixed_base: Annotated[Flag, arg(help="the robot is bolted down, as an arm is")] = False,
    package: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="NAME=DIR", help="the folder that package://NAME stands for"),
    ] = (),
    no_visuals: Annotated[Flag, arg(help="leave out what collides with nothing")] = False,
) -> None:
    """Say what MuJoCo keeps of a URDF, and write an MJCF with what a task needs.

    isthmus import-robot robot.urdf -o robot.xml

    What is written has actuators, a base that floats, a ground, a light and a keyframe "home"; it
    is read back and let go. kp and kv are first guesses: put yours there.
    """
    from isthmus.physics.urdf.import_robot import import_robot
    from isthmus.physics.urdf.meshes import parse_packages

    imported = import_robot(
        robot,
        out,
        actuators=actuators,
        floating_base=_choose_base(floating_base, fixed_base),
        packages=parse_packages(package),
        visuals=not no_visuals,
    )
    screen.print(_tabulate_survey(imported))
    screen.print()
    screen.print(_tabulate_joints(imported))
    screen.print()
    for link in imported.mended:
        print_text(f"{link}: no body has its inertia, which was made round")
    for pair in imported.overlaps:
        print_text(f"{pair[0]} and {pair[1]} overlap at home: they pass through each other")
    print_text(_describe_settling(imported.settling))
    print_text("nothing written; write the MJCF: -o robot.xml" if out is None else out)


def _choose_base(floating: bool, fixed: bool) -> bool | None:
    """Return whether the base floats, None where neither option says so."""
    if floating and fixed:
        raise BadValue("--floating-base and --fixed-base: give one of them")
    if floating == fixed:
        return None
    return floating


def _tabulate_survey(imported: ImportedRobot) -> Table:
    table = make_table("in the URDF", "", "in the MJCF", "")
    for row in imported.survey:
        table.add_row(*map(escape, row))
    return table


def _tabulate_joints(imported: ImportedRobot) -> Table:
    table = make_table(*JOINT_COLUMNS)
    actuators = {choice.joint: choice for choice in imported.actuators}
    for name, joint in imported.robot.joints.items():
        if joint.kind == "fixed":
            continue
        home = f"{imported.home[name]:.3g}" if name in imported.home else "-"
        actuator = _format_actuator(joint, actuators.get(name))
        table.add_row(escape(name), *_format_joint(joint), *actuator, home)
    return table


def _format_joint(joint: UrdfJoint) -> list[str]:
    limits = "-"
    if joint.range is not None:
        limits = f"{joint.range[0]:.4g}..{joint.range[1]:.4g}"
    return [
        joint.kind,
        limits,
        _format_number(joint.effort),
        _format_number(joint.velocity),
        _format_number(joint.damping),
        _format_number(joint.friction),
    ]


def _format_number(value: float | None) -> str:
    return f"{value:.3g}" if value else "-"


def _format_actuator(joint: UrdfJoint, choice: ActuatorChoice | None) -> list[str]:
    if choice is None:
        reason = f"mimics {escape(joint.mimics)}" if joint.mimics else "-"
        return [reason, "-", "-"]
    return [choice.kind, _format_number(choice.kp), _format_number(choice.kv)]


def _describe_settling(settling: Settling) -> str:
    """Return in a line what the robot does when it is let go at home."""
    from isthmus.physics.urdf.settling import SECONDS

    if settling.diverged_at is not None:
        return (
            f"diverges {settling.diverged_at:.2f} s after it is let go at home: give it other "
            "gains, or look for shapes that overlap"
        )
    moved = [f"no joint further than {settling.error:.2g} from home ({settling.furthest})"]
    if settling.tilt or settling.drop:
        moved.append(f"the base {_describe_base(settling)}")
    if settling.rests:
        return f"rests {SECONDS:g} s after it is let go at home: {', '.join(moved)}"
    return (
        f"still moves {SECONDS:g} s after it is let go at home, {settling.fastest} at "
        f"{settling.speed:.2g} a second: {', '.join(moved)}"
    )


def _describe_base(settling: Settling) -> str:
    if settling.drop > ENDLESS_DROP:
        return "falls without end: no shape of it collides"
    fallen = " (it has fallen over)" if settling.tilt > 1 else ""
    degrees = math.degrees(settling.tilt)
    return f"is {settling.drop * 1e3:.0f} mm lower and turned by {degrees:.0f} degrees{fallen}"
