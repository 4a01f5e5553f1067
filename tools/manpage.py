"""Make the man page from the flag table and ``tools/chapters``.

The argparse parser made here is for argparse-manpage alone: command lines are parsed by
``cli.flags.parse``.
"""

from __future__ import annotations

import argparse
import re
from textwrap import wrap
from typing import TYPE_CHECKING

from pypwru import __version__
from pypwru.cli.flags import FLAGS, Flag, Group
from tools.chapters import CHAPTERS, DESCRIPTION, SUMMARY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tools.chapters.block import Block

DATE = "November 24, 2026"
"""Date of the page's text, independent of the day on which it is generated."""
_UNWRAPPED = 10_000  # columns: roff fills lines; argparse would break --output-meta at its hyphen

# Characters that are special to roff or replaced by a formatter -> their escape.
_ROFF_ESCAPES = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)
# Text to set in bold, after escaping for roff: options, and references to manual pages.
_BOLD_PATTERN = re.compile(
    r"(?<![\w-])\\-\\-(?:[a-z0-9]|\\-)*(?!\w)|\b[a-z](?:[a-z0-9]|\\-)*(?=\(\d\))"
)


def argument_parser() -> argparse.ArgumentParser:
    """Return an argparse parser with all visible flags in their groups."""
    parser = argparse.ArgumentParser(
        "pypwru",
        usage="pypwru [options] [pcap-filter]",
        description=DESCRIPTION,
        add_help=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=_UNWRAPPED),
    )
    parser.add_argument("pcap-filter", nargs="*", help="words of an expression of pcap-filter(7)")
    for group in Group:
        section = parser.add_argument_group(group.value)
        for flag in FLAGS:
            if flag.group is group and not flag.hidden:
                _add(section, flag)
    return parser


def _add(section: argparse._ArgumentGroup, flag: Flag) -> None:
    names = ([f"-{flag.short}"] if flag.short else []) + [f"--{flag.name}"]
    note = "" if flag.default in {"", "0", "false"} else f" (default {flag.default})"
    if flag.default == "true":
        note = f" (default; --{flag.name}=false for not)"
    help_text = (flag.help + note).replace("%", "%%")
    if not flag.value_type.type_name:
        section.add_argument(*names, action="store_true", help=help_text)
        return
    choices = flag.value_type.choices or None
    section.add_argument(*names, metavar=flag.placeholder, choices=choices, help=help_text)


def man_page() -> str:
    """Return pypwru(1); the bytes don't depend on the day."""
    from argparse_manpage.manpage import Manpage  # type: ignore[import-untyped]

    page = Manpage(argument_parser())
    page.date = DATE
    page.source = f"pypwru {__version__}"
    page.manual = "User Commands"
    page.description = SUMMARY
    for heading, blocks in CHAPTERS.items():
        page.add_section(heading, "=", "\n".join(map(_format_block, blocks)))
    return "\n".join(_wrap_lines(str(page).split("\n")))


def _wrap_lines(page: Sequence[str]) -> Iterator[str]:
    """Yield the lines of ``page``, wrapped at 80 columns for mandoc -T lint, except .TP tags."""
    previous, is_literal = "", False
    for line in page:
        is_literal = line == ".nf" or (is_literal and line != ".fi")
        if line.startswith(".") or is_literal or previous == ".TP":
            if line != ".PP" or not previous.startswith(".SH"):
                yield line
        else:
            for part in wrap(line, 80, break_long_words=False, break_on_hyphens=False) or [""]:
                yield (r"\&" if part.startswith((".", "'")) else "") + part
        previous = line


def _format_block(block: Block) -> str:
    """Return ``block`` in man(7) format."""
    if isinstance(block, str):
        return f".PP\n{_format_text(block)}"
    if isinstance(block, tuple):
        return "\n".join((".RS", ".nf", *map(_escape_roff, block), ".fi", ".RE"))
    return "\n".join(
        f".TP\n{_format_text(term)}\n{_format_text(description)}"
        for term, description in block.items()
    )


def _format_text(text: str) -> str:
    return _BOLD_PATTERN.sub(lambda match: rf"\fB{match[0]}\fR", _escape_roff(text))


def _escape_roff(text: str) -> str:
    # A line that begins with a dot is a request to roff: \& (zero width) before it prevents that.
    return (r"\&" if text.startswith(".") else "") + text.translate(_ROFF_ESCAPES)
