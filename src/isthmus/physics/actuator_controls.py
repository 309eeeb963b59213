"""Controls of actuators: the box they lie in, and the control that holds a pose."""

from __future__ import annotations

import mujoco
import numpy as np

from isthmus.types import BadValue

SETPOINT_GAINS = [int(mujoco.mjtGain.mjGAIN_PID), int(mujoco.mjtGain.mjGAIN_DCMOTOR)]
"""Gains of actuators whose controls are set points by name (`input="pos vel"`), position first."""
SPRING_GAINS = [int(mujoco.mjtGain.mjGAIN_FIXED), int(mujoco.mjtGain.mjGAIN_AFFINE)]
LAGGING_DYNAMICS = [int(mujoco.mjtDyn.mjDYN_FILTER), int(mujoco.mjtDyn.mjDYN_FILTEREXACT)]
"""Dynamics whose activation follows the control in time."""
FOLLOWING_DYNAMICS = [int(mujoco.mjtDyn.mjDYN_NONE), *LAGGING_DYNAMICS]
"""Dynamics whose activation is the control, at once or in time."""
INPUT_RANGES = {
    mujoco.mjtCtrlInput.mjINPUT_POS: "posrange",
    mujoco.mjtCtrlInput.mjINPUT_VEL: "velrange",
    mujoco.mjtCtrlInput.mjINPUT_FF: "ffrange",
}
"""What bounds the inputs of a `<pid>` in an MJCF file, in the order of its controls.

Its ctrlrange is at most one's.
"""


