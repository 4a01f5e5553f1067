"""Criteria of network namespace and interface: ``--filter-netns`` and ``--filter-ifname``."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import KernelError, UsageError
from pypwru.fds import closing_fd

if TYPE_CHECKING:
    from contextlib import ExitStack

    from pypwru.log import Log

_OWN_NETNS = "/proc/self/ns/net"
_NETNS_DIRS = ("/run/netns", "/var/run/netns")
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_CLONE_NEWNET = 0x40000000
_INODE_PREFIX = "inode:"
_DIGITS = re.compile(r"0*[0-9]{1,10}", re.ASCII)


class NetnsFilter(NamedTuple):
    """A network namespace and the name of an interface in it.

    Args:
        netns: inode number; 0 for any.
        ifname: empty for any. Matched by name: the interface that has it may change.
    """

    netns: int
    ifname: str


def resolve_netns(netns: str, ifname: str, stack: ExitStack, log: Log) -> NetnsFilter:
    """Resolve the values of the two flags.

    The name of an interface is unique only inside a namespace. So ``ifname`` implies a namespace:
    that of this process if ``netns`` is empty, as in pwru.

    Args:
        netns: a path, ``inode:N``, or a name of ``ip netns``; empty for any.
        ifname: empty for any.
        stack: owns the descriptor that keeps the namespace open; otherwise the kernel could reuse
            its inode number for another one.
        log: for a warning if the namespace can't be kept open.

    Raises:
        UsageError: ``inode:N`` with an invalid number.
        KernelError: there is no such namespace or interface.
    """
    if netns.startswith(_INODE_PREFIX):
        return NetnsFilter(_resolve_inode(netns, stack, log), "")
    if not netns and not ifname:
        return NetnsFilter(0, "")
    path = _netns_path(netns) if netns else _OWN_NETNS
    descriptor = stack.enter_context(closing_fd(_open_namespace(path, netns)))
    if ifname:
        _require_interface(ifname, path, descriptor)
    return NetnsFilter(os.fstat(descriptor).st_ino, ifname)


def _resolve_inode(netns: str, stack: ExitStack, log: Log) -> int:
    from pypwru.kernel.netns_opener import NetnsOpener

    digits = netns.removeprefix(_INODE_PREFIX)
    number = int(digits[-10:]) if _DIGITS.fullmatch(digits) else 1 << 32
    if number >> 32:
        raise UsageError(
            f"--filter-netns {netns}: {digits!r} is no inode",
            "take the number that the column NETNS, lsns -t net or ls -Li /run/netns shows",
        )
    descriptor = NetnsOpener().open(number)
    if descriptor is not None:
        stack.enter_context(closing_fd(descriptor))
    else:
        log.warn(
            f"--filter-netns {netns}: no process is in such a network namespace, and ip netns has "
            "no name for it; if it is removed, another one may get its inode"
        )
    return number


def _netns_path(netns: str) -> str:
    if netns.startswith("/"):
        return netns
    for folder in _NETNS_DIRS:
        path = os.path.join(folder, netns)
        if "/" not in netns and os.path.exists(path):  # False also for a name that is too long
            return path
    from pypwru.suggestions import did_you_mean

    names = [each.name for folder in _NETNS_DIRS for each in Path(folder).glob("*")]
    raise KernelError(
        f"Failed to retrieve netns {netns}: invalid netns specifier: {netns}",
        "take a name that `ip netns` lists, a path such as /proc/PID/ns/net, or inode:N"
        f"{did_you_mean(netns, names)}",
    )


def _open_namespace(path: str, netns: str) -> int:
    """Open the network namespace at ``path``; ``netns``: as the user gave it, for messages."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(
            f"Failed to retrieve netns {netns}: {error.strerror}",
            "see `ip netns` and `lsns -t net`",
        ) from error
    try:
        if fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == _CLONE_NEWNET:
            return descriptor
    except OSError:
        pass  # ENOTTY: not a namespace file
    os.close(descriptor)
    raise KernelError(
        f"Failed to retrieve netns {netns}: it is not a network namespace",
        "take /proc/PID/ns/net or a name that `ip netns` lists",
    )


def _require_interface(ifname: str, path: str, namespace: int) -> None:
    """Raise KernelError unless ``namespace`` has such an interface: otherwise it is likely a typo.

    Args:
        ifname: name of the interface.
        path: of the namespace, for messages.
        namespace: descriptor.
    """
    from pypwru.kernel import netns_links

    is_own = os.path.samestat(os.fstat(namespace), os.stat(_OWN_NETNS))
    try:
        names = netns_links.interface_names(None if is_own else namespace).values()
    except OSError as error:
        raise KernelError(f"can't read the interfaces of {path}: run as root") from error
    if ifname not in names:
        from pypwru.suggestions import did_you_mean

        existing = ", ".join(sorted(names)) or "none"
        raise KernelError(
            f"--filter-ifname {ifname}: no such network interface in {path}",
            f"there are {existing}{did_you_mean(ifname, names)}",
        )
