"""--stats-file: always a whole document, each renamed into the place of the one before."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from pypwru.errors import OutputError
from pypwru.kernel.descriptors import owned
from pypwru.output.sink import failure, opened_path

if TYPE_CHECKING:
    from collections.abc import Callable

FLAG = "--stats-file"
_MODE = 0o644
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class StatsFile:
    """A file that is written as a whole.

    Its folder stays open: whoever moves it, or puts a link in its place, has no influence on where
    a trace of root writes.

    Args:
        path: behind a link, it is the file that is replaced.

    Raises:
        OutputError: it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._folder, self._name = _located(path)
        except OSError as error:
            raise failure("write", str(path), error, FLAG) from error
        self._attempt(b"", self._remove)  # now, not only when there is something to lose

    def write(self, text: str) -> None:
        """Put ``text`` in place of what is in the file.

        Raises:
            OutputError: a full disk, a folder that takes no file.
        """
        self._attempt(text.encode(), self._rename)

    def _rename(self, draft: str) -> None:
        os.replace(draft, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _remove(self, draft: str) -> None:
        os.unlink(draft, dir_fd=self._folder)

    def _attempt(self, content: bytes, use: Callable[[str], None]) -> None:
        """``use`` a new file beside ours."""
        draft = f".{self._name}.{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with open(os.open(draft, flags, _MODE, dir_fd=self._folder), "wb") as file:
                file.write(content)
                self._keep_mode(file.fileno())
            use(draft)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._remove(draft)
            raise failure("write", str(self._path), error, FLAG) from error

    def _keep_mode(self, descriptor: int) -> None:
        """That of the file that is replaced; a new one has that of other outputs."""
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                os.fchmod(descriptor, found.st_mode & 0o777)


def _located(path: Path) -> tuple[int, str]:
    """A descriptor of the folder that the file is in, or will be; and its name there.

    Raises:
        OSError: it can't be opened as other outputs are: the kernel follows no link, and opens no
            file, of another user in a folder such as /tmp (fs.protected_symlinks and
            fs.protected_regular of proc_sys_fs(5)).
        OutputError: it is no regular file.
    """
    if not os.path.lexists(path):
        return os.open(path.parent, _FOLDER), path.name
    flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with owned(os.open(path, flags, _MODE)) as file:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise OutputError(
                f"can't replace {path}, which is no regular file: choose another {FLAG}"
            )
        target = opened_path(file)
    folder = os.open(target.parent, _FOLDER)
    if not os.path.samestat(found, os.stat(target.name, dir_fd=folder, follow_symlinks=False)):
        os.close(folder)
        raise OSError(errno.ESTALE, "it was moved at this moment")
    return folder, target.name
