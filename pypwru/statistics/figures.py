"""Format numbers, durations and rates with few digits."""

from __future__ import annotations

_ROUNDED_UP = 0.9995  # from here on a unit is used: "1.00 ms", not "1,000 us"
_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"))


def grouped(number: int) -> str:
    """Return a number with separators: ``1,234,567``."""
    return f"{number:,}"


def duration(nanoseconds: int) -> str:
    """Return three digits and a unit: ``812 ns``, ``12.3 us``, ``4.56 ms``, ``1,200 s``."""
    for size, unit in _UNITS:
        if nanoseconds >= _ROUNDED_UP * size:
            return f"{_three(nanoseconds / size)} {unit}"
    return f"{nanoseconds} ns"


def rate(number: float) -> str:
    """Return a rate with three digits, or all digits before the point if there are more."""
    return _three(number)


def _three(number: float) -> str:
    places = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:,.{places}f}"
