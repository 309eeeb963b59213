"""What the builder of DART's worlds reads of a compiled MuJoCo model.

All else must be at MuJoCo's default. The table goes by the model's own fields, so that whatever an
MJCF file says, and whatever a later MuJoCo adds, is read, known not to matter, or refused by name.
What the engines do in their own way (SOLVER) is listed in docs/guide/engines.md.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import SupportsInt

import mujoco
import numpy as np

from isthmus.physics.geom_contacts import (
    CONSTRAINT,
    CONTACT,
    FILTER_PARENT,
    find_colliding,
    find_colliding_contacts,
)

DISABLE, ENABLE = mujoco.mjtDisableBit, mujoco.mjtEnableBit


def _split(names: str) -> frozenset[str]:
    return frozenset(names.split())


READ = _split("""
    opt.timestep opt.gravity opt.density opt.viscosity opt.disableflags opt.enableflags
    body_parentid body_weldid body_pos body_quat body_ipos body_iquat body_mass body_inertia
    body_jntadr body_jntnum jnt_type jnt_qposadr jnt_dofadr jnt_bodyid jnt_pos jnt_axis jnt_range
    jnt_limited jnt_margin jnt_stiffness qpos0 qpos_spring dof_jntid dof_damping dof_frictionloss
    geom_type geom_bodyid geom_contype geom_conaffinity geom_pos geom_quat geom_size geom_friction
    geom_priority geom_condim geom_margin exclude_signature actuator_trnid actuator_trntype
    actuator_gaintype actuator_gainprm actuator_biastype actuator_dyntype actuator_gear
    actuator_ctrllimited actuator_ctrlrange actuator_ctrlspec actuator_forcelimited
    actuator_biasprm actuator_forcerange
    geom_dataid mesh_vert mesh_vertadr mesh_vertnum mesh_graph mesh_graphadr
""")
"""What is built, or looked at by `find_unbuilt`."""

SOLVER = _split("""
    opt.integrator opt.cone opt.impratio opt.solver opt.jacobian opt.iterations opt.tolerance
    opt.ls_iterations opt.ls_tolerance opt.noslip_iterations opt.noslip_tolerance
    opt.ccd_iterations opt.ccd_tolerance opt.sdf_initpoints opt.sdf_iterations jnt_solref
    jnt_solimp dof_solref dof_solimp geom_solref geom_solimp geom_solmix dof_armature
""")
"""Where the engines differ by nature: integrators, solvers, softness; and armature, not in DART.

Of these, what a built-in robot has of joints' is described (`describe_left_out`), the rest refused.
"""

WITHOUT_EFFECT = _split("""
    opt.magnetic opt.wind opt.sleep_tolerance opt.o_margin opt.o_solref opt.o_solimp
    opt.o_friction stat vis signature body_rootid body_mocapid body_treeid body_dofadr body_dofnum
    body_geomadr body_geomnum body_sameframe body_simple body_subtreemass body_invweight0
    body_bvhadr body_bvhnum body_contype body_conaffinity body_margin body_user jnt_group jnt_user
    jnt_actfrcrange dof_bodyid dof_parentid dof_treeid dof_Madr dof_simplenum dof_invweight0
    dof_M0 dof_length geom_group geom_matid geom_rgba geom_castshadow geom_sameframe
    geom_aabb geom_rbound geom_user geom_fluid actuator_actadr actuator_actnum actuator_actearly
    actuator_actlimited actuator_actrange actuator_ctrladr actuator_outadr actuator_historyadr
    actuator_dynprm actuator_cranklength actuator_length0
    actuator_lengthrange actuator_acc0 actuator_group actuator_user nq nv nu na nactuator nout
    nbody njnt ngeom nsite ncam nlight nmat nmesh nskin nhfield ntex ntext nnumeric ntuple nkey
    nsensor nsensordata nuserdata nexclude ntree nbvh nbvhstatic nbvhdynamic noct nnames
    nnames_map npaths nbuffer narena njmax nconmax nemax nM nB nC nD nJmom nJten nJfe nefm0L
    nefm0dof nefmCvert
""")
"""Derived from what is read, idle without what is refused, or drawn, named and measured.

