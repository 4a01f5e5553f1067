"""argv -> Config -> session or list; the one place that prints an error and picks an exit status.

0: the limit of lines, SIGINT, SIGTERM, a closed standard output. 1: something failed. 2: what was
typed can't be meant.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

from pypwru import __version__
from pypwru.config import Config
from pypwru.errors import PypwruError, UsageError
from pypwru.listing.show import show
from pypwru.log import Log, tell
from pypwru.options import Request, parse, usage
from pypwru.output.sink import OutputClosed, open_sink
from pypwru.run import run

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """The command ``pypwru``; returns its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        wanted = parse(arguments)
    except UsageError as error:  # as pflag does it: nothing stands before its words
        tell(sys.stderr, f"{usage(_program())}{error}\n")
        return error.exit_status
    if wanted is Request.HELP:
        tell(sys.stderr, usage(_program()))
        return 0
    debug = isinstance(wanted, Config) and wanted.debug
    try:
        if isinstance(wanted, Config):
            log = Log(sys.stderr, debug)
            if wanted.lists:
                show(wanted, log)
            else:
                run(wanted, log, f"{_program()} {shlex.join(arguments)}")
        else:
            open_sink(None).write(f"pypwru {__version__}\n".encode())
    except PypwruError as error:
        if debug and error.detail:
            tell(sys.stderr, f"{error.detail}\n")
        return _fail(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OutputClosed:  # before the first event: nobody read even the header
        return 0
    return 0


def _program() -> str:
    """What was typed to start this."""
    name = os.path.basename(sys.argv[0])
    return "python -m pypwru" if name == "__main__.py" else name


def _fail(error: PypwruError) -> int:
    tell(sys.stderr, f"pypwru: {error}\n")
    return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
