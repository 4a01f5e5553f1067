"""What a bench is asked for on its command line."""

from __future__ import annotations

import argparse
from collections.abc import Collection


def kernels(
    document: str | None, known: Collection[str], chosen: Collection[str] = ()
) -> list[str]:
    """The kernels on the command line; a wrong one ends the bench with usage and status 2.

    Args:
        document: of the bench: a title, its usage and the rest, as paragraphs.
        known: which kernels there are.
        chosen: if none is named; empty: all.
    """
    title, usage, rest = (document or "").split("\n\n", 2)
    parser = argparse.ArgumentParser(
        usage=usage.strip(),
        description=f"{title}\n\n{rest}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=", ".join(known))
    found: list[str] = parser.parse_args().kernels
    for name in found:
        if name not in known:
            parser.error(f"no kernel {name!r} here, but {', '.join(known)}")
    return found or list(chosen or known)
