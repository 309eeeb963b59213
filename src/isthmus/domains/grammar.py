"""The grammar of a domain's text, as far as every domain shares it: `name=value,...`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.domains.effects import EFFECTS
from isthmus.types import BadValue, decode_text

MAX_EPISODES_PER_TASK = 1000


def is_common_setting(name: str) -> bool:
    """Return whether every domain has a setting of that name: episodes_per_task, or an effect."""
    return name == "episodes_per_task" or name in tuple(EFFECTS)


def read_pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the names and values of `name=value,...`. Raises BadValue."""
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
