"""Load-time constants of sampling and limits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def sampling_constants(
    *, sample_rate: int, sample_flow: int, rate_limit: int, max_hits: int
) -> Mapping[str, int]:
    """Return name in ``load_time.CONSTANTS`` -> value; the sampling seed is random per call.

    Args:
        sample_rate: trace one of so many matching packets; 1 for all.
        sample_flow: trace one of so many flows; 1 for all.
        rate_limit: maximum events per second; 0 for no limit.
        max_hits: maximum events per second and function; 0 for no limit.
    """
    return {
        "SAMPLE_RATE": sample_rate,
        "SAMPLE_SEED": int.from_bytes(os.urandom(8), "little"),
        "SAMPLE_FLOW": sample_flow,
        "MAX_EVENTS": rate_limit,
        "MAX_HITS": max_hits,
    }
