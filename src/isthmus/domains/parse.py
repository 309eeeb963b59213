"""The one door for texts of domains: `half_cheetah/gravity=x2`, `gym:ID`, `log:DOMAIN`."""

from __future__ import annotations

from isthmus.domains.domain import Domain, RobotDomain
from isthmus.domains.foreign import ForeignDomain
from isthmus.domains.logged import LoggedDomain
from isthmus.types import decode_text

LOG_PREFIX = "log:"


def parse_domain(text: str, trusted: bool = True) -> Domain:
    """Read a domain's text.

    That is `task/name=setting,...`; somebody else's environment (`gym:ID`, `module:function`); or
    `log:` and a domain: a target known only by its log, of that domain's spaces. A text that the
    user did not give (a run folder's) is not `trusted`: it imports no module of its own. Raises
    UnknownName or BadValue, in one line.
    """
    text = decode_text(text)
    if text.startswith(LOG_PREFIX):
        return LoggedDomain.of(parse_domain(text.removeprefix(LOG_PREFIX), trusted))
    if ":" in text.partition("/")[0]:
        return ForeignDomain.read(text, trusted)
    return RobotDomain.read(text)


def as_domain(domain: Domain | str) -> Domain:
    """Return a domain, or what its text says. Raises UnknownName or BadValue."""
    return parse_domain(domain) if isinstance(domain, str) else domain
