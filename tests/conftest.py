"""Settings of all tests: they depend neither on how they are started, nor on the machine's
speed.
"""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

# Shared machines are slow at times: hypothesis measures no time.
settings.register_profile(
    "pypwru", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("pypwru")

# `make check &` in a script: a shell starts background jobs with SIGINT ignored, which all children
# of the tests would inherit. Tests send it, and wait for its effect.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Seconds after which a test fails as hung, by its mark; setup.cfg has those of other tests. The
# lab's tests wait for guests, which boots.py limits.
_LIMITS = {"lab": 0, "full": 3600}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the limits of ``_LIMITS``."""
    for item in items:
        limits = [limit for mark, limit in _LIMITS.items() if item.get_closest_marker(mark)]
        if limits and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(limits[0]))