Idle is, for instance, o_friction.
"""

WITHOUT_EFFECT_PREFIXES = (
    "B_", "D_", "M_", "map", "efm", "tree_", "flg_", "name", "path", "site_", "cam_", "light_",
    "mat_", "tex", "skin_", "mesh_", "hfield_", "bvh_", "oct_", "key_", "sensor_", "numeric_",
    "text_", "tuple_", "nuser_", "nmesh", "nskin", "nhfield", "ntex", "ntuple", "nnumeric", "npoly",
    # These are there only with what is refused by its number: equalities, tendons, flexes, pairs,
    # plugins.
    "eq_", "tendon_", "ten_", "wrap_", "nwrap", "flex", "nflex", "pair_", "plugin", "nplugin",
)  # fmt: skip

COUNTED = {
    "ntendon": "tendons", "neq": "equality constraints", "npair": "contact pairs",
    "nmocap": "mocap bodies", "nflex": "flexible bodies", "nplugin": "plugins",
    "nplastic": "plastic joints",
}  # fmt: skip
"""Sizes that refuse whatever they count."""

LABELS = COUNTED | {
    "ngravcomp": "gravity compensation",
    "body_gravcomp": "gravity compensation",
    "jnt_actgravcomp": "gravity compensation",
    "jnt_actfrclimited": "joints with actuatorfrcrange",
    "jnt_stiffnesspoly": "polynomial stiffness",
    "jnt_springyield": "joints with springyield",
    "jnt_plasticadr": "plastic joints",
    "dof_dampingpoly": "polynomial damping",
    "geom_gap": "geoms with gap",
    "geom_adhesion": "geoms with adhesion",
    "geom_surfacevel": "geoms with surfacevel",
    "actuator_delay": "actuators with delay or history",
    "actuator_history": "actuators with delay or history",
    "nhistory": "actuators with delay or history",
    "actuator_damping": "actuators with damping or armature",
    "actuator_dampingpoly": "actuators with damping or armature",
    "actuator_armature": "actuators with damping or armature",
    # MuJoCo refers from the joint to such an actuator
    "jnt_actuatorid": "actuators with damping or armature",
    "actuator_ctrlnum": "actuators with several controls",
    "opt.disableactuator": "disabled groups of actuators",
}

INPUTS = {
    int(mujoco.mjtCtrlInput.mjINPUT_POS): "actuators whose control is a position",
    int(mujoco.mjtCtrlInput.mjINPUT_VEL): "actuators whose control is a velocity",
    int(mujoco.mjtCtrlInput.mjINPUT_FF): "actuators whose control is a feedforward force",
    int(mujoco.mjtCtrlInput.mjINPUT_VOLTAGE): "actuators whose control is a voltage",
    int(mujoco.mjtCtrlInput.mjINPUT_PRESSURE): "actuators whose control is a pressure",
}
"""Named inputs of actuators: motors have none of them, servos one of SERVO_INPUTS."""
SERVO_INPUTS = int(mujoco.mjtCtrlInput.mjINPUT_POS) | int(mujoco.mjtCtrlInput.mjINPUT_VEL)

BUILT_BIASES = (int(mujoco.mjtBias.mjBIAS_NONE), int(mujoco.mjtBias.mjBIAS_AFFINE))

BUILT_FLAGS = (
    CONSTRAINT, CONTACT, FILTER_PARENT, DISABLE.mjDSBL_LIMIT, DISABLE.mjDSBL_FRICTIONLOSS,
    DISABLE.mjDSBL_SPRING, DISABLE.mjDSBL_DAMPER, DISABLE.mjDSBL_GRAVITY, DISABLE.mjDSBL_CLAMPCTRL,
    DISABLE.mjDSBL_ACTUATION,
)  # fmt: skip
IDLE_FLAGS = (
    DISABLE.mjDSBL_EQUALITY, DISABLE.mjDSBL_WARMSTART, DISABLE.mjDSBL_REFSAFE,
    DISABLE.mjDSBL_SENSOR, DISABLE.mjDSBL_MIDPHASE, DISABLE.mjDSBL_EULERDAMP,
    DISABLE.mjDSBL_AUTORESET, DISABLE.mjDSBL_NATIVECCD, DISABLE.mjDSBL_ISLAND,
    DISABLE.mjDSBL_MULTICCD,
)  # fmt: skip
"""Of the solver, or of what is refused or not asked for here."""
IDLE_ENABLE_FLAGS = (
    ENABLE.mjENBL_ENERGY,
    ENABLE.mjENBL_FWDINV,
    ENABLE.mjENBL_INVDISCRETE,
    ENABLE.mjENBL_DIAGEXACT,
)

GEOM = mujoco.mjtGeom
BUILT_GEOMS = (
    GEOM.mjGEOM_CAPSULE, GEOM.mjGEOM_SPHERE, GEOM.mjGEOM_BOX, GEOM.mjGEOM_PLANE, GEOM.mjGEOM_MESH,
)  # fmt: skip
MAX_NAMES = 8  # of joints, in a line
# m: two geoms of Hopper's. DART's contacts begin at the surfaces, so that it stands so much lower
THIN_MARGIN = 0.002

PLAIN = """
    <mujoco><worldbody><body><joint name="hinge"/><geom size="1"/></body></worldbody>
    <actuator><motor joint="hinge"/></actuator></mujoco>"""
"""One joint, geom and actuator of each field's default."""


