"""argv -> Config -> session; the one place that prints an error and picks an exit status.

0: the limit of lines, SIGINT, SIGTERM, a closed standard output. 1: something failed. 2: what was
typed can't be meant.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pypwru import __version__
from pypwru.errors import PypwruError, UsageError
from pypwru.log import Log
from pypwru.options import Request, parse, usage
from pypwru.session import run

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """The command ``pypwru``; returns its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        wanted = parse(arguments)
    except UsageError as error:
        return _fail(error, "; see 'pypwru --help'")
    if wanted is Request.HELP:
        print(usage(os.path.basename(sys.argv[0])), end="", file=sys.stderr)
        return 0
    if wanted is Request.VERSION:
        print(f"pypwru {__version__}")
        return 0
    assert not isinstance(wanted, Request)
    try:
        run(wanted, Log(sys.stderr, wanted.debug))
    except PypwruError as error:
        if wanted.debug and error.detail:
            print(error.detail, file=sys.stderr)
        return _fail(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _fail(error: PypwruError, more: str = "") -> int:
    print(f"pypwru: {error}{more}", file=sys.stderr)
    return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
