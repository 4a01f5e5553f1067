"""Format numbers, durations and rates with few digits."""

from __future__ import annotations

_ROUND_UP_FROM = 0.9995  # from here on a unit is used: "1.00 ms", not "1,000 us"
_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"))


def format_count(number: int) -> str:
    """Return a number with separators: ``1,234,567``."""
    return f"{number:,}"


def format_duration(nanoseconds: int) -> str:
    """Return three digits and a unit: ``812 ns``, ``12.3 us``, ``4.56 ms``, ``1,200 s``."""
    for size, unit in _UNITS:
        if nanoseconds >= _ROUND_UP_FROM * size:
            return f"{_three_digits(nanoseconds / size)} {unit}"
    return f"{nanoseconds} ns"


def format_rate(number: float) -> str:
    """Return a rate with three digits, or all digits before the point if there are more."""
    return _three_digits(number)


def _three_digits(number: float) -> str:
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:,.{decimals}f}"
