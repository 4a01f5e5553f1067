"""Begins the lab's boots (boots.py) with its first test, where all tests are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.vm import boots

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """test_vm first: it boots by itself, and so that is while others do, not after them."""
    places = [place for place, item in enumerate(items) if item.path.parent == HERE]
    ours = sorted((items[place] for place in places), key=lambda item: item.path.stem != "test_vm")
    for place, item in zip(places, ours, strict=True):
        items[place] = item


@pytest.fixture(scope="session", autouse=True)
def begin_boots(request: pytest.FixtureRequest) -> Iterator[None]:
    if os.environ.get("PYPWRU_TESTS") == "all":
        modules = dict.fromkeys(getattr(item, "module", None) for item in request.session.items)
        wanted = [boot for module in modules for boot in getattr(module, "BOOTS", ())]
        for boot in sorted(wanted, key=lambda boot: -boot.minutes):
            boot.begin()
    yield
    boots.end()
