"""DART behind the engine contract: N worlds built in code from a compiled MuJoCo model, and stepped
one after another.

A world of DART's is a function here: before each step it is told positions and velocities, after it
they are read back, so that a row (positions, velocities) is all that a world's future depends on.
What is copied from the model, and where DART differs from MuJoCo, is told in docs/engines.md.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import mujoco
import numpy as np

from isthmus.physics import mujoco as reference
from isthmus.physics.dart_contacts import ShapePlan, find_dynamic_contacts, plan_shapes
from isthmus.physics.dart_model import describe_left_out, find_unbuilt, is_disabled
from isthmus.physics.engine import VELOCITY_BOUND
from isthmus.physics.friction import CONSTRAINT, GeomContact
from isthmus.physics.mujoco import MujocoEngine, load_model
from isthmus.physics.parameters import Parameter
from isthmus.types import BadValue

FIELDS = (
    "opt.gravity", "geom_friction", "body_mass", "body_inertia", "dof_damping", "dof_frictionloss", "jnt_range",
    "actuator_gear",
)  # fmt: skip
"""The model fields that parameters may change in DART."""
LACKED = {"dof_armature": "armature"}
MAX_COORDINATE = (
    1e7  # m or rad: nobody gets there below VELOCITY_BOUND; further out, ODE would end the process
)
DISABLE = mujoco.mjtDisableBit
NO_FORCES = (
    "engine=dart has no contact forces in MuJoCo's layout, which this task observes or is paid by"
)
# kg and kg m2: DART warns of bodies without mass, which carry the second joint of a body here
MASSLESS = 1e-12
WEIGHTLESS = (
    1e-100  # kg and kg m2, of a geom's second shape: nothing that it is added to moves a bit
)


def dartpy() -> ModuleType:
    """The package. Raises BadValue where it is not installed."""
    try:
        import dartpy
    except ImportError:
        raise BadValue("engine=dart needs dartpy: pip install 'isthmus[dart]'") from None
    return dartpy


@lru_cache(maxsize=32)
def load_dart_parameters(path: Path) -> dict[str, Parameter]:
    """Those of MuJoCo's parameters that DART has: the same names, units, defaults and bounds."""
    return {
        name: p
        for name, p in reference.load_parameters(path).items()
        if set(p.fields) <= set(FIELDS)
    }


