"""Suggest the known name that is closest to a mistyped one."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the name in ``names`` that is most similar to ``name``, or ''.

    Args:
        name: as typed.
        names: the candidates.
        cutoff: minimum similarity, 0 to 1 (``difflib.SequenceMatcher.ratio``).
    """
    return next(iter(get_close_matches(name, list(names), 1, cutoff)), "")


def did_you_mean(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ``; did you mean X?`` with the result of ``nearest``, or ''.

    Args:
        name: as typed.
        names: the candidates.
        cutoff: minimum similarity, 0 to 1 (``difflib.SequenceMatcher.ratio``).
    """
    suggestion = nearest(name, names, cutoff)
    return f"; did you mean {suggestion}?" if suggestion else ""
