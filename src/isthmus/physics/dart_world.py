"""One world of DART's, built in code from a compiled MuJoCo model.

A world is a function: before each step positions and velocities are written into it, after it they
are read back, so that a row (positions, velocities) is all that a world's future depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from types import ModuleType
from typing import Any

import mujoco
import numpy as np

from isthmus.physics.dart_actuators import Feedback
from isthmus.physics.dart_contacts import ShapePlan, plan_shapes
from isthmus.physics.dart_meshes import make_hull
from isthmus.physics.dart_model import is_disabled
from isthmus.physics.engine import VELOCITY_BOUND, Contact
from isthmus.physics.geom_contacts import CONSTRAINT, GeomContact
from isthmus.types import BadValue

Node = Any  # an object of dartpy, which has no types: a body, a joint, a shape, a skeleton, a world

DISABLE, GEOM, JOINT = mujoco.mjtDisableBit, mujoco.mjtGeom, mujoco.mjtJoint

# kg and kg m2: DART warns of bodies without mass, which carry the second joint of a body here
TINY_MASS = 1e-12
# kg and kg m2, of a geom's second shape: nothing that it is added to moves a bit
COPY_MASS = 1e-100


def import_dartpy() -> ModuleType:
    """Return the package. Raises BadValue where it is not installed."""
    try:
        import dartpy
    except ImportError:
        raise BadValue("engine=dart needs dartpy: pip install 'isthmus[dart]'") from None
    return dartpy


class DartWorld:
    """The model's moving bodies as one skeleton, its static geoms as another.

    A body with several joints is a chain of bodies without mass, a joint each, and itself at the
    end. `contacts` are those of the model's colliding pairs, `fields` the model's, as parameters
    left them.
    """

    def __init__(
        self, model: mujoco.MjModel, contacts: list[GeomContact], fields: Mapping[str, np.ndarray]
    ):
        self.dart = import_dartpy()
        self.model, self._contacts = model, contacts
        self.coordinates = Coordinates(model)
        self._sliding = np.array(fields["geom_friction"][:, 0])
        self._build(plan_shapes(model, contacts, self._sliding))
        self.write(fields)

    def _build(self, plan: ShapePlan) -> None:
        """Make the world, with a plan's shapes.

        Its future depends on the plan, not on what was built before.
        """
        self.plan = plan
        self.world = self._make_empty_world()
        self.robot = self.dart.dynamics.Skeleton("robot")
        self.ground = self.dart.dynamics.Skeleton("ground")
        self.ground.setMobile(False)
        self.joints: dict[int, Node] = {}  # hinges and slides
        self.bodies: dict[int, Node] = {}
        self.static: dict[int, Node] = {}
        self._massless = self._make_inertia(TINY_MASS)
        for b in range(self.model.nbody):
            self._add_body(b)
        nodes = {**self.static, **self.bodies}
        self.shapes: dict[int, Node] = {}
        for g in sorted(plan.frictions):
            body = nodes[int(self.model.geom_bodyid[g])]
            self.shapes[g] = add_shape(self.dart, body, self.model, g, f"geom {g}")
        self.copies = [self._add_copy(nodes, k) for k in range(len(plan.copies))]
        self.robot.enableSelfCollisionCheck()
        self.robot.enableAdjacentBodyCheck()
        self.solver = self.world.getConstraintSolver()
        self._filter_collisions(nodes)
        self.world.addSkeleton(self.ground)
        self.world.addSkeleton(self.robot)

    def _make_empty_world(self) -> Node:
        world = self.dart.simulation.World()
        # Before anything is added: the default detector has no capsules, and DART's own finds one
        # contact of a capsule that lies on a plane, ODE's two, as MuJoCo does.
        world.setCollisionDetector(self.dart.simulation.CollisionDetectorType.ODE)
        # How long a world has been at rest would be a state that no row holds.
        rest = world.getDeactivationOptions()
        rest.mEnabled = False
        world.setDeactivationOptions(rest)
        world.setTimeStep(self.model.opt.timestep)
        return world

    def _make_inertia(self, mass: float) -> Node:
        return self.dart.dynamics.Inertia(mass, np.zeros(3), mass * np.eye(3))

    def _add_body(self, b: int) -> None:
        """Add a body of the model's, with the joints that move it, below its parent."""
        model = self.model
        frame = make_isometry(self.dart, model.body_pos[b], model.body_quat[b])
        parent = self.bodies.get(int(model.body_parentid[b]))
        ground = self.static.get(int(model.body_parentid[b]))
        if ground:  # the frame of a body that stands still is the world's business
            frame = ground.getWorldTransform().multiply(frame)
        first, count = int(model.body_jntadr[b]), int(model.body_jntnum[b])
        if count:
            self.bodies[b] = self._add_joints(range(first, first + count), parent, frame)
        elif model.body_weldid[b] == 0:
            joint, self.static[b] = self.ground.createWeldJointAndBodyNodePair()
            joint.setTransformFromParentBodyNode(frame)
        else:
            joint, self.bodies[b] = self.robot.createWeldJointAndBodyNodePair(parent)
            joint.setTransformFromParentBodyNode(frame)
            self.bodies[b].setInertia(self._massless)

    def _add_joints(self, joints: range, parent: Node, frame: Node) -> Node:
        """Add a chain of joints, each with the body that it moves; return the last body."""
        for j in joints:
            joint, node = add_joint(self.dart, self.robot, parent, self.model, j, frame)
            node.setInertia(self._massless)
            if self.model.jnt_type[j] != JOINT.mjJNT_FREE:
                self.joints[j] = joint
            parent, frame = node, make_isometry(self.dart)
        return parent

    def _add_copy(self, nodes: dict[int, Node], k: int) -> Node:
        """Add the plan's k-th copy of a geom, on a body of its own that weighs nothing."""
        geom = self.plan.copies[k].geom
        b = int(self.model.geom_bodyid[geom])
        skeleton = self.robot if b in self.bodies else self.ground
        _, node = skeleton.createWeldJointAndBodyNodePair(nodes[b])
        node.setInertia(self._make_inertia(COPY_MASS))
        nodes[self.model.nbody + k] = node
        return add_shape(self.dart, node, self.model, geom, f"copy {k} of geom {geom}")

    def _filter_collisions(self, nodes: dict[int, Node]) -> None:
        """Let the plan's bodies touch, and no others; `blind` lets none."""
        collision = self.dart.collision
        apart = self.solver.getCollisionOption().collisionFilter
        blind = collision.BodyNodeCollisionFilter()
        for (b, one), (c, other) in combinations(nodes.items(), 2):
            blind.addBodyNodePairToBlackList(one, other)
            if (min(b, c), max(b, c)) not in self.plan.touching:
                apart.addBodyNodePairToBlackList(one, other)
        self.blind = collision.CollisionOption(True, 1, blind), collision.CollisionResult()

    def write(self, fields: Mapping[str, np.ndarray]) -> None:
        """Give the world the dynamics in `fields` (`dart.FIELDS`, one row each)."""
        self._write_friction(fields["geom_friction"][:, 0])
        weightless = is_disabled(self.model, DISABLE.mjDSBL_GRAVITY)
        self.world.setGravity(np.zeros(3) if weightless else fields["opt.gravity"])
        self._write_masses(fields["body_mass"], fields["body_inertia"])
        self._write_resistance(fields["dof_damping"], fields["dof_frictionloss"])
        for j in self.joints:
            if self.model.jnt_limited[j]:
                self._write_limits(j, fields["jnt_range"][j])

    def _write_masses(self, masses: np.ndarray, inertias: np.ndarray) -> None:
        model = self.model
        for b, node in self.bodies.items():
            mass, turn = float(masses[b]), make_matrix(model.body_iquat[b])
            inertia = turn @ np.diag(inertias[b]) @ turn.T
            if mass > 0:
                node.setInertia(self.dart.dynamics.Inertia(mass, model.body_ipos[b], inertia))

    def _write_resistance(self, damping: np.ndarray, frictionloss: np.ndarray) -> None:
        """Write damping and dry friction (nv,), zero where the model's flags turn them off."""
        if is_disabled(self.model, DISABLE.mjDSBL_DAMPER):
            damping = np.zeros_like(damping)
        if is_disabled(self.model, CONSTRAINT, DISABLE.mjDSBL_FRICTIONLOSS):
            frictionloss = np.zeros_like(frictionloss)
        for j, joint in self.joints.items():
            d = self.model.jnt_dofadr[j]
            joint.setDampingCoefficient(0, damping[d])
            joint.setCoulombFriction(0, frictionloss[d])

    def _write_limits(self, j: int, ends: np.ndarray) -> None:
        low, high = find_limits(ends, self.model.jnt_margin[j])
        self.joints[j].setPositionLowerLimit(0, low)
        self.joints[j].setPositionUpperLimit(0, high)

    def _write_friction(self, sliding: np.ndarray) -> None:
        """Give each shape its coefficient, under the geoms' (ngeom,).

        The world is made anew where other shapes are needed.
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

    def step(
        self,
        qpos: np.ndarray,
        qvel: np.ndarray,
        force: np.ndarray,
        times: int,
        feedback: Feedback | None = None,
    ) -> None:
        """Move a configuration (nq,), (nv,), in place, under a constant force (nv,).

        `times` is the number of time steps; `feedback` gives another force before each.
        """
        robot, fast = self.robot, len(qvel) * VELOCITY_BOUND**2
        positions, velocities = self.coordinates.to_dart(qpos, qvel)
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
            if feedback is not None:
                robot.setCommands(feedback(robot.getPositions(), v))
            self.world.step(False)  # the commands stay
        self.coordinates.write_mujoco(qpos, qvel, robot.getPositions(), robot.getVelocities())

    def list_contacts(self) -> list[Contact]:
        """Return the geoms and the sliding friction of each contact in the last time step."""
        geoms = {shape.getName(): g for g, shape in self.shapes.items()}
        for shape, second in zip(self.copies, self.plan.copies, strict=True):
            geoms[shape.getName()] = second.geom
        contacts = []
        for contact in self.world.getLastCollisionResult().getContacts():
            first = contact.collisionObject1.getShapeFrame()
            second = contact.collisionObject2.getShapeFrame()
            friction = min(
                first.getDynamicsAspect().getFrictionCoeff(),
                second.getDynamicsAspect().getFrictionCoeff(),
            )
            contacts.append(((geoms[first.getName()], geoms[second.getName()]), friction))
        return contacts


class Coordinates:
    """The change between MuJoCo's coordinates of a model and DART's.

    A free joint's configuration is a position and a quaternion in MuJoCo, a rotation vector and a
    position in DART; its velocity linear in the world's frame and angular in the body's, in DART
    angular and linear in the world's. Hinges and slides are the same in both.
    """

    def __init__(self, model: mujoco.MjModel):
        free = np.asarray(model.jnt_type) == JOINT.mjJNT_FREE
        places, dofs = np.asarray(model.jnt_qposadr), np.asarray(model.jnt_dofadr)
        # where each free joint begins in qpos and in qvel; and where all others lie
        self.free = list(zip(places[free].tolist(), dofs[free].tolist(), strict=True))
        self.places, self.dofs = places[~free], dofs[~free]

    def to_dart(self, qpos: np.ndarray, qvel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return DART's positions and velocities, (nv,) each, of MuJoCo's."""
        if not self.free:
            return qpos, qvel
        positions, velocities = np.empty_like(qvel), qvel.copy()
        positions[self.dofs] = qpos[self.places]
        for p, d in self.free:
            quaternion = qpos[p + 3 : p + 7].copy()
            mujoco.mju_normalize4(quaternion)
            mujoco.mju_quat2Vel(positions[d : d + 3], quaternion, 1.0)
            mujoco.mju_rotVecQuat(velocities[d : d + 3], qvel[d + 3 : d + 6], quaternion)
            positions[d + 3 : d + 6], velocities[d + 3 : d + 6] = qpos[p : p + 3], qvel[d : d + 3]
        return positions, velocities

    def write_mujoco(
        self, qpos: np.ndarray, qvel: np.ndarray, positions: np.ndarray, velocities: np.ndarray
    ) -> None:
        """Write DART's positions and velocities into MuJoCo's `qpos` and `qvel`, in place.

        Of the two quaternions of one rotation, the one nearer to `qpos` is written.
        """
        if not self.free:
            qpos[:], qvel[:] = positions, velocities
            return
        qvel[self.dofs] = velocities[self.dofs]
        qpos[self.places] = positions[self.dofs]
        for p, d in self.free:
            place, dofs = slice(p, p + 7), slice(d, d + 6)
            _write_free_joint(qpos[place], qvel[dofs], positions[dofs], velocities[dofs])


