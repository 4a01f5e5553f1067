"""Command lines of the bench programs: each has --help and --smallest, and an error is one line.

A program runs itself in a guest or in a network namespace with the internal flag --inside.
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
        document: docstring of the program: paragraphs of title, usage and description.
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

    def add_kernels(self, valid_names: Collection[str], nargs: str = "*") -> None:
        """Add the positional argument ``kernels``.

        Args:
            valid_names: valid names.
            nargs: as of ``argparse.ArgumentParser.add_argument``.
        """
        names = ", ".join(valid_names)

        def kernel(name: str) -> str:
            if name not in valid_names:
                raise argparse.ArgumentTypeError(f"no kernel {name!r} here, but {names}")
            return name

        self.add_argument("kernels", nargs=nargs, metavar="KERNEL", type=kernel, help=names)

    def add_count(self, metavar: str, default: int, help: str) -> None:
        """Add the positional argument ``count``, a positive number; None if it is not given.

        Args:
            metavar: its name in the usage.
            default: shown in the help.
            help: what is counted.
        """
        text = f"{help} ({default:,})"
        self.add_argument("count", nargs="?", metavar=metavar, type=parse_positive, help=text)


def parse_positive(text: str) -> int:
    """Return the value of a decimal number above 0.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return int(text)


def minimum(measure: Callable[[], float], times: int) -> float:
    """Return the least of ``times`` measurements."""
    return min(measure() for _ in range(times))
