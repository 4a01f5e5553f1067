"""Another checkout of pypwru, such as an older commit, that is measured in turns with this one."""

from __future__ import annotations

import argparse
import compileall
import sys
from collections.abc import Sequence
from pathlib import Path

from guest import TREE

PYPWRU = (sys.executable, "-m", "pypwru")
_START = "import runpy, sys; sys.path.insert(0, {!r}); runpy.run_module('pypwru', None, '__main__')"


def add_beside(parser: argparse.ArgumentParser) -> None:
    """Add the option --beside TREE."""
    parser.add_argument(
        "--beside", metavar="TREE", type=_checkout, help="another checkout of pypwru"
    )


def _checkout(text: str) -> Path:
    path = Path(text).resolve()
    if not (path / "pypwru" / "__main__.py").exists():
        raise argparse.ArgumentTypeError(f"{text} is no checkout of pypwru")
    return path


def programs(tree: Path | None) -> dict[str, Sequence[str]]:
    """Return the commands of pypwru and of another checkout, if given; compile Python bytecode of
    both.
    """
    found: dict[str, Sequence[str]] = {"pypwru": PYPWRU}
    trees = [TREE]
    if tree:
        found[tree.name] = (sys.executable, "-c", _START.format(str(tree)))
        trees.append(tree)
    for each in trees:
        compileall.compile_dir(each / "pypwru", quiet=1)
    return found
