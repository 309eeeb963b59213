"""Text that a terminal's encoding lacks, written in ASCII instead of ending in an error."""

from __future__ import annotations

import codecs
import sys
import unicodedata
from typing import Any

HANDLER = "isthmus.ascii"

ASCII = {
    "−": "-", "–": "-", "—": "-", "±": "+-", "×": "x", "·": "*", "→": "->", "←": "<-",
    "≤": "<=", "≥": ">=", "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"',
    "α": "alpha", "β": "beta", "γ": "gamma", "ε": "epsilon", "λ": "lambda",
    "μ": "mu", "π": "pi", "σ": "sigma", "τ": "tau",
    "─": "-", "━": "-", "│": "|", "┃": "|", "╭": "+", "╮": "+", "╰": "+", "╯": "+",
    "├": "+", "┤": "+", "•": "*",
}  # fmt: skip
"""Signs that have a usual spelling in ASCII."""


def spell(text: str) -> str:
    """Return a text in ASCII.

    Signs by their usual spelling, letters without their accents, anything else as `?`.
    """
    spelled = []
    for character in text:
        plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
        spelled.append(ASCII.get(character, plain or "?"))
    return "".join(spelled)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return the first character that cannot be written in ASCII, and where to go on.

    An error handler of `codecs`.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        # A byte of a file's name, which was no text to the locale.
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return spell(character), error.start + 1


def accept_any_text() -> None:
    """Let standard output and standard error take any text, whatever their encoding."""
    codecs.register_error(HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        encoding = getattr(stream, "encoding", None) or ""
        if reconfigure and not encoding.lower().replace("-", "").startswith("utf"):
            reconfigure(errors=HANDLER)
