"""What the builder of DART's worlds reads of a compiled MuJoCo model; all else must be at MuJoCo's
default.

The table goes by the model's own fields, so that whatever an MJCF file says, and whatever a later
MuJoCo adds, is read, known not to matter, or refused by name. What the engines do in their own way
(SOLVER) is listed in docs/engines.md.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations

import mujoco
import numpy as np

from isthmus.physics.friction import CONSTRAINT, CONTACT, FILTER_PARENT, colliding, find_contact

DISABLE, ENABLE = mujoco.mjtDisableBit, mujoco.mjtEnableBit


def _split(names: str) -> frozenset[str]:
    return frozenset(names.split())


READ = _split("""
    opt.timestep opt.gravity opt.density opt.viscosity opt.disableflags opt.enableflags body_parentid body_weldid
    body_pos body_quat body_ipos body_iquat body_mass body_inertia body_jntadr body_jntnum jnt_type jnt_qposadr
    jnt_dofadr jnt_bodyid jnt_pos jnt_axis jnt_range jnt_limited jnt_margin jnt_stiffness qpos0 qpos_spring
    dof_jntid dof_damping dof_frictionloss geom_type geom_bodyid geom_contype geom_conaffinity geom_pos geom_quat
    geom_size geom_friction geom_priority geom_condim geom_margin exclude_signature actuator_trnid actuator_trntype
    actuator_gaintype actuator_gainprm actuator_biastype actuator_dyntype actuator_gear actuator_ctrllimited
    actuator_ctrlrange actuator_ctrlspec actuator_forcelimited
""")
"""What is built, or looked at by `find_unbuilt`."""

SOLVER = _split("""
    opt.integrator opt.cone opt.impratio opt.solver opt.jacobian opt.iterations opt.tolerance opt.ls_iterations
    opt.ls_tolerance opt.noslip_iterations opt.noslip_tolerance opt.ccd_iterations opt.ccd_tolerance
    opt.sdf_initpoints opt.sdf_iterations jnt_solref jnt_solimp dof_solref dof_solimp geom_solref geom_solimp
    geom_solmix dof_armature
""")
"""Where the engines differ by nature: integrators, solvers, softness; and armature, which DART has not.

Of these, what a built-in robot has of joints' is told (`describe_left_out`), the rest is refused.
"""

WITHOUT_EFFECT = _split("""
    opt.magnetic opt.wind opt.sleep_tolerance opt.o_margin opt.o_solref opt.o_solimp opt.o_friction stat vis
    signature body_rootid body_mocapid body_treeid body_dofadr body_dofnum body_geomadr body_geomnum body_sameframe
    body_simple body_subtreemass body_invweight0 body_bvhadr body_bvhnum body_contype body_conaffinity body_margin
    body_user jnt_group jnt_user jnt_actfrcrange dof_bodyid dof_parentid dof_treeid dof_Madr dof_simplenum
    dof_invweight0 dof_M0 dof_length geom_dataid geom_group geom_matid geom_rgba geom_castshadow geom_sameframe
    geom_aabb geom_rbound geom_user geom_fluid actuator_actadr actuator_actnum actuator_actearly actuator_actlimited
    actuator_actrange actuator_ctrladr actuator_outadr actuator_historyadr actuator_dynprm actuator_biasprm
    actuator_forcerange actuator_cranklength actuator_length0 actuator_lengthrange actuator_acc0 actuator_group
    actuator_user nq nv nu na nactuator nout nbody njnt ngeom nsite ncam nlight nmat nmesh nskin nhfield ntex ntext
    nnumeric ntuple nkey nsensor nsensordata nuserdata nexclude ntree nbvh nbvhstatic nbvhdynamic noct nnames
    nnames_map npaths nbuffer narena njmax nconmax nemax nM nB nC nD nJmom nJten nJfe nefm0L nefm0dof nefmCvert
