"""The bytecode's cache key, and what is said without BCC; the compile itself is native."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pypwru.cache import Cache
from pypwru.errors import BuildError
from pypwru.program import build as building
from pypwru.program.build import Bytecode, build

CODE: Bytecode = {"trace_skb_1": bytes(range(16)), "trace_skb_2": b""}


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stands in for the compiler: the flags of each compile."""
    seen: list[list[str]] = []

    def compile_(main: str, layout: str, flags: list[str]) -> Bytecode:
        seen.append(flags)
        return CODE

    monkeypatch.setattr(building, "_compile", compile_)
    return seen


def test_the_second_time_nothing_is_compiled(tmp_path: Path, compiles: list[list[str]]) -> None:
    cache = Cache(tmp_path / "cache")
    for _ in range(2):
        assert build("layout", {"A": "1", "B": "2"}, cache) == CODE
    assert build("layout", {"B": "2", "A": "1"}, cache) == CODE
    assert compiles == [["-DA=1", "-DB=2"]]


def test_everything_that_a_compile_reads_is_in_the_key(
    tmp_path: Path, compiles: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    build("layout", {"A": "1"}, cache)
    build("other layout", {"A": "1"}, cache)
    build("layout", {"A": "2"}, cache)
    monkeypatch.setattr(building, "source_digest", lambda: b"other")
    build("layout", {"A": "1"}, cache)
    monkeypatch.setattr(building, "_bcc_version", lambda: "other")
    build("layout", {"A": "1"}, cache)
    assert len(compiles) == 5


def test_a_missing_bcc_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcc", None)
    with pytest.raises(BuildError, match="python3-bpfcc") as caught:
        build("layout", {}, Cache(tmp_path / "cache"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists() or not any(
        path.name.startswith("bytecode") for path in (tmp_path / "cache").iterdir()
    )
