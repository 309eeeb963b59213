"""What MuJoCo keeps and drops of a URDF: its counts, held against those of the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import mujoco
import numpy as np

from isthmus.physics.urdf.conversion import DENSITY
from isthmus.physics.urdf.description import MOVING, UrdfJoint, UrdfRobot

TOLERANCE = 1e-4  # relative: an MJCF holds six digits
PLANAR_SUFFIXES = ("_TX", "_TY", "_RZ")
"""What MuJoCo appends to the name of a planar joint for the three joints that it becomes."""


class SurveyRow(NamedTuple):
    """A kind of thing in a URDF, how many there are, and what has become of them."""

    thing: str
    described: str
    kept: str
    note: str = ""


class Tally:
    """How many of a kind a URDF describes, how many of them a model has, and names to note."""

    def __init__(self) -> None:
        self.described: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()
        self.notes: dict[str, list[str]] = {}

    def add(self, thing: str, kept: bool) -> None:
        """Count one that is described."""
        self.described[thing] += 1
        self.kept[thing] += kept

    def note(self, remark: str, name: str) -> None:
        """Note a name under a remark."""
        self.notes.setdefault(remark, []).append(name)

    def remarks(self, *remarks: str) -> str:
        """Return those of some remarks under which there are names, with them."""
        told = []
        for remark in remarks:
            if remark in self.notes:
                told.append(f"{remark}: {', '.join(self.notes[remark])}")
        return "; ".join(told)

    def row(self, thing: str, *remarks: str) -> SurveyRow:
        """Return the counts of a kind as a row."""
        described, kept = str(self.described[thing]), str(self.kept[thing])
        return SurveyRow(thing, described, kept, self.remarks(*remarks))


EQUAL_ENDS, NO_LIMITS = "equal ends bound nothing", "without limits"
NO_EFFORT = "0 means none to MuJoCo, and so any force"


def survey_robot(robot: UrdfRobot, model: mujoco.MjModel, base: str) -> list[SurveyRow]:
    """Return what a URDF has and a model made of it keeps, a row a kind of thing.

    `base` says in words what holds the root. Kinds of which the URDF has nothing are left out.
    """
    rows = [
        *_survey_links(robot, model, base),
        *_survey_kinds(robot, model),
        *_survey_joints(robot, model),
        *_survey_shapes(robot, model),
        *_survey_others(robot),
    ]
    return [row for row in rows if row.described != "0"]


def _survey_links(robot: UrdfRobot, model: mujoco.MjModel, base: str) -> Iterator[SurveyRow]:
    tally = Tally()
    mass = 0.0
    for name, link in robot.links.items():
        body = max(_find_id(model, "BODY", name), 0)  # the world has no mass
        tally.add("links", body > 0)
        if link.mass is not None:
            mass += link.mass
            continue
        computed = model.body_mass[body] > 0
        tally.add("links without inertia", bool(computed))
        if computed:
            remark = f"from collision shapes by {DENSITY:g} kg/m3"
            tally.note(remark, f"{name} {model.body_mass[body]:.3g} kg")
    note = "the link world is MuJoCo's own" if "world" in robot.links else ""
    bodies = _count(tally.kept["links"], "body")
    yield SurveyRow("links", str(len(robot.links)), bodies, note)
    yield SurveyRow("base", robot.root, base, "MuJoCo alone would weld it to the world, massless")
    yield SurveyRow("mass", f"{mass:.4g} kg", f"{model.body_mass.sum():.4g} kg")
    row = tally.row("links without inertia", *tally.notes)
    yield row._replace(kept=f"{row.kept} have mass")


def _survey_kinds(robot: UrdfRobot, model: mujoco.MjModel) -> Iterator[SurveyRow]:
    """Return the joints by their types."""
    tally = Tally()
    for joint in robot.joints.values():
        tally.add(f"{joint.kind} joints", _is_present(joint, model))
    for thing in tally.described:
        row = tally.row(thing)
        if thing == "fixed joints":
            note = "MuJoCo alone would melt them into their parents, names and all"
            row = row._replace(kept="bodies without a joint", note=note)
        yield row


def _survey_joints(robot: UrdfRobot, model: mujoco.MjModel) -> Iterator[SurveyRow]:
    """Return what joints that move have: limits, efforts, dampings and their like."""
    tally = Tally()
    for joint in robot.joints_of(*MOVING):
        _tally_limits(tally, joint, model)
        _tally_dynamics(tally, joint, model)
        if joint.velocity:
            tally.add("speed limits", kept=False)
        if joint.has_safety:
            tally.add("safety controllers", kept=False)
        if joint.mimics:
            tally.add("mimic joints", kept=False)
    yield tally.row("limits", EQUAL_ENDS, NO_LIMITS)
    efforts = tally.row("effort limits", NO_EFFORT)
    yield efforts._replace(note="; ".join(filter(None, ["actuatorfrcrange", efforts.note])))
    note = "MuJoCo has none; a task of yours may keep them"
    yield tally.row("speed limits")._replace(kept="dropped", note=note)
    yield tally.row("dampings")
    yield tally.row("frictions")
    constraints = np.count_nonzero(np.asarray(model.eq_type) == mujoco.mjtEq.mjEQ_JOINT)
    mimics = _count(int(constraints), "equality constraint")
    yield tally.row("mimic joints")._replace(kept=mimics, note="soft: they give way under load")
    yield tally.row("safety controllers")._replace(kept="dropped")


def _tally_limits(tally: Tally, joint: UrdfJoint, model: mujoco.MjModel) -> None:
    index = _find_id(model, "JOINT", joint.name)
    if joint.range:
        kept = model.jnt_limited[index] and _is_close(model.jnt_range[index], joint.range)
        tally.add("limits", bool(kept))
        if not kept:
            tally.note(EQUAL_ENDS, joint.name)
    elif joint.kind != "continuous":
        tally.note(NO_LIMITS, joint.name)
    if joint.effort is not None:
        bounds = (-abs(joint.effort), abs(joint.effort))
        kept = model.jnt_actfrclimited[index] and _is_close(model.jnt_actfrcrange[index], bounds)
        tally.add("effort limits", bool(kept))
        if not kept:
            tally.note(NO_EFFORT, joint.name)


def _tally_dynamics(tally: Tally, joint: UrdfJoint, model: mujoco.MjModel) -> None:
    dof = model.jnt_dofadr[_find_id(model, "JOINT", joint.name)]
    if joint.damping:
        tally.add("dampings", _is_close(model.dof_damping[dof], joint.damping))
    if joint.friction:
        tally.add("frictions", _is_close(model.dof_frictionloss[dof], joint.friction))


def _survey_shapes(robot: UrdfRobot, model: mujoco.MjModel) -> Iterator[SurveyRow]:
    tally = Tally()
    meshes: set[str] = set()
    for shape in robot.shapes:
        tally.add(shape.role, kept=True)
        if shape.mesh:
            tally.add(f"{shape.role} mesh", kept=True)
            meshes.add(shape.mesh)
    shown = np.count_nonzero(np.asarray(model.geom_contype) == 0)
    colliding = model.ngeom - shown - 1  # but the ground
    visuals, collisions = tally.described["visual"], tally.described["collision"]
    left_out = "left out by --no-visuals" if shown < visuals else ""
    hulls = tally.described["collision mesh"]
    note = f"{hulls} meshes collide as their convex hulls" if hulls else ""
    yield SurveyRow("visual shapes", str(visuals), _count(int(shown), "geom"), left_out)
    yield SurveyRow("collision shapes", str(collisions), _count(int(colliding), "geom"), note)
    assets = _count(int(model.nmesh), "mesh asset")
    yield SurveyRow("mesh files", str(len(meshes)), assets, "read where they lie")
    yield SurveyRow("colours", str(robot.colors), "kept", "a collision shape takes its visual's")
    yield SurveyRow("textures", str(robot.textures), "dropped")


def _survey_others(robot: UrdfRobot) -> Iterator[SurveyRow]:
    """Return what speaks to other programs: transmissions, gazebo, ros2_control and their like."""
    for tag, count in sorted(robot.others.items()):
        note = "gear ratios are not applied" if tag == "transmission" else ""
        yield SurveyRow(f"<{tag}>", str(count), "dropped", note)


def _find_id(model: mujoco.MjModel, kind: str, name: str) -> int:
    return mujoco.mj_name2id(model, getattr(mujoco.mjtObj, f"mjOBJ_{kind}"), name)


def _is_present(joint: UrdfJoint, model: mujoco.MjModel) -> bool:
    """Return whether a joint is in the model, with all three that a planar one becomes."""
    suffixes = PLANAR_SUFFIXES if joint.kind == "planar" else ("",)
    return all(_find_id(model, "JOINT", joint.name + suffix) >= 0 for suffix in suffixes)


def _is_close(values: object, wanted: object) -> bool:
    return np.allclose(np.asarray(values), np.asarray(wanted), rtol=TOLERANCE, atol=1e-9)


def _count(number: int, noun: str) -> str:
    """Return a number of things in words: "2 bodies"."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{number} {noun.removesuffix('y')}ies"
    return f"{number} {noun}s"
