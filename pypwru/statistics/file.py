"""--stats-file: each document is written to a new file, which then replaces the one before."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from pypwru.errors import OutputError
from pypwru.fds import closing_fd
from pypwru.files.sink import output_error, path_of_descriptor

if TYPE_CHECKING:
    from collections.abc import Callable

OPTION_NAME = "--stats-file"
_MODE = 0o644
_DIR_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


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
            self._dir_fd, self._name = _locate(path)
        except OSError as error:
            raise output_error("write", str(path), error, OPTION_NAME) from error
        self._write_draft(b"", self._remove)  # fail now, not after the trace

    def write(self, text: str) -> None:
        """Replace the content of the file by ``text``.

        Raises:
            OutputError: a file can't be made in the folder, or the disk is full.
        """
        self._write_draft(text.encode(), self._rename)

    def _rename(self, draft: str) -> None:
        os.replace(draft, self._name, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)

    def _remove(self, draft: str) -> None:
        os.unlink(draft, dir_fd=self._dir_fd)

    def _write_draft(self, content: bytes, finish: Callable[[str], None]) -> None:
        """Write ``content`` to a new file in the folder and pass its name to ``finish``."""
        draft = f".{self._name}.{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with open(os.open(draft, flags, _MODE, dir_fd=self._dir_fd), "wb") as file:
                file.write(content)
                self._copy_mode(file.fileno())
            finish(draft)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._remove(draft)
            raise output_error("write", str(self._path), error, OPTION_NAME) from error

    def _copy_mode(self, descriptor: int) -> None:
        """Copy the mode of the file that is to be replaced, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._name, dir_fd=self._dir_fd, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                os.fchmod(descriptor, found.st_mode & 0o777)


def _locate(path: Path) -> tuple[int, str]:
    """Return a descriptor of the file's folder, owned by the caller, and the file's name in it.

    Raises:
        OSError: the file can't be opened for writing. In sticky folders such as /tmp, the kernel
            refuses symbolic links and files of other users (fs.protected_symlinks and
            fs.protected_regular of proc_sys_fs(5)).
        OutputError: it is no regular file.
    """
    if not os.path.lexists(path):
        return os.open(path.parent, _DIR_FLAGS), path.name
    flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with closing_fd(os.open(path, flags, _MODE)) as file:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise OutputError(
                f"can't replace {path}, which is no regular file: choose another {OPTION_NAME}"
            )
        target = path_of_descriptor(file)
    dir_fd = os.open(target.parent, _DIR_FLAGS)
    if not os.path.samestat(found, os.stat(target.name, dir_fd=dir_fd, follow_symlinks=False)):
        os.close(dir_fd)
        raise OSError(errno.ESTALE, "it was moved meanwhile")
    return dir_fd, target.name
