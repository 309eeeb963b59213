"""The grammar of a domain's text, as far as every domain shares it: `name=value,...`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.domains.effects import EFFECTS
from isthmus.physics.numerics import NUMERICS
from isthmus.types import BadValue, decode_text

MAX_EPISODES_PER_TASK = 1000


def is_common_setting(name: str) -> bool:
    """Return whether every domain has a setting of that name: episodes_per_task, or an effect."""
    return name == "episodes_per_task" or name in tuple(EFFECTS)


def read_pairs(text: str) -> list[tuple[str, str]]:
    """Return the names and values of `name=value,...`, in the order in which they are to be read.

    Raises BadValue.
    """
    return sorted(_split_pairs(text), key=_rank_pair)


def _split_pairs(text: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, re.split(r"[,\s]+", decode_text(text))):
        name, _, value = part.partition("=")
        if not name or not value:
            raise BadValue(f"{part!r} is no setting; write name=value, for instance gravity=x2")
        yield name, value


def read_episodes(value: str) -> int:
    """Read the right side of `episodes_per_task=...`. Raises BadValue."""
    if not value.isdigit() or not 1 <= int(value) <= MAX_EPISODES_PER_TASK:
        raise BadValue(
            f"episodes_per_task={value}: needs a whole number in 1..{MAX_EPISODES_PER_TASK}"
        )
    return int(value)


def _rank_pair(pair: tuple[str, str]) -> int:
    """Return the place of a setting: the engine says which parameters there are, numerics into
    which parts a delay may cut a step.
    """
    return 0 if pair[0] == "engine" else 1 + (pair[0] not in NUMERICS)
