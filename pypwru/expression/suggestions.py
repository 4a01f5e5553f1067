"""The name that was meant, perhaps."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """``; did you mean X?`` for the one of ``names`` that looks most like ``name``, or ''."""
    close = get_close_matches(name, list(names), 1)
    return f"; did you mean {close[0]}?" if close else ""
