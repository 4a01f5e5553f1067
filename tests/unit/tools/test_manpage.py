"""The man page: every flag, valid examples, no warning of mandoc."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.cli.flags import FLAGS, parse
from pypwru.config import Config
from pypwru.filter.compiler import compile_filter
from tests.support.need import need
from tests.support.paths import TREE
from tools import manpage
from tools.chapters import CHAPTERS
from tools.manpage import argument_parser, man_page

VISIBLE = [flag for flag in FLAGS if not flag.hidden]
EXAMPLES = [
    " ".join(line.rstrip("\\") for line in block)
    for block in CHAPTERS["examples"]
    if isinstance(block, tuple)
]


@pytest.fixture(autouse=True)
def generators() -> None:
    for module in ("argparse_manpage", "shtab"):
        need(importlib.util.find_spec(module), f"{module}, of the extra 'test'")


def test_man_page_is_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    page = man_page()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setenv("COLUMNS", "40")
    assert man_page() == page


def test_every_flag_is_in_the_man_page() -> None:
    page = man_page().replace("\\-", "-").replace("\\fB", "").replace("\\fR", "")
    missing = [flag.name for flag in VISIBLE if f"--{flag.name}" not in page]
    assert missing == []
    assert "--ready-file" not in page


def test_mandoc_lint() -> None:
    need(shutil.which("mandoc"), "mandoc")
    command = ["mandoc", "-T", "lint", str(TREE / "man" / "pypwru.1")]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_groff_has_no_warning() -> None:
    need(shutil.which("man"), "man (package man-db)")
    command = ["man", "--warnings=w", "-l", str(TREE / "man" / "pypwru.1")]
    env = {**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": "1"}
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert shown.stderr == ""
    headings = re.findall(r"^[A-Z][A-Z ]+$", re.sub("\x1b\\[[0-9;]*m|.\b", "", shown.stdout), re.M)
    assert [name.upper() for name in CHAPTERS] == headings[-len(CHAPTERS) :]


def test_manual_parser_has_every_flag() -> None:
    options = argument_parser()._option_string_actions
    assert {f"--{flag.name}" for flag in VISIBLE} | {"-h"} == set(options)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_valid(example: str) -> None:
    before, program, rest = example.partition("pypwru ")
    assert program
    assert not before or shutil.which(shlex.split(before)[0])
    arguments = shlex.split(rest)
    config = parse(arguments)
    assert isinstance(config, Config)
    compile_filter(config.pcap_filter)


def test_options_in_chapters_exist() -> None:
    named = set(re.findall(r"--([a-z][a-z0-9-]+)", repr(CHAPTERS)))
    assert named <= {flag.name for flag in VISIBLE}
    assert {flag.name for flag in VISIBLE if flag.name.startswith("filter-tr")} <= named


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60))
def test_text_is_not_altered(text: str) -> None:
    """A formatter prints the text of a chapter as it was written, but for spaces."""
    need(shutil.which("mandoc"), "mandoc")
    page = f'.TH X 1 "" "" ""\n.SH X\n{manpage._format_block(text)}\n'
    page += manpage._format_block({text: text}) + "\n"
    page += manpage._format_block((text,))
    shown = subprocess.run(
        ["mandoc", "-T", "utf8", "-O", "width=1000"],
        input=page,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    plain = re.sub(".\b", "", shown)
    body = "".join(plain.splitlines()[1:-1]).replace(" ", "")
    assert body == "X" + 4 * text.replace(" ", "")
