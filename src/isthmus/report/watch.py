"""Watch a policy: rendered rollouts, source beside target on one clock, as one animated picture."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import mujoco
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from isthmus.domains.domain import Domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.rollout import rollout_episodes
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.parameters import Distribution, Grid
from isthmus.physics.random import keys
from isthmus.report.figures import number
from isthmus.tasks.task import find_main_body
from isthmus.training.run import RunError
from isthmus.types import BadValue, IsthmusError

FORMATS = (".webp", ".gif", ".png", ".mp4")
MAX_FRAME_RATE = 25  # frames a second, at most
MAX_CLIP_SECONDS = 60.0  # seconds: a clip is held in memory
HOLD_SECONDS = 1.0  # seconds that a clip stays on the last picture once all have ended
FRAME_SIZE = (480, 360)

INK, PALE, ALARM, PAPER = (34, 34, 34), (110, 110, 110), (190, 70, 0), (255, 255, 255)


class CannotRender(IsthmusError):
    """Nothing on this machine turns a scene into a picture, or the domain has none to give."""


class Clip(NamedTuple):
    """Frames, what each lasts, and what they show, in words."""

    frames: list[Image.Image]
    milliseconds: int
    said: str

    def save(self, path: Path) -> Path:
        """Write an animated picture (WebP, GIF, PNG) or an MP4. Raises BadValue or RunError, in one
        line.
        """
        check_format(path)
        temporary = path.with_name(f"{path.stem}.partial{path.suffix}")
        try:
            if path.suffix.lower() == ".mp4":
                _save_mp4(self, temporary)
            else:
                self.write(temporary)
            os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise RunError(f"cannot write {path}: {error.strerror or error}") from None
        return path

    def write(self, file: Path | BinaryIO, kind: str | None = None) -> None:
        """Write an animated picture of a `kind` ("WEBP"; None: by the file's name) that loops."""
        first, *rest = self.frames
        # `quality` and `method` (speed) are WebP's; other formats do not read them.
        first.save(file, kind, save_all=True, append_images=rest, duration=self.milliseconds, loop=0,
                   quality=70, method=2)  # fmt: skip


def check_format(path: Path) -> None:
    """Raises BadValue for a file name whose ending is no format of a clip, or one whose writer is
    not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise BadValue(f"{path.name}: a clip ends in {', '.join(FORMATS)}")
    if path.suffix.lower() == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise BadValue(
            f"{path.name}: MP4 needs the extra `video`; pip install 'isthmus[video]', or write a "
            ".webp"
        )


def _save_mp4(clip: Clip, path: Path) -> None:
    import imageio.v2 as imageio

    # Its child process begins another program at once: JAX's warning of forks is not for it.
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    writer: Any = imageio.get_writer(path, fps=1000 / clip.milliseconds, macro_block_size=2)
    with writer:
        for frame in clip.frames:
            writer.append_data(np.asarray(frame))


def watch(
    policy: Any,
    source: Domain,
    target: Domain | None,
    out: Path | str,
    seconds: float = 8.0,
    seed: int = 0,
    simulated: Any = None,
) -> Path:
    """Play one episode of a policy in each domain and write it as a clip, source beside target,
    synchronised.

    `simulated` acts in the source, where that is another than the deployed `policy`.

    The file's ending chooses the format: .webp, .gif, .png (animated), or .mp4 with the extra
    `video`. Where a domain draws its dynamics, one draw is shown and said. Raises CannotRender
    where nothing renders, BadValue for `seconds` or the file's ending, RunError where the file
    cannot be written; each in one line.
    """
    path = Path(out)
    check_format(path)
    return film(policy, source, target, seconds, seed, simulated=simulated).save(path)


def film(
    policy: Any,
    source: Domain,
    target: Domain | None,
    seconds: float = 8.0,
    seed: int = 0,
    size: tuple[int, int] = FRAME_SIZE,
    simulated: Any = None,
) -> Clip:
    """The clip that `watch` writes; `size` is one panel's width and height in pixels."""
    if not 0 < seconds <= MAX_CLIP_SECONDS:
        raise BadValue(f"seconds={seconds:g}: needs a number above 0, at most {MAX_CLIP_SECONDS:g}")
    takes = [_play(name, acts, domain, seconds, seed, size)
             for name, acts, domain in (("source", simulated or policy, source), ("target", policy, target))
             if domain is not None]  # fmt: skip
    milliseconds = round(1000 * min(take.interval for take in takes))
    longest = max(take.end for take in takes)
    last = longest + HOLD_SECONDS if longest < seconds else seconds
    times = np.arange(0, last + 1e-9, milliseconds / 1000)
    rows = max(len(take.title) for take in takes)
    frames = [_beside([take.at(t, rows) for take in takes]) for t in times]
    return Clip(frames, milliseconds, " ".join(take.said for take in takes))


def stills(
    domain: Domain, seconds: Sequence[float], seed: int = 0, size: tuple[int, int] = FRAME_SIZE
) -> list[np.ndarray]:
    """Pictures uint8 [height, width, 3] of a robot at rising times after an episode's start, every
    motor at half its upper bound, and whatever falls goes on falling. Raises CannotRender where
    nothing renders.
    """
    live = SteppedWorlds.new(domain, keys(seed, 1), purpose="play")
    camera = _camera(live, size)
    try:
        pictures, half = [], domain.spaces.high[None] / 2
        for moment in seconds:
            while int(live.state["step"][0]) * domain.step_seconds < moment - 1e-9:
                live.step(live.all, commanded=half)
            pictures.append(camera.frame().copy())
        return pictures
    finally:
        camera.close()


class Take(NamedTuple):
    """One episode: pictures at rising times, and how it went."""

    name: str
    title: list[str]  # lines above the picture
    times: list[float]
    pictures: list[np.ndarray]  # uint8 [height, width, 3]
    returns: list[float]
    interval: float  # seconds between two pictures
    end: float  # seconds
    total: float
    fell: bool
    said: str

    def at(self, t: float, rows: int) -> Image.Image:
        """The panel at time t: a title of so many rows, the picture, and the return until then."""
        i = int(np.searchsorted(self.times, t + 1e-9, side="right")) - 1
        picture = Image.fromarray(self.pictures[i])
        ended = t + 1e-9 >= self.end
        head, foot, margin = 28 + 18 * rows, 30, 10
        panel = Image.new("RGB", (picture.width, head + picture.height + foot), PAPER)
        panel.paste(picture, (0, head))
        draw = ImageDraw.Draw(panel)
        draw.text((margin, 4), self.name, INK, _font(14, bold=True))
        for row, line in enumerate(self.title):
            draw.text((margin, 23 + 18 * row), line, PALE, _font(12))
        y = head + picture.height + 7
        score = f"return {number(self.total if ended else self.returns[i])}"
        draw.text((margin, y), f"{min(t, self.end):.1f} s    {score}", INK, _font(13))
        if ended:
            text, color = (
                (f"FELL at {self.end:.1f} s", ALARM) if self.fell else ("end of the episode", PALE)
            )
            draw.text(
                (picture.width - margin, y), text, color, _font(13, bold=self.fell), anchor="ra"
            )
        return panel


def _beside(panels: list[Image.Image]) -> Image.Image:
    gap, width, height = 16, *panels[0].size
    whole = Image.new("RGB", (len(panels) * (width + gap) - gap, height), PAPER)
    for i, panel in enumerate(panels):
        whole.paste(panel, (i * (width + gap), 0))
    return whole


def _play(
    name: str, policy: Any, domain: Domain, seconds: float, seed: int, size: tuple[int, int]
) -> Take:
    dt = domain.step_seconds
    stride = max(1, round(1 / (MAX_FRAME_RATE * dt)))
    times: list[float] = []
    pictures: list[np.ndarray] = []
    returns: list[float] = []
    drawn: list[str] = []
    cameras: list[RobotCamera | ForeignCamera] = []

    def look(live: SteppedWorlds, done: int) -> None:
        if not cameras:
            cameras.append(_camera(live, size))
            drawn.extend(_draw(domain, live.state["parameters"][0]))
        step = int(live.state["step"][0])
        if step * dt <= seconds + 1e-9 and (step % stride == 0 or done):
            times.append(step * dt)
            pictures.append(cameras[0].frame())
            returns.append(float(live.state["returns"][0]))

    try:
        episodes = rollout_episodes(domain, domain.worlds(1, seed), policy, look)
    finally:
        for camera in cameras:
            camera.close()
    end, total, fell = (
        float(episodes.lengths[0]) * dt,
        float(episodes.returns[0]),
        bool(episodes.terminated[0]),
    )
    title = _wrap(str(domain), size[0] - 20) + (
        _wrap("drawn: " + ", ".join(drawn), size[0] - 20) if drawn else []
    )
    how = f"it fell after {end:.1f} s" if fell else f"it lasted to the time limit of {end:.1f} s"
    shown = f", of which {seconds:g} s are shown" if end > seconds + 1e-9 else ""
    one = f" (one draw: {', '.join(drawn)})" if drawn else ""
    said = f"{name.capitalize()} {domain}{one}: {how}{shown}, return {number(total)}."
    return Take(name, title, times, pictures, returns, stride * dt, end, total, fell, said)


def _draw(domain: Domain, values: np.ndarray) -> list[str]:
    """What this world drew from laws and grids, in words."""
    table = domain.table()
    return [
        f"{name} {value:.3g}" + (f" {table[name].unit}" if table[name].unit != "1" else "")
        for (name, setting), value in zip(domain.settings, values, strict=True)
        if isinstance(setting, Distribution | Grid)
    ]


class RobotCamera:
    """Looks at one world of a simulation of ours, by the world's own model, and follows the robot."""

    def __init__(self, simulation: PhysicsSimulation, size: tuple[int, int], world: int = 0):
        backend()
        simulator = simulation.simulator
        self.simulator, self.world = simulator, world
        self.model = model = simulator.world_model(world)
        bodies = [model.body(i).name for i in range(model.nbody)]
        self.body = find_main_body(simulation.task, bodies)
        model.vis.global_.offwidth, model.vis.global_.offheight = size
        _dress(model)
        self.data = mujoco.MjData(model)
        self._pose()
        robot = np.flatnonzero(np.asarray(model.geom_bodyid) != 0)
        centers, radii = self.data.geom_xpos[robot], np.asarray(model.geom_rbound)[robot, None]
        low, high = (centers - radii).min(0), (centers + radii).max(0)
        self.camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, self.camera)
        self.camera.azimuth, self.camera.elevation = 90, -10
        self.camera.lookat[:] = (low + high) / 2
        reach = float(np.linalg.norm(high - low)) / 2
        self.camera.lookat[2] += reach / 4  # room to jump
        if _flat(
            model
        ):  # nothing moves up or down: look from above, at all that the robot can reach
            self.camera.elevation = -90
            self.camera.lookat[:] = at = self.data.xpos[self.body]
            reach = float((np.linalg.norm((centers - at)[:, :2], axis=1) + radii[:, 0]).max())
        self.camera.distance = 1.25 * reach / np.tan(np.radians(model.vis.global_.fovy) / 2)
        self.follow = self.camera.lookat - self.data.xpos[self.body]
        self.renderer = mujoco.Renderer(model, size[1], size[0])
        self.picture = np.full((size[1], size[0], 3), 255, np.uint8)

    def _pose(self) -> bool:
        qpos = self.simulator.qpos[self.world]
        if not np.isfinite(qpos).all():
            return False  # the world diverged
        self.data.qpos[:] = qpos
        mujoco.mj_forward(self.model, self.data)
        return True

    def frame(self) -> np.ndarray:
        """uint8 [height, width, 3]; of a world that diverged, the last picture before."""
        if self._pose():
            self.camera.lookat[:2] = (self.data.xpos[self.body] + self.follow)[:2]
            self.renderer.update_scene(self.data, self.camera)
            flags = self.renderer.scene.flags
            flags[mujoco.mjtRndFlag.mjRND_SHADOW] = flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
            flags[mujoco.mjtRndFlag.mjRND_HAZE] = flags[mujoco.mjtRndFlag.mjRND_FOG] = 1
            self.picture = self.renderer.render()
        return self.picture

    def close(self) -> None:
        self.renderer.close()


