"""Fixtures of the tests of rules' texts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pypwru.nft.rule_service import RuleService
from tests.native.rule_namespaces import RuleNamespace, rule_namespace


@pytest.fixture
def here() -> Iterator[RuleNamespace]:
    with rule_namespace() as namespace:
        yield namespace


@pytest.fixture
def rules() -> Iterator[RuleService]:
    messages: list[str] = []
    with RuleService(messages.append) as namespace:
        yield namespace
    assert not messages
