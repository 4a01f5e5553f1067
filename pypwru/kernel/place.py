"""Where packets must be to be traced: ``--filter-netns`` and ``--filter-ifname`` as numbers."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import NamedTuple

from pypwru.errors import KernelError, UsageError

_OWN = "/proc/self/ns/net"
_NAMED = ("/run/netns", "/var/run/netns")
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_CLONE_NEWNET = 0x40000000
_INODE = "inode:"
_DIGITS = re.compile(r"0*[0-9]{1,10}", re.ASCII)


class Place(NamedTuple):
    """A network namespace and an interface in it; 0 for any.

    Args:
        netns: inode.
        ifindex: of the interface.
    """

    netns: int
    ifindex: int


def find_place(netns: str, ifname: str) -> Place:
    """The numbers of what was named.

    An interface's number says nothing without its namespace, so naming one names the namespace, of
    this process if no other is given: as pwru has it.

    Args:
        netns: a path, ``inode:N``, or a name of ``ip netns``; empty for any.
        ifname: empty for any.

    Raises:
        UsageError: what is written is none of these.
        KernelError: there is no such namespace or interface.
    """
    if netns.startswith(_INODE):
        return Place(_inode(netns), 0)
    if not netns and not ifname:
        return Place(0, 0)
    path = _path(netns) if netns else _OWN
    inode = _namespace(path, netns)
    return Place(inode, _ifindex(inode, path, ifname) if ifname else 0)


def _inode(netns: str) -> int:
    digits = netns.removeprefix(_INODE)
    number = int(digits[-10:]) if _DIGITS.fullmatch(digits) else 1 << 32
    if number >> 32:
        raise UsageError(
            f"--filter-netns {netns}: {digits!r} is no inode; take the number that the column "
            "NETNS, lsns -t net or ls -Li /run/netns shows"
        )
    return number


def _path(netns: str) -> str:
    if netns.startswith("/"):
        return netns
    for folder in _NAMED:
        path = os.path.join(folder, netns)
        if "/" not in netns and os.path.exists(path):  # False for a name that is too long, too
            return path
    from pypwru.suggestions import did_you_mean

    known = [each.name for folder in _NAMED for each in Path(folder).glob("*")]
    raise KernelError(
        f"Failed to retrieve netns {netns}: invalid netns specifier: {netns}; take a name that "
        f"`ip netns` lists, a path such as /proc/PID/ns/net, or inode:N{did_you_mean(netns, known)}"
    )


def _namespace(path: str, netns: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(
            f"Failed to retrieve netns {netns}: {error.strerror}; see `ip netns` and `lsns -t net`"
        ) from error
    try:
        if fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == _CLONE_NEWNET:
            return os.fstat(descriptor).st_ino
    except OSError:
        pass  # ENOTTY: no namespace at all
    finally:
        os.close(descriptor)
    raise KernelError(
        f"Failed to retrieve netns {netns}: it is not a network namespace; take /proc/PID/ns/net "
        "or a name that `ip netns` lists"
    )


def _ifindex(inode: int, path: str, ifname: str) -> int:
    from pypwru.resolve import links

    own = os.stat(_OWN).st_ino
    names = links.interfaces({inode: path}, own).get(inode)
    if names is None:
        raise KernelError(f"can't read the interfaces of {path}: run as root")
    for ifindex, name in names.items():
        if name == ifname:
            return ifindex
    from pypwru.suggestions import did_you_mean

    known = ", ".join(sorted(names.values())) or "none"
    raise KernelError(
        f"--filter-ifname {ifname}: no such network interface in {path}; there are {known}"
        f"{did_you_mean(ifname, names.values())}"
    )
