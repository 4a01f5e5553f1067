"""Settings of all tests: they depend neither on how they are started, nor on the machine's
speed.
"""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# Shared machines are slow at times: hypothesis measures no time.
settings.register_profile(
    "pypwru", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("pypwru")

# `make check &` in a script: a shell starts background jobs with SIGINT ignored, which all children
# of the tests would inherit. Tests send it, and wait for its effect.
signal.signal(signal.SIGINT, signal.default_int_handler)
