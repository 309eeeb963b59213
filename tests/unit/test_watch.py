"""What is watched is what happened: two episodes on one clock, by the worlds' own physics, in a
file that opens.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from PIL import Image

from isthmus import rendering
from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_episodes
from isthmus.rendering import CannotRender, PaperCamera, find_backend
from isthmus.report import watch as watching
from isthmus.report.clips import Clip
from isthmus.report.numbers import format_number
from isthmus.report.panels import ALARM_COLOR, draw_panel, wrap
from isthmus.report.takes import Take
from isthmus.report.watch import film, watch
from isthmus.training.run import RunError
from isthmus.types import BadValue

SMALL = (96, 72)


class Constant(NamedTuple):
    """A policy that always does the same."""

    action: np.ndarray

    def memory(self) -> tuple:
        return ()

    def act(self, memory: tuple, observation: Any) -> tuple[Any, tuple]:
        return self.action, memory


STILL = Constant(np.zeros(3, np.float32))  # a hopper that stands until it falls


@pytest.fixture(scope="module")
def renders() -> str:
    """The backend that renders on this machine; without one the test is skipped, and says what is
    missing.
    """
    try:
        return find_backend()
    except CannotRender as error:
        pytest.skip(str(error))


def test_source_and_target_are_played_side_by_side(renders: str) -> None:
    source, target = parse_domain("hopper"), parse_domain("hopper/gravity=x0.5")
    clip = film(STILL, source, target, seed=3, size=SMALL)
    ends = []
    for domain in (source, target):
        episodes = rollout_episodes(domain, domain.worlds(1, 3), STILL)
        end = float(episodes.lengths[0]) * domain.step_seconds
        ends.append(end)
        assert episodes.terminated[0]
        assert (
            f"{domain}: it fell after {end:.1f} s, return {format_number(episodes.returns[0])}."
            in clip.caption
        )
    assert ends[0] < ends[1]  # under half the weight it falls more slowly
    assert clip.milliseconds == 40
    assert len(clip.frames) == int((ends[1] + watching.HOLD_SECONDS) / 0.04) + 1
    width, height = clip.frames[0].size
    assert width == 2 * SMALL[0] + 16 and height > SMALL[1]

    left = [np.asarray(frame)[:, : SMALL[0]] for frame in clip.frames]
    right = [np.asarray(frame)[:, SMALL[0] + 16 :] for frame in clip.frames]
    middle = round((ends[0] + ends[1]) / 2 / 0.04)
    assert not np.array_equal(left[0], left[5])
    assert np.array_equal(
        left[middle], left[-1]
    )  # fallen: it lies still while the other one still falls
    assert not np.array_equal(right[middle], right[-1])


def test_another_policy_may_act_in_the_source(renders: str) -> None:
    source, target, pushes = (
        parse_domain("hopper"),
        parse_domain("hopper/gravity=x0.5"),
        Constant(np.ones(3)),
    )
    clip = film(STILL, source, target, size=SMALL, simulated=pushes)
    for domain, policy in ((source, pushes), (target, STILL)):
        paid = rollout_episodes(domain, domain.worlds(1, 0), policy).returns[0]
        assert f"return {format_number(paid)}." in clip.caption


def test_the_camera_looks_at_the_worlds_own_physics(renders: str) -> None:
    domain = parse_domain("hopper/torso_mass=2..8")
    seen = {}

    def look(live: Any, done: int) -> None:
        if not seen:
            camera = PaperCamera(live.simulation, SMALL)
            body = camera.model.body("torso").id
            seen.update(
                mass=camera.model.body_mass[body],
                drawn=live.state["parameters"][0, 0],
                picture=camera.frame(),
            )
            camera.close()

    rollout_episodes(domain, domain.worlds(1, 5), STILL, look)
    assert seen["mass"] == seen["drawn"] != domain.table()["torso_mass"].default
    assert seen["picture"].shape == (72, 96, 3) and len(np.unique(seen["picture"])) > 20


def test_dressing_a_model_leaves_the_worlds_alone(renders: str) -> None:
    """A clip changes colours in a copy: physics after it is what it was before."""
    domain = parse_domain("hopper")
    before = rollout_episodes(domain, domain.worlds(2, 0), STILL)
    film(STILL, domain, None, seconds=0.1, size=SMALL)
    after = rollout_episodes(domain, domain.worlds(2, 0), STILL)
    np.testing.assert_array_equal(before.returns, after.returns)
    simulator = domain.simulation(1, "play").simulator  # type: ignore[attr-defined]
    assert not np.isclose(simulator.model.vis.headlight.ambient[0], 0.45)


@pytest.mark.parametrize(
    ("task", "above"), [("reacher", True), ("ant", False), ("half_cheetah", False)]
)
def test_a_robot_that_moves_in_the_plane_is_seen_from_above(
    renders: str, task: str, above: bool
) -> None:
    domain = parse_domain(task)
    elevation = []

    def look(live: Any, done: int) -> None:
        if not elevation:
            camera = PaperCamera(live.simulation, SMALL)
            elevation.append(camera.camera.elevation)
            assert len(np.unique(camera.frame().reshape(-1, 3), axis=0)) > 20
            camera.close()
            raise StopIteration

    with pytest.raises(StopIteration):
        rollout_episodes(
            domain, domain.worlds(1, 0), Constant(np.zeros_like(domain.spaces.low)), look
        )
    assert (elevation[0] == -90) is above


def test_one_draw_is_shown_and_said(renders: str) -> None:
    domain = parse_domain("hopper/gravity=5,torso_mass=2..8,foot_friction=1..2:3")
    clip = film(STILL, domain, None, seconds=0.1, size=SMALL)
    parameters = domain.worlds(1, 0).parameters[0]
    drawn = dict(zip(domain.names, parameters, strict=True))
    friction, mass = drawn["foot_friction"], drawn["torso_mass"]
    said = f"(one draw: foot_friction {friction:.3g}, torso_mass {mass:.3g} kg)"
    assert said in clip.caption and "of which 0.1 s are shown" in clip.caption
    assert len(clip.frames) == 3  # 0, 0.04 and 0.08 s


@pytest.mark.parametrize("ending", [".webp", ".gif", ".png"])
def test_the_file_is_an_animation(renders: str, tmp_path: Path, ending: str) -> None:
    path = watch(STILL, parse_domain("hopper"), None, tmp_path / f"clip{ending}", seconds=0.4)
    image: Any = Image.open(path)
    image.seek(1)
    image.load()
    assert image.n_frames == 11 and image.info["duration"] == 40 and image.info["loop"] == 0
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# What follows needs no graphics.


def take(**changes: Any) -> Take:
    """Pictures that are as bright as the tenths of a second they were taken at; the episode ends at
    0.3 s.
    """
    pictures = [np.full((20, 120, 3), 10 * i, np.uint8) for i in range(4)]
    whole = Take(
        name="source",
        domain="hopper",
        dynamics=[],
        times=[0.0, 0.1, 0.2, 0.3],
        pictures=pictures,
        returns=[0.0, 1.0, 2.0, 3.0],
        interval=0.1,
        end=0.3,
        total=3.0,
        fell=True,
    )
    return whole._replace(**changes)


def panel(t: float, **changes: Any) -> np.ndarray:
    return np.asarray(draw_panel(take(**changes), t, rows=1))


def test_a_panel_shows_the_last_picture_before_its_time() -> None:
    times = (0.0, 0.05, 0.1, 0.25, 0.3, 9.0)
    assert [panel(t)[50, 60, 0] for t in times] == [0, 0, 10, 20, 30, 30]

    def alarms(t: float, **changes: Any) -> bool:
        return bool((panel(t, **changes) == np.array(ALARM_COLOR)).all(-1).any())

    assert alarms(0.3) and not alarms(0.2) and not alarms(0.3, fell=False)


def test_long_names_are_broken_after_a_comma() -> None:
    lines = wrap("hopper/foot_friction=0.1..2.9:15,torso_mass=0.5..11.5:12,gravity=5", 300)
    assert "".join(lines) == "hopper/foot_friction=0.1..2.9:15,torso_mass=0.5..11.5:12,gravity=5"
    assert len(lines) == 2 and lines[0].endswith(",")


def test_a_file_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"clip\.avi: a clip ends in \.webp, \.gif, \.png, \.mp4"):
        watch(STILL, parse_domain("hopper"), None, tmp_path / "clip.avi")
    for seconds in (0.0, -1.0, float("nan"), 1e9):
        with pytest.raises(BadValue, match="seconds="):
            watch(STILL, parse_domain("hopper"), None, tmp_path / "clip.webp", seconds=seconds)
    clip = Clip([Image.new("RGB", (8, 8))] * 2, 40, "")
    with pytest.raises(RunError, match=r"cannot write .*: No such file"):
        clip.save(tmp_path / "none" / "clip.webp")
    (tmp_path / "folder.webp").mkdir()
    with pytest.raises(RunError, match="cannot write"):
        clip.save(tmp_path / "folder.webp")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.webp"]


def test_mp4_without_its_extra_is_said_before_anything_is_played(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(watching, "film", lambda *args: pytest.fail("played first"))
    with pytest.raises(BadValue, match=r"isthmus\[video\]"):
        watch(STILL, parse_domain("hopper"), None, tmp_path / "clip.mp4")


def test_a_crashing_driver_is_found_by_another_process(monkeypatch: Any) -> None:
    monkeypatch.setattr(rendering, "_PROBE", "import os; os.abort()")
    assert rendering._find_fault.__wrapped__("egl") == "its driver crashed (signal 6)"
    monkeypatch.setattr(rendering, "_PROBE", "raise RuntimeError('no such device')")
    assert rendering._find_fault.__wrapped__("egl") == "RuntimeError: no such device"
    monkeypatch.setattr(
        rendering, "_PROBE", "import os; assert os.environ['MUJOCO_GL'] == 'osmesa'"
    )
    assert rendering._find_fault.__wrapped__("osmesa") is None


def test_where_nothing_renders_one_line_says_what_is_missing(
    monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(rendering, "_find_fault", lambda name: f"{name} is broken")
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CannotRender, match="libegl1") as caught:
        watch(STILL, parse_domain("hopper"), None, tmp_path / "clip.webp", seconds=0.1)
    said = str(caught.value)
    assert (
        "egl is broken" in said
        and "osmesa is broken" in said
        and "glfw" not in said
        and "\n" not in said
    )
    monkeypatch.setenv("MUJOCO_GL", "osmesa")  # what its user asks for is obeyed
    with pytest.raises(CannotRender) as caught:
        find_backend()
    assert "egl is broken" not in str(caught.value) and "osmesa is broken" in str(caught.value)
    monkeypatch.setenv("MUJOCO_GL", "off")
    with pytest.raises(CannotRender, match="turns rendering off"):
        find_backend()


class Dot(gymnasium.Env):
    """Somebody else's environment that draws itself: as grey as the steps it has lived."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = "rgb_array"):
        self.render_mode, self.lived = render_mode, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.lived = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any):
        self.lived += 1
        return np.zeros(2, np.float32), 1.0, self.lived >= 5, False, {}

    def render(self):
        return np.full((40, 40, 3), 40 * self.lived, np.uint8)


def blind() -> Dot:
    return Dot(render_mode=None)


def test_a_foreign_environment_is_watched_where_it_draws_itself() -> None:
    domain = parse_domain(f"{__name__}:Dot/time_limit=20,step_seconds=0.1")
    clip = film(STILL, domain, None, size=SMALL)
    assert f"Source {domain}: it fell after 0.5 s, return 5.00." in clip.caption
    assert clip.milliseconds == 100
    shades = [int(np.asarray(frame)[28 + 18 + 36, 48, 0]) for frame in clip.frames]
    assert shades[:6] == [0, 40, 80, 120, 160, 200]
    with pytest.raises(CannotRender, match="render_mode='rgb_array'"):
        film(
            STILL,
            parse_domain(f"{__name__}:blind/time_limit=20,step_seconds=0.1"),
            None,
            size=SMALL,
        )
