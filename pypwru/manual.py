"""The man page and the completions, made from the flag table: ``python -m pypwru.manual WHAT``.

WHAT is ``man``, ``bash`` or ``zsh``; the text goes to standard output. ``make man completions``
keeps it in ``man/`` and ``completions/``, and a test fails when that is stale. The argparse parser
made here exists for argparse-manpage and shtab alone: ``options.parse`` reads command lines.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from pypwru import __version__
from pypwru.chapters import CHAPTERS, DESCRIPTION, SUMMARY, Block
from pypwru.kinds import PATH
from pypwru.options import FLAGS, Flag, Group

_UNWRAPPED = 10_000  # roff fills lines; argparse would break --output-meta at its hyphen

# What roff reads or a formatter replaces -> how it is written.
_LETTERS = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)
# What is set in bold, in letters of roff: options, and pages of the manual.
_BOLD = re.compile(r"(?<![\w-])\\-\\-(?:[a-z0-9]|\\-)*(?!\w)|\b[a-z](?:[a-z0-9]|\\-)*(?=\(\d\))")


def argument_parser() -> argparse.ArgumentParser:
    """The flags as argparse knows them, in their groups."""
    parser = argparse.ArgumentParser(
        "pypwru",
        usage="pypwru [options] [pcap-filter]",
        description=DESCRIPTION,
        add_help=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=_UNWRAPPED),
    )
    parser.add_argument("pcap-filter", nargs="*", help="words of an expression of pcap-filter(7)")
    for group in Group:
        chapter = parser.add_argument_group(group.value)
        for flag in FLAGS:
            if flag.group is group and not flag.hidden:
                _add(chapter, flag)
    return parser


def _add(chapter: argparse._ArgumentGroup, flag: Flag) -> None:
    names = ([f"-{flag.short}"] if flag.short else []) + [f"--{flag.name}"]
    note = "" if flag.default in {"", "0", "false"} else f" (default {flag.default})"
    if flag.default == "true":
        note = f" (default; --{flag.name}=false for not)"
    described = (flag.help + note).replace("%", "%%")
    if not flag.kind.word:
        chapter.add_argument(*names, action="store_true", help=described)
        return
    action = chapter.add_argument(
        *names, metavar=flag.value_word, choices=flag.kind.choices or None, help=described
    )
    if flag.kind is PATH:
        import shtab

        action.complete = shtab.FILE  # type: ignore[attr-defined]


def man_page() -> str:
    """pypwru(1), the same bytes every day."""
    from argparse_manpage.manpage import Manpage  # type: ignore[import-untyped]

    page = Manpage(argument_parser())
    page.date = ""  # it would make the page differ by when it was made
    page.source = f"pypwru {__version__}"
    page.manual = "User Commands"
    page.description = SUMMARY
    for heading, blocks in CHAPTERS.items():
        page.add_section(heading, "=", "\n".join(map(_set, blocks)))
    return str(page)


def _set(block: Block) -> str:
    """``block`` in man(7)."""
    if isinstance(block, str):
        return f".PP\n{_text(block)}"
    if isinstance(block, tuple):
        return "\n".join((".RS", ".nf", *map(_escaped, block), ".fi", ".RE"))
    return "\n".join(f".TP\n{_text(term)}\n{_text(meaning)}" for term, meaning in block.items())


def _text(text: str) -> str:
    return _BOLD.sub(lambda match: rf"\fB{match[0]}\fR", _escaped(text))


def _escaped(text: str) -> str:
    # Behind a word that is empty a dot is no request.
    return (r"\&" if text.startswith(".") else "") + text.translate(_LETTERS)


def completion(shell: str) -> str:
    """The completion script for ``bash`` or ``zsh``."""
    import shtab

    script: str = shtab.complete(argument_parser(), shell)
    return script


def main(argv: Sequence[str]) -> int:
    """Print what ``argv`` names; 2 when it names nothing that there is."""
    if len(argv) != 1 or argv[0] not in {"man", "bash", "zsh"}:
        print("usage: python -m pypwru.manual man|bash|zsh", file=sys.stderr)
        return 2
    sys.stdout.write(man_page() if argv[0] == "man" else completion(argv[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
