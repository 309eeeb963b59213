"""A take: one episode of a policy, played, with the pictures of it and how it went."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.rollout import rollout_episodes
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.parameters import Distribution, Grid
from isthmus.rendering import Camera, ForeignCamera, PaperCamera
from isthmus.report.numbers import format_number

MAX_FRAME_RATE = 25  # frames a second, at most


class Take(NamedTuple):
    """One episode: pictures at rising times, and how it went."""

    name: str  # "source" or "target"
    domain: str
    dynamics: list[str]  # what the world drew from distributions and grids, in words
    times: list[float]  # seconds
    pictures: list[np.ndarray]  # uint8 [height, width, 3]
    returns: list[float]  # until each picture
    interval: float  # seconds between two pictures
    end: float  # seconds
    total: float  # the episode's return
    fell: bool
    caption: str = ""

    def find_picture(self, t: float) -> int:
        """Return the index of the last picture at time `t` or before."""
        return int(np.searchsorted(self.times, t + 1e-9, side="right")) - 1

    def has_ended(self, t: float) -> bool:
        """Return whether the episode is over at time `t`."""
        return t + 1e-9 >= self.end


class TakeRecorder:
    """Takes pictures of world 0 while an episode is played: the `on_step` of a rollout."""

    def __init__(self, domain: Domain, seconds: float, size: tuple[int, int]):
        self.domain, self.seconds, self.size = domain, seconds, size
        self.stride = max(1, round(1 / (MAX_FRAME_RATE * domain.step_seconds)))
        self.times: list[float] = []
        self.pictures: list[np.ndarray] = []
        self.returns: list[float] = []
        self.dynamics: list[str] = []
        self.camera: Camera | None = None

    def __call__(self, live: SteppedWorlds, done: int) -> None:
        """Take a picture where one is due; `done` is the number of episodes that have ended."""
        if self.camera is None:
            self.camera = open_camera(live, self.size)
            self.dynamics = describe_dynamics(self.domain, live.state["parameters"][0])
        step = int(live.state["step"][0])
        seconds = step * self.domain.step_seconds
        is_due = step % self.stride == 0 or bool(done)
        if is_due and seconds <= self.seconds + 1e-9:
            self.times.append(seconds)
            self.pictures.append(self.camera.frame())
            self.returns.append(float(live.state["returns"][0]))

    def close(self) -> None:
        """Close the camera."""
        if self.camera is not None:
            self.camera.close()


def open_camera(live: SteppedWorlds, size: tuple[int, int]) -> Camera:
    """Return a camera on world 0, for paper; of a foreign environment, what it draws itself."""
    simulation: Any = live.simulation
    if isinstance(simulation, PhysicsSimulation):
        return PaperCamera(simulation, size)
    return ForeignCamera(str(live.domain), simulation.envs[0], size)


def record_take(
    name: str, policy: Any, domain: Domain, seconds: float, seed: int, size: tuple[int, int]
) -> Take:
    """Play one episode, and take pictures of its first `seconds`."""
    recorder = TakeRecorder(domain, seconds, size)
    try:
        episodes = rollout_episodes(domain, domain.worlds(1, seed), policy, recorder)
    finally:
        recorder.close()
    take = Take(
        name=name,
        domain=str(domain),
        dynamics=recorder.dynamics,
        times=recorder.times,
        pictures=recorder.pictures,
        returns=recorder.returns,
        interval=recorder.stride * domain.step_seconds,
        end=float(episodes.lengths[0]) * domain.step_seconds,
        total=float(episodes.returns[0]),
        fell=bool(episodes.terminated[0]),
    )
    return take._replace(caption=_describe_take(take, seconds))


def _describe_take(take: Take, seconds: float) -> str:
    """Say how an episode went of which `seconds` are shown."""
    course = f"it lasted to the time limit of {take.end:.1f} s"
    if take.fell:
        course = f"it fell after {take.end:.1f} s"
    if take.end > seconds + 1e-9:
        course += f", of which {seconds:g} s are shown"
    subject = f"{take.name.capitalize()} {take.domain}"
    if take.dynamics:
        subject += f" (one draw: {', '.join(take.dynamics)})"
    return f"{subject}: {course}, return {format_number(take.total)}."


def describe_dynamics(domain: Domain, values: np.ndarray) -> list[str]:
    """Return what a world drew from distributions and grids, in words; `values` [P] are the
    domain's.
    """
    table = domain.parameter_table()
    drawn = []
    for (name, setting), value in zip(domain.settings, values, strict=True):
        if isinstance(setting, Distribution | Grid):
            text, unit = f"{name} {value:.3g}", table[name].unit
            if unit != "1":
                text += f" {unit}"
            drawn.append(text)
    return drawn
