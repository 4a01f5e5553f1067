"""The manual's expressions, compiled with this kernel's types."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pypwru.btf.load import load_vmlinux
from pypwru.btf.query import BTF
from pypwru.cache import Cache
from pypwru.expr import compile_filter_expression
from tests.native.tracing import need_tracing
from tools.chapters import CHAPTERS

pytestmark = pytest.mark.native

EXAMPLES = [
    text for block in CHAPTERS["expressions"] if isinstance(block, Mapping) for text in block
]


@pytest.fixture(scope="module")
def btf() -> BTF:
    need_tracing()
    return load_vmlinux(None, Cache())


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_of_manual_compile(btf: BTF, text: str) -> None:
    assert compile_filter_expression(text, "skb", btf).body(-64)
