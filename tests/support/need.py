"""Skip a test that can't run, naming what is missing; under PYPWRU_TESTS=all, fail it."""

from __future__ import annotations

import os

import pytest


def need(condition: object, missing: str) -> None:
    """Skip the test unless ``condition``; fail it under ``PYPWRU_TESTS=all``."""
    if condition:
        return
    if os.environ.get("PYPWRU_TESTS") == "all":
        pytest.fail(f"PYPWRU_TESTS=all, and missing: {missing}")
    pytest.skip(f"missing: {missing}")


def is_full_tier() -> bool:
    """Return whether this is the full tier: ``PYPWRU_TIER=full``."""
    return os.environ.get("PYPWRU_TIER") == "full"
