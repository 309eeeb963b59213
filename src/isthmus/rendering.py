"""Pictures of robots: the one camera behind clips, reports and Gymnasium's `render()`.

MuJoCo draws whatever engine steps: an engine gives a MuJoCo model and the worlds' configurations.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from functools import cache
from typing import Any, Protocol

import mujoco
import numpy as np
from PIL import Image

from isthmus.physics.engine import Simulator
from isthmus.tasks.task import Task, find_main_body
from isthmus.types import IsthmusError

BACKENDS = ("egl", "osmesa", "glfw", "cgl")
OFF_WORDS = ("disable", "disabled", "off", "false", "0")
SKY_COLOR = (255, 255, 255)
DARK_FLOOR_COLOR, LIGHT_FLOOR_COLOR = (214, 221, 228), (240, 243, 246)


class CannotRender(IsthmusError):
    """Nothing on this machine turns a scene into a picture, or the domain has none to give."""


class Scene(Protocol):
    """What a camera looks at: the worlds of a task in a physics engine."""

    task: Task
    simulator: Simulator


class Camera(Protocol):
    """Something that takes pictures of one world or of many."""

    def frame(self, world: int = 0) -> np.ndarray:
        """Return the picture of a world as it is now, uint8 [height, width, 3]."""
        ...

    def close(self) -> None:
        """Give back what the graphics driver lent."""
        ...


class RobotCamera:
    """Follows the robot in worlds of ours, by one MuJoCo model.

    As it is, it looks as Gymnasium's cameras do: at the robot's own model, from a distance that
    holds the robot. Raises CannotRender where nothing renders.
    """

    def __init__(self, scene: Scene, size: tuple[int, int]):
        find_backend()
        self.simulator = scene.simulator
        self.model = self.choose_model()
        self.data = mujoco.MjData(self.model)
        bodies = [self.model.body(i).name for i in range(self.model.nbody)]
        self.body = find_main_body(scene.task, bodies)
        self.camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(self.model, self.camera)
        self.aim()
        width, height = size
        self.renderer = _open_renderer(self.model, width, height)
        self.blank = np.full((height, width, 3), 255, np.uint8)
        self.last_frames: dict[int, np.ndarray] = {}

    def choose_model(self) -> mujoco.MjModel:
        """Return the model that is drawn."""
        return self.simulator.model  # pyright: ignore[reportAttributeAccessIssue]

    def aim(self) -> None:
        """Point the camera at the robot in the model's default pose."""
        mujoco.mj_forward(self.model, self.data)
        robot = np.flatnonzero(self.model.geom_bodyid)
        centers = self.data.geom_xpos[robot]
        extent = centers.max(0) - centers.min(0)
        width = np.linalg.norm(extent)
        reach = width / 2 + self.model.geom_rbound[robot].max()
        is_flat = extent[2] < 0.1 * width
        self.camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        self.camera.trackbodyid = self.body
        self.camera.distance = (4 if is_flat else 3) * reach
        self.camera.elevation = -50 if is_flat else -15

    def follow(self) -> None:
        """Move the camera along with the robot; MuJoCo does it by itself for one that tracks."""

    def set_flags(self, flags: np.ndarray) -> None:
        """Choose the effects to draw; as MuJoCo does unless told otherwise."""

    def pose(self, world: int) -> bool:
        """Put the drawn robot where a world's is; False, and nothing done, where that diverged."""
        qpos = self.simulator.qpos[world]
        if not np.isfinite(qpos).all():
            return False
        self.data.qpos[:] = qpos
        mujoco.mj_forward(self.model, self.data)
        return True

    def frame(self, world: int = 0) -> np.ndarray:
        """Return a picture, uint8 [height, width, 3]; of a world that diverged, the last before."""
        if self.pose(world):
            self.follow()
            self.renderer.update_scene(self.data, self.camera)
            self.set_flags(self.renderer.scene.flags)
            self.last_frames[world] = self.renderer.render()
        return self.last_frames.get(world, self.blank)

    def close(self) -> None:
        """Free the renderer."""
        self.renderer.close()


