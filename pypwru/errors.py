"""One error tree. A message names what was attempted, the value, and what the user does about it.

``cli.py`` alone prints these and turns ``exit_status`` into the process's own. ``detail`` is the
long story (a verifier log), shown only under ``--debug``.
"""

from __future__ import annotations

import errno


class PypwruError(Exception):
    """Any failure that pypwru explains. Exit status 1.

    Args:
        message: one line, with the cure.
        detail: more lines for ``--debug``.
    """

    exit_status = 1

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


def cure(error: OSError, otherwise: str) -> str:
    """What to do about ``error``: ``otherwise``, unless descriptors ran out."""
    if error.errno == errno.EMFILE:
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"raise the limit of {most} open files: ulimit -n {max(4 * most, 4096)}"
    if error.errno == errno.ENFILE:
        return "raise the limit of open files of all processes: sysctl fs.file-max"
    return otherwise


class UsageError(PypwruError):
    """What was typed can't be meant: an unknown flag, a value out of range. Exit status 2.

    Args:
        message, detail: as of PypwruError.
        hint: what was meant, perhaps; a line.
    """

    exit_status = 2

    def __init__(self, message: str, detail: str = "", hint: str = "") -> None:
        super().__init__(message, detail)
        self.hint = hint


class FilterError(PypwruError):
    """libpcap refused the expression, or its program can't be translated."""


class BTFError(PypwruError):
    """Type information is missing, malformed, or lacks a type that is needed."""


class NoBTF(BTFError):
    """This kernel has no type information, and no file of it was named."""


class ListError(PypwruError):
    """A list of functions can't be read, or has none that could be meant."""


class KernelError(PypwruError):
    """The kernel, or a right that this process lacks, stands in the way."""


class NoNftables(KernelError):
    """This kernel has no nf_tables, so there is no rule that could be told of."""


class BuildError(PypwruError):
    """BCC is missing, or the C did not compile."""


class ChildError(PypwruError):
    """A child process of pypwru's can't be started, or ended without an answer."""


class OutputError(PypwruError):
    """An output can't be opened or written.

    Attributes:
        events: of those that were written last, how many are in the output whole.
    """

    events = 0


class OutputClosed(Exception):
    """The reader of the output went away (``| head``): the run ends quietly, this is no error.

    Args:
        events: of those that were written last, how many the reader got whole.
    """

    def __init__(self, events: int = 0) -> None:
        super().__init__()
        self.events = events
