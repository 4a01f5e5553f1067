"""The digest of the C sources, part of the keys of the cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pypwru import bpf_sources


def digest_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(bpf_sources, "BPF_DIR", folder)
    bpf_sources.sources.cache_clear()
    try:
        return bpf_sources.source_digest.__wrapped__()
    finally:
        bpf_sources.sources.cache_clear()


def test_digest_depends_on_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(bpf_sources.BPF_DIR, tmp_path / "bpf")
    digests = {digest_of(tmp_path / "bpf", monkeypatch)}
    files = sorted(path for path in (tmp_path / "bpf").rglob("*") if path.suffix in (".c", ".h"))
    for file in files:
        file.write_text(file.read_text() + "\n")
        digests.add(digest_of(tmp_path / "bpf", monkeypatch))
    files[0].rename(files[0].with_name("renamed.h"))
    digests.add(digest_of(tmp_path / "bpf", monkeypatch))
    assert len(digests) == len(files) + 2
