"""Work in another network namespace, or in a new one that nobody else sees.

A namespace belongs to a thread (setns(2), unshare(2)): whatever has to be done in one is done by a
thread made for it, which then ends. No other thread ever is in a wrong namespace.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h

Result = TypeVar("Result")


def _call(function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def enter(descriptor: int) -> None:
    """Put the calling thread into the network namespace of ``descriptor``."""
    _call("setns", descriptor, _CLONE_NEWNET)


def _enter_new() -> None:
    _call("unshare", _CLONE_NEWNET)


def _in_thread(go: Callable[[], None], work: Callable[[], Result]) -> Result:
    results: list[Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            go()
            results.append(work())
        except BaseException as error:  # it is raised where the work was wanted
            failures.append(error)

    thread = threading.Thread(target=run, name="pypwru-netns", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def in_namespace(descriptor: int, work: Callable[[], Result]) -> Result:
    """What ``work`` returns in the network namespace of ``descriptor``.

    What it opens stays in there: a socket, or a process that it starts.

    Raises:
        OSError: the kernel refused to enter: EPERM without CAP_SYS_ADMIN.
    """
    return _in_thread(lambda: enter(descriptor), work)


def in_new_namespace(work: Callable[[], Result]) -> Result:
    """What ``work`` returns in a network namespace that has no name.

    It ends with the last descriptor or socket of it, and so with this process, however that ends.

    Raises:
        OSError: the kernel refused: EPERM without CAP_SYS_ADMIN, ENOSPC beyond sysctl
            user.max_net_namespaces, EINVAL without CONFIG_NET_NS.
    """
    return _in_thread(_enter_new, work)


def cookie_of(descriptor: int) -> int:
    """The number of a network namespace that no other ever gets, as an inode may; 0 where the
    kernel doesn't tell: before Linux 5.14, or without CAP_SYS_ADMIN.
    """
    import socket

    def read() -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
            cookie = any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        return int.from_bytes(cookie, sys.byteorder)

    try:
        return in_namespace(descriptor, read)
    except OSError:
        return 0


def this_namespace() -> int:
    """A descriptor of the network namespace of the calling thread."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
