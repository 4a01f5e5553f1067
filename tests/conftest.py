"""What all tests share: they don't depend on how they are started, nor on how fast it is here."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# Shared machines are slow at times: hypothesis measures no time.
settings.register_profile(
    "pypwru", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("pypwru")

# `make check &` in a script: a shell has what it starts in the background ignore SIGINT, and so
# would all children of the tests. Tests send it, and wait for what comes of it.
signal.signal(signal.SIGINT, signal.default_int_handler)
