"""Files of tracefs and securityfs, wherever they are mounted, and also where they are not.

A filesystem that nobody mounted is mounted detached: fsopen(2), fsconfig(2) and fsmount(2) give a
descriptor of a mount that has no place in the mount table, so nothing is visible to others and it
is gone when the descriptor is closed. Those calls are in Linux 5.2 and later and need
CAP_SYS_ADMIN.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# One number on every architecture: system calls were numbered alike from 5.1 on
# (Linux commit 39036cd27273, include/uapi/asm-generic/unistd.h).
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_FSOPEN_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_FSMOUNT_CLOEXEC = 1
_MOUNT_ATTR_RDONLY = 1


def read_file(filesystem: str, name: str, mounted: Sequence[str]) -> bytes:
    """The whole of one file of a pseudo filesystem.

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
            return _read(os.open(os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            continue
    with _detached_mount(filesystem) as root:
        return _read(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root))


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb", buffering=0) as file:
        return file.read()


@contextmanager
def _detached_mount(filesystem: str) -> Iterator[int]:
    context = _call(_SYS_FSOPEN, filesystem, filesystem.encode(), _FSOPEN_CLOEXEC)
    try:
        _call(_SYS_FSCONFIG, filesystem, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        root = _call(_SYS_FSMOUNT, filesystem, context, _FSMOUNT_CLOEXEC, _MOUNT_ATTR_RDONLY)
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
