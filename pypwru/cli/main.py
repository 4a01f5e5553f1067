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

from pypwru.cli.flags import InfoRequest, parse, usage
from pypwru.config import Config
from pypwru.errors import OutputClosed, PypwruError, UsageError, remedy
from pypwru.log import Log, write_unbuffered
from pypwru.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130
_MAX_HALF = 2000  # characters kept of each end of a long message


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``pypwru`` and return its exit status.

    Args:
        argv: the arguments without the program's name; None for ``sys.argv[1:]``.
    """
    arguments = sys.argv[1:] if argv is None else argv
    try:
        command = parse(arguments)
    except UsageError as error:  # the last line is pflag's message, without a prefix
        hint = error.hint or f"{_program_name()} --help lists the options"
        write_unbuffered(sys.stderr, f"{_to_line(hint)}\n{_to_line(str(error))}\n")
        return error.exit_status
    if command is InfoRequest.HELP:
        write_unbuffered(sys.stdout, usage(_program_name()))
        return 0
    debug = isinstance(command, Config) and command.debug
    try:
        if isinstance(command, Config):
            _run(command, Log(sys.stderr, debug), arguments)
        else:
            from pypwru.files.sink import open_sink

            open_sink(None).write(f"pypwru {__version__}\n".encode())
    except PypwruError as error:
        return _fail(error, debug)
    except (MemoryError, OSError) as error:  # a resource limit of this process, hit anywhere
        return _fail(_explain_limit(error, _traceback() if debug else ""), debug)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OutputClosed:  # the reader closed standard output before the first event
        return 0
    return 0


def _run(config: Config, log: Log, arguments: Sequence[str]) -> None:
    """List the functions or features, or trace."""
    if config.features:
        from pypwru.features.command import run_features

        run_features(config.output_file, config.kernel_btf, log, is_json=config.output_json)
    elif config.list_only:
        from pypwru.listing.command import run_listing

        run_listing(config, log)
    else:
        from pypwru.cli.run import run

        run(config, log, f"{_program_name()} {shlex.join(arguments)}")


def _traceback() -> str:
    from traceback import format_exc

    return format_exc()


def _explain_limit(error: MemoryError | OSError, traceback: str) -> PypwruError:
    if isinstance(error, MemoryError):
        cure = "raise the limit (ulimit -v), or choose a smaller --buffer-size"
        return PypwruError("out of memory", cure, traceback)
    return PypwruError(str(error), remedy(error, "see where with --debug"), traceback)


def _program_name() -> str:
    """Return the command that started this process."""
    name = os.path.basename(sys.argv[0])
    return "python -m pypwru" if name == "__main__.py" else name


def _fail(error: PypwruError, debug: bool) -> int:
    if debug and error.detail:
        write_unbuffered(sys.stderr, f"{error.detail}\n")
    write_unbuffered(sys.stderr, f"pypwru: {_to_line(str(error))}\n")
    return error.exit_status


def _to_line(text: str) -> str:
    """Return ``text`` as one printable line of limited length: it may quote the command line."""
    if not text.isprintable():
        from pypwru.escaping import escape_unprintable

        text = escape_unprintable(text)
    return text if len(text) <= 2 * _MAX_HALF else f"{text[:_MAX_HALF]} ... {text[-_MAX_HALF:]}"


if __name__ == "__main__":
    sys.exit(main())
