"""Counters of losses that the kernel frees as packets that did their work: consume_skb()."""

from __future__ import annotations

import re
import struct

from pypwru.kernel.nfnetlink import attributes

LISTEN_DROPS = "TcpExtListenDrops"
WIREGUARD = "wireguard"
_NETSTAT = "/proc/thread-self/net/netstat"  # /proc/net is the main thread's
_NLMSGHDR = struct.Struct("=IHHII")
_IFINFOMSG_SIZE = 16
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK = 16
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_STATS64 = 3, 18, 23
_IFLA_INFO_KIND = 1
_RX_ERRORS = 32  # of struct rtnl_link_stats64
_RECEIVE = 1 << 16
_SECONDS = 2


def netstat_counter(text: str, name: str) -> int:
    """A counter of /proc/net/netstat by nstat's name, ``TcpExtListenDrops``; 0 without it.

    Args:
        text: the file's: for each prefix a line of names, and one of numbers.
    """
    for names, numbers in re.findall(r"^(\w+:.*)\n(\w+:.*)$", text, re.MULTILINE):
        prefix, *words = names.split()
        found = dict(zip(words, numbers.split()[1:], strict=False))
        word = name.removeprefix(prefix[:-1])
        if name.startswith(prefix[:-1]) and word in found:
            return int(found[word])
    return 0


def rx_errors(datagram: bytes) -> tuple[dict[str, int], bool]:
    """Name to rx_errors of WireGuard's devices, of one datagram of the answer to RTM_GETLINK; and
    whether it was the last one.
    """
    found: dict[str, int] = {}
    at = 0
    while at + _NLMSGHDR.size <= len(datagram):
        size, kind, *_ = _NLMSGHDR.unpack_from(datagram, at)
        if kind in (_NLMSG_DONE, _NLMSG_ERROR):
            return found, True
        if kind == _RTM_NEWLINK:
            body = datagram[at + _NLMSGHDR.size + _IFINFOMSG_SIZE : at + size]
            link = dict(attributes(body))
            info = dict(attributes(link.get(_IFLA_LINKINFO, b"")))
            stats = link.get(_IFLA_STATS64, b"")
            is_wireguard = info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0") == WIREGUARD.encode()
            if is_wireguard and len(stats) >= _RX_ERRORS + 8:
                name = link.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
                found[name] = struct.unpack_from("=Q", stats, _RX_ERRORS)[0]
        at += (max(size, _NLMSGHDR.size) + 3) & ~3
    return found, False


def read_loss_counters() -> dict[str, int]:
    """Those of the calling thread's network namespace: ``TcpExtListenDrops``, and for each device
    of WireGuard ``wg0 rx_errors``.

    Raises:
        OSError: the kernel refused.
    """
    import socket

    from pypwru.resolve.links import request

    with open(_NETSTAT) as file:
        found = {LISTEN_DROPS: netstat_counter(file.read(), LISTEN_DROPS)}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        route.settimeout(_SECONDS)
        route.send(request())
        last = False
        while not last:
            errors, last = rx_errors(route.recv(_RECEIVE))
            found |= {f"{name} rx_errors": number for name, number in errors.items()}
    return found
