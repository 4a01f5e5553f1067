"""argv -> Config -> session; the one place that prints an error and picks an exit status.

0: the limit of lines, SIGINT, SIGTERM, a closed standard output. 1: something failed. 2: what was
typed can't be meant.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from pypwru import __version__
from pypwru.config import Config
from pypwru.errors import PypwruError, UsageError
from pypwru.log import Log
from pypwru.options import Request, parse, usage
from pypwru.output.sink import OutputClosed, open_sink
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
        _tell(usage(os.path.basename(sys.argv[0])))
        return 0
    debug = isinstance(wanted, Config) and wanted.debug
    try:
        if isinstance(wanted, Config):
            run(wanted, Log(sys.stderr, debug))
        else:
            open_sink(None).write(f"pypwru {__version__}\n".encode())
    except PypwruError as error:
        if debug and error.detail:
            _tell(f"{error.detail}\n")
        return _fail(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OutputClosed:  # before the first event: nobody read even the header
        return 0
    return 0


def _fail(error: PypwruError, more: str = "") -> int:
    _tell(f"pypwru: {error}{more}\n")
    return error.exit_status


def _tell(text: str) -> None:
    """On standard error, where a full disk or nobody must not change the exit status."""
    if sys.stderr is not None:  # it is None when descriptor 2 was closed
        with contextlib.suppress(OSError):
            # Past Python's buffer, which would fail again at exit and make the status 120.
            os.write(sys.stderr.fileno(), text.encode(errors="backslashreplace"))


if __name__ == "__main__":
    sys.exit(main())
