"""What of a segment's start is fitted: coordinates that are noisy, or that no observation tells."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.identification.segments import Segments
from isthmus.physics.mujoco import load_model
from isthmus.tasks.task import find_task


@dataclass(frozen=True)
class StartCoordinates:
    """D coordinates of a start that are unknowns of the fit.

    A coordinate is one of the 2 nv of a tangent space: a small turn of a free or ball joint, else
    a position; then the velocities. One that is equal in all rows is not fitted.
    """

    model: mujoco.MjModel
    fitted: np.ndarray  # int64 [D], of 0..2 nv
    step_seconds: float

    @staticmethod
    def of(source: Domain, segments: Segments, fits_all: bool) -> StartCoordinates:
        """Return the coordinates to fit: all that vary, or those that are never told."""
        model = load_model(find_task(source.task).model_path())
        velocities = _find_unknown(segments.qvel, fits_all)
        positions = _find_unknown(segments.qpos, fits_all)
        by_dof = np.zeros(model.nv, bool)
        for address, dof, count, size in _list_joints(model):
            by_dof[dof : dof + size] = _by_axis(positions[address : address + count], size)
        fitted = np.flatnonzero(np.concatenate([by_dof, velocities]))
        return StartCoordinates(model, fitted, source.step_seconds)

    @property
    def size(self) -> int:
        """Return D."""
        return len(self.fitted)

    def begin(self, segments: Segments) -> np.ndarray:
        """Return the displacements [S, D] from which the fit begins.

        A velocity that is never told is guessed from the positions around it, all else is as told.
        """
        nv = self.model.nv
        displaced = np.zeros((segments.size, 2 * nv))
        for address, dof, count, size in _list_joints(self.model):
            if count == size and np.isnan(segments.qvel[:, dof]).all():
                way = segments.next_qpos[:, address] - segments.qpos[:, address]
                displaced[:, nv + dof] = np.nan_to_num(way / self.step_seconds)
        return displaced[:, self.fitted]

    def place(self, segments: Segments, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return positions [C S, nq] and velocities [C S, nv] displaced by starts [C, S, D]."""
        copies, size = starts.shape[:2]
        qpos = np.tile(_fill(segments.qpos, np.array(self.model.qpos0)), (copies, 1))
        qvel = np.tile(_fill(segments.qvel, np.zeros(self.model.nv)), (copies, 1))
        if not self.size:
            return qpos, qvel
        displaced = np.zeros((copies * size, 2 * self.model.nv))
        displaced[:, self.fitted] = starts.reshape(copies * size, -1)
        qvel += displaced[:, self.model.nv :]
        for address, dof, count, axes in _list_joints(self.model):
            moved = displaced[:, dof : dof + axes]
            if count == axes:
                qpos[:, address : address + count] += moved
                continue
            shift = count - 4  # of a free joint: three positions first
            qpos[:, address : address + shift] += moved[:, :shift]
            turned = qpos[:, address + shift : address + count]
            qpos[:, address + shift : address + count] = _turn(turned, moved[:, shift:])
        return qpos, qvel


def _list_joints(model: mujoco.MjModel) -> list[tuple[int, int, int, int]]:
    """Return each joint's position address, velocity address and the sizes of both."""
    sizes = {0: (7, 6), 1: (4, 3)}  # free, ball
    joints = []
    for j in range(model.njnt):
        count, size = sizes.get(int(model.jnt_type[j]), (1, 1))
        joints.append((int(model.jnt_qposadr[j]), int(model.jnt_dofadr[j]), count, size))
    return joints


def _find_unknown(told: np.ndarray, fits_all: bool) -> np.ndarray:
    """Return which columns are to be fitted, bool [nq] or [nv]."""
    never = np.array(np.isnan(told).all(axis=0))
    if not fits_all:
        return never
    return np.logical_or(never, np.any(told != told[0], axis=0))


def _by_axis(unknown: np.ndarray, size: int) -> np.ndarray:
    """Return which of a joint's axes are to be fitted, of which of its numbers are, bool [size]."""
    if len(unknown) == size:
        return unknown
    shift = len(unknown) - 4
    return np.append(unknown[:shift], np.full(3, unknown[shift:].any()))


def _fill(told: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Return states whose untold coordinates are the usual ones."""
    return np.where(np.isnan(told), usual, told)


def _turn(quaternion: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return unit quaternions [n, 4] turned by small local rotation vectors [n, 3]."""
    half = 0.5 * np.linalg.norm(angle, axis=1, keepdims=True)
    axis = 0.5 * angle * np.sinc(half / np.pi)
    w, v = quaternion[:, :1], quaternion[:, 1:]
    c = np.cos(half)
    real = w * c - (v * axis).sum(axis=1, keepdims=True)
    imaginary = w * axis + c * v + np.cross(v, axis)
    return np.concatenate([real, imaginary], axis=1)
