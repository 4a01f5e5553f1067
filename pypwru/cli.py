"""argv -> Config -> session or list; the one place that prints an error and picks an exit status.

What a run needs is imported once it is known that there will be one: help, version, usage errors
and completion load the flag table and little else (tests/unit/test_startup.py lists what).

0: the limit of lines, SIGINT, SIGTERM, a closed standard output. 1: something failed. 2: what was
typed can't be meant.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

from pypwru import __version__
from pypwru.config import Config
from pypwru.errors import OutputClosed, PypwruError, UsageError, cure
from pypwru.log import Log, tell
from pypwru.options import Request, parse, usage

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130
_HALF = 2000  # characters of a message


def main(argv: Sequence[str] | None = None) -> int:
    """The command ``pypwru``; returns its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        wanted = parse(arguments)
    except UsageError as error:  # pflag's line is the last, and nothing stands before its words
        where = error.hint or f"{_program()} --help lists the options"
        tell(sys.stderr, f"{_readable(where)}\n{_readable(str(error))}\n")
        return error.exit_status
    if wanted is Request.HELP:
        tell(sys.stdout, usage(_program()))
        return 0
    debug = isinstance(wanted, Config) and wanted.debug
    try:
        if isinstance(wanted, Config):
            _run(wanted, Log(sys.stderr, debug), arguments)
        else:
            from pypwru.output.sink import open_sink

            open_sink(None).write(f"pypwru {__version__}\n".encode())
    except PypwruError as error:
        return _fail(error, debug)
    except (MemoryError, OSError) as error:  # a limit of this process, wherever it is met
        return _fail(PypwruError(_limit(error), _where() if debug else ""), debug)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OutputClosed:  # before the first event: nobody read even the header
        return 0
    return 0


def _run(config: Config, log: Log, arguments: Sequence[str]) -> None:
    """List, or trace."""
    if config.lists:
        from pypwru.listing.show import show

        show(config, log)
    else:
        from pypwru.run import run

        run(config, log, f"{_program()} {shlex.join(arguments)}")


def _where() -> str:
    from traceback import format_exc

    return format_exc()


def _limit(error: MemoryError | OSError) -> str:
    if isinstance(error, MemoryError):
        return "out of memory; raise the limit (ulimit -v), or choose a smaller --buffer-size"
    return f"{error}; {cure(error, 'see where with --debug')}"


def _program() -> str:
    """What was typed to start this."""
    name = os.path.basename(sys.argv[0])
    return "python -m pypwru" if name == "__main__.py" else name


def _fail(error: PypwruError, debug: bool) -> int:
    if debug and error.detail:
        tell(sys.stderr, f"{error.detail}\n")
    tell(sys.stderr, f"pypwru: {_readable(str(error))}\n")
    return error.exit_status


def _readable(text: str) -> str:
    """One line: what it repeats of the command line may have anything in it, and be long."""
    if not text.isprintable():
        from pypwru.escaping import escape_unprintable

        text = escape_unprintable(text)
    return text if len(text) <= 2 * _HALF else f"{text[:_HALF]} ... {text[-_HALF:]}"


if __name__ == "__main__":
    sys.exit(main())
