"""Settings of all tests: they depend neither on how they are started, nor on the machine's
speed.
"""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.support.need import is_full_tier

# Shared machines are slow at times: hypothesis measures no time.
settings.register_profile(
    "pypwru", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("pypwru")

# `make check &` in a script: a shell starts background jobs with SIGINT ignored, which all children
# of the tests would inherit. Tests send it, and wait for its effect.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Seconds after which a test fails as hung in the full tier, where tests may do more of the same;
# setup.cfg has those of the quick tier. The lab's tests wait for guests, which boots.py limits.
_FULL_LIMIT = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the limits of tests that have none of their own."""
    for item in items:
        is_lab = item.get_closest_marker("lab") is not None
        if (is_lab or is_full_tier()) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(0 if is_lab else _FULL_LIMIT))