""")
"""Derived from what is read, idle without what is refused (o_friction, forcerange), or drawn, named and measured."""

WITHOUT_EFFECT_PREFIXES = (
    "B_", "D_", "M_", "map", "efm", "tree_", "flg_", "name", "path", "site_", "cam_", "light_", "mat_", "tex", "skin_",
    "mesh_", "hfield_", "bvh_", "oct_", "key_", "sensor_", "numeric_", "text_", "tuple_", "nuser_", "nmesh", "nskin",
    "nhfield", "ntex", "ntuple", "nnumeric", "npoly",
    # These are there only with what is refused by its number: equalities, tendons, flexes, pairs,
    # plugins.
    "eq_", "tendon_", "ten_", "wrap_", "nwrap", "flex", "nflex", "pair_", "plugin", "nplugin",
)  # fmt: skip

COUNTED = {
    "ntendon": "tendons", "neq": "equality constraints", "npair": "contact pairs", "nmocap": "mocap bodies",
    "nflex": "flexible bodies", "nplugin": "plugins", "nplastic": "plastic joints",
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
"""What actuators may be told by name: a plain motor, which is built, has no such input."""

BUILT_FLAGS = (
    CONSTRAINT, CONTACT, FILTER_PARENT, DISABLE.mjDSBL_LIMIT, DISABLE.mjDSBL_FRICTIONLOSS, DISABLE.mjDSBL_SPRING,
    DISABLE.mjDSBL_DAMPER, DISABLE.mjDSBL_GRAVITY, DISABLE.mjDSBL_CLAMPCTRL, DISABLE.mjDSBL_ACTUATION,
)  # fmt: skip
IDLE_FLAGS = (
    DISABLE.mjDSBL_EQUALITY, DISABLE.mjDSBL_WARMSTART, DISABLE.mjDSBL_REFSAFE, DISABLE.mjDSBL_SENSOR,
    DISABLE.mjDSBL_MIDPHASE, DISABLE.mjDSBL_EULERDAMP, DISABLE.mjDSBL_AUTORESET, DISABLE.mjDSBL_NATIVECCD,
    DISABLE.mjDSBL_ISLAND, DISABLE.mjDSBL_MULTICCD,
)  # fmt: skip
"""Of the solver, or of what is refused or not asked for here."""
IDLE_ENABLE_FLAGS = (
    ENABLE.mjENBL_ENERGY,
    ENABLE.mjENBL_FWDINV,
    ENABLE.mjENBL_INVDISCRETE,
    ENABLE.mjENBL_DIAGEXACT,
)

GEOM = mujoco.mjtGeom
SHAPES = {
    int(kind)
    for kind in (GEOM.mjGEOM_CAPSULE, GEOM.mjGEOM_SPHERE, GEOM.mjGEOM_BOX, GEOM.mjGEOM_PLANE)
}
MAX_NAMES = 8  # of joints, in a line
# m: two geoms of Hopper's. DART's contacts begin at the surfaces, so that it stands so much lower
THIN_MARGIN = 0.002

PLAIN = """
    <mujoco><worldbody><body><joint name="hinge"/><geom size="1"/></body></worldbody>
    <actuator><motor joint="hinge"/></actuator></mujoco>"""
"""One joint, geom and actuator of each field's default."""


def is_disabled(model: mujoco.MjModel, *flags: mujoco.mjtDisableBit) -> bool:
    """Say whether the model disables any of these."""
    return any(model.opt.disableflags & flag for flag in flags)


@cache
def _read_plain_model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(PLAIN)


def list_fields(model: mujoco.MjModel) -> list[str]:
    """Return the names of a compiled model's fields, those of its options as `opt.NAME`."""
    names = [name for name in dir(model) if not name.startswith("_") and name != "opt"]
    fields = [name for name in names if not callable(getattr(model, name))]
    return fields + [f"opt.{name}" for name in dir(model.opt) if not name.startswith("_")]


def is_known(field: str) -> bool:
    """Say whether the table accounts for a field: it is read, or does not matter here."""
    return field in READ | SOLVER | WITHOUT_EFFECT or field.startswith(WITHOUT_EFFECT_PREFIXES)


def find_unread(model: mujoco.MjModel) -> list[str]:
    """Return what a model has that the builder does not look at, and that is not at MuJoCo's
    default.
    """
    touching = sorted(set().union(*colliding(model)))
    unread = []
    for field in list_fields(model):
        if field in COUNTED or not is_known(field):
            value, default = _read(model, field), _read(_read_plain_model(), field)
            if field.startswith("geom_"):
                value = value[touching]  # what touches nothing is only drawn
            if not _is_default(value, default):
                unread.append(LABELS.get(field, field))
    return list(dict.fromkeys(unread)) + _find_unbuilt_flags(model)


def _read(model: mujoco.MjModel, field: str) -> np.ndarray:
    owner, name = (model.opt, field[4:]) if field.startswith("opt.") else (model, field)
    return np.asarray(getattr(owner, name))


def _is_default(value: np.ndarray, default: np.ndarray) -> bool:
    """Compare a field with the plain model's: rows with its last row, numbers with its number."""
    if value.size == 0 or np.array_equal(value, default):
        return True
    if value.ndim == 0 or default.size == 0 or value.shape[1:] != default.shape[1:]:
        return False
    return bool((value == default[-1]).all())


def _find_unbuilt_flags(model: mujoco.MjModel) -> list[str]:
    disabled = model.opt.disableflags & ~sum(int(flag) for flag in (*BUILT_FLAGS, *IDLE_FLAGS))
    enabled = model.opt.enableflags & ~sum(int(flag) for flag in IDLE_ENABLE_FLAGS)
    return _name_flags(disabled, DISABLE, "disable") + _name_flags(enabled, ENABLE, "enable")


