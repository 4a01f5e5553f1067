"""What the tests of rules' texts share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pypwru.nft.rule_service import RuleService
from tests.native.rule_places import Place, place


@pytest.fixture
def here() -> Iterator[Place]:
    with place() as made:
        yield made


@pytest.fixture
def rules() -> Iterator[RuleService]:
    told: list[str] = []
    with RuleService(told.append) as made:
        yield made
    assert not told
