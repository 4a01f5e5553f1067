"""Cost and names of ``import pypwru``; tests/native has traces."""

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

MAX_CONFIG_MODULES = 19
"""Modules of pypwru/ that have the Config of a run in hand: the phases, the tables of parts, maps,
macros and columns, and the callers of what needs single values."""


def loaded_modules(program: str) -> list[str]:
    """Return the modules of a new Python after it ran ``program``."""
    code = f"{program}\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_import_loads_one_module() -> None:
    assert [name for name in loaded_modules("import pypwru") if name.startswith("pypwru")] == [
        "pypwru"
    ]


def test_scapy_layers_are_loaded_lazily() -> None:
    names = loaded_modules(
        "from pypwru import trace, Event, Trace, TraceOptions, PypwruError, UsageError"
    )
    assert "pypwru.api.trace" in names
    assert "pypwru.api.scapy_packet" not in names
    assert not [name for name in names if name.startswith("scapy.layers")]


def test_exported_names() -> None:
    for name in pypwru.__all__:
        assert getattr(pypwru, name).__doc__
    assert pypwru.UsageError is UsageError and pypwru.PypwruError is PypwruError
    with pytest.raises(AttributeError, match="'pypwru' has no attribute 'nosuch'"):
        pypwru.nosuch  # noqa: B018


def test_errors_come_before_attaching() -> None:
    with pytest.raises(UsageError, match='"priority" option: must be 0 to 3'):
        pypwru.trace(priority=9)
    with pytest.raises(FilterError, match="syntax error"):
        pypwru.trace("icmp andd")
    with pytest.raises(UsageError, match="unknown option: prio"):
        pypwru.trace(prio=1)  # type: ignore[call-arg]


def test_documented_names_exist() -> None:
    """Fields of Event and Trace, and options, in documentation and manual exist."""
    manual = "\n".join("\n".join(block) for block in CHAPTERS["python"] if isinstance(block, tuple))
    page = (TREE / "docs" / "python.md").read_text()
    programs = [manual, *re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]
    assert len(programs) == 3
    for program in programs:
        tree = ast.parse(program)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                owner = {"event": pypwru.Event, "events": pypwru.Trace}[node.value.id]
                assert hasattr(owner, node.attr)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "trace":
                options = {each.arg for each in node.keywords} - {"packets"}
                assert options <= set(pypwru.TraceOptions.__annotations__)
    named = re.findall(r"`(?:event|trace|events)\.(\w+)", page)
    assert named and all(
        hasattr(pypwru.Event, name) or hasattr(pypwru.Trace, name) for name in named
    )


def test_documented_programs_type_check(tmp_path: Path) -> None:
    """The oracle is mypy --strict, as an author of scripts would run it."""
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


def enters_config(path: Path) -> bool:
    """Return whether a module names the type Config, or has one in hand as ``config``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, (ast.arg, ast.keyword)):
            names.add(node.arg or "")
        elif isinstance(node, (ast.alias, ast.ClassDef)):
            names.add(node.name)
    return not names.isdisjoint(("Config", "config"))


def test_config_enters_few_modules() -> None:
    """All others take the few values that they need, so that an option concerns few modules."""
    package = TREE / "pypwru"
    entered = sorted(
        str(path.relative_to(package)) for path in package.rglob("*.py") if enters_config(path)
    )
    assert len(entered) <= MAX_CONFIG_MODULES, entered


def test_dir_and_help() -> None:
    assert dir(pypwru) == sorted([*pypwru.__all__, "__version__"])
    rendered = pydoc.plain(pydoc.render_doc(pypwru.TraceOptions))
    assert "filter_ifname (str): trace only packets on this interface" in rendered
    assert all(f" {name} (" in rendered for name in pypwru.TraceOptions.__annotations__)
