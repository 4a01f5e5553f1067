"""The command line: argv -> Config -> session or list. Errors are printed here, and only here.

Modules that a trace needs are imported once the command line is known to start one: help, version,
usage errors and completion load the flag table and little else (tests/unit/test_startup.py lists
what).

Exit status: 0 after --output-limit-lines, SIGINT, SIGTERM or a closed standard output; 1 on a
failure; 2 for an invalid command line.
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
_HALF = 2000  # characters kept of each end of a long message


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``pypwru`` and return its exit status.

    Args:
        argv: the arguments without the program's name; None for ``sys.argv[1:]``.
    """
    arguments = sys.argv[1:] if argv is None else argv
    try:
        wanted = parse(arguments)
    except UsageError as error:  # the last line is pflag's message, without a prefix
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
    except (MemoryError, OSError) as error:  # a resource limit of this process, hit anywhere
        return _fail(PypwruError(_limit(error), _where() if debug else ""), debug)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OutputClosed:  # the reader closed standard output before the first event
        return 0
    return 0


def _run(config: Config, log: Log, arguments: Sequence[str]) -> None:
    """List the functions, or trace."""
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
    """Return the command that started this process."""
    name = os.path.basename(sys.argv[0])
    return "python -m pypwru" if name == "__main__.py" else name


def _fail(error: PypwruError, debug: bool) -> int:
    if debug and error.detail:
        tell(sys.stderr, f"{error.detail}\n")
    tell(sys.stderr, f"pypwru: {_readable(str(error))}\n")
    return error.exit_status


def _readable(text: str) -> str:
    """Return ``text`` as one printable line of limited length: it may quote the command line."""
    if not text.isprintable():
        from pypwru.escaping import escape_unprintable

        text = escape_unprintable(text)
    return text if len(text) <= 2 * _HALF else f"{text[:_HALF]} ... {text[-_HALF:]}"


if __name__ == "__main__":
    sys.exit(main())
