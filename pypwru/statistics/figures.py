"""Numbers as somebody reads them who is in a hurry."""

from __future__ import annotations

_ROUNDED_UP = 0.9995  # of a unit: three digits of it are 1.00, and not 1,000 of the smaller one
_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"))


def grouped(number: int) -> str:
    """``1,234,567``."""
    return f"{number:,}"


def duration(nanoseconds: int) -> str:
    """Three digits and a unit: ``812 ns``, ``12.3 us``, ``4.56 ms``, ``1,200 s``."""
    for size, unit in _UNITS:
        if nanoseconds >= _ROUNDED_UP * size:
            return f"{_three(nanoseconds / size)} {unit}"
    return f"{nanoseconds} ns"


def rate(number: float) -> str:
    """Of something in a second, or in a hundred: three digits, or all before the point."""
    return _three(number)


def _three(number: float) -> str:
    places = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:,.{places}f}"
