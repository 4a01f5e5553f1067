"""Files that are made from others are current, and all of them are in the table."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.support.need import need
from tests.support.paths import TREE
from tools import generate


@pytest.fixture(autouse=True)
def generators() -> None:
    for module in ("argparse_manpage", "shtab"):
        need(importlib.util.find_spec(module), f"{module}, of the extra 'test'")


@pytest.mark.parametrize("name", generate.FILES)
def test_file_is_current(name: str) -> None:
    assert (TREE / name).read_text() == generate.FILES[name](), "stale: run `make generate`"


def test_every_page_with_generated_part_is_in_the_table() -> None:
    pages = (page for page in (TREE / "docs").glob("*.md") if "<!-- end of " in page.read_text())
    assert {f"docs/{page.name}" for page in pages} == {
        name for name in generate.FILES if name.startswith("docs/")
    }


def test_only_what_changed_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "TREE", tmp_path)
    monkeypatch.setattr(generate, "FILES", {"stale": lambda: "new", "current": lambda: "same"})
    for name in ("stale", "current"):
        (tmp_path / name).write_text("same")
    generate.main()
    assert capsys.readouterr().out == "stale\n"
    assert (tmp_path / "stale").read_text() == "new"
