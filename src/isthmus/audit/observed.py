"""What a policy observes in a domain, by name."""

from __future__ import annotations

from isthmus.domains.domain import Domain
from isthmus.domains.sensing import History, PreviousAction


def list_observed(domain: Domain) -> list[str]:
    """Return the names of the numbers that a policy observes, O of them."""
    names = list(domain.description().observation_names)
    for effect in domain.effects:
        if isinstance(effect, History):
            names = _repeat_names(names, int(effect.value))
        elif isinstance(effect, PreviousAction) and effect.value:
            names += [f"previous action {i}" for i in range(domain.spaces.action)]
    return names


def _repeat_names(names: list[str], count: int) -> list[str]:
    """Return the names of so many observations side by side, the newest last."""
    repeated = []
    for age in range(count - 1, 0, -1):
        repeated += [f"{name}, {age} before" for name in names]
    return repeated + names
