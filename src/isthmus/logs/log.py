"""A log: the transitions by which training knows a target that it may not step."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

UNKNOWN_REWARDS = "unknown"
"""What the metadata says under `rewards` where a log has none: they are then NaN throughout."""


class Log(NamedTuple):
    """Transitions in the order in which they were made, one a row.

    `next_obs` is always the true next state. `terminated` is death; `truncated` is every other end
    of an episode: a time limit, or the place where the log was cut. The last row of each episode is
    one or the other.
    """

    obs: np.ndarray  # float32 [B, O]
    action: np.ndarray  # float32 [B, A]
    reward: np.ndarray  # float32 [B] the target's own; NaN throughout where nobody knows them
    next_obs: np.ndarray  # float32 [B, O]
    terminated: np.ndarray  # bool [B]
    truncated: np.ndarray  # bool [B]
    episode: np.ndarray  # int64 [B], from 0 on

    @property
    def size(self) -> int:
        """Return the number of transitions."""
        return len(self.reward)

    @property
    def episodes(self) -> int:
        """Return the number of episodes."""
        return int(self.episode[-1]) + 1

    @property
    def lengths(self) -> np.ndarray:
        """Return the transitions of each episode, int64 [E]."""
        return np.bincount(self.episode)

    @property
    def returns(self) -> np.ndarray:
        """Return the sum of each episode's rewards, float64 [E]."""
        return np.bincount(self.episode, weights=self.reward.astype(np.float64))

    @property
    def has_rewards(self) -> bool:
        """Return whether rewards are known."""
        return not np.isnan(self.reward).all()

    def first(self, n: int) -> Log:
        """Return the first n transitions; the last of them ends its episode."""
        return close_episodes(Log(*(column[:n].copy() for column in self)))

    def digest(self) -> str:
        """Return a hash of the content, which does not depend on the kind of file it is in."""
        digest = hashlib.blake2b(digest_size=16)
        for column in self:
            header = f"{column.dtype.str}{column.shape}".encode()
            digest.update(header + np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


class LogFile(NamedTuple):
    """What a file holds: a log not yet checked against the domain, metadata, notes of repairs."""

    log: Log
    metadata: dict[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DataSet:
    """A log, and what its file says of it."""

    text: str  # PATH[:cut]
    log: Log
    metadata: dict[str, Any]  # ours under `isthmus collect`, Minari's own elsewhere, or empty
    notes: tuple[str, ...]  # what was left out, in lines


def close_episodes(log: Log) -> Log:
    """Mark the last row of each episode as an end, and no row as two."""
    last = np.append(log.episode[1:] != log.episode[:-1], True)[: log.size]
    return log._replace(truncated=(log.truncated | last) & ~log.terminated)


def number_episodes(ends: np.ndarray) -> np.ndarray:
    """Return each row's episode, int64 [B], given which rows end one, bool [B]."""
    return np.append(0, np.cumsum(ends)[:-1])[: len(ends)].astype(np.int64)


def find_origin(metadata: dict[str, Any]) -> str:
    """Return the domain or environment that a data set's metadata names, or an empty text."""
    domain = metadata.get("domain")
    if isinstance(domain, str):
        return domain
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        spec = json.loads(metadata["env_spec"])
        return str(spec["kwargs"].get("domain") or spec["id"])
    return ""
