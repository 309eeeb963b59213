"""Numbers as people read them."""

from __future__ import annotations


def format_number(x: float) -> str:
    """Return three to four digits that mean something, with a true minus sign."""
    size = abs(x)
    if size >= 100:
        text = f"{x:,.0f}"
    elif size >= 10:
        text = f"{x:.1f}"
    else:
        text = f"{x:.2f}"
    return text.replace("-", "−")


def format_change(x: float) -> str:
    """Return a number with its sign, whichever it is; none before zero."""
    if x > 0:
        return f"+{format_number(x)}"
    return format_number(x)


def format_count(x: float) -> str:
    """Return steps as an axis shows them: 300k, 1.5M."""
    if abs(x) >= 1e6:
        return f"{x / 1e6:g}M"
    if abs(x) >= 1e3:
        return f"{x / 1e3:g}k"
    return f"{x:g}"


def format_whole(x: float) -> str:
    """Return a whole number with commas."""
    return f"{x:,.0f}"