class PaperCamera(RobotCamera):
    """Follows the robot of one world by that world's own model, pale as a page wants it."""

    def __init__(self, scene: Scene, size: tuple[int, int], world: int = 0):
        self.size, self.world = size, world
        super().__init__(scene, size)

    def choose_model(self) -> mujoco.MjModel:
        """Return the world's own model, in colours for a page, with room for a frame."""
        model = self.simulator.world_model(self.world)
        model.vis.global_.offwidth, model.vis.global_.offheight = self.size
        _dress(model)
        return model

    def aim(self) -> None:
        """Point the camera at the robot as it stands now, from above where it cannot rise."""
        self.pose(self.world)
        robot = np.flatnonzero(np.asarray(self.model.geom_bodyid) != 0)
        centers = self.data.geom_xpos[robot]
        radii = np.asarray(self.model.geom_rbound)[robot, None]
        low, high = (centers - radii).min(0), (centers + radii).max(0)
        reach = float(np.linalg.norm(high - low)) / 2
        self.camera.azimuth, self.camera.elevation = 90, -10
        self.camera.lookat[:] = (low + high) / 2
        self.camera.lookat[2] += reach / 4  # room to jump
        if _is_planar(self.model):  # look at all that the robot can reach
            middle = self.data.xpos[self.body]
            self.camera.elevation = -90
            self.camera.lookat[:] = middle
            reach = float((np.linalg.norm((centers - middle)[:, :2], axis=1) + radii[:, 0]).max())
        half_angle = np.radians(self.model.vis.global_.fovy) / 2
        self.camera.distance = 1.25 * reach / np.tan(half_angle)
        self.offset = self.camera.lookat - self.data.xpos[self.body]

    def follow(self) -> None:
        """Keep the robot where it was in the picture, but let it jump."""
        self.camera.lookat[:2] = (self.data.xpos[self.body] + self.offset)[:2]

    def set_flags(self, flags: np.ndarray) -> None:
        """Draw no shadows, and let the floor fade into the sky."""
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        flags[mujoco.mjtRndFlag.mjRND_HAZE] = flags[mujoco.mjtRndFlag.mjRND_FOG] = 1


class ForeignCamera:
    """Takes the pictures that somebody else's environment draws of itself.

    Raises CannotRender where it draws none.
    """

    def __init__(self, name: str, env: Any, size: tuple[int, int]):
        if getattr(env, "render_mode", None) != "rgb_array":
            raise CannotRender(
                f"{name} cannot be watched: its physics is not ours, and the environment draws "
                "itself only if it is made with render_mode='rgb_array'; name a module:function "
                "that returns it so"
            )
        self.env, self.size = env, size

    def frame(self, world: int = 0) -> np.ndarray:
        """Return what the environment draws, in the camera's size; there is one world alone."""
        picture = Image.fromarray(np.asarray(self.env.render(), np.uint8))
        return np.asarray(picture.convert("RGB").resize(self.size))

    def close(self) -> None:
        """Leave the environment open: it is its simulation's to close."""


def _open_renderer(model: mujoco.MjModel, width: int, height: int) -> mujoco.Renderer:
    """Return a renderer. Raises CannotRender, in one line, where the driver or MuJoCo refuses."""
    try:
        return mujoco.Renderer(model, height, width)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CannotRender(
            f"nothing renders here ({reason}); install a graphics driver with EGL, such as Mesa's "
            "libegl1, or set MUJOCO_GL to egl, osmesa or glfw, whichever this machine has"
        ) from error


def _is_planar(model: mujoco.MjModel) -> bool:
    """Return whether every joint moves the robot in the horizontal plane alone."""
    kinds, axes = np.asarray(model.jnt_type), np.abs(np.asarray(model.jnt_axis))
    turns_flat = (kinds == mujoco.mjtJoint.mjJNT_HINGE) & (axes[:, 2] > 0.999)
    slides_flat = (kinds == mujoco.mjtJoint.mjJNT_SLIDE) & (axes[:, 2] < 0.001)
    return bool((turns_flat | slides_flat).all())


# A pale floor under a white sky


def _dress(model: mujoco.MjModel) -> None:
    """Change colours and light, nothing else: a robot stands out on a page and in print."""
    model.vis.headlight.ambient[:] = 0.45
    model.vis.headlight.diffuse[:] = 0.4
    model.vis.headlight.specular[:] = 0.05
    model.light_diffuse[:], model.light_specular[:], model.mat_reflectance[:] = 0.3, 0.0, 0.0
    model.vis.rgba.haze[:] = model.vis.rgba.fog[:] = 1.0
    model.vis.map.haze, model.vis.map.fogstart, model.vis.map.fogend = 0.9, 2.0, 5.0
    for texture in np.flatnonzero(np.asarray(model.tex_type) == mujoco.mjtTexture.mjTEXTURE_SKYBOX):
        _paint(model, int(texture), SKY_COLOR, SKY_COLOR)
    is_plane = np.asarray(model.geom_type) == mujoco.mjtGeom.mjGEOM_PLANE
    for plane in np.flatnonzero(is_plane & (np.asarray(model.geom_bodyid) == 0)):
        _dress_floor(model, int(plane))


