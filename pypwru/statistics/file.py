"""--stats-file: each document is written to a new file, which then replaces the one before."""

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
    """A file that is replaced as a whole at each write.

    Holds a descriptor of the folder until the process ends: moving the folder, or replacing it by a
    symbolic link, can't redirect what root writes.

    Args:
        path: of the file; if it is a symbolic link, its target is replaced.

    Raises:
        OutputError: the file can't be written, or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._folder, self._name = _located(path)
        except OSError as error:
            raise failure("write", str(path), error, FLAG) from error
        self._attempt(b"", self._remove)  # fail now, not after the trace

    def write(self, text: str) -> None:
        """Replace the content of the file by ``text``.

        Raises:
            OutputError: a file can't be made in the folder, or the disk is full.
        """
        self._attempt(text.encode(), self._rename)

    def _rename(self, draft: str) -> None:
        os.replace(draft, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _remove(self, draft: str) -> None:
        os.unlink(draft, dir_fd=self._folder)

    def _attempt(self, content: bytes, use: Callable[[str], None]) -> None:
        """Write ``content`` to a new file in the folder and pass its name to ``use``."""
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
        """Copy the mode of the file that is to be replaced, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                os.fchmod(descriptor, found.st_mode & 0o777)


def _located(path: Path) -> tuple[int, str]:
    """Return a descriptor of the file's folder, owned by the caller, and the file's name in it.

    Raises:
        OSError: the file can't be opened for writing. In sticky folders such as /tmp, the kernel
            refuses symbolic links and files of other users (fs.protected_symlinks and
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
        raise OSError(errno.ESTALE, "it was moved meanwhile")
    return folder, target.name
