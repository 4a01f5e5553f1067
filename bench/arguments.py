"""Command lines of the bench programs: each has --help and --smallest, and an error is one line.

A program runs itself in a guest or in a network namespace, with --inside, which no user types.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NoReturn

SMALLEST = "measure as little as possible: it shows that the program works, and no reliable figure"


class Parser(argparse.ArgumentParser):
    """The command line of a bench program; an error ends it with one line and status 2.

    Args:
        document: the program's docstring: a title, its usage and the rest, as paragraphs.
    """

    def __init__(self, document: str | None) -> None:
        title, usage, rest = (document or "").split("\n\n", 2)
        super().__init__(
            prog=f"bench/{Path(sys.argv[0]).name}",
            usage=usage.strip(),
            description=f"{title}\n\n{rest}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument("--smallest", action="store_true", help=SMALLEST)
        self.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")

    def add_kernels(self, known: Collection[str], nargs: str = "*") -> None:
        """Add ``kernels``, names of ``known``; as many as ``nargs`` allows."""
        names = ", ".join(known)

        def kernel(name: str) -> str:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no kernel {name!r} here, but {names}")
            return name

        self.add_argument("kernels", nargs=nargs, metavar="KERNEL", type=kernel, help=names)

    def add_count(self, metavar: str, default: int, help: str) -> None:
        """Add ``count``, a positive number; it is None when it is not given."""
        text = f"{help} ({default:,})"
        self.add_argument("count", nargs="?", metavar=metavar, type=positive, help=text)


def positive(text: str) -> int:
    """The value of ``text``, a decimal number above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return int(text)


def least(measure: Callable[[], float], times: int) -> float:
    """The least of ``times`` measurements."""
    return min(measure() for _ in range(times))