def _dress_floor(model: mujoco.MjModel, plane: int) -> None:
    """Make a plane of the world pale, and without end: robots run far."""
    material, size = int(model.geom_matid[plane]), model.geom_size[plane, :2].copy()
    model.geom_rgba[plane] = (0.93, 0.95, 0.97, 1.0) if material < 0 else 1.0
    model.geom_size[plane, :2] = 0.0
    if material < 0:
        return
    # A texture is repeated so often over a plane, and so often a metre over one without end.
    model.mat_texrepeat[material] /= np.where(size > 0, 2 * size, 1)
    model.mat_rgba[material], model.mat_specular[material] = 1.0, 0.0
    for texture in model.mat_texid[material]:
        if texture >= 0:
            _paint(model, int(texture), DARK_FLOOR_COLOR, LIGHT_FLOOR_COLOR)


def _paint(
    model: mujoco.MjModel, texture: int, dark: tuple[int, int, int], light: tuple[int, int, int]
) -> None:
    """Spread a texture's greys between two colours."""
    first, channels = model.tex_adr[texture], model.tex_nchannel[texture]
    length = model.tex_width[texture] * model.tex_height[texture] * channels
    pixels = model.tex_data[first : first + length].reshape(-1, channels)
    grey = pixels[:, :3].mean(1, keepdims=True)
    share = (grey - grey.min()) / max(float(np.ptp(grey)), 1.0)
    pixels[:, :3] = np.array(dark) + share * (np.array(light) - np.array(dark))


# What renders on this machine


def find_backend() -> str:
    """Make MuJoCo render by a backend that works here; return `egl`, `osmesa`, `glfw` or `cgl`.

    MUJOCO_GL, where it is set, is obeyed; else those that need no screen are tried first. Raises
    CannotRender, in one line that says what is missing.
    """
    faults = {}
    for name in _list_candidates():
        fault = _find_fault(name)
        if fault is None:
            _use_backend(name)
            return name
        faults[name] = fault
    reasons = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
    remedy = "run where a screen is"
    if sys.platform == "linux":
        remedy = (
            "install a driver (Debian, Ubuntu: apt install libegl1 libgl1-mesa-dri, or libosmesa6 "
            "with MUJOCO_GL=osmesa)"
        )
    raise CannotRender(f"no headless rendering here ({reasons}); {remedy}")


def _list_candidates() -> list[str]:
    """Return the backends to try, in order. Raises CannotRender where MUJOCO_GL forbids all."""
    wish = os.environ.get("MUJOCO_GL", "").lower().strip()
    if wish in OFF_WORDS:
        raise CannotRender(
            f"MUJOCO_GL={wish} turns rendering off; unset it, or write egl or osmesa"
        )
    if wish in BACKENDS:
        return [wish]
    if sys.platform == "darwin":
        return ["cgl", "glfw"]
    if sys.platform != "linux":
        return ["glfw"]
    has_screen = any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return ["egl", "osmesa", "glfw"] if has_screen else ["egl", "osmesa"]


def _use_backend(name: str) -> None:
    """Make MuJoCo's renderers use a backend.

    MuJoCo chose one when it was first imported, before anybody had tried which works.
    """
    from mujoco.rendering.classic import gl_context

    gl_context.GLContext = importlib.import_module(f"mujoco.{name}").GLContext


_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='1'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    assert renderer.render().any(), "it draws black pictures only"
"""


@cache
def _find_fault(name: str) -> str | None:
    """Return why a backend does not render on this machine; None where it does.

    Tried in a process of its own: a bad driver may end the process that calls it.
    """
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo logs its errors in the current folder
        try:
            process = subprocess.run(
                [sys.executable, "-c", _PROBE],
                cwd=folder,
                env={**os.environ, "MUJOCO_GL": name},
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=120,
            )
        except subprocess.TimeoutExpired:
            return "no picture within two minutes"
    if process.returncode == 0:
        return None
    if process.returncode < 0:
        return f"its driver crashed (signal {-process.returncode})"
    return (process.stderr.strip().splitlines() or ["it failed and said nothing"])[-1][:120]
