"""Access to files of tracefs, securityfs and the like, whether or not these are mounted.

A filesystem that isn't mounted is mounted detached: fsopen(2), fsconfig(2) and fsmount(2) return a
descriptor of a mount that is not in the mount table, so other processes don't see it, and it is
removed when the descriptor is closed. These calls need Linux 5.2 and CAP_SYS_ADMIN.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The same on all architectures except alpha (include/uapi/asm-generic/unistd.h).
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_FSOPEN_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_FSMOUNT_CLOEXEC = 1
_MOUNT_ATTR_RDONLY = 1


def read_file(filesystem: str, name: str, mount_points: Sequence[str]) -> bytes:
    """Read one file of a pseudo filesystem.

    Args:
        filesystem: its type as in mount(8), e.g. ``tracefs``.
        name: path of the file, relative to the root of the filesystem.
        mount_points: usual mount points, tried in order before a detached mount.

    Raises:
        OSError: as of ``open_file``.
    """
    return _read(open_file(filesystem, name, mount_points))


def open_file(filesystem: str, name: str, mount_points: Sequence[str]) -> int:
    """Open one file of a pseudo filesystem for reading.

    Args:
        filesystem: its type as in mount(8), e.g. ``tracefs``.
        name: path of the file, relative to the root of the filesystem.
        mount_points: usual mount points, tried in order before a detached mount.

    Returns:
        A descriptor, which the caller closes.

    Raises:
        FileNotFoundError: the filesystem has no such file.
        OSError: the kernel refused: EPERM (lockdown, no CAP_SYS_ADMIN for the mount), EACCES,
            ENODEV (not in this kernel), ENOSYS (before Linux 5.2).
    """
    for folder in mount_points:
        try:
            return os.open(os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
    with _mount_detached(filesystem, _MOUNT_ATTR_RDONLY) as root:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)


@contextmanager
def open_root(filesystem: str, name: str, mount_points: Sequence[str]) -> Iterator[int]:
    """Open the root directory of a pseudo filesystem, to read and write files below it.

    Args:
        filesystem: as of ``open_file``.
        name: file by which a mount of it is recognized.
        mount_points: as of ``open_file``.

    Yields:
        A descriptor, closed on exit from the context.

    Raises:
        OSError: as of ``open_file``.
    """
    for folder in mount_points:
        if os.path.exists(os.path.join(folder, name)):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield fd
            finally:
                os.close(fd)
            return
    with _mount_detached(filesystem, 0) as root:
        yield root


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb", buffering=0) as file:
        return file.read()


@contextmanager
def _mount_detached(filesystem: str, attributes: int) -> Iterator[int]:
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
    c_arguments = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *c_arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), filesystem)
    return result
