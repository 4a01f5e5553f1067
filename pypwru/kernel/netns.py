"""Execution in another network namespace, or in a new private one.

A thread has its own network namespace (setns(2), unshare(2)). So work in another one is done by a
new thread, which then ends; no existing thread ever changes its namespace.
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
    """Move the calling thread into the network namespace of ``descriptor``.

    Raises:
        OSError: the kernel refused: EPERM without CAP_SYS_ADMIN.
    """
    _call("setns", descriptor, _CLONE_NEWNET)


def _enter_new() -> None:
    _call("unshare", _CLONE_NEWNET)


def _run_in_thread(enter_netns: Callable[[], None], work: Callable[[], Result]) -> Result:
    results: list[Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            enter_netns()
            results.append(work())
        except BaseException as error:  # raised again in the calling thread
            failures.append(error)

    thread = threading.Thread(target=run, name="pypwru-netns", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def run_in_namespace(descriptor: int, work: Callable[[], Result]) -> Result:
    """Run ``work`` in the network namespace of ``descriptor``; return its result.

    Sockets that it opens and processes that it starts stay in that namespace.

    Raises:
        OSError: the kernel refused to enter it: EPERM without CAP_SYS_ADMIN.
        BaseException: whatever ``work`` raises.
    """
    return _run_in_thread(lambda: enter(descriptor), work)


def run_in_new_namespace(work: Callable[[], Result]) -> Result:
    """Run ``work`` in a new network namespace without a name; return its result.

    The kernel removes the namespace with the last descriptor or socket of it, so at the latest when
    this process ends, even if it is killed.

    Raises:
        OSError: the kernel refused: EPERM without CAP_SYS_ADMIN, ENOSPC beyond sysctl
            user.max_net_namespaces, EINVAL without CONFIG_NET_NS.
        BaseException: whatever ``work`` raises.
    """
    return _run_in_thread(_enter_new, work)


def netns_cookie(descriptor: int) -> int:
    """Return the cookie (u64) of a network namespace: unlike its inode number never reused.

    0 if unavailable: before Linux 5.14 (SO_NETNS_COOKIE), or without CAP_SYS_ADMIN.
    """
    try:
        return run_in_namespace(descriptor, own_netns_cookie)
    except OSError:
        return 0


def own_netns_cookie() -> int:
    """Return the cookie of the calling thread's network namespace; this takes no privilege.

    Raises:
        OSError: ENOPROTOOPT before Linux 5.14.
    """
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        cookie = any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return int.from_bytes(cookie, sys.byteorder)


def open_own_netns() -> int:
    """Open the network namespace of the calling thread; the caller closes the descriptor."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
