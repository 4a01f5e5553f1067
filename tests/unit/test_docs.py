"""README.md and docs/: links resolve, commands are valid."""

from __future__ import annotations

import ast
import configparser
import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pytest

from pypwru.cli.flags import FLAGS, parse
from pypwru.config import Config
from pypwru.filter.compiler import compile_filter
from tests.support.paths import TREE
from tools.docs_tables import render

DOCS = sorted((TREE / "docs").glob("*.md"))
PAGES = [TREE / "README.md", TREE / "CONTRIBUTING.md", *DOCS]
ARCHITECTURE = TREE / "docs" / "architecture.md"
MAX_STATIONS = 12
COMMANDS_OF = [TREE / "README.md", *DOCS]
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# A file of this tree; the glossary also names files of the kernel and of pwru.
_FILE = re.compile(r"`((?:bench|bpf|contrib|docs|pypwru|tests|tools)/[\w./-]+)[` ]")

# `file`: `function`, in pages that name both.
_SYMBOL = re.compile(r"`((?:bpf|pypwru)/[\w./-]+)`:\s+`([\w.]+)`")
_STATION = re.compile(r"^(\d+)\. `([\w./-]+)`: `[\w.]+` - \w", re.MULTILINE)


class Station(NamedTuple):
    """A station of a walk through the code; the room is the package, or bpf."""

    number: int
    file: str

    @property
    def room(self) -> str:
        *folders, name = Path(self.file).parts
        return "bpf" if folders[0] == "bpf" else "/".join(folders[1:]) or name


def walks() -> dict[str, list[Station]]:
    """Return the stations by section of the architecture page, in their order."""
    sections = re.split(r"^## (.*)$", ARCHITECTURE.read_text(), flags=re.MULTILINE)[1:]
    found = {
        title: [Station(int(number), file) for number, file in _STATION.findall(text)]
        for title, text in zip(sections[::2], sections[1::2], strict=True)
    }
    return {title: stations for title, stations in found.items() if stations}


def python_names(source: str) -> set[str]:
    """Return the functions and classes of a module, methods as ``Class.method``."""
    tree = ast.parse(source)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    members = {
        f"{owner.name}.{node.name}"
        for owner in classes
        for node in owner.body
        if isinstance(node, ast.FunctionDef)
    }
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return members | functions | {owner.name for owner in classes}


def c_names(source: str) -> set[str]:
    """Return the functions of a C file in kernel style: the body's brace in the first column."""
    pattern = r"^(?:ALWAYS_INLINE )?(?:\w+ )+\**(\w+)\([^;{}]*\)\n\{"
    return set(re.findall(pattern, source, re.MULTILINE))


def commands(page: Path) -> Iterator[str]:
    """Yield command lines of pypwru in the shell examples of ``page``, up to a pipe or comment."""
    for language, text in _FENCE.findall(page.read_text()):
        if language == "sh":
            for line in text.replace("\\\n", " ").replace("|\n", "| ").splitlines():
                words = shlex.shlex(line, posix=True, punctuation_chars=True)
                words.whitespace_split = True
                found = list(words)
                if "pypwru" in found:
                    tail = found[found.index("pypwru") + 1 :]
                    yield shlex.join(tail[: tail.index("|")] if "|" in tail else tail)


COMMANDS = [(page.name, command) for page in COMMANDS_OF for command in commands(page)]


def anchors(page: Path) -> set[str]:
    """Return GitHub's anchors of the headings of ``page``."""
    text = _FENCE.sub("", page.read_text())
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_options_are_listed_once() -> None:
    text = (TREE / "docs" / "options.md").read_text()
    rows = re.findall(r"^\| ((?:`-.*?`(?:, )?)+) \|", text, re.MULTILINE)
    named = re.findall(r"--([a-z0-9-]+)", " ".join(rows))
    assert sorted(named) == sorted(flag.name for flag in FLAGS if not flag.hidden)