def is_disabled(model: mujoco.MjModel, *flags: mujoco.mjtDisableBit) -> bool:
    """Return whether the model disables any of these."""
    return any(model.opt.disableflags & flag for flag in flags)


@cache
def _read_plain_model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(PLAIN)


def list_fields(model: mujoco.MjModel) -> list[str]:
    """Return the names of a compiled model's fields, those of its options as `opt.NAME`."""
    fields = []
    for name in _list_public(model):
        if name != "opt" and not callable(getattr(model, name)):
            fields.append(name)
    return fields + [f"opt.{name}" for name in _list_public(model.opt)]


def _list_public(part: object) -> list[str]:
    return [name for name in dir(part) if not name.startswith("_")]


def is_known(field: str) -> bool:
    """Return whether the table accounts for a field: it is read, or does not matter here."""
    return field in READ | SOLVER | WITHOUT_EFFECT or field.startswith(WITHOUT_EFFECT_PREFIXES)


def find_unread(model: mujoco.MjModel) -> list[str]:
    """Return what a model has that the builder does not read, and that is not MuJoCo's default."""
    unread: dict[str, None] = {}  # a set in order
    for field in list_fields(model):
        if is_known(field) and field not in COUNTED:
            continue
        value = _read(model, field)
        if field.startswith("geom_"):
            value = value[_find_touching(model)]  # what touches nothing is only drawn
        if not _is_default(value, _read(_read_plain_model(), field)):
            unread[LABELS.get(field, field)] = None
    return list(unread) + _find_unbuilt_flags(model)


def _find_touching(model: mujoco.MjModel) -> list[int]:
    """Return the geoms that can touch any other."""
    return sorted(set().union(*find_colliding(model)))


def _read(model: mujoco.MjModel, field: str) -> np.ndarray:
    if field.startswith("opt."):
        return np.asarray(getattr(model.opt, field.removeprefix("opt.")))
    return np.asarray(getattr(model, field))


def _is_default(value: np.ndarray, default: np.ndarray) -> bool:
    """Compare a field with the plain model's: rows with its last row, numbers with its number."""
    if value.size == 0 or np.array_equal(value, default):
        return True
    if value.ndim == 0 or default.size == 0 or value.shape[1:] != default.shape[1:]:
        return False
    return bool((value == default[-1]).all())


def _find_unbuilt_flags(model: mujoco.MjModel) -> list[str]:
    disabled = model.opt.disableflags & ~_join_flags(*BUILT_FLAGS, *IDLE_FLAGS)
    enabled = model.opt.enableflags & ~_join_flags(*IDLE_ENABLE_FLAGS)
    return _name_flags(disabled, DISABLE, "disable") + _name_flags(enabled, ENABLE, "enable")


def _join_flags(*flags: SupportsInt) -> int:
    return sum(map(int, flags))


def _name_flags(bits: int, kind: type, state: str) -> list[str]:
    """Return flags as an MJCF file has them, by number where MuJoCo has no name for one."""
    names = {1 << k: f"number {k}" for k in range(31)}
    for name, flag in kind.__members__.items():
        if "_" in name:
            names[int(flag)] = name.split("_")[-1].lower()
    flags = []
    for bit, name in names.items():
        if bits & bit:
            flags.append(f'<flag {name}="{state}"/>')
    return flags


def find_unbuilt(model: mujoco.MjModel) -> list[str]:
    """Return what a model has that DART's builder cannot build, in words; none where it can all."""
    checks = {
        **_check_joints(model),
        **_check_actuators(model),
        **_check_contacts(model),
        "a fluid": model.opt.density != 0 or model.opt.viscosity != 0,
    }
    unbuilt = []
    for words, present in checks.items():
        if present:
            unbuilt.append(words)
    return unbuilt + find_unread(model)


def _check_joints(model: mujoco.MjModel) -> dict[str, bool]:
    """Return what cannot be built of joints, and whether the model has it."""
    kind = np.asarray(model.jnt_type)
    free = kind == mujoco.mjtJoint.mjJNT_FREE
    of_free = free[model.dof_jntid]
    resisted = np.any((model.dof_damping[of_free] > 0) | (model.dof_frictionloss[of_free] > 0))
    sprung = np.any(model.jnt_stiffness[free] != 0)
    soft = _differs(model, "jnt_solref") & _is_limited(model)
    return {
        "ball joints": bool(np.any(kind == mujoco.mjtJoint.mjJNT_BALL)),
        "free joints with damping, dry friction or springs": bool(resisted | sprung),
        "free joints with armature": bool(np.any(model.dof_armature[of_free] != 0)),
        "joint limits with solreflimit": bool(soft.any()),
    }


