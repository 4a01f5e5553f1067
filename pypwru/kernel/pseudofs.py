"""Files of tracefs and securityfs, wherever they are mounted, and also where they are not.

A filesystem that nobody mounted is mounted detached: fsopen(2), fsconfig(2) and fsmount(2) give a
descriptor of a mount that has no place in the mount table, so nothing is visible to others and it
is gone when the descriptor is closed. Those calls are in Linux 5.2 and later and need
CAP_SYS_ADMIN.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Alike on x86-64, arm64 and all others but alpha (include/uapi/asm-generic/unistd.h).
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_FSOPEN_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_FSMOUNT_CLOEXEC = 1
_MOUNT_ATTR_RDONLY = 1


def read_file(filesystem: str, name: str, mounted: Sequence[str]) -> bytes:
    """The whole of one file of a pseudo filesystem; arguments and errors are ``open_file``'s."""
    return _read(open_file(filesystem, name, mounted))


def open_file(filesystem: str, name: str, mounted: Sequence[str]) -> int:
    """A descriptor of one file of a pseudo filesystem, to read from.

    Args:
        filesystem: its type as mount(8) names it, e.g. ``tracefs``.
        name: the file's path from the root of that filesystem.
        mounted: folders where it usually is mounted, tried in order.

    Raises:
        FileNotFoundError: the filesystem has no such file.
        OSError: the kernel refused: EPERM (lockdown, no CAP_SYS_ADMIN for the mount), EACCES,
            ENODEV (not in this kernel), ENOSYS (before Linux 5.2).
    """
    for folder in mounted:
        try:
            return os.open(os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
    with _detached_mount(filesystem, _MOUNT_ATTR_RDONLY) as root:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)


@contextmanager
def root_folder(filesystem: str, name: str, mounted: Sequence[str]) -> Iterator[int]:
    """A descriptor of the filesystem's root, to read and write files below it.

    Args:
        filesystem, mounted: as of ``read_file``.
        name: a file that it must have there.

    Raises:
        OSError: as of ``read_file``.
    """
    for folder in mounted:
        if os.path.exists(os.path.join(folder, name)):
            found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield found
            finally:
                os.close(found)
            return
    with _detached_mount(filesystem, 0) as root:
        yield root


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb", buffering=0) as file:
        return file.read()


@contextmanager
def _detached_mount(filesystem: str, attributes: int) -> Iterator[int]:
    context = _call(_SYS_FSOPEN, filesystem, filesystem.encode(), _FSOPEN_CLOEXEC)
    try:
        _call(_SYS_FSCONFIG, filesystem, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        root = _call(_SYS_FSMOUNT, filesystem, context, _FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)
    try:
        yield root
    finally:
        os.close(root)


def _call(number: int, filesystem: str, *arguments: bytes | int | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), filesystem)
    return result
