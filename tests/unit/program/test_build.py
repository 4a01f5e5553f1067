"""The cache key of bytecode; tests/native has the compilation."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from pypwru.cache import Cache
from pypwru.program import build as build_module
from pypwru.program.build import Bytecode

CODE: Bytecode = {"trace_skb_1": bytes(range(16)), "trace_skb_2": b""}


class Compiler:
    """A fake BCC that records the flags of each compilation."""

    def __init__(self) -> None:
        self.compiles: list[list[str]] = []

    def __call__(self, main: str, layout: str, flags: list[str]) -> dict[str, str]:
        self.compiles.append(flags)
        return {name: code.hex() for name, code in CODE.items()}


def test_second_build_is_cached(tmp_path: Path) -> None:
    cache, compiler = Cache(tmp_path / "cache"), Compiler()
    build = partial(build_module.build, compiler=compiler)
    for _ in range(2):
        assert build("layout", {"A": "1", "B": "2"}, cache) == CODE
    assert build("layout", {"B": "2", "A": "1"}, cache) == CODE
    assert compiler.compiles == [["-DA=1", "-DB=2"]]


def test_cache_key_has_all_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, compiler = Cache(tmp_path / "cache"), Compiler()
    build = partial(build_module.build, compiler=compiler)
    build("layout", {"A": "1"}, cache)
    build("other layout", {"A": "1"}, cache)
    build("layout", {"A": "2"}, cache)
    monkeypatch.setattr(build_module, "source_digest", lambda: b"other")
    build("layout", {"A": "1"}, cache)
    monkeypatch.setattr(build_module, "_bcc_version", lambda: "other")
    build("layout", {"A": "1"}, cache)
    assert len(compiler.compiles) == 5
