"""--top: statistics of a trace as a live table.

Modules that import rich are imported only with --top: it takes 0.1 s.
"""

from __future__ import annotations

from importlib import import_module

from pypwru.errors import PypwruError
from pypwru.statistics.top.terminal import require_terminal


def check_requirements() -> None:
    """Check the requirements of the live table, before anything is attached.

    Raises:
        UsageError: standard input or output is no terminal.
        PypwruError: rich is not installed.
    """
    require_terminal()
    try:
        import_module("pypwru.statistics.top.top")
    except ModuleNotFoundError as error:
        raise PypwruError(
            f"--top is drawn by the Python library rich, and {error.name} is missing: install "
            "python3-rich, or take --stats"
        ) from error
