"""argv -> Config -> session or list; the one place that prints an error and picks an exit status.

What a run needs is imported once it is known that there will be one: help, version, usage errors
and completion load the flag table and little else (tests/unit/test_startup.py lists what).

0: the limit of lines, SIGINT, SIGTERM, a closed standard output. 1: something failed. 2: what was
typed can't be meant.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
from typing import TYPE_CHECKING

from pypwru import __version__
from pypwru.config import Config
from pypwru.errors import KernelError, OutputClosed, PypwruError, UsageError
from pypwru.log import Log, tell
from pypwru.options import Request, parse, usage

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """The command ``pypwru``; returns its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        wanted = parse(arguments)
    except UsageError as error:  # pflag's line is the last, and nothing stands before its words
        tell(sys.stderr, f"{error.hint or f'{_program()} --help lists the options'}\n{error}\n")
        return error.exit_status
    if wanted is Request.HELP:
        tell(sys.stdout, usage(_program()))
        return 0
    debug = isinstance(wanted, Config) and wanted.debug
    try:
        if isinstance(wanted, Config):
            log = Log(sys.stderr, debug)
            if wanted.lists:
                from pypwru.listing.show import show

                show(wanted, log)
            else:
                from pypwru.run import run

                run(wanted, log, f"{_program()} {shlex.join(arguments)}")
        else:
            from pypwru.output.sink import open_sink

            open_sink(None).write(f"pypwru {__version__}\n".encode())
    except PypwruError as error:
        if debug and error.detail:
            tell(sys.stderr, f"{error.detail}\n")
        return _fail(error)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        from pypwru.kernel.descriptors import cure

        return _fail(KernelError(f"{error.strerror}; {cure(error, '')}"))
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