def _name_flags(bits: int, kind: type, state: str) -> list[str]:
    """Return flags as an MJCF file has them, by number where MuJoCo has no name for one."""
    names = {
        int(flag): name.split("_")[-1].lower()
        for name, flag in kind.__members__.items()
        if "_" in name
    }
    return [
        f'<flag {names.get(1 << k, f"number {k}")}="{state}"/>' for k in range(31) if bits >> k & 1
    ]


def find_unbuilt(model: mujoco.MjModel) -> list[str]:
    """Return what a model has that DART's builder cannot build, in words; an empty list where it
    builds it all.
    """
    found = {
        **_find_unbuilt_joints(model),
        **_find_unbuilt_actuators(model),
        **_find_unbuilt_contacts(model),
    }
    found["a fluid"] = bool(model.opt.density or model.opt.viscosity)
    return [what for what, there in found.items() if there] + find_unread(model)


def _find_unbuilt_joints(model: mujoco.MjModel) -> dict[str, bool]:
    kind = np.asarray(model.jnt_type)
    free = kind == mujoco.mjtJoint.mjJNT_FREE
    resisted = (model.dof_damping > 0) | (model.dof_frictionloss > 0)
    of_free = free[model.dof_jntid]
    return {
        "ball joints": bool((kind == mujoco.mjtJoint.mjJNT_BALL).any()),
        "free joints with damping, dry friction or springs": bool(
            (resisted & of_free).any() or (model.jnt_stiffness[free] != 0).any()
        ),
        "free joints with armature": bool((model.dof_armature[of_free] != 0).any()),
        "joint limits with solreflimit": bool(
            _differs(model, "jnt_solref")[_is_limited(model)].any()
        ),
    }


def _is_limited(model: mujoco.MjModel) -> np.ndarray:
    """Say of every joint whether it has limits that count, bool [njnt]."""
    return np.asarray(model.jnt_limited, bool) & (
        not is_disabled(model, CONSTRAINT, DISABLE.mjDSBL_LIMIT)
    )


def _differs(model: mujoco.MjModel, field: str) -> np.ndarray:
    """Say of every row of a field whether it is not MuJoCo's default, bool [rows]."""
    return (_read(model, field) != _read(_read_plain_model(), field)[-1]).any(1)


def describe_left_out(model: mujoco.MjModel) -> list[str]:
    """Return what a model that is built has of its joints' and DART has not: a line a kind, none
    where it has all.
    """
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
    names = [
        model.joint(j).name or f"a joint of body {model.body(model.jnt_bodyid[j]).name}"
        for j in joints
    ]
    if len(names) > MAX_NAMES:
        names[MAX_NAMES:] = [f"{len(names) - MAX_NAMES} others"]
    return ", ".join(names)


def _find_unbuilt_actuators(model: mujoco.MjModel) -> dict[str, bool]:
    on_joint = np.asarray(model.actuator_trntype) == mujoco.mjtTrn.mjTRN_JOINT
    plain = (
        on_joint
        & (model.actuator_gaintype == mujoco.mjtGain.mjGAIN_FIXED)
        & (model.actuator_biastype == mujoco.mjtBias.mjBIAS_NONE)
        & (model.actuator_dyntype == mujoco.mjtDyn.mjDYN_NONE)
        & (model.actuator_gainprm[:, 0] == 1)
        & ~np.asarray(model.actuator_forcelimited, bool)
    )
    inputs = np.asarray(model.actuator_ctrlspec)
    told = {words: bool((inputs & bit).any()) for bit, words in INPUTS.items()}
    told["actuators whose control is no force"] = bool((inputs & ~sum(INPUTS)).any())
    driven = model.jnt_type[model.actuator_trnid[on_joint, 0]]
    return {
        "actuators that are no plain motors of joints": not plain.all(),
        **told,
        "motors on free joints": bool((driven == mujoco.mjtJoint.mjJNT_FREE).any()),
    }


def _find_unbuilt_contacts(model: mujoco.MjModel) -> dict[str, bool]:
    pairs, owner = set(colliding(model)), model.geom_bodyid
    touching = sorted(set().union(*pairs))
    met = {(owner[g], owner[h]) for g, h in pairs}
    split = any(
        (owner[g], owner[h]) in met and (g, h) not in pairs for g, h in combinations(touching, 2)
    )
    margins = [model.geom_margin[g] + model.geom_margin[h] for g, h in pairs]
    return {
        "colliding geoms that are no capsule, sphere, box or plane": any(
            int(model.geom_type[g]) not in SHAPES for g in touching
        ),
        "bodies whose geoms collide with different others": split,  # DART filters by body
        "contacts with torsional or rolling friction (condim 4 or 6)": any(
            find_contact(model, g, h).condim > 3 for g, h in pairs
        ),
        f"contact margins above {1000 * THIN_MARGIN:g} mm": max(margins, default=0.0) > THIN_MARGIN,
    }