class DartSimulator:
    """See `isthmus.physics.engine.Simulator`. Rows are [qpos, qvel].

    `forces` is MuJoCo's affair: contacts are known here anyway. Raises BadValue where dartpy is
    missing or the model has what is not built.
    """

    def __init__(
        self, path: Path, names: tuple[str, ...], n: int, frame_skip: int, forces: bool = False
    ):
        DartEngine().check(path, forces=False)
        self.model = model = load_model(path)
        self.n, self.frame_skip = n, frame_skip
        self.dt = model.opt.timestep * frame_skip
        self.nq, self.nv = model.nq, model.nv
        self.rows = np.zeros((n, model.nq + model.nv))
        self.qpos, self.qvel = self.rows[:, : model.nq], self.rows[:, model.nq :]
        self.control = np.zeros((n, model.nu))
        self.qpos0 = np.array(model.qpos0)
        self.qpos[:] = self.qpos0
        table = load_dart_parameters(path)
        self.parameters = [table[name] for name in names]
        self._order = sorted(
            range(len(names)), key=lambda i: list(table).index(names[i])
        )  # from the whole to parts
        self.values = np.tile([p.default for p in self.parameters], (n, 1))
        self._defaults = {field: np.array(_field(model, field)) for field in FIELDS}
        self._gear = np.repeat(self._defaults["actuator_gear"][None, :, 0], n, axis=0)
        contacts = find_dynamic_contacts(model)
        self._worlds = [World(model, contacts, self._defaults) for _ in range(n)]
        self._dofs = model.jnt_dofadr[model.actuator_trnid[:, 0]]
        self._driven = not is_disabled(model, DISABLE.mjDSBL_ACTUATION)
        clamped = not is_disabled(model, DISABLE.mjDSBL_CLAMPCTRL)
        limited = (np.asarray(model.actuator_ctrllimited, bool) & clamped)[:, None]
        self._range = np.where(limited, model.actuator_ctrlrange, [-np.inf, np.inf]).T
        self._data = mujoco.MjData(model)
        self._posed = np.full((n, model.nq), np.nan)
        self._xpos = np.zeros((n, model.nbody, 3))

    def set_parameters(self, ids: np.ndarray, values: np.ndarray) -> None:
        changed = np.any(self.values[ids] != values, axis=1)
        if not changed.any():
            return
        ids, values = ids[changed], values[changed]
        self.values[ids] = values
        fields = self._fields(values)
        for k, i in enumerate(ids):
            self._worlds[i].write({field: rows[k] for field, rows in fields.items()})
        self._gear[ids] = fields["actuator_gear"][:, :, 0]

    def _fields(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """The model's fields (n, ...) under parameters (n, P)."""
        fields = {
            f: np.repeat(default[None], len(values), axis=0)
            for f, default in self._defaults.items()
        }
        for i in self._order:
            self.parameters[i].apply(fields, values[:, i])
        return fields

    def reset(self, ids, qpos, qvel, act=None, ctrl=None, mocap_pos=None, mocap_quat=None) -> None:
        # What is built has no activations, no mocap bodies, and motors alone: they hold a pose by
        # no force.
        self.qpos[ids], self.qvel[ids] = qpos, qvel
        self.control[ids] = 0.0 if ctrl is None else ctrl

    def step(self, ids: np.ndarray, control: np.ndarray) -> np.ndarray:
        self.control[ids] = control
        good = self._good(ids) & np.isfinite(control).all(1)
        moving = ids[good]
        force = np.zeros((len(moving), self.nv))
        if self._driven:
            np.add.at(
                force.T, self._dofs, (np.clip(control[good], *self._range) * self._gear[moving]).T
            )
        for i, pushed in zip(moving, force, strict=True):
            self._worlds[i].step(self.qpos[i], self.qvel[i], pushed, self.frame_skip)
        good &= self._good(ids)
        return np.logical_not(good)

    def _good(self, ids: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            near = (np.abs(self.qpos[ids]) < MAX_COORDINATE).all(1)
            return np.logical_and(near, (np.abs(self.qvel[ids]) < VELOCITY_BOUND).all(1))

    def position(self, body: str) -> np.ndarray:
        # MuJoCo's kinematics of the same configuration: no lag, and nothing to restore.
        for i in np.flatnonzero((self._posed != self.qpos).any(1)):
            self._data.qpos[:] = self._posed[i] = self.qpos[i]
            mujoco.mj_kinematics(self.model, self._data)
            self._xpos[i] = self._data.xpos
        return self._xpos[:, self.model.body(body).id]

    def contact_forces(self, ids: np.ndarray) -> np.ndarray:
        raise BadValue(NO_FORCES)

    def contacts(self, world: int) -> list[tuple[tuple[int, int], float]]:
        return self._worlds[world].contacts()

    def world_model(self, world: int) -> mujoco.MjModel:
        """A model of one world's own, with its dynamics."""
        model = copy.copy(self.model)
        for field, rows in self._fields(self.values[[world]]).items():
            _field(model, field)[:] = rows[0]
        return model


class World:
    """One world of DART's: the model's moving bodies as one skeleton, its static geoms as another.

    A body with several joints is a chain of bodies without mass, a joint each, and itself at the
    end. `contacts` are those of the model's colliding pairs, `fields` the model's, as parameters
    left them.
    """

    def __init__(
        self, model: mujoco.MjModel, contacts: list[GeomContact], fields: Mapping[str, np.ndarray]
    ):
        self.dart = dartpy()
        self.model, self._contacts = model, contacts
        free = np.asarray(model.jnt_type) == mujoco.mjtJoint.mjJNT_FREE
        self.free = [
            (int(model.jnt_qposadr[j]), int(model.jnt_dofadr[j])) for j in np.flatnonzero(free)
        ]
        self.places, self.dofs = (
            model.jnt_qposadr[~free],
            model.jnt_dofadr[~free],
        )  # of hinges and slides
        self._sliding = np.array(fields["geom_friction"][:, 0])
        self._build(plan_shapes(model, contacts, self._sliding))
        self.write(fields)

    def _build(self, plan: ShapePlan) -> None:
        """Make the world, with a plan's shapes. Its future depends on the plan, not on what was
        built before.
        """
        self.plan = plan
        self.world = self._empty_world()
        self.robot, self.ground = (
            self.dart.dynamics.Skeleton(name) for name in ("robot", "ground")
        )
        self.ground.setMobile(False)
        self.joints: dict[int, Any] = {}  # hinges and slides
        self.bodies: dict[int, Any] = {}
        self.static: dict[int, Any] = {}
        self._massless = self.dart.dynamics.Inertia(MASSLESS, np.zeros(3), MASSLESS * np.eye(3))
        for b in range(self.model.nbody):
            self._add_body(b)
        nodes = {**self.static, **self.bodies}
        self.shapes = {
            g: _shape(self.dart, nodes[int(self.model.geom_bodyid[g])], self.model, g)
            for g in sorted(plan.frictions)
        }
        self.copies = [self._add_copy(nodes, k) for k in range(len(plan.copies))]
        self.robot.enableSelfCollisionCheck()
        self.robot.enableAdjacentBodyCheck()
        self.solver = self.world.getConstraintSolver()
        self._filter_collisions(nodes)
        self.world.addSkeleton(self.ground)
        self.world.addSkeleton(self.robot)

    def _empty_world(self) -> Any:
        dart = self.dart
        world = dart.simulation.World()
        # Before anything is added: the default detector has no capsules, and DART's own finds one
        # contact of a capsule that lies on a plane, ODE's two, as MuJoCo does.
        world.setCollisionDetector(dart.simulation.CollisionDetectorType.ODE)
        rest = world.getDeactivationOptions()
        rest.mEnabled = (
            False  # how long a world has been at rest would be a state that no row holds
        )
        world.setDeactivationOptions(rest)
        world.setTimeStep(self.model.opt.timestep)
        return world

    def _add_body(self, b: int) -> None:
        """Add a body of the model's, with the joints that move it, below its parent."""
        model = self.model
        frame = _isometry(self.dart, model.body_pos[b], model.body_quat[b])
        parent, above = (
            nodes.get(int(model.body_parentid[b])) for nodes in (self.bodies, self.static)
        )
        if above:  # the frame of a body that stands still is the world's business
            frame = above.getWorldTransform().multiply(frame)
        joints = range(model.body_jntadr[b], model.body_jntadr[b] + model.body_jntnum[b])
        for j in joints:
            joint, node = _joint(self.dart, self.robot, parent, model, j, frame)
            node.setInertia(self._massless)
            if model.jnt_type[j] != mujoco.mjtJoint.mjJNT_FREE:
                self.joints[j] = joint
            parent, frame = node, _isometry(self.dart)
        if joints:
            self.bodies[b] = parent
        elif model.body_weldid[b] == 0:
            joint, self.static[b] = self.ground.createWeldJointAndBodyNodePair()
            joint.setTransformFromParentBodyNode(frame)
        else:
            joint, self.bodies[b] = self.robot.createWeldJointAndBodyNodePair(parent)
            joint.setTransformFromParentBodyNode(frame)
            self.bodies[b].setInertia(self._massless)

    def _add_copy(self, nodes: dict[int, Any], k: int) -> Any:
        """Add the plan's k-th copy of a geom, on a body of its own that weighs nothing."""
        geom = self.plan.copies[k].geom
        b = int(self.model.geom_bodyid[geom])
        skeleton = self.robot if b in self.bodies else self.ground
        _, node = skeleton.createWeldJointAndBodyNodePair(nodes[b])
        node.setInertia(self.dart.dynamics.Inertia(WEIGHTLESS, np.zeros(3), WEIGHTLESS * np.eye(3)))
        nodes[self.model.nbody + k] = node
        return _shape(self.dart, node, self.model, geom, f"copy {k} of geom {geom}")

    def _filter_collisions(self, nodes: dict[int, Any]) -> None:
        """Let the plan's bodies touch, and no others. `blind` sees nothing at all."""
        collision = self.dart.collision
        apart, blind = (
            self.solver.getCollisionOption().collisionFilter,
            collision.BodyNodeCollisionFilter(),
        )
        for (b, one), (c, other) in combinations(nodes.items(), 2):
            blind.addBodyNodePairToBlackList(one, other)
            if (min(b, c), max(b, c)) not in self.plan.touching:
                apart.addBodyNodePairToBlackList(one, other)
        self.blind = collision.CollisionOption(True, 1, blind), collision.CollisionResult()

    def write(self, fields: Mapping[str, np.ndarray]) -> None:
        """Give the world the dynamics in `fields` (FIELDS, one row each)."""
        model = self.model
        self._write_friction(fields["geom_friction"][:, 0])
        weightless = is_disabled(model, DISABLE.mjDSBL_GRAVITY)
        self.world.setGravity(np.zeros(3) if weightless else fields["opt.gravity"])
        for b, node in self.bodies.items():
            mass, turn = float(fields["body_mass"][b]), _matrix(model.body_iquat[b])
            inertia = turn @ np.diag(fields["body_inertia"][b]) @ turn.T
            if mass > 0:
                node.setInertia(self.dart.dynamics.Inertia(mass, model.body_ipos[b], inertia))
        damped = not is_disabled(model, DISABLE.mjDSBL_DAMPER)
        rubbed = not is_disabled(model, CONSTRAINT, DISABLE.mjDSBL_FRICTIONLOSS)
        for j, joint in self.joints.items():
            d = model.jnt_dofadr[j]
            joint.setDampingCoefficient(0, fields["dof_damping"][d] if damped else 0.0)
            joint.setCoulombFriction(0, fields["dof_frictionloss"][d] if rubbed else 0.0)
            if model.jnt_limited[j]:
                low, high = _limits(fields["jnt_range"][j], model.jnt_margin[j])
                joint.setPositionLowerLimit(0, low)
                joint.setPositionUpperLimit(0, high)

    def _write_friction(self, sliding: np.ndarray) -> None:
        """Give each shape its coefficient; make the world anew where other shapes are needed for
        these (ngeom,).
        """
        if not np.array_equal(sliding, self._sliding):
            self._sliding = np.array(sliding)
            plan = plan_shapes(self.model, self._contacts, sliding)
            if not plan.has_structure_of(self.plan):
                self._build(plan)
            self.plan = plan
        for g, shape in self.shapes.items():
            shape.getDynamicsAspect().setFrictionCoeff(self.plan.frictions[g])
        for shape, second in zip(self.copies, self.plan.copies, strict=True):
            shape.getDynamicsAspect().setFrictionCoeff(second.friction)

    def step(self, qpos: np.ndarray, qvel: np.ndarray, force: np.ndarray, times: int) -> None:
        """Move a configuration (nq,), (nv,), in place, by so many time steps under a constant force
        (nv,).
        """
        robot, world, fast = self.robot, self.world, len(qvel) * VELOCITY_BOUND**2
        positions, velocities = self._told(qpos, qvel) if self.free else (qpos, qvel)
        robot.setPositions(positions)
        robot.setVelocities(velocities)
        robot.setCommands(force)
        # ODE's detector adds contacts of the time step before to few new ones, a state that no row
        # holds: have it look, and see nothing.
        self.solver.getCollisionGroup().collide(*self.blind)
        for _ in range(times):
            v = robot.getVelocities()
            if not v @ v < fast:
                break  # ODE would end the process where a body is too far out, or nowhere
            world.step(False)  # the commands stay
        positions, velocities = robot.getPositions(), robot.getVelocities()
        qpos[:], qvel[:] = (
            self._read(positions, velocities, qpos) if self.free else (positions, velocities)
        )

    # A free joint's configuration is a position and a quaternion in MuJoCo, a rotation vector and a
    # position in DART; its velocity linear in the world's frame and angular in the body's, in DART
    # angular and linear in the world's.

    def _told(self, qpos: np.ndarray, qvel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        positions, velocities = np.empty_like(qvel), qvel.copy()
        positions[self.dofs] = qpos[self.places]
        for p, d in self.free:
            quaternion = qpos[p + 3 : p + 7].copy()
            mujoco.mju_normalize4(quaternion)
            mujoco.mju_quat2Vel(positions[d : d + 3], quaternion, 1.0)
            mujoco.mju_rotVecQuat(velocities[d : d + 3], qvel[d + 3 : d + 6], quaternion)
            positions[d + 3 : d + 6], velocities[d + 3 : d + 6] = qpos[p : p + 3], qvel[d : d + 3]
        return positions, velocities

    def _read(
        self, positions: np.ndarray, velocities: np.ndarray, old: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        qpos, qvel = np.empty_like(old), velocities.copy()
        qpos[self.places] = positions[self.dofs]
        for p, d in self.free:
            axis, quaternion, back = positions[d : d + 3].copy(), np.empty(4), np.empty(4)
            angle = mujoco.mju_normalize3(axis)
            mujoco.mju_axisAngle2Quat(quaternion, axis, angle)
            mujoco.mju_negQuat(back, quaternion)
            mujoco.mju_rotVecQuat(qvel[d + 3 : d + 6], velocities[d : d + 3], back)
            sign = (
                -1.0 if quaternion @ old[p + 3 : p + 7] < 0 else 1.0
            )  # of the two that say one rotation, the nearer
            qpos[p : p + 3], qpos[p + 3 : p + 7] = positions[d + 3 : d + 6], sign * quaternion
            qvel[d : d + 3] = velocities[d + 3 : d + 6]
        return qpos, qvel

    def contacts(self) -> list[tuple[tuple[int, int], float]]:
        """The geoms and the sliding friction of each contact in the last time step."""
        geoms = {shape.getName(): g for g, shape in self.shapes.items()}
        geoms |= {
            shape.getName(): second.geom
            for shape, second in zip(self.copies, self.plan.copies, strict=True)
        }
        out = []
        for contact in self.world.getLastCollisionResult().getContacts():
            first, second = (
                contact.collisionObject1.getShapeFrame(),
                contact.collisionObject2.getShapeFrame(),
            )
            friction = min(
                shape.getDynamicsAspect().getFrictionCoeff() for shape in (first, second)
            )
            out.append(((geoms[first.getName()], geoms[second.getName()]), friction))
        return out


def _field(model: mujoco.MjModel, field: str) -> np.ndarray:
    return model.opt.gravity if field == "opt.gravity" else getattr(model, field)


def _matrix(quaternion: np.ndarray) -> np.ndarray:
    out = np.empty(9)
    mujoco.mju_quat2Mat(out, quaternion)
    return out.reshape(3, 3)


def _isometry(
    dart: ModuleType, position: np.ndarray | None = None, quaternion: np.ndarray | None = None
) -> Any:
    rotation = np.eye(3) if quaternion is None else _matrix(quaternion)
    return dart.math.Isometry3(rotation, np.zeros(3) if position is None else position)


def _joint(
    dart: ModuleType, robot: Any, parent: Any, model: mujoco.MjModel, j: int, frame: Any
) -> tuple[Any, Any]:
    """A joint and the body that it moves. Its position is the model's qpos, whose zero need not be
    the pose built.
    """
    kind = mujoco.mjtJoint(model.jnt_type[j])
    if kind == mujoco.mjtJoint.mjJNT_FREE:
        return robot.createFreeJointAndBodyNodePair()
    start = float(model.qpos0[model.jnt_qposadr[j]])
    axis, anchor = np.array(model.jnt_axis[j]), _isometry(dart, model.jnt_pos[j])
    if kind == mujoco.mjtJoint.mjJNT_HINGE:
        joint, node = robot.createRevoluteJointAndBodyNodePair(parent)
        turn = np.empty(4)
        mujoco.mju_axisAngle2Quat(turn, axis, start)
        shown = _isometry(dart, None, turn)
    else:
        joint, node = robot.createPrismaticJointAndBodyNodePair(parent)
        shown = _isometry(dart, start * axis)
    joint.setAxis(axis)
    joint.setTransformFromParentBodyNode(frame.multiply(anchor))
    joint.setTransformFromChildBodyNode(anchor.multiply(shown))
    sprung = not is_disabled(model, DISABLE.mjDSBL_SPRING)
    joint.setSpringStiffness(0, float(model.jnt_stiffness[j]) if sprung else 0.0)
    joint.setRestPosition(0, float(model.qpos_spring[model.jnt_qposadr[j]]))
    enforced = not is_disabled(model, CONSTRAINT, DISABLE.mjDSBL_LIMIT)
    joint.setLimitEnforcement(bool(model.jnt_limited[j]) and enforced)
    return joint, node


def _limits(ends: np.ndarray, margin: float) -> tuple[float, float]:
    """Return where a joint stops, of its range (2,): MuJoCo's limits push back from the margin on."""
    low, high = ends[0] + margin, ends[1] - margin
    if low > high:  # both push, and it rests in the middle
        low = high = (low + high) / 2
    return low, high


def _shape(dart: ModuleType, body: Any, model: mujoco.MjModel, g: int, name: str = "") -> Any:
    kind, size, geom = mujoco.mjtGeom(model.geom_type[g]), model.geom_size[g], mujoco.mjtGeom
    if kind == geom.mjGEOM_CAPSULE:
        shape = dart.dynamics.CapsuleShape(size[0], 2 * size[1])
    elif kind == geom.mjGEOM_SPHERE:
        shape = dart.dynamics.SphereShape(size[0])
    elif kind == geom.mjGEOM_BOX:
        shape = dart.dynamics.BoxShape(2 * size)
    else:
        shape = dart.dynamics.PlaneShape(np.array([0.0, 0.0, 1.0]), 0.0)
    node = body.createShapeNode(shape, name or f"geom {g}")
    node.setRelativeTransform(_isometry(dart, model.geom_pos[g], model.geom_quat[g]))
    node.createCollisionAspect()
    node.createDynamicsAspect()
    return node


@lru_cache(maxsize=32)
def _find_unbuilt(path: Path) -> list[str]:
    return find_unbuilt(load_model(path))


class DartEngine(MujocoEngine):
    """DART, which builds its worlds from MuJoCo's compiled model."""

    name = "dart"
    simulator = DartSimulator
    packages = ("dartpy",)

    def check_installed(self) -> None:
        """Raise BadValue where dartpy is missing."""
        dartpy()

    def check(self, path: Path, forces: bool) -> None:
        """Raise BadValue where a model has what is not built, or contact forces are needed."""
        unbuilt = _find_unbuilt(path)
        if forces:
            raise BadValue(NO_FORCES)
        if unbuilt:
            raise BadValue(f"engine=dart does not build {path.name}: it has {', '.join(unbuilt)}")

    def parameters(self, path: Path) -> dict[str, Parameter]:
        """Return `load_dart_parameters`."""
        return load_dart_parameters(path)

    def lacked(self, path: Path) -> dict[str, str]:
        """Return MuJoCo's parameters of fields that DART has not."""
        lacked: dict[str, str] = {}
        for name, parameter in reference.load_parameters(path).items():
            for field in parameter.fields:
                if field not in FIELDS:
                    lacked[name] = f"DART has no {LACKED.get(field, field)}"
        return lacked

    def left_out(self, path: Path) -> tuple[str, ...]:
        """Return what DART has not of the robot's joints: armature, soft limits."""
        lines = describe_left_out(load_model(path))
        return tuple(f"{line} (see docs/engines.md)" for line in lines)