def test_list_of_extensions() -> None:
    text = (TREE / "docs" / "differences-from-pwru.md").read_text()
    _, _, generated = text.partition("<!-- extensions -->")
    named = re.findall(r"`--([a-z0-9-]+)`", generated.partition("<!-- end")[0])
    assert named == [flag.name for flag in FLAGS if flag.extension and not flag.hidden]


@pytest.mark.parametrize("text", ["", "<!-- options -->\n"])
def test_page_without_generated_part(text: str) -> None:
    with pytest.raises(ValueError, match="no <!-- "):
        render(text)


def test_text_around_generated_part_stays() -> None:
    generated = render("a\n<!-- extensions -->\nstale\n<!-- end of extensions -->\nb\n")
    assert generated.startswith("a\n<!-- extensions -->\n\n`--") and "stale" not in generated
    assert generated.endswith(".\n\n<!-- end of extensions -->\nb\n")


def test_readme_fits_a_terminal() -> None:
    lines = (TREE / "README.md").read_text().splitlines()
    assert len(lines) <= 200
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_page_opens_with_its_question(page: Path) -> None:
    head, _, rest = page.read_text().partition("\n\n")
    assert head.startswith("# ")
    question = rest.partition("\n\n")[0]
    assert question.startswith("**") and question.endswith("?**")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for link in _LINK.findall(page.read_text()):
        if not link.startswith("https://"):
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    if page.name != "glossary.md":
        missing = [name for name in _FILE.findall(page.read_text()) if not (TREE / name).exists()]
        assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_functions_exist(page: Path) -> None:
    for name, symbol in _SYMBOL.findall(page.read_text()):
        source = (TREE / name).read_text()
        assert symbol in (python_names if name.endswith(".py") else c_names)(source), name


def test_architecture_has_three_walks() -> None:
    assert list(walks()) == ["A record", "A filter", "A rule"]


@pytest.mark.parametrize("walk", walks().values(), ids=walks())
def test_walk_is_short_and_has_no_loop(walk: list[Station]) -> None:
    assert [station.number for station in walk] == list(range(1, len(walk) + 1))
    assert len(walk) <= MAX_STATIONS
    files = [station.file for station in walk]
    rooms = [room for room, _ in groupby(station.room for station in walk)]
    assert len(set(files)) == len(files)
    assert len(set(rooms)) == len(rooms)
    assert set(files) <= {name for name, _ in _SYMBOL.findall(ARCHITECTURE.read_text())}


def test_architecture_has_rooms_in_order() -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(TREE / "setup.cfg")
    layers = re.findall(r"\w+", setup["importlinter:contract:layers"]["layers"])
    assert re.findall(r"^\| `(\w+)` \|", ARCHITECTURE.read_text(), re.MULTILINE) == layers


def test_architecture_has_folders_of_c() -> None:
    folders = {path.parent.relative_to(TREE).parts[:2] for path in TREE.glob("bpf/**/*.[ch]")}
    listed = re.findall(r"^\| `(bpf/[\w/]*)` \|", ARCHITECTURE.read_text(), re.MULTILINE)
    assert set(listed) == {"/".join(folder) + "/" for folder in folders}


def test_picture_fits_a_terminal() -> None:
    pictures = _FENCE.findall(ARCHITECTURE.read_text())
    lines = [line for _, text in pictures for line in text.splitlines()]
    assert lines and max(map(len, lines)) <= 80


def test_every_page_is_in_the_readme() -> None:
    linked = set(_LINK.findall((TREE / "README.md").read_text()))
    assert {f"docs/{page.name}" for page in DOCS} <= linked


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_commands_are_valid(name: str, command: str) -> None:
    config = parse(shlex.split(command))
    assert isinstance(config, Config)
    compile_filter(config.pcap_filter)


def test_number_of_commands() -> None:
    assert sum(name == "README.md" for name, _ in COMMANDS) >= 11
    assert len(COMMANDS) >= 18
