"""What ``import pypwru`` costs and offers; traces themselves are in tests/native."""

from __future__ import annotations

import ast
import os
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pypwru
from pypwru.errors import FilterError, PypwruError, UsageError
from tests.support.paths import TREE
from tools.chapters import CHAPTERS


def loaded(program: str) -> list[str]:
    """Packages that are loaded once ``program`` has run, of a fresh Python."""
    told = f"{program}\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_import_is_cheap() -> None:
    assert [name for name in loaded("import pypwru") if name.startswith("pypwru")] == ["pypwru"]


def test_scapys_layers_are_loaded_by_who_wants_packets() -> None:
    names = loaded("from pypwru import trace, Event, Trace, TraceOptions, PypwruError, UsageError")
    assert "pypwru.api.trace" in names
    assert "pypwru.api.scapy_packet" not in names
    assert not [name for name in names if name.startswith("scapy.layers")]


def test_what_there_is() -> None:
    for name in pypwru.__all__:
        assert getattr(pypwru, name).__doc__
    assert pypwru.UsageError is UsageError and pypwru.PypwruError is PypwruError
    with pytest.raises(AttributeError, match="'pypwru' has no attribute 'nosuch'"):
        pypwru.nosuch  # noqa: B018


def test_errors_come_before_anything_is_touched() -> None:
    with pytest.raises(UsageError, match='"priority" option: must be 0 to 3'):
        pypwru.trace(priority=9)
    with pytest.raises(FilterError, match="syntax error"):
        pypwru.trace("icmp andd")
    with pytest.raises(UsageError, match="unknown option: prio"):
        pypwru.trace(prio=1)  # type: ignore[call-arg]


def test_what_is_written_of_it_is_there() -> None:
    """Documentation and manual name members of Event and Trace, and options, which there are."""
    manual = "\n".join("\n".join(block) for block in CHAPTERS["python"] if isinstance(block, tuple))
    page = (TREE / "docs" / "python.md").read_text()
    programs = [manual, *re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]
    assert len(programs) == 3
    for program in programs:
        tree = ast.parse(program)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                room = {"event": pypwru.Event, "events": pypwru.Trace}[node.value.id]
                assert hasattr(room, node.attr)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "trace":
                options = {each.arg for each in node.keywords} - {"packets"}
                assert options <= set(pypwru.TraceOptions.__annotations__)
    shown = re.findall(r"`(?:event|trace|events)\.(\w+)", page)
    assert shown and all(
        hasattr(pypwru.Event, name) or hasattr(pypwru.Trace, name) for name in shown
    )


def test_what_is_written_of_it_has_the_types_that_it_says(tmp_path: Path) -> None:
    """Judged by mypy --strict, as a script's author would."""
    page = (TREE / "docs" / "python.md").read_text()
    manual = ["\n".join(block) for block in CHAPTERS["python"] if isinstance(block, tuple)]
    programs = [*manual, *re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]
    for number, program in enumerate(programs):
        (tmp_path / f"example{number}.py").write_text(program)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict"),
            *("--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), "."),
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(TREE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_a_shell_shows_of_it() -> None:
    assert dir(pypwru) == sorted([*pypwru.__all__, "__version__"])
    shown = pydoc.plain(pydoc.render_doc(pypwru.TraceOptions))
    assert "filter_ifname (str): trace only packets on this interface" in shown
    assert all(f" {name} (" in shown for name in pypwru.TraceOptions.__annotations__)
