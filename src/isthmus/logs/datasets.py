"""Logs of a target: what training may know of one that it may not step. Minari data sets (HDF5) and
`.npz` files.

    D.npz        observations, actions, rewards, terminals, timeouts (and next_observations, if nothing shall be lost)
    D            a folder that holds Minari's data/main_data.hdf5; or the id of a data set in Minari's own folder
    D:5000       its first 5,000 transitions        D:1episode      its first episode

What is read is checked once and flattened: no transition reaches across episodes, and a time limit
is no death.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.robots import find_robot
from isthmus.domains.rollout import rollout_steps
from isthmus.logs.episode_ends import (
    LogRows,
    StartBox,
    add_next_obs,
    are_close,
    drop_resets,
    note_lost,
    note_overlong,
    note_unmarked_starts,
    sort_worlds,
)
from isthmus.types import BadValue, Decision

MAIN, METADATA = "main_data.hdf5", "metadata.json"  # Minari's
CHUNK_STEPS = (
    500  # steps of a part: between two moves of the progress bar, and the most that Ctrl-C loses
)
# the same where they cost a robot's time; beginning a part takes milliseconds, too many for each
# step
LIVE_CHUNK_STEPS = 25
ROUNDING_SHARE = (
    1e-5  # of the actions' range: so far beyond a bound an action is that bound, in other precision
)
MAX_NUMBER = 1e6  # of a number in a log

COLUMN_NAMES = {
    "obs": ("observations", "observation", "obs", "states", "state"),
    "action": ("actions", "action", "acts"),
    "reward": ("rewards", "reward"),
    "next_obs": ("next_observations", "next_observation", "next_obs", "next_states", "next_state"),
    "terminated": ("terminals", "terminal", "terminated", "terminations"),
    "truncated": ("timeouts", "timeout", "truncated", "truncations"),
    "done": ("dones", "done"),
}
"""Arrays of an `.npz`: ours first (they are D4RL's), then what others call them."""


class Log(NamedTuple):
    """Transitions in the order in which they were made, one a row.

    `next_obs` is always the true next state. `terminated` is death; `truncated` is every other end
    of an episode: a time limit, or the place where the log was cut. The last row of each episode is
    one or the other.
    """

    obs: np.ndarray  # float32 [B, O]
    action: np.ndarray  # float32 [B, A]
    reward: np.ndarray  # float32 [B] the target's own
    next_obs: np.ndarray  # float32 [B, O]
    terminated: np.ndarray  # bool [B]
    truncated: np.ndarray  # bool [B]
    episode: np.ndarray  # int64 [B], from 0 on

    @property
    def size(self) -> int:
        """Transitions."""
        return len(self.reward)

    @property
    def episodes(self) -> int:
        return int(self.episode[-1]) + 1

    @property
    def lengths(self) -> np.ndarray:
        """Transitions of each episode, int64 [E]."""
        return np.bincount(self.episode)

    @property
    def returns(self) -> np.ndarray:
        """Sum of each episode's rewards, float64 [E]."""
        return np.bincount(self.episode, weights=self.reward.astype(np.float64))

    def first(self, n: int) -> Log:
        """The first n transitions; the last of them ends its episode."""
        return close_episodes(Log(*(x[:n].copy() for x in self)))

    def digest(self) -> str:
        """A hash of the content: the same in whichever kind of file it lies."""
        hashed = hashlib.blake2b(digest_size=16)
        for x in self:
            hashed.update(f"{x.dtype.str}{x.shape}".encode() + np.ascontiguousarray(x).tobytes())
        return hashed.hexdigest()


@dataclass(frozen=True)
class DataSet:
    """A log, and what its file says of it."""

    text: str  # PATH[:cut]
    log: Log
    metadata: dict[str, Any]  # ours under `isthmus collect`, Minari's own elsewhere, or empty
    notes: tuple[str, ...]  # what was left out, in lines


# Read


def resolve_path(text: str) -> str:
    """`PATH[:cut]` with the path made absolute: in this folder, or else an id in Minari's own.
    Raises BadValue.
    """
    path, cut = _split(text)
    minari = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    if path and (found := _found(path, minari)):
        return f"{found.resolve()}{cut}"
    begin = path.rpartition(":")[0]
    if begin and _found(begin, minari):
        raise BadValue(
            f"the cut {text[len(begin) :]!r} of {begin} is not understood; write D:5000 or "
            "D:1episode"
        )
    where = "" if Path(path).is_absolute() else f" here or in {minari}"
    get = "make one: isthmus collect PROBLEM --policy RUN --out D"
    if re.fullmatch(r"[-\w]+(/[-\w]+)*-v\d+", path):  # a name of Minari's
        get = f"get it: minari download {path}, or set MINARI_DATASETS_PATH to the folder that holds it"
    raise BadValue(f"there is no data set {path or text!r}{where}; {get}")


def _found(path: str, minari: Path) -> Path | None:
    return next((p for p in (Path(path), minari / path) if _exists(p)), None)


def _exists(path: Path) -> bool:
    """Raises BadValue where that cannot be told."""
    try:
        return path.exists()
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise BadValue(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _split(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*?)(:\d+(?:episodes?)?)?", text, re.DOTALL)
    assert match
    return match[1], match[2] or ""


def read_log(text: str, domain: Domain) -> DataSet:
    """The log `PATH[:cut]` of a domain, checked. Raises BadValue, in one line.

    Nothing on this path unpickles, evaluates or makes an environment.
    """
    name, cut = _split(text)
    path = Path(name)
    if not _exists(path):
        raise BadValue(f"the data set {path} is missing; put it back where it was")
    try:
        read_file = _read_npz if path.suffix == ".npz" else _read_minari
        log, metadata, notes = read_file(path, domain)
    except BadValue as error:
        raise BadValue(f"{path} {error}") from None
    except PermissionError:
        raise BadValue(f"{path} cannot be read: permission denied") from None
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        why = " ".join(str(error).split())
        why = "it holds pickled objects, or is no .npz" if "pickle" in why else why
        raise BadValue(f"{path} cannot be read as a data set: {why}") from None
    try:
        log = _cut(_checked(log, metadata, domain), cut[1:])
    except BadValue as error:
        raise BadValue(f"{path} {error}") from None
    if domain.measurable and (made_in := metadata.get("domain", str(domain))) != str(domain):
        notes += (f"this log was made in {made_in}, the target is {domain}",)
    for column in log:
        column.flags.writeable = False  # one log is shared by all who ask for it
    return DataSet(text, log, metadata, notes)


def _read_npz(path: Path, domain: Domain) -> tuple[Log, dict[str, Any], tuple[str, ...]]:
    loaded = np.load(path, allow_pickle=False)
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise BadValue("is one array, not an .npz of several")
    with loaded as file:
        held = {
            field: next((n for n in names if n in file.files), None)
            for field, names in COLUMN_NAMES.items()
        }
        for field in ("obs", "action", "reward"):
            if not held[field]:
                raise BadValue(
                    f"has no {COLUMN_NAMES[field][0]}; it holds: "
                    f"{', '.join(file.files) or 'nothing'}"
                )
        arrays = {field: _numbers(file[name], name) for field, name in held.items() if name}
        metadata = _json(str(file["metadata"]), "metadata") if "metadata" in file.files else {}
    size = len(arrays["reward"])
    for field, array in arrays.items():
        if len(array) != size:
            raise BadValue(
                f"has {len(array)} {held[field]} and {size} {held['reward']}: they need equal "
                "lengths"
            )
    if not size:
        raise BadValue("holds no transition")
    obs, following = arrays["obs"], arrays.get("next_obs")
    if following is not None and following.shape != obs.shape:
        raise BadValue(
            f"has next_observations of shape {following.shape} and observations of {obs.shape}"
        )
    flags = {field: _flag(array, str(held[field])) for field, array in arrays.items()
             if field in ("terminated", "truncated", "done")}  # fmt: skip
    dead, over = _ends(flags, following is not None)
    notes = (note_no_terminals(str(held["truncated"])),) if flags.keys() == {"truncated"} else ()
    reward = _column(arrays["reward"], str(held["reward"]))
    rows = LogRows(
        obs, arrays["action"], reward, obs if following is None else following, dead, over
    )
    log, found = _unfollowed(rows, domain) if following is None else _followed(rows, domain)
    return log, metadata, (*found, *notes)


def _unfollowed(rows: LogRows, domain: Domain) -> tuple[Log, tuple[str, ...]]:
    """The log of rows without next observations, and what was left out."""
    starts = StartBox.of(domain)
    mended = add_next_obs(rows, domain, starts)
    log = close_episodes(Log(*mended.rows, mended.episode))
    return log, (*mended.notes, *_doubts(log, domain, starts))


def _followed(rows: LogRows, domain: Domain) -> tuple[Log, tuple[str, ...]]:
    """The log of rows with next observations, and what was left out."""
    starts = StartBox.of(domain)
    rows, sorted_notes = sort_worlds(rows)
    mended = drop_resets(rows, starts)
    rows, size = mended.rows, len(mended.rows.reward)
    # Also where nothing says so, an episode ends where the next row begins elsewhere, by more than
    # rounding.
    broken = np.append(~are_close(rows.next_obs[:-1], rows.obs[1:]), True)[:size]
    ends = rows.ended | broken | np.append(mended.begins[1:], True)[:size]
    notes = (*sorted_notes, *mended.notes)
    if (~rows.ended & ends)[:-1].sum() > size / 2:
        notes += (
            "most rows begin elsewhere than the one before ended, by more than 1e-5 of it: single "
            "transitions, "
            "whose returns say nothing",
        )
    log = close_episodes(Log(*rows, episode=np.append(0, np.cumsum(ends)[:-1])[:size]))
    return log, (*notes, *_doubts(log, domain, starts))


def _doubts(log: Log, domain: Domain, starts: StartBox) -> tuple[str, ...]:
    """What looks wrong in a log and is left as it is."""
    if not log.size:
        return ()
    rows = LogRows(*log[:6])
    return (*note_overlong(log.lengths, domain), *note_unmarked_starts(rows, starts))


def _ends(flags: dict[str, np.ndarray], followed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Death and time limit apart, bool [B]."""
    dead, over, done = (flags.get(name) for name in ("terminated", "truncated", "done"))
    if done is not None and over is not None and dead is None:
        dead = done & ~over
    if done is not None and dead is not None and over is None:
        over = done & ~dead
    if dead is None and over is None:
        if done is not None:
            raise BadValue(
                "has dones alone, which do not tell death from a time limit; give terminals and "
                "timeouts"
            )
        raise BadValue("does not say where episodes end; give terminals and timeouts")
    if over is None and not followed:
        raise BadValue(
            "has neither timeouts nor next_observations: transitions would reach across episodes; "
            "give one"
        )
    return np.zeros_like(over) if dead is None else dead, np.zeros_like(
        dead
    ) if over is None else over


def _read_minari(path: Path, domain: Domain) -> tuple[Log, dict[str, Any], tuple[str, ...]]:
    import h5py

    folder = next((p for p in (path / "data", path) if p.is_dir()), path.parent)
    named = (
        path.name == MAIN or not path.is_file()
    )  # another file is not the data set that lies beside it
    metadata = (
        _json((folder / METADATA).read_bytes(), METADATA) if (folder / METADATA).exists() else {}
    )
    _check_storage(metadata)
    if not named or not (folder / MAIN).exists():
        if path.suffix in (".hdf5", ".h5"):
            raise BadValue(
                "is not read as it is; of D4RL's, take the robot's data set from Minari (minari "
                "download "
                "mujoco/hopper/medium-v0), or make it an .npz as docs/datasets.md says under "
                "D4RL's files"
            )
        raise BadValue(
            f"is no data set: neither an .npz nor a folder of Minari's, which has data/{MAIN}"
        )
    keys = ("observations", "actions", "rewards", "terminations", "truncations")
    episodes, steps_held, lost, falls = [], 0, 0, 0
    with h5py.File(folder / MAIN, "r") as file:
        for number in sorted(int(name[8:]) for name in file if re.fullmatch(r"episode_\d+", name)):
            group: Any = file[f"episode_{number}"]
            for key in keys:
                if key not in group or not isinstance(group[key], h5py.Dataset):
                    raise BadValue(
                        f"has no plain array {key} in episode {number}: only boxes of floats are "
                        "read"
                    )
            names = [f"{key} of episode {number}" for key in keys]
            obs, action, reward, *ends = (
                _numbers(group[key][()], name) for key, name in zip(keys, names)
            )
            steps, reward, (dead, over) = (
                len(action),
                _column(reward, names[2]),
                map(_flag, ends, names[3:]),
            )
            if not len(reward) == len(dead) == len(over) == steps or len(obs) not in (
                steps,
                steps + 1,
            ):
                lengths = ", ".join(
                    f"{len(x)} {key}" for x, key in zip((obs, action, reward, dead, over), keys)
                )
                raise BadValue(
                    f"has unequal lengths in episode {number}: {lengths}; n steps need n + 1 "
                    "observations"
                )
            if (dead | over)[:-1].any():
                raise BadValue(
                    f"has an end in the middle of episode {number}: each episode needs a group of "
                    "its own"
                )
            steps_held += steps
            if (
                len(obs) == steps and steps
            ):  # without its last observation the last transition has no next state
                lost, falls, steps = lost + 1, falls + int(dead[-1]), steps - 1
            if steps:
                columns = (
                    obs[:steps],
                    action[:steps],
                    reward[:steps],
                    obs[1:],
                    dead[:steps],
                    over[:steps],
                )
                episodes.append(Log(*columns, np.full(steps, len(episodes))))
    if not episodes:
        raise BadValue("holds no transition")
    ours = metadata["isthmus"] if isinstance(metadata.get("isthmus"), dict) else metadata
    whole = close_episodes(Log(*(np.concatenate(column) for column in zip(*episodes))))
    log, found = _without_resets(whole, domain)
    return log, ours, (*_note_missing_steps(metadata, steps_held), *note_lost(lost, falls), *found)


def _check_storage(metadata: dict[str, Any]) -> None:
    """Raise BadValue where Minari's storage is one that it does not read back as it was written."""
    storage = metadata.get("data_format", "hdf5")
    if storage in ("arrow", "parquet"):
        raise BadValue(
            f"is in Minari's format {storage}, of which episodes of 32,768 steps or more come back "
            "in pieces and "
            "appending replaces what was there; only hdf5 is read: collect with data_format='hdf5'"
        )
    if storage != "hdf5":
        raise BadValue(f"is in Minari's format {storage}; only its hdf5 is read")


def _note_missing_steps(metadata: dict[str, Any], held: int) -> tuple[str, ...]:
    """Say where a Minari file holds other than its own count of steps: appending or a crash may
    have lost some.
    """
    counted = metadata.get("total_steps")
    if not isinstance(counted, int | float) or int(counted) == held:
        return ()
    return (
        f"the file counts {int(counted):,} steps and holds {held:,}: what is not there is not read",
    )


def _without_resets(log: Log, domain: Domain) -> tuple[Log, tuple[str, ...]]:
    """A log of whole episodes without what autoreset put into it, and what was left out."""
    starts = StartBox.of(domain)
    mended = drop_resets(LogRows(*log[:6]), starts, np.diff(log.episode, prepend=-1) != 0)
    log = close_episodes(Log(*mended.rows, mended.episode))
    return log, (*mended.notes, *_doubts(log, domain, starts))


def note_no_terminals(name: str) -> str:
    return f"{name} without terminals: no transition counts as a fall; give terminals if the robot can fall"


def _json(text: str | bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadValue(f"has {name} that is no JSON: {error}") from None
    return found if isinstance(found, dict) else {}


def _numbers(array: Any, name: str) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise BadValue(f"has no numbers in {name}, but {array.dtype}")
    if not array.ndim:
        raise BadValue(f"has a single number in {name}, not one a transition")
    return array


def _column(array: np.ndarray, name: str) -> np.ndarray:
    """One number a transition, [B]."""
    if array.shape not in ((len(array),), (len(array), 1)):
        raise BadValue(
            f"has {name} of shape {array.shape}: needs one number a transition, (n,) or (n, 1); of "
            "N worlds in turn, "
            "reshape each array from [T, N, ...] to [T * N, ...]: array.reshape(-1, "
            "*array.shape[2:])"
        )
    return array.reshape(len(array))


def _flag(array: np.ndarray, name: str) -> np.ndarray:
    """An end's flag, bool [B]."""
    return _finite(_column(array, name), name) != 0


def _finite(array: np.ndarray, name: str) -> np.ndarray:
    bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    if bad.any():
        raise BadValue(
            f"has {bad.sum()} {name} that are NaN or infinite, the first at transition "
            f"{bad.argmax()}"
        )
    return array


def _small(array: np.ndarray, name: str) -> None:
    bad = (np.abs(array.astype(np.float64)) > MAX_NUMBER).any(axis=tuple(range(1, array.ndim)))
    if bad.any():
        raise BadValue(
            f"has {bad.sum()} {name} beyond {MAX_NUMBER:g} in size, the first at transition "
            f"{bad.argmax()}, which no "
            "network learns from; check their units"
        )


def close_episodes(log: Log) -> Log:
    """The log, with the last row of each episode at an end, and no row at two."""
    last = np.append(log.episode[1:] != log.episode[:-1], True)[: log.size]
    return log._replace(truncated=(log.truncated | last) & ~log.terminated)


def _checked(log: Log, metadata: dict[str, Any], domain: Domain) -> Log:
    """The log in our types. Raises BadValue where it cannot be that of the domain."""
    if not log.size:
        raise BadValue("holds no transition")
    spaces = domain.spaces
    theirs, ours = find_robot(origin(metadata)), find_robot(str(domain))
    if log.obs.ndim != 2 or log.action.ndim != 2:
        raise BadValue(
            f"has observations {log.obs.shape} and actions {log.action.shape}; each needs rows and "
            "columns"
        )
    sizes = log.obs.shape[1], log.action.shape[1]
    if sizes != (spaces.observation, spaces.action) or (theirs and ours and theirs != ours):
        whose = (
            "was sensed or moved otherwise"
            if theirs and theirs == ours
            else "is another robot's log"
        )
        made = f"{theirs or 'one'} of {sizes[0]} observations and {sizes[1]} actions"
        raise BadValue(f"{whose}: {made}; {domain} has {spaces.observation} and {spaces.action}")
    for name, x in zip(
        ("observations", "actions", "rewards", "next observations"), log[:4], strict=True
    ):
        _small(_finite(x, name), name)
    obs, action, reward, following = (np.asarray(x, np.float32) for x in log[:4])
    slack = ROUNDING_SHARE * (spaces.high - spaces.low)
    beyond = ((action < spaces.low - slack) | (action > spaces.high + slack)).any(1)
    if beyond.any():
        low, high = spaces.low.min(), spaces.high.max()
        raise BadValue(
            f"has {beyond.sum()} of {log.size} actions outside the bounds {low:g}..{high:g} of "
            f"{domain}, the first at "
            f"transition {beyond.argmax()}; write what the motors were given"
        )
    action = np.clip(action, spaces.low, spaces.high)
    return Log(
        obs, action, reward, following, log.terminated, log.truncated, log.episode.astype(np.int64)
    )


def _cut(log: Log, cut: str) -> Log:
    if not cut:
        return log
    number = re.match(r"\d+", cut)
    assert number
    count, whole = int(number[0]), number[0] != cut
    held = log.episodes if whole else log.size
    if not 1 <= count <= held:
        raise BadValue(
            f"holds {held:,} {'episodes' if whole else 'transitions'}; {count:,} were asked for"
        )
    return log.first(int(log.lengths[:count].sum()) if whole else count)


def origin(metadata: dict[str, Any]) -> str:
    """The domain or environment that a data set says it is of; empty where it says nothing."""
    if isinstance(domain := metadata.get("domain"), str):
        return domain
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        spec = json.loads(metadata["env_spec"])
        return str(spec["kwargs"].get("domain") or spec["id"])
    return ""


# Make


class Deterministic(NamedTuple):
    """What collects as it is deployed, without exploring."""

    policy: Any

    def memory(self) -> Any:
        return self.policy.memory()

    def act(self, memory: Any, observation: Any, key: Any) -> tuple[Decision, Any]:
        action, memory = self.policy.act(memory, observation)
        return Decision(action), memory


def record_log(
    domain: Domain,
    behaviour: Any,
    steps: int,
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> Log:
    """The log of one world under `behaviour`: so many transitions, the last episode cut where they
    end.

    `on_step(done)` is called between parts. Ctrl-C ends the log early: what a robot did is not
    thrown away, but for the part under way.
    """
    if steps < 1:
        raise BadValue(f"steps={steps}: needs a whole number above 0")
    parts, worlds, done = [], domain.worlds(1, seed), 0
    part = CHUNK_STEPS if domain.replayable else LIVE_CHUNK_STEPS
    try:
        while done < steps:
            worlds, tr = rollout_steps(domain, worlds, behaviour, min(part, steps - done))
            parts.append(tr)
            done += len(tr.reward)
            if on_step:
                on_step(done)
    except KeyboardInterrupt:
        if not parts:
            raise
    fields = ("obs", "action", "reward", "next_obs", "terminated", "truncated")
    columns = {
        name: np.concatenate([getattr(part, name)[:, 0] for part in parts]) for name in fields
    }
    ends = columns["terminated"] | columns["truncated"]
    return close_episodes(
        Log(**columns, episode=np.append(0, np.cumsum(ends)[:-1]).astype(np.int64))
    )


def check_path_is_free(path: Path) -> None:
    """Raises BadValue where no log can be written to a path: to be called before one is made."""
    if cut := _split(path.name)[1]:
        raise BadValue(
            f"{path} ends in {cut}, which --data reads as a cut; name another with --out"
        )
    if _exists(path):
        raise BadValue(f"{path} is there already; name another with --out, or remove it")


def write_log(path: Path, log: Log, metadata: dict[str, Any], domain: Domain) -> None:
    """Write a log as `.npz`, or else as a Minari data set, whole or not at all.

    Raises BadValue where something is there already, or the disk refuses.
    """
    check_path_is_free(path)
    part = path.absolute().with_name(
        path.name + ".part"
    )  # Minari's own size is wrong of a relative one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            with part.open("wb") as file:
                arrays = {
                    names[0]: getattr(log, field)
                    for field, names in COLUMN_NAMES.items()
                    if field != "done"
                }
                np.savez(
                    file, allow_pickle=False, metadata=np.array(json.dumps(metadata)), **arrays
                )
        else:
            shutil.rmtree(part, ignore_errors=True)
            _write_minari(part, path.name, log, metadata, domain)
        os.replace(part, path)
    except OSError as error:
        raise BadValue(f"cannot write {path}: {error.strerror or error}") from None


def _write_minari(
    folder: Path, name: str, log: Log, metadata: dict[str, Any], domain: Domain
) -> None:
    from gymnasium.spaces import Box
    from minari import __version__
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    (folder / "data").mkdir(parents=True)
    spaces = domain.spaces
    observed = Box(-np.inf, np.inf, (spaces.observation,), np.float32)
    storage = MinariStorage.new(
        folder / "data", observed, Box(spaces.low, spaces.high, dtype=np.float32)
    )
    ends = np.cumsum(log.lengths)
    episodes = [
        EpisodeBuffer(
            observations=np.concatenate([log.obs[rows], log.next_obs[rows][-1:]]),  # pyright: ignore
            actions=log.action[rows],  # pyright: ignore
            rewards=log.reward[rows],  # pyright: ignore
            terminations=log.terminated[rows],  # pyright: ignore
            truncations=log.truncated[rows],  # pyright: ignore
        )
        for rows in (slice(end - length, end) for end, length in zip(ends, log.lengths))
    ]
    storage.update_episodes(episodes)
    slug = re.sub(r"[^-\w]", "_", name)
    named = slug if re.search(r"-v\d+$", slug) else f"{slug}-v0"
    storage.update_metadata(
        {"dataset_id": named, "minari_version": __version__, "isthmus": metadata}
    )
