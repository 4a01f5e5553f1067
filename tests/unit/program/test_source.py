"""The digest that stands for the C in keys of the cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pypwru.program import source


def digest_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(source, "BPF_DIR", folder)
    source.sources.cache_clear()
    try:
        return source.source_digest.__wrapped__()
    finally:
        source.sources.cache_clear()


def test_the_digest_changes_with_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(source.BPF_DIR, tmp_path / "bpf")
    seen = {digest_of(tmp_path / "bpf", monkeypatch)}
    files = sorted(path for path in (tmp_path / "bpf").rglob("*") if path.suffix in (".c", ".h"))
    for file in files:
        file.write_text(file.read_text() + "\n")
        seen.add(digest_of(tmp_path / "bpf", monkeypatch))
    files[0].rename(files[0].with_name("renamed.h"))
    seen.add(digest_of(tmp_path / "bpf", monkeypatch))
    assert len(seen) == len(files) + 2
