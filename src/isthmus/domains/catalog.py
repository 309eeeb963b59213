"""Problems by name. A row is data: two domains, what is believed, how the target may be touched, and where it is from.

Any other shift needs no row: `task/name=setting,...` is a problem too.
"""

from __future__ import annotations

from typing import NamedTuple

ODRL = "ODRL (Lyu et al. 2024, arXiv 2410.20750)"
ES = "ES-sim2real (Spigler and Dalbagno)"
DAP = "after DAP (Ng and Chen 2024, arXiv 2410.12250); the shift is our choice"

MATL = "after MATL (Wulfmeier et al. 2017, arXiv 1707.07907); the shift is our choice"


class Row(NamedTuple):
    source: str
    target: str
    access: str
    uncertainty: str
    citation: str
    note: str = ""


def _rows() -> dict[str, Row]:
    rows = {
        "hopper-es-sim2real": Row(
            "hopper/torso_mass=6,foot_friction=2",
            "hopper/torso_mass=0.5..11.5:12,foot_friction=0.1..2.9:15",
            "few_shot",
            "torso_mass=1..9,foot_friction=1.5..2.5",
            ES,
            "friction as published: the foot's own, of no effect below the floor's 1",
        ),
        "hopper-es-sim2real-contact": Row(
            "hopper/torso_mass=6,friction=2",
            "hopper/torso_mass=0.5..11.5:12,friction=0.1..2.9:15",
            "few_shot",
            "torso_mass=1..9,friction=1.5..2.5",
            ES,
            "the same with the true contact friction, floor and robot together",
        ),
    }
    robots = ("hopper", "half_cheetah", "walker2d", "ant")
    for robot in robots:
        for factor in ("0.1", "0.5", "2", "5"):
            for name in ("gravity", "friction"):
                rows[f"{robot}-{name}-{factor}"] = Row(
                    robot, f"{robot}/{name}=x{factor}", "online", f"{name}=x0.1..x5", ODRL
                )
    for name, shift, note in (
        ("hopper-joints-easy", "foot_range=x0.7", "foot joint"),
        ("hopper-joints-hard", "foot_range=x0.4", "foot joint, -18 to 18 degrees"),
        ("half_cheetah-joints-hard", "bthigh_range=x0.2", "hind thigh"),
        ("walker2d-joints-hard", "foot_range=x0.2", "right foot"),
        ("ant-joints-hard", "hip_1_range=x0.2,hip_2_range=x0.2", "two hips"),
    ):
        robot = name.split("-")[0]
        rows[name] = Row(
            robot, f"{robot}/{shift}", "online", "", ODRL, f"joint range, {note}; the factor is our choice"
        )
    for robot, shift in (
        ("hopper", "density=x1.5"),
        ("half_cheetah", "gravity=x2"),
        ("walker2d", "friction=x5"),
        ("ant", "gravity=x2"),
    ):
        rows[f"{robot}-dap"] = Row(robot, f"{robot}/{shift}", "dataset", "", DAP)
    rows["half_cheetah-motors"] = Row(
        "half_cheetah", "half_cheetah/motor_strength=x1.5", "dataset", "",
        "ours: a probe that can be crossed without loss, by acting 1/1.5 as strongly",
    )  # fmt: skip
    arm = "armature=x0.1,damping=x5,joint0_frictionloss=20,joint1_frictionloss=20"
    cart = "cart_damping=1,pole_frictionloss=0.05,pole_mass=0.2"
    for name, robot, shift in (("cartpole", "cartpole_swingup", cart), ("reacher", "reacher", arm)):
        for reward in ("sparse", "none"):
            rows[f"matl-{name}-{reward}"] = Row(
                f"{robot}/reward=sparse", f"{robot}/reward={reward},{shift}", "online", "", MATL
            )
    rows["matl-cartpole-damped"] = Row(
        "cartpole_swingup/reward=sparse", "cartpole_swingup/reward=sparse,pole_damping=0.05,pole_mass=0.3",
        "online", "", MATL, "the goal is not met by chance: on two seeds TRPO alone was paid nothing in 160,000 steps",
    )  # fmt: skip
    for reward in ("uninformative", "none"):
        rows[f"matl-hopper-{reward}"] = Row(
            "hopper", f"hopper/reward={reward},damping=x2,density=x1.3,friction=x0.6", "online", "", MATL
        )
    for name, source in (
        ("reacher-dart", "reacher"),
        ("hopper-dart", "hopper"),
        ("hopper-dart-no_armature", "hopper/armature=x0"),
    ):
        rows[f"matl-{name}"] = Row(
            source,
            f"{name.split('-')[0]}/engine=dart",
            "online",
            "",
            MATL,
            "DART has no armature; without it MuJoCo's reacher blows up",
        )
    return rows


CATALOG = _rows()
