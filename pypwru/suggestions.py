"""The name that was meant, perhaps."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def did_you_mean(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean X?`` for the one of ``names`` that looks most like ``name``, or ''.

    Args:
        cutoff: how much of it has to be alike, 0 to 1.
    """
    close = get_close_matches(name, list(names), 1, cutoff)
    return f"; did you mean {close[0]}?" if close else ""
