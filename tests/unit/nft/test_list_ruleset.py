"""Which nft program lists rules: root runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pypwru.nft import list_ruleset
from pypwru.nft.list_ruleset import RulesetLister


def make_nft(folder: Path, output: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "nft"
    path.write_text(f"#!/bin/sh\necho {output}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("path", ["", ":", ".", "./", "sub", ".:sub", "::", None])
@pytest.mark.parametrize("source", ["_SBIN_DIRS", "defpath"])
def test_current_folder_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None, source: str
) -> None:
    for folder in (tmp_path, tmp_path / "sub"):
        make_nft(folder, "hostile")
    trusted = make_nft(tmp_path / "system", "good").parent
    monkeypatch.chdir(tmp_path)
    if path is None:
        monkeypatch.delenv("PATH")
    else:
        monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(
        list_ruleset, "_SBIN_DIRS", (str(trusted),) if source == "_SBIN_DIRS" else ()
    )
    monkeypatch.setattr(os, "defpath", str(trusted) if source == "defpath" else "/nonexistent")
    printed = RulesetLister()._run("nft")
    if source == "defpath" and path:
        assert printed == "", "PATH was set, to nothing that counts"
    else:
        assert printed == "good\n"


def test_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = make_nft(tmp_path / "own", "own").parent
    monkeypatch.setattr(
        list_ruleset, "_SBIN_DIRS", (str(make_nft(tmp_path / "system", "no").parent),)
    )
    monkeypatch.setenv("PATH", f".:{own}")
    assert RulesetLister()._run("nft") == "own\n"