def _is_limited(model: mujoco.MjModel) -> np.ndarray:
    """Return which joints have limits that count, bool [njnt]."""
    enforced = not is_disabled(model, CONSTRAINT, DISABLE.mjDSBL_LIMIT)
    return np.asarray(model.jnt_limited, bool) & enforced


def _differs(model: mujoco.MjModel, field: str) -> np.ndarray:
    """Return which rows of a field are not MuJoCo's default, bool [rows]."""
    return (_read(model, field) != _read(_read_plain_model(), field)[-1]).any(1)


def describe_left_out(model: mujoco.MjModel) -> list[str]:
    """Return what a model that is built has of its joints' and DART lacks, a line a kind."""
    rotors = np.unique(model.dof_jntid[np.asarray(model.dof_armature) != 0])
    soft = np.flatnonzero(_differs(model, "jnt_solimp") & _is_limited(model))
    lines = []
    if len(rotors):
        lines.append(
            f"DART has no joint armature: that of {_name_joints(model, rotors)} is left out"
        )
    if len(soft):
        lines.append(
            f"DART has hard joint limits: solimplimit of {_name_joints(model, soft)} is left out"
        )
    return lines


def _name_joints(model: mujoco.MjModel, joints: np.ndarray) -> str:
    """Return the names of joints, of many the first."""
    names = [_name_joint(model, int(j)) for j in joints]
    if len(names) > MAX_NAMES:
        names[MAX_NAMES:] = [f"{len(names) - MAX_NAMES} others"]
    return ", ".join(names)


def _name_joint(model: mujoco.MjModel, joint: int) -> str:
    return model.joint(joint).name or f"a joint of body {model.body(model.jnt_bodyid[joint]).name}"


def _check_actuators(model: mujoco.MjModel) -> dict[str, bool]:
    """Return what cannot be built of actuators, and whether the model has it."""
    on_joint = np.asarray(model.actuator_trntype) == mujoco.mjtTrn.mjTRN_JOINT
    built = (
        on_joint
        & (model.actuator_gaintype == mujoco.mjtGain.mjGAIN_FIXED)
        & np.isin(model.actuator_biastype, BUILT_BIASES)
        & (model.actuator_dyntype == mujoco.mjtDyn.mjDYN_NONE)
    )
    checks = {"actuators that are no motors or servos of joints": not built.all()}
    inputs = np.array(model.actuator_ctrlspec)
    servos = built & (model.actuator_biastype == mujoco.mjtBias.mjBIAS_AFFINE)
    inputs[servos] &= ~SERVO_INPUTS
    for bit, words in INPUTS.items():
        checks[words] = bool(np.any(inputs & bit))
    checks["actuators whose control is no force"] = bool(np.any(inputs & ~sum(INPUTS)))
    driven = model.jnt_type[model.actuator_trnid[on_joint, 0]]
    checks["motors on free joints"] = bool(np.any(driven == mujoco.mjtJoint.mjJNT_FREE))
    return checks


def _check_contacts(model: mujoco.MjModel) -> dict[str, bool]:
    """Return what cannot be built of contacts, and whether the model has it."""
    condim, margin = 0, 0.0
    for contact in find_colliding_contacts(model):
        condim = max(condim, contact.condim)
        margin = max(margin, model.geom_margin[contact.geom] + model.geom_margin[contact.other])
    kinds = {GEOM(model.geom_type[geom]) for geom in _find_touching(model)}
    return {
        "colliding geoms that are no capsule, sphere, box, plane or mesh": not kinds
        <= set(BUILT_GEOMS),
        "bodies whose geoms collide with different others": _splits_bodies(model),
        "contacts with torsional or rolling friction (condim 4 or 6)": condim > 3,
        f"contact margins above {1000 * THIN_MARGIN:g} mm": margin > THIN_MARGIN,
    }


def _splits_bodies(model: mujoco.MjModel) -> bool:
    """Return whether some geoms of two bodies that touch do not: DART filters by body."""
    pairs, owner = set(find_colliding(model)), model.geom_bodyid
    touching_bodies = {(owner[g], owner[h]) for g, h in pairs}
    for g, h in combinations(_find_touching(model), 2):
        if (owner[g], owner[h]) in touching_bodies and (g, h) not in pairs:
            return True
    return False