def _write_free_joint(
    qpos: np.ndarray, qvel: np.ndarray, positions: np.ndarray, velocities: np.ndarray
) -> None:
    """Write DART's coordinates of one free joint, (6,) each, into MuJoCo's (7,) and (6,)."""
    axis, quaternion, back = positions[:3].copy(), np.empty(4), np.empty(4)
    angle = mujoco.mju_normalize3(axis)
    mujoco.mju_axisAngle2Quat(quaternion, axis, angle)
    mujoco.mju_negQuat(back, quaternion)
    mujoco.mju_rotVecQuat(qvel[3:], velocities[:3], back)
    sign = -1.0 if quaternion @ qpos[3:] < 0 else 1.0
    qpos[:3], qpos[3:] = positions[3:], sign * quaternion
    qvel[:3] = velocities[3:]


def make_matrix(quaternion: np.ndarray) -> np.ndarray:
    """Return the rotation matrix (3, 3) of a quaternion."""
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


def make_isometry(
    dart: ModuleType, position: np.ndarray | None = None, quaternion: np.ndarray | None = None
) -> Node:
    """Return DART's isometry of a position and a rotation, none where they are not given."""
    rotation = np.eye(3) if quaternion is None else make_matrix(quaternion)
    return dart.math.Isometry3(rotation, np.zeros(3) if position is None else position)