def control_box(model: mujoco.MjModel, robot: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest controls, float32 (A,) each: the box of a policy's actions.

    Raises BadValue for a robot without actuators, or with one whose controls have no bounds that
    MuJoCo enforces.
    """
    if model.nu == 0:
        raise BadValue(
            f"{robot} has no actuators, and so nothing to act with; add some to the MJCF's "
            "<actuator>"
        )
    limits = np.asarray(model.actuator_ctrlrange)
    with np.errstate(over="ignore"):
        low, high = limits.astype(np.float32).T.copy()
    bounded = (
        np.asarray(model.actuator_ctrllimited, bool)
        & np.isfinite([low, high]).all(0)
        & (low < high)
    )
    if not bounded.all():
        raise BadValue(_describe_unbounded(model, robot, int(np.argmin(bounded))))
    return low, high


def _describe_unbounded(model: mujoco.MjModel, robot: str, control: int) -> str:
    """Return why a control has no bounds, and what to write."""
    actuator = int(np.searchsorted(model.actuator_ctrladr, control, side="right")) - 1
    label = f"{robot}: {describe_actuator(model, actuator)}"
    if model.actuator_ctrlnum[actuator] > 1:
        label += f", control {control - int(model.actuator_ctrladr[actuator])}"
    low, high = model.actuator_ctrlrange[control]
    attribute = _name_range(model, actuator, control)
    if not model.actuator_ctrllimited[control] and low < high:
        return (
            f'{label} has ctrllimited="false", so that its {attribute} bounds nothing; write '
            'ctrllimited="true"'
        )
    fault = f"has no {attribute}"
    if (low, high) != (0, 0):
        fault = f'has {attribute}="{low:g} {high:g}", which is no range'
    usual = "0 1" if model.actuator_dyntype[actuator] == mujoco.mjtDyn.mjDYN_MUSCLE else "-1 1"
    remedy = f'{attribute}="{usual}"'
    if _can_inherit_range(model, actuator):
        remedy = 'inheritrange="1", its joint\'s range,'
    return f"{label} {fault}, and the policy's actions would have no bounds; write {remedy} there"


def _can_inherit_range(model: mujoco.MjModel, actuator: int) -> bool:
    """Return whether a position servo's targets may be bounded by the range of its joint."""
    joint = int(model.actuator_trnid[actuator, 0])
    drives_joint = model.actuator_trntype[actuator] == mujoco.mjtTrn.mjTRN_JOINT
    if not drives_joint or not model.jnt_limited[joint]:
        return False
    return bool(_find_springs(model)[actuator] and model.actuator_biasprm[actuator, 1] < 0)


def _name_range(model: mujoco.MjModel, actuator: int, control: int) -> str:
    """Return the attribute of an actuator that bounds a control."""
    if model.actuator_gaintype[actuator] != mujoco.mjtGain.mjGAIN_PID:
        return "ctrlrange"
    inputs = int(model.actuator_ctrlspec[actuator])
    attributes = [name for bit, name in INPUT_RANGES.items() if inputs & bit]
    return attributes[control - int(model.actuator_ctrladr[actuator])]


DRIVEN_PARTS = {
    mujoco.mjtTrn.mjTRN_JOINT: ("joint", mujoco.mjtObj.mjOBJ_JOINT),
    mujoco.mjtTrn.mjTRN_JOINTINPARENT: ("joint", mujoco.mjtObj.mjOBJ_JOINT),
    mujoco.mjtTrn.mjTRN_TENDON: ("tendon", mujoco.mjtObj.mjOBJ_TENDON),
    mujoco.mjtTrn.mjTRN_SITE: ("site", mujoco.mjtObj.mjOBJ_SITE),
    mujoco.mjtTrn.mjTRN_BODY: ("body", mujoco.mjtObj.mjOBJ_BODY),
}
"""What an actuator drives, in words and as MuJoCo's type, by its transmission."""


def describe_actuator(model: mujoco.MjModel, actuator: int) -> str:
    """Return an actuator's name; where it has none, its index and what it drives."""
    if name := model.actuator(actuator).name:
        return f"actuator {name!r}"
    kind = mujoco.mjtTrn(model.actuator_trntype[actuator])
    if kind not in DRIVEN_PARTS:
        return f"actuator {actuator}"
    word, table = DRIVEN_PARTS[kind]
    target = int(model.actuator_trnid[actuator, 0])
    name = mujoco.mj_id2name(model, table, target) or target
    return f"actuator {actuator} (of {word} {name!r})"


def holds_poses(model: mujoco.MjModel) -> bool:
    """Return whether any actuator is a spring to a set point: its force depends on the pose."""
    return bool((_find_springs(model) | _find_setpoints(model)).any())


def _find_springs(model: mujoco.MjModel) -> np.ndarray:
    """Return which actuators have an affine force, zero where their control says; bool [actuators].

    At rest, that is: an activation follows the control.
    """
    affine = np.asarray(model.actuator_biastype) == mujoco.mjtBias.mjBIAS_AFFINE
    gains = np.isin(model.actuator_gaintype, SPRING_GAINS)
    follow = np.isin(model.actuator_dyntype, FOLLOWING_DYNAMICS)
    return affine & gains & follow & (np.asarray(model.actuator_ctrlnum) == 1)


def _find_setpoints(model: mujoco.MjModel) -> np.ndarray:
    """Return which actuators' first control is a position by name; bool [actuators]."""
    gains = np.isin(model.actuator_gaintype, SETPOINT_GAINS)
    return gains & (np.asarray(model.actuator_ctrlspec) & int(mujoco.mjtCtrlInput.mjINPUT_POS) > 0)


def find_lagging(model: mujoco.MjModel) -> np.ndarray:
    """Return the actuators whose activation follows their one control in time (filters); int."""
    return np.flatnonzero(np.isin(model.actuator_dyntype, LAGGING_DYNAMICS))


def settle_activation(
    model: mujoco.MjModel, actuators: np.ndarray, control: np.ndarray
) -> np.ndarray:
    """Return where activations (n, actuators) come to rest under controls (n, A).

    `actuators` are those of `find_lagging`.
    """
    index = model.actuator_ctrladr[actuators]
    target = control[:, index]
    if not model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CLAMPCTRL:
        limited, limits = model.actuator_ctrllimited, model.actuator_ctrlrange
        target = _clip_limited(target, limited, limits, index)
    return _clip_limited(target, model.actuator_actlimited, model.actuator_actrange, actuators)


def _clip_limited(
    values: np.ndarray, limited: np.ndarray, limits: np.ndarray, index: np.ndarray
) -> np.ndarray:
    low, high = np.where(np.asarray(limited, bool)[index, None], limits[index], [-np.inf, np.inf]).T
    return np.clip(values, low, high)


def find_holding_control(
    model: mujoco.MjModel, length: np.ndarray, rest: np.ndarray, gain: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """Return the control (n, A) that holds poses at rest, within the controls' bounds.

    `length` (n, outputs) are the actuators' lengths there, `rest` (A,) the model's default controls
    (zero; the identity where a control is a quaternion), `gain` and `bias` (n, actuators, ?) their
    parameters. The control is: of an actuator of force gain * u + b0 + b1 * length (a position
    servo, any affine one) the u of no force; of a set point by name the length; of all others
    `rest`: motors, velocity servos, dampers and muscles, and those whose control is integrated,
    where the activation holds.
    """
    control = np.tile(rest, (len(length), 1))
    first, outputs = model.actuator_ctrladr, model.actuator_outadr
    for actuator in np.flatnonzero(_find_springs(model)):
        actuator_length = length[:, outputs[actuator]]
        slope = gain[:, actuator, 0]
        if model.actuator_gaintype[actuator] == mujoco.mjtGain.mjGAIN_AFFINE:
            slope = slope + gain[:, actuator, 1] * actuator_length
        offset = bias[:, actuator, 0] + bias[:, actuator, 1] * actuator_length
        moved = (slope != 0) & (offset != 0)
        control[moved, first[actuator]] = -offset[moved] / slope[moved]
    for actuator in np.flatnonzero(_find_setpoints(model)):
        control[:, first[actuator]] = length[:, outputs[actuator]]
    return _clip_limited(
        control, model.actuator_ctrllimited, model.actuator_ctrlrange, np.arange(model.nu)
    )
