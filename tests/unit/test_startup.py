"""Modules that the command loads before a run: the flag table and little else.

Real runs are in tests/native/test_startup.py.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.imports import COMMAND, HEAVY, imported

FLAG_TABLE = {
    "pypwru",
    "pypwru.__main__",
    "pypwru.cli",
    "pypwru.config",
    "pypwru.config_fields",
    "pypwru.errors",
    "pypwru.go_values",
    "pypwru.kernel",
    "pypwru.kernel.netfilter",
    "pypwru.cli.main",
    "pypwru.version",
    "pypwru.cli.flag_types",
    "pypwru.log",
    "pypwru.cli.flags",
}
# --version writes through the sink of events, which has the errors of standard output.
VERSION = {"pypwru.files", "pypwru.files.sink"}
# For an unknown word, similar ones are searched.
HINTS = {"pypwru.cli.hints", "pypwru.suggestions"}


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["--version"], VERSION),
        (["--help"], set()),
        (["--no-such-flag"], HINTS),
        (["--priority", "9"], set()),
        (["--stats-file", "f", "--ready-file", "f"], set()),
    ],
    ids=["version", "help", "unknown flag", "value out of range", "conflict"],
)
def test_modules_before_a_run(words: list[str], more: set[str]) -> None:
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)
    loaded = imported(done.stderr)

    assert {name for name in loaded if name.startswith("pypwru")} <= FLAG_TABLE | more
    assert not loaded & HEAVY


def test_package_loads_only_itself() -> None:
    """Before that, Ctrl-C prints Python's traceback."""
    loaded = {}
    plain = "import __future__, importlib"
    for code in (plain, "import pypwru"):
        words = [sys.executable, "-X", "importtime", "-c", code]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        loaded[code] = set(imported(done.stderr))

    assert loaded["import pypwru"] - loaded[plain] == {"pypwru"}


def test_nftables_modules_are_light() -> None:
    """Modules that a run loads in addition if functions of nftables can be hooked."""
    modules = "pypwru.nft.probes, pypwru.attach.kprobe_multi, pypwru.nft.chain_names"
    words = [sys.executable, "-X", "importtime", "-c", f"import {modules}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)

    assert not imported(done.stderr) & HEAVY


def test_debug_modules_are_loaded_lazily() -> None:
    words = [sys.executable, "-X", "importtime", "-c", "import pypwru.cli.run"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)

    loaded = imported(done.stderr)
    assert "pypwru.program.load" in loaded
    assert not {"pypwru.program.debug_files", "pypwru.asm.disassembly", "tempfile"} & set(loaded)


def test_features_are_imported_by_their_flag_alone() -> None:
    code = "import pypwru.cli.run, pypwru.session, pypwru.listing.command"
    words = [sys.executable, "-X", "importtime", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)

    assert not [name for name in imported(done.stderr) if name.startswith("pypwru.features")]