class ForeignCamera:
    """Somebody else's environment, where it draws itself."""

    def __init__(self, domain: Domain, env: Any, size: tuple[int, int]):
        if getattr(env, "render_mode", None) != "rgb_array":
            raise CannotRender(
                f"{domain} cannot be watched: its physics is not ours, and the environment draws "
                "itself only if it is "
                "made with render_mode='rgb_array'; name a module:function that returns it so"
            )
        self.env, self.size = env, size

    def frame(self) -> np.ndarray:
        return np.asarray(
            Image.fromarray(np.asarray(self.env.render(), np.uint8))
            .convert("RGB")
            .resize(self.size)
        )

    def close(self) -> None:
        """The environment is its simulation's to close."""


def _camera(live: SteppedWorlds, size: tuple[int, int]) -> RobotCamera | ForeignCamera:
    simulation: Any = live.simulation
    if isinstance(simulation, PhysicsSimulation):
        return RobotCamera(simulation, size)
    return ForeignCamera(live.domain, simulation.envs[0], size)


def _flat(model: Any) -> bool:
    """Whether every joint moves the robot in the horizontal plane alone."""
    kinds, axes = np.asarray(model.jnt_type), np.abs(np.asarray(model.jnt_axis))
    hinge, slide = kinds == mujoco.mjtJoint.mjJNT_HINGE, kinds == mujoco.mjtJoint.mjJNT_SLIDE
    return bool(((hinge & (axes[:, 2] > 0.999)) | (slide & (axes[:, 2] < 0.001))).all())


