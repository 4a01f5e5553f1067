"""The error tree. An error names the operation, the value, and what the user can do about it.

Only ``cli/main.py`` prints these errors and returns ``exit_status`` from the process. ``detail`` is
additional output, such as a verifier log, shown only with ``--debug``.
"""

from __future__ import annotations

import errno


class PypwruError(Exception):
    """Base class of all failures with a message for the user. Exit status 1.

    Args:
        cause: the operation, the value, and what is wrong with it; one line.
        cure: what the user can do about it; empty if there is none, or ``cause`` includes it.
        detail: further lines, printed with ``--debug``.

    ``str()`` is one line: the cause, and the cure if there is one.
    """

    exit_status = 1

    def __init__(self, cause: str, cure: str = "", detail: str = "") -> None:
        super().__init__(f"{cause}; {cure}" if cure else cause)
        self.cause = cause
        self.cure = cure
        self.detail = detail


def remedy(error: OSError, default: str) -> str:
    """Return the remedy for ``error``.

    Args:
        error: of a system call.
        default: the remedy if ``error`` is not EMFILE or ENFILE (out of file descriptors).
    """
    if error.errno == errno.EMFILE:
        import resource

        soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"raise the limit of {soft_limit} open files: ulimit -n {max(4 * soft_limit, 4096)}"
    if error.errno == errno.ENFILE:
        return "raise the limit of open files of all processes: sysctl fs.file-max"
    return default


class UsageError(PypwruError):
    """Invalid command line or option: an unknown flag, a value out of range. Exit status 2.

    Args:
        cause, cure, detail: as of PypwruError.
        hint: one line that suggests what to type instead; empty for none.
    """

    exit_status = 2

    def __init__(self, cause: str, cure: str = "", detail: str = "", hint: str = "") -> None:
        super().__init__(cause, cure, detail)
        self.hint = hint


class FilterError(PypwruError):
    """A pcap filter, C expression or RE2 pattern is invalid or can't be translated."""


class BTFError(PypwruError):
    """BTF is missing, malformed, or lacks a type that is needed."""


class NoBTF(BTFError):
    """The kernel has no BTF, and --kernel-btf names no file with it."""


class ListError(PypwruError):
    """A list of functions can't be read (--functions) or made (--list-functions)."""


class KernelError(PypwruError):
    """The kernel lacks a feature or refuses an operation, or the process lacks a capability."""


class NoNftables(KernelError):
    """The kernel has no nf_tables, so there are no nft events to trace."""


class BuildError(PypwruError):
    """BCC is missing, or the C did not compile."""


class ChildError(PypwruError):
    """A child process of pypwru can't be started, or exited without a result."""


class OutputError(PypwruError):
    """An output can't be opened or written.

    Attributes:
        events_written: how many events of the last batch were written completely.
    """

    events_written = 0


class OutputClosed(Exception):
    """The reader of the output closed it (``| head``). The run ends with status 0.

    Args:
        events_written: how many events of the last batch the reader got completely.
    """

    def __init__(self, events_written: int = 0) -> None:
        super().__init__()
        self.events_written = events_written
