"""What all tests share: hypothesis measures no time, since these machines are shared and slow."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "pypwru", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("pypwru")
