"""Which program lists rules: a process of root runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pypwru.nft import list_ruleset
from pypwru.nft.list_ruleset import RulesetLister


def program(folder: Path, says: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "nft"
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("path", ["", ":", ".", "./", "sub", ".:sub", "::", None])
@pytest.mark.parametrize("place", ["_SBIN_DIRS", "defpath"])
def test_the_current_folder_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None, place: str
) -> None:
    for folder in (tmp_path, tmp_path / "sub"):
        program(folder, "hostile")
    found = program(tmp_path / "system", "good").parent
    monkeypatch.chdir(tmp_path)
    if path is None:
        monkeypatch.delenv("PATH")
    else:
        monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(list_ruleset, "_SBIN_DIRS", (str(found),) if place == "_SBIN_DIRS" else ())
    monkeypatch.setattr(os, "defpath", str(found) if place == "defpath" else "/nonexistent")
    said = RulesetLister()._run("nft")
    if place == "defpath" and path:
        assert said == "", "PATH was set, to nothing that counts"
    else:
        assert said == "good\n"


def test_a_folder_of_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = program(tmp_path / "own", "own").parent
    monkeypatch.setattr(
        list_ruleset, "_SBIN_DIRS", (str(program(tmp_path / "system", "no").parent),)
    )
    monkeypatch.setenv("PATH", f".:{own}")
    assert RulesetLister()._run("nft") == "own\n"
