"""Make the tables of options and columns in docs/.

A page marks each generated part by two lines, ``<!-- NAME -->`` and ``<!-- end of NAME -->``; the
text between them is replaced. NAME is ``options``, a table for each group of flags,
``extensions``, the list of the flags that pwru lacks, or ``columns``, a table of those of text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pypwru.cli.flags import FLAGS, Flag, Group
from tools.event_fields import by_title

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WIDTH = 100  # characters of a line of prose
# What is set as code: a quoted example, an option, a word that Markdown would read as markup.
_CODE = re.compile(
    r"(?<!\w)'[^']+'(?!\w)|(?<![\w-])--[a-z][a-z0-9-]*(?:=\w+)?|(?<!\S)\S*[*_<>|\[](?:\S*[^\s,;:.])?"
)


def render(page: str) -> str:
    """Return ``page`` with every generated part replaced by its present text.

    Raises:
        ValueError: the page has no generated part, or one without its last line.
    """
    parts = [name for name in _PARTS if f"<!-- {name} -->" in page]
    if not parts:
        raise ValueError("no <!-- options --> in it")
    for name in parts:
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        if not end:
            raise ValueError(f"no <!-- end of {name} --> behind <!-- {name} -->")
        page = f"{before}{begin}\n{_PARTS[name]()}\n{end}{after}"
    return page


def tables() -> str:
    """Return a heading and a table for each group of flags."""
    return "\n".join(_table(group) for group in Group)


def extensions() -> str:
    """Return the names of the flags that pwru lacks, as lines of prose."""
    names = [f"`--{flag.name}`" for flag in FLAGS if flag.extension and not flag.hidden]
    lines = [""]
    for name in (*(f"{name}," for name in names[:-1]), f"{names[-1]}."):
        if len(lines[-1]) + len(name) >= WIDTH:
            lines.append("")
        lines[-1] += f" {name}" if lines[-1] else name
    return "\n".join(lines) + "\n"


def columns() -> str:
    """Return a table of the columns of text."""
    rows = (f"| {_markdown(title)} | {_markdown(doc)} |" for title, doc in by_title().items())
    return "\n".join(["| column | |", "| --- | --- |", *rows, ""])


_PARTS: Mapping[str, Callable[[], str]] = {
    "options": tables,
    "extensions": extensions,
    "columns": columns,
}
"""What a page may hold -> its text."""


def _table(group: Group) -> str:
    title = group.value[0].upper() + group.value[1:]
    rows = [_row(flag) for flag in FLAGS if flag.group is group and not flag.hidden]
    head = ["| option | default | pwru | |", "| --- | --- | --- | --- |"]
    return "\n".join([f"### {title}", "", *head, *rows, ""])


def _row(flag: Flag) -> str:
    names = f"`-{flag.short}`, " if flag.short else ""
    names += f"`{f'--{flag.name} {flag.placeholder}'.rstrip()}`"
    default = "" if flag.default in {"", "false"} else f"`{flag.default}`"
    return f"| {names} | {default} | {'no' if flag.extension else 'yes'} | {_markdown(flag.help)} |"


def _markdown(text: str) -> str:
    """Return a flag's help as the text of a cell."""
    return _CODE.sub(lambda match: f"`{match[0]}`", text).replace("|", r"\|")
