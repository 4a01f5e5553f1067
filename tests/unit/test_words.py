"""Words that docs/glossary.md has replaced are gone from names, docstrings, messages and pages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypwru.cli.flags import FLAGS
from tests.support.paths import TREE

GONE = frozenset(
    re.findall(
        r"\w+",
        """
        ask asked asks asking fate hear heard hears judge judged judges judging lives nobody said
        say saying says sight sights somebody speak speaker speaks spoke spoken tell telling tells
        told unasked unheard untold wanted wants whoever wish
        """,
    )
)
"""Each stood for several things, and none is what a kernel or netfilter developer calls it."""

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "man/pypwru.1",
    *sorted(str(path.relative_to(TREE)) for path in TREE.glob("docs/*")),
)
"""Pages that users and contributors read."""

QUOTING_PAGES = ("CHANGELOG.md", "tests/README.md")
"""Pages that may quote a former name, or a name of the system, between backquotes."""

FOLDERS = ("pypwru/data", "tools", "bench", "contrib", "setup")
"""Folders whose files are searched as a whole, code included."""

TEST_FOLDERS = ("data", "lab", "native", "oracles", "support", "unit")
"""Folders of tests whose names and docstrings are searched."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_QUOTED = re.compile(r"``.*?``|`.*?`", re.DOTALL)


def words(text: str) -> Iterator[str]:
    return (word.lower() for word in _WORD.findall(text))


def names_and_docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of every name that is defined, and of every docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.lineno, str(node.value.value)


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of every comment of C."""
    for match in re.finditer(r"/\*.*?\*/|//[^\n]*", source, re.DOTALL):
        yield source.count("\n", 0, match.start()) + 1, match[0]


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string with a space that is no docstring.

    Of an f-string, the text is that of its constant parts.
    """
    tree = ast.parse(source)
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part for part in node.values if isinstance(part, ast.Constant)]
            skipped |= set(map(id, parts))
            text = "\0".join(str(part.value) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if " " in text and id(node) not in skipped:
            yield node.lineno, text


def found(texts: Iterator[tuple[int, str]]) -> list[str]:
    return [f"{line}: {word}" for line, text in texts for word in words(text) if word in GONE]


@pytest.mark.parametrize(
    "path", sorted(TREE.glob("pypwru/**/*.py")), ids=lambda path: str(path.relative_to(TREE))
)
def test_python_has_the_words_of_the_glossary(path: Path) -> None:
    source = path.read_text()
    assert found(names_and_docstrings(source)) == []
    assert found(messages(source)) == []


@pytest.mark.parametrize("folder", TEST_FOLDERS)
def test_tests_have_the_words_of_the_glossary(folder: str) -> None:
    paths = sorted((TREE / "tests" / folder).rglob("*.py"))
    assert paths
    for path in paths:
        lines = found(names_and_docstrings(path.read_text()))
        assert [f"{path.relative_to(TREE)}:{line}" for line in lines] == []


@pytest.mark.parametrize("path", sorted(TREE.glob("bpf/**/*.[ch]")), ids=lambda path: path.name)
def test_c_has_the_words_of_the_glossary(path: Path) -> None:
    source = path.read_text()
    assert found(comments(source)) == []
    identifiers = re.sub(r"/\*.*?\*/|//[^\n]*|\"[^\"\n]*\"", " ", source, flags=re.DOTALL)
    assert found((0, name) for name in identifiers.split()) == []


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_the_words_of_the_glossary(page: str) -> None:
    lines = enumerate((TREE / page).read_text().splitlines(), start=1)
    assert found(iter(lines)) == []


@pytest.mark.parametrize("page", QUOTING_PAGES)
def test_pages_that_quote_names_have_the_words_of_the_glossary(page: str) -> None:
    text = _QUOTED.sub(lambda quoted: "\n" * quoted[0].count("\n"), (TREE / page).read_text())
    assert found(enumerate(text.splitlines(), start=1)) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_have_the_words_of_the_glossary(folder: str) -> None:
    paths = [path for path in (TREE / folder).rglob("*") if path.is_file()]
    assert paths
    for path in paths:
        if path.suffix != ".pyc":
            lines = enumerate(path.read_text().splitlines(), start=1)
            assert [f"{path.name}:{line}" for line in found(lines)] == []


def test_help_has_the_words_of_the_glossary() -> None:
    assert found((0, flag.help) for flag in FLAGS) == []