def _dress(model: Any) -> None:
    """A pale floor under a white sky: a robot stands out on a page and in print. Nothing but
    colours and light.
    """
    (
        model.vis.headlight.ambient[:],
        model.vis.headlight.diffuse[:],
        model.vis.headlight.specular[:],
    ) = 0.45, 0.4, 0.05
    model.light_diffuse[:], model.light_specular[:], model.mat_reflectance[:] = 0.3, 0.0, 0.0
    model.vis.rgba.haze[:] = model.vis.rgba.fog[:] = 1.0
    model.vis.map.haze, model.vis.map.fogstart, model.vis.map.fogend = 0.9, 2.0, 5.0

    def paint(texture: int, dark: tuple[int, int, int], light: tuple[int, int, int]) -> None:
        first, channels = model.tex_adr[texture], model.tex_nchannel[texture]
        pixels = model.tex_data[
            first : first + model.tex_width[texture] * model.tex_height[texture] * channels
        ]
        pixels = pixels.reshape(-1, channels)
        grey = pixels[:, :3].mean(1, keepdims=True)
        share = (grey - grey.min()) / max(float(np.ptp(grey)), 1.0)
        pixels[:, :3] = np.array(dark) + share * (np.array(light) - np.array(dark))

    for texture in np.flatnonzero(np.asarray(model.tex_type) == mujoco.mjtTexture.mjTEXTURE_SKYBOX):
        paint(int(texture), PAPER, PAPER)
    planes = (np.asarray(model.geom_type) == mujoco.mjtGeom.mjGEOM_PLANE) & (
        np.asarray(model.geom_bodyid) == 0
    )
    for plane in np.flatnonzero(planes):
        material, size = int(model.geom_matid[plane]), model.geom_size[plane, :2].copy()
        model.geom_rgba[plane] = (0.93, 0.95, 0.97, 1.0) if material < 0 else 1.0
        model.geom_size[plane, :2] = 0.0  # without end: robots run far
        if material >= 0:
            # A texture is repeated so often over a plane, and so often a metre over one without
            # end.
            model.mat_texrepeat[material] /= np.where(size > 0, 2 * size, 1)
            model.mat_rgba[material], model.mat_specular[material] = 1.0, 0.0
            for texture in model.mat_texid[material]:
                if texture >= 0:
                    paint(int(texture), (214, 221, 228), (240, 243, 246))


