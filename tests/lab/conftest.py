"""Begins the lab's boots (boots.py) with its first test, where all tests are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab import boots


@pytest.fixture(scope="session", autouse=True)
def begin_boots(request: pytest.FixtureRequest) -> Iterator[None]:
    if os.environ.get("PYPWRU_TESTS") == "all":
        modules = dict.fromkeys(getattr(item, "module", None) for item in request.session.items)
        wanted = [boot for module in modules for boot in getattr(module, "BOOTS", ())]
        for boot in sorted(wanted, key=lambda boot: -boot.minutes):
            boot.begin()
    yield
    boots.end()
