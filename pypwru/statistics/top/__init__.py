"""--top: what a trace adds up to, in a table that is always new.

What imports rich is imported only where somebody wants the table: it takes 0.1 s.
"""

from __future__ import annotations

from importlib import import_module

from pypwru.errors import PypwruError
from pypwru.statistics.top.terminal import require_terminal


def check() -> None:
    """Make sure that there can be a live table, before anything is attached.

    Raises:
        UsageError: there is no terminal.
        PypwruError: there is no rich.
    """
    require_terminal()
    try:
        import_module("pypwru.statistics.top.top")
    except ModuleNotFoundError as error:
        raise PypwruError(
            f"--top is drawn by the Python library rich, and {error.name} is missing: install "
            "python3-rich, or take --stats"
        ) from error