def backend() -> str:
    """Make MuJoCo render by a backend that works here, and return its name: `egl`, `osmesa`, `glfw`
    or `cgl`.

    MUJOCO_GL, where it is set, is obeyed; else those that need no screen are tried first. Raises
    CannotRender, in one line that says what is missing.
    """
    wish = os.environ.get("MUJOCO_GL", "").lower().strip()
    if wish in ("disable", "disabled", "off", "false", "0"):
        raise CannotRender(
            f"MUJOCO_GL={wish} turns rendering off; unset it, or write egl or osmesa"
        )
    if wish in ("egl", "osmesa", "glfw", "cgl"):
        tried = [wish]
    elif sys.platform == "linux":
        tried = ["egl", "osmesa"] + ["glfw"] * any(
            map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))
        )
    else:
        tried = ["cgl", "glfw"] if sys.platform == "darwin" else ["glfw"]
    faults = {}
    for name in tried:
        fault = _fault(name)
        if fault is None:
            from mujoco.rendering.classic import gl_context

            # MuJoCo chose one when it was first imported, before anybody had tried which works.
            gl_context.GLContext = importlib.import_module(f"mujoco.{name}").GLContext
            return name
        faults[name] = fault
    said = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
    mend = (
        "install a driver (Debian, Ubuntu: apt install libegl1 libgl1-mesa-dri, or libosmesa6 with "
        "MUJOCO_GL=osmesa)"
        if sys.platform == "linux"
        else "run where a screen is"
    )
    raise CannotRender(f"no headless rendering here ({said}); {mend}")


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
def _fault(name: str) -> str | None:
    """Why a backend does not render on this machine; None where it does.

    Tried in a process of its own: a bad driver may end the process that calls it.
    """
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo logs its errors in the current folder
        try:
            done = subprocess.run(
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
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"its driver crashed (signal {-done.returncode})"
    return (done.stderr.strip().splitlines() or ["it failed and said nothing"])[-1][:120]


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` pixels, broken after a comma."""
    lines = [""]
    for part in _parts(text):
        if lines[-1] and _font(12).getlength(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return [line.strip() for line in lines]


def _parts(text: str) -> Iterator[str]:
    *first, last = text.split(",")
    yield from (part + "," for part in first)
    yield last
