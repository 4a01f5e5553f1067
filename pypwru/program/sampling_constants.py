"""Load-time constants of sampling and limits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pypwru.config import Config


def sampling_constants(config: Config) -> Mapping[str, int]:
    """Return name in ``load_time.CONSTANTS`` -> value; the sampling seed is random per call."""
    return {
        "SAMPLE_RATE": config.sample_rate,
        "SAMPLE_SEED": int.from_bytes(os.urandom(8), "little"),
        "SAMPLE_FLOW": config.sample_flow,
        "MAX_EVENTS": config.rate_limit,
        "MAX_HITS": config.max_hits,
    }
