"""--stats-file: always a whole document, each renamed into the place of the one before."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pypwru.errors import OutputError
from pypwru.output.sink import failure

if TYPE_CHECKING:
    from collections.abc import Callable

FLAG = "--stats-file"
_MODE = 0o644


class StatsFile:
    """A file that is written as a whole.

    Args:
        path: behind a link, it is the file that is replaced.

    Raises:
        OutputError: it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))
        if self._path.exists() and not self._path.is_file():
            raise OutputError(
                f"can't replace {path}, which is no regular file: choose another {FLAG}"
            )
        self._attempt(b"", os.unlink)  # now, not only when there is something to lose

    def write(self, text: str) -> None:
        """Put ``text`` in place of what is in the file.

        Raises:
            OutputError: a full disk, a folder that takes no file.
        """
        self._attempt(text.encode(), lambda fresh: os.replace(fresh, self._path))

    def _attempt(self, content: bytes, use: Callable[[str], None]) -> None:
        """``use`` a new file beside ours."""
        fresh = ""
        try:
            descriptor, fresh = tempfile.mkstemp(
                prefix=f".{self._path.name}.", dir=self._path.parent
            )
            with open(descriptor, "wb") as file:
                file.write(content)
                os.fchmod(descriptor, self._mode())
            use(fresh)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise failure("write", str(self._path), error, FLAG) from error

    def _mode(self) -> int:
        """That of the file that is replaced; of a new one as of other outputs."""
        try:
            return stat.S_IMODE(self._path.stat().st_mode)
        except FileNotFoundError:
            return _MODE
