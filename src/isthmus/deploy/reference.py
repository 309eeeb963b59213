"""A policy's own numbers: a rollout that an export takes along, and states around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from isthmus.evaluation.evaluate import SEED
from isthmus.logs.read import UNREADABLE_ERRORS
from isthmus.types import BadValue, Worlds

if TYPE_CHECKING:
    from isthmus.domains.domain import Domain

REFERENCE_FILE = "reference.npz"
REFERENCE_STEPS = 200
REFERENCE_WORLDS = 16
STATE_SEQUENCES, SEQUENCE_STEPS = 500, 20  # 10,000 states, each with a memory of those before
STATE_SPREAD = 0.1  # of an observation's standard deviation in the rollout
COLUMNS = ("observations", "actions", "terminals", "timeouts", "task_begins")


REFERENCE_SEED = SEED + 2


class Reference(NamedTuple):
    """A rollout: what the model is given, and what the policy answered."""

    observations: np.ndarray  # float32 [T, O]
    actions: np.ndarray  # float32 [T, A]
    terminals: np.ndarray  # bool [T] the robot fell
    timeouts: np.ndarray  # bool [T] the episode was cut
    task_begins: np.ndarray  # bool [T] memories of a task begin anew

    @property
    def episode_begins(self) -> np.ndarray:
        """Return where memories of an episode begin anew, bool [T]."""
        ends = self.terminals | self.timeouts
        return np.append(True, ends[:-1]) | self.task_begins


class Model(Protocol):
    """What replays: a model in onnxruntime."""

    def initial_memory(self) -> tuple[np.ndarray, ...]:
        """Return what one robot remembers at first."""
        ...

    def act(
        self, memory: tuple[np.ndarray, ...], observations: np.ndarray
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Return actions [N, A], and the memory [N, ...]."""
        ...


def begin_reference(domain: Domain, n: int) -> Worlds:
    """Return n worlds, of which the first is the one that the reference is of."""
    return domain.worlds(n, REFERENCE_SEED)


def read_reference(path: Path) -> Reference:
    """Read reference.npz. Raises BadValue, in one line; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = [file[name] for name in COLUMNS]
    except FileNotFoundError:
        raise BadValue(f"{path} is missing: isthmus export writes it beside the model") from None
    except UNREADABLE_ERRORS:
        raise BadValue(f"{path} is no reference.npz, or damaged; export again") from None
    reference = Reference(*columns)
    if len({len(column) for column in reference}) != 1 or not len(reference.actions):
        raise BadValue(f"{path} is damaged: its columns differ in length")
    return reference


def replay(
    model: Model,
    observations: np.ndarray,
    episode_begins: np.ndarray,
    task_begins: np.ndarray,
    resets: list[str],
) -> np.ndarray:
    """Return a model's actions [T, A] for one robot's observations [T, O].

    `resets` says of each of its memories whether an episode or a task begins it anew.
    """
    initial = [part[None] for part in model.initial_memory()]
    memory, actions = list(initial), []
    for t in range(len(observations)):
        begins = {"episode": episode_begins[t], "task": task_begins[t]}
        for i, reset in enumerate(resets):
            if begins[reset]:
                memory[i] = initial[i]
        action, after = model.act(tuple(memory), observations[t : t + 1])
        memory = list(after)
        actions.append(action[0])
    return np.stack(actions)


def draw_sequences(observations: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return sequences of states around those of a rollout [T, N, O]: float32 [20, 500, O]."""
    random = np.random.default_rng(seed)
    steps, worlds, _ = observations.shape
    length = min(SEQUENCE_STEPS, steps)
    start = random.integers(0, steps - length + 1, STATE_SEQUENCES)
    world = random.integers(0, worlds, STATE_SEQUENCES)
    sequences = np.stack([observations[start + t, world] for t in range(length)])
    spread = STATE_SPREAD * observations.std((0, 1))
    noise = random.standard_normal(sequences.shape) * spread
    return (sequences + noise).astype(np.float32)


def worst_difference(policy: Any, model: Model, sequences: np.ndarray) -> float:
    """Return the largest difference of actions [N, A] between a policy in JAX and its model.

    Each goes through the sequences [T, N, O] with its own memory. NaN counts as infinite.
    """
    n, worst = sequences.shape[1], 0.0
    memory = tuple(np.repeat(part[None], n, axis=0) for part in model.initial_memory())
    for t, observations in enumerate(sequences):
        expected = policy.act(observations, new_episode=t == 0, new_task=t == 0)
        actions, memory = model.act(memory, observations)
        difference = np.abs(expected.astype(np.float64) - actions).max()
        worst = max(worst, float(np.nan_to_num(difference, nan=np.inf)))
    return worst
