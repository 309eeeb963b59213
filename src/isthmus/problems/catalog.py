"""Problems by name.

An entry is data: two domains, what is believed, how the target may be touched, and the source. Any
other shift needs no entry: `task/name=setting,...` is a problem too.
"""

from __future__ import annotations

from typing import NamedTuple

ODRL = "ODRL (Lyu et al. 2024, arXiv 2410.20750)"
ES = "ES-sim2real (Spigler and Dalbagno)"
DAP = "after DAP (Ng and Chen 2024, arXiv 2410.12250); the shift is our choice"
OURS = "ours"
MATL = "after MATL (Wulfmeier et al. 2017, arXiv 1707.07907); the shift is our choice"


class CatalogEntry(NamedTuple):
    """A problem as texts, and where it is from."""

    source: str
    target: str
    access: str
    uncertainty: str
    citation: str
    note: str = ""


ROBOTS = ("hopper", "half_cheetah", "walker2d", "ant")
SCALE_FACTORS = ("0.1", "0.5", "2", "5")
"""Of gravity and friction, in ODRL's files."""

JOINT_RANGES = {"easy": "0.8", "medium": "0.5", "hard": "0.2"}
"""What ODRL's kinematic levels leave of a joint's range, at both ends."""

JOINTS = {
    "half_cheetah": {"foot": ("bfoot", "ffoot"), "thigh": ("bthigh", "fthigh")},
    "hopper": {"foot": ("foot",), "leg": ("leg",)},
    "walker2d": {"foot": ("foot", "foot_left"), "thigh": ("thigh", "thigh_left")},
    "ant": {"hip": ("hip_1", "hip_2", "hip_3", "hip_4")},
}
"""All joints of a kind that ODRL limits together.

Its limits of Ant's ankles move one end alone, which cannot be written here."""


def _es() -> dict[str, CatalogEntry]:
    contact = CatalogEntry(
        "hopper/torso_mass=6,friction=2",
        "hopper/torso_mass=0.5..11.5:12,friction=0.1..2.9:15",
        "few_shot",
        "torso_mass=1..9,friction=1.5..2.5",
        ES,
        "the same with the true contact friction, floor and robot together",
    )
    published = CatalogEntry(
        "hopper/torso_mass=6,foot_friction=2",
        "hopper/torso_mass=0.5..11.5:12,foot_friction=0.1..2.9:15",
        "few_shot",
        "torso_mass=1..9,foot_friction=1.5..2.5",
        ES,
        "friction as published: the foot's own, of no effect below the floor's 1",
    )
    return {"hopper-es-sim2real": published, "hopper-es-sim2real-contact": contact}


def _odrl() -> dict[str, CatalogEntry]:
    rows = {}
    for robot in ROBOTS:
        for factor in SCALE_FACTORS:
            rows[f"{robot}-gravity-{factor}"] = _scaled(robot, "gravity", factor, ODRL)
        for factor in SCALE_FACTORS:
            rows[f"{robot}-friction-{factor}"] = _odrl_friction(robot, factor)
    for robot, kinds in JOINTS.items():
        for kind, joints in kinds.items():
            for level, factor in JOINT_RANGES.items():
                shift = ",".join(f"{joint}_range=x{factor}" for joint in joints)
                note = f"the range of {' and '.join(joints)}"
                rows[f"{robot}-kinematic-{kind}-{level}"] = CatalogEntry(
                    robot, f"{robot}/{shift}", "online", "", ODRL, note
                )
    return rows


def _odrl_friction(robot: str, factor: str) -> CatalogEntry:
    """Return ODRL's friction: of floor and robot, but on Hopper of the robot's geoms alone."""
    if robot != "hopper":
        return _scaled(robot, "friction", factor, ODRL)
    note = (
        "the robot's alone, as in ODRL's file; its other geoms touch the floor only when it has "
        "fallen"
    )
    if float(factor) <= 0.5:
        note = (
            "the robot's alone, as in ODRL's file: a contact takes the floor's 1, so that 0.1 and "
            "0.5 are one problem"
        )
    return _scaled(robot, "foot_friction", factor, ODRL, note)


def _scaled(robot: str, name: str, factor: str, citation: str, note: str = "") -> CatalogEntry:
    return CatalogEntry(
        robot, f"{robot}/{name}=x{factor}", "online", f"{name}=x0.1..x5", citation, note
    )