def add_joint(
    dart: ModuleType, robot: Node, parent: Node, model: mujoco.MjModel, j: int, frame: Node
) -> tuple[Node, Node]:
    """Add a joint and the body that it moves; return both.

    Its position is the model's qpos, whose zero need not be the pose built.
    """
    kind = JOINT(model.jnt_type[j])
    if kind == JOINT.mjJNT_FREE:
        return robot.createFreeJointAndBodyNodePair()
    if kind == JOINT.mjJNT_HINGE:
        joint, node = robot.createRevoluteJointAndBodyNodePair(parent)
    else:
        joint, node = robot.createPrismaticJointAndBodyNodePair(parent)
    anchor = make_isometry(dart, model.jnt_pos[j])
    joint.setAxis(np.array(model.jnt_axis[j]))
    joint.setTransformFromParentBodyNode(frame.multiply(anchor))
    joint.setTransformFromChildBodyNode(anchor.multiply(_find_offset(dart, model, j)))
    _set_spring(joint, model, j)
    enforced = not is_disabled(model, CONSTRAINT, DISABLE.mjDSBL_LIMIT)
    joint.setLimitEnforcement(bool(model.jnt_limited[j]) and enforced)
    return joint, node


def _find_offset(dart: ModuleType, model: mujoco.MjModel, j: int) -> Node:
    """Return how far a hinge or a slide has moved in the pose that is built."""
    start = float(model.qpos0[model.jnt_qposadr[j]])
    axis = np.array(model.jnt_axis[j])
    if JOINT(model.jnt_type[j]) == JOINT.mjJNT_SLIDE:
        return make_isometry(dart, start * axis)
    turn = np.empty(4)
    mujoco.mju_axisAngle2Quat(turn, axis, start)
    return make_isometry(dart, None, turn)


