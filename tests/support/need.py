"""A test that can't run here says what is missing; under PYPWRU_TESTS=all that is a failure."""

from __future__ import annotations

import os

import pytest


def need(condition: object, missing: str) -> None:
    """Skip the test unless ``condition``; fail it where CI asks for all."""
    if condition:
        return
    if os.environ.get("PYPWRU_TESTS") == "all":
        pytest.fail(f"PYPWRU_TESTS=all, and missing: {missing}")
    pytest.skip(f"missing: {missing}")


def is_full_tier() -> bool:
    """Whether what takes minutes runs, too: ``PYPWRU_TIER=full``."""
    return os.environ.get("PYPWRU_TIER") == "full"