def _dap() -> dict[str, CatalogEntry]:
    shifts = {
        "hopper": "density=x1.5",
        "half_cheetah": "damping=x3",
        "walker2d": "friction=x2",
        "ant": "hip_1_strength=0,ankle_1_strength=0",
    }
    rows = {}
    for robot, shift in shifts.items():
        rows[f"{robot}-dap"] = CatalogEntry(robot, f"{robot}/{shift}", "dataset", "", DAP)
    rows["half_cheetah-broken"] = CatalogEntry(
        "half_cheetah",
        "half_cheetah/bthigh_strength=0",
        "dataset",
        "",
        "Eysenbach et al. 2020, arXiv 2006.13916",
        "DARC's broken joint: the hind thigh has no motor",
    )
    for name, shift in (("damping-0.3", "damping=x0.3"), ("motors-2", "motor_strength=x2")):
        note = "a shift that a second action can cross (`isthmus audit --crossing`)"
        rows[f"half_cheetah-{name}"] = CatalogEntry(
            "half_cheetah", f"half_cheetah/{shift}", "dataset", "", OURS, note
        )
    rows["half_cheetah-motors"] = CatalogEntry(
        "half_cheetah",
        "half_cheetah/motor_strength=x1.5",
        "dataset",
        "",
        OURS,
        "a probe that can be crossed without loss, by acting 1/1.5 as strongly",
    )
    return rows


def _matl() -> dict[str, CatalogEntry]:
    rows = {}
    cartpole, reacher = "cartpole_swingup", "reacher"
    for reward in ("sparse", "none"):
        shift = "cart_damping=1,pole_frictionloss=0.05,pole_mass=0.2"
        rows[f"cartpole-{reward}"] = _sparse(cartpole, reward, shift)
        shift = "armature=x0.1,damping=x5,joint0_frictionloss=20,joint1_frictionloss=20"
        rows[f"reacher-{reward}"] = _sparse(reacher, reward, shift)
    rows["cartpole-damped"] = _sparse(
        cartpole, "sparse", "pole_damping=0.05,pole_mass=0.3", "the goal is not met by chance"
    )
    for damping in POLE_DAMPINGS:
        note = "one of five sizes of a shift"
        shift = f"pole_damping={damping:g}"
        rows[f"cartpole-damping-{damping:g}"] = _sparse(cartpole, "sparse", shift, note)
    for reward in ("uninformative", "none"):
        target = f"hopper/reward={reward},damping=x2,density=x1.3,friction=x0.6"
        rows[f"hopper-{reward}"] = CatalogEntry(
            "hopper", target, "online", "", MATL, REWARD_NOTES[reward]
        )
    rows["ball"] = CatalogEntry(
        "ball",
        "ball/ball_mass=2,damping=x0.3",
        "online",
        "",
        MATL,
        "the ball of the paper's discussion",
    )
    note = "DART has no armature, without which MuJoCo's reacher blows up"
    rows["reacher-dart"] = CatalogEntry("reacher", "reacher/engine=dart", "online", "", MATL, note)
    rows["hopper-dart"] = CatalogEntry(
        "hopper",
        "hopper/engine=dart",
        "online",
        "",
        MATL,
        "DART has no armature, MuJoCo's hopper one of 1 a joint",
    )
    note = "what is left of the difference where neither engine has an armature"
    rows["hopper-dart-no_armature"] = CatalogEntry(
        "hopper/armature=x0", "hopper/engine=dart", "online", "", MATL, note
    )
    return {f"matl-{name}": row for name, row in rows.items()}


POLE_DAMPINGS = (0.0125, 0.025, 0.05, 0.1, 0.2)  # N m s / rad
REWARD_NOTES = {
    "sparse": "paid at the goal, in both domains",
    "uninformative": "the target pays only what falling costs",
    "none": "the target pays nothing",
}


def _sparse(task: str, reward: str, shift: str, note: str = "") -> CatalogEntry:
    target = f"{task}/reward={reward},{shift}"
    source = f"{task}/reward=sparse"
    return CatalogEntry(source, target, "online", "", MATL, note or REWARD_NOTES[reward])


def _contact_friction() -> dict[str, CatalogEntry]:
    note = "the contact's friction, floor and robot together"
    rows = {}
    for factor in SCALE_FACTORS:
        name = f"hopper-contact_friction-{factor}"
        rows[name] = _scaled("hopper", "friction", factor, OURS, note)
    return rows


CATALOG = _es() | _odrl() | _contact_friction() | _dap() | _matl()
