"""The name that was meant, perhaps."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """The one of ``names`` that looks most like ``name``, or ''.

    Args:
        cutoff: how much of it has to be alike, 0 to 1.
    """
    return next(iter(get_close_matches(name, list(names), 1, cutoff)), "")


def did_you_mean(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean X?`` for the nearest, or ''; arguments as of ``nearest``."""
    meant = nearest(name, names, cutoff)
    return f"; did you mean {meant}?" if meant else ""
