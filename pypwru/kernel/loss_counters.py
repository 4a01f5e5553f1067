"""Kernel counters of packet losses that no drop event shows: the skb is freed by consume_skb()."""

from __future__ import annotations

import os
import re
import struct

from pypwru.kernel.netlink import parse_attributes

LISTEN_DROPS = "TcpExtListenDrops"
WIREGUARD = "wireguard"
_NETSTAT = "/proc/thread-self/net/netstat"  # /proc/net shows the namespace of the main thread
_NLMSGHDR = struct.Struct("=IHHII")
_IFINFOMSG_SIZE = 16
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK = 16
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_STATS64 = 3, 18, 23
_IFLA_INFO_KIND = 1
_RX_ERRORS_OFFSET = 32  # offset in struct rtnl_link_stats64
_RECV_SIZE = 1 << 16
_TIMEOUT = 2


def netstat_counter(text: str, name: str) -> int:
    """Return a counter of /proc/net/netstat; 0 if this kernel has none of that name.

    Args:
        text: content of the file: for each prefix a line of names, then one of numbers.
        name: prefix and name as nstat(8) prints them, e.g. ``TcpExtListenDrops``.
    """
    for names, numbers in re.findall(r"^(\w+:.*)\n(\w+:.*)$", text, re.MULTILINE):
        prefix, *columns = names.split()
        found = dict(zip(columns, numbers.split()[1:], strict=False))
        column = name.removeprefix(prefix[:-1])
        if name.startswith(prefix[:-1]) and column in found:
            return int(found[column])
    return 0


def parse_rx_errors(datagram: bytes) -> tuple[dict[str, int], bool]:
    """Parse one datagram of an RTM_GETLINK dump.

    Returns:
        Interface name -> rx_errors of the WireGuard devices in it; whether it ends the dump.

    Raises:
        OSError: the datagram has an NLMSG_ERROR: the kernel refused the dump.
    """
    found: dict[str, int] = {}
    at = 0
    while at + _NLMSGHDR.size <= len(datagram):
        size, kind, *_ = _NLMSGHDR.unpack_from(datagram, at)
        if kind == _NLMSG_DONE:
            return found, True
        if kind == _NLMSG_ERROR:
            code = -struct.unpack_from("=i", datagram, at + _NLMSGHDR.size)[0]
            raise OSError(code, os.strerror(code))
        if kind == _RTM_NEWLINK:
            body = datagram[at + _NLMSGHDR.size + _IFINFOMSG_SIZE : at + size]
            link = dict(parse_attributes(body))
            info = dict(parse_attributes(link.get(_IFLA_LINKINFO, b"")))
            stats = link.get(_IFLA_STATS64, b"")
            is_wireguard = info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0") == WIREGUARD.encode()
            if is_wireguard and len(stats) >= _RX_ERRORS_OFFSET + 8:
                name = link.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
                found[name] = struct.unpack_from("=Q", stats, _RX_ERRORS_OFFSET)[0]
        at += (max(size, _NLMSGHDR.size) + 3) & ~3
    return found, False


def read_loss_counters() -> dict[str, int]:
    """Return the loss counters of the calling thread's network namespace, name -> packets.

    Names are ``TcpExtListenDrops``, and for each WireGuard device e.g. ``wg0 rx_errors``.

    Raises:
        OSError: /proc or rtnetlink can't be read, or the kernel refuses the dump.
    """
    import socket

    from pypwru.kernel.netns_links import dump_request

    with open(_NETSTAT) as file:
        found = {LISTEN_DROPS: netstat_counter(file.read(), LISTEN_DROPS)}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        route.settimeout(_TIMEOUT)
        route.send(dump_request())
        is_last = False
        while not is_last:
            errors, is_last = parse_rx_errors(route.recv(_RECV_SIZE))
            found |= {f"{name} rx_errors": number for name, number in errors.items()}
    return found