def _set_spring(joint: Node, model: mujoco.MjModel, j: int) -> None:
    sprung = not is_disabled(model, DISABLE.mjDSBL_SPRING)
    joint.setSpringStiffness(0, float(model.jnt_stiffness[j]) if sprung else 0.0)
    joint.setRestPosition(0, float(model.qpos_spring[model.jnt_qposadr[j]]))


def find_limits(ends: np.ndarray, margin: float) -> tuple[float, float]:
    """Return where a joint stops, of its range (2,): MuJoCo's limits push from the margin on."""
    low, high = ends[0] + margin, ends[1] - margin
    if low > high:  # both push, and it rests in the middle
        low = high = (low + high) / 2
    return low, high


def add_shape(dart: ModuleType, body: Node, model: mujoco.MjModel, g: int, name: str) -> Node:
    """Add a geom's shape to a body, by that name; return it."""
    kind, size = GEOM(model.geom_type[g]), model.geom_size[g]
    if kind == GEOM.mjGEOM_CAPSULE:
        shape = dart.dynamics.CapsuleShape(size[0], 2 * size[1])
    elif kind == GEOM.mjGEOM_SPHERE:
        shape = dart.dynamics.SphereShape(size[0])
    elif kind == GEOM.mjGEOM_BOX:
        shape = dart.dynamics.BoxShape(2 * size)
    elif kind == GEOM.mjGEOM_MESH:
        shape = make_hull(dart, model, g)
    else:
        shape = dart.dynamics.PlaneShape(np.array([0.0, 0.0, 1.0]), 0.0)
    node = body.createShapeNode(shape, name)
    node.setRelativeTransform(make_isometry(dart, model.geom_pos[g], model.geom_quat[g]))
    node.createCollisionAspect()
    node.createDynamicsAspect()
    return node
