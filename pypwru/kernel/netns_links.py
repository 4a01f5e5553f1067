"""Names of the network interfaces of a network namespace, by RTM_GETLINK (rtnetlink(7))."""

from __future__ import annotations

import os
import struct

from pypwru.kernel.netns import run_in_namespace

_NLMSGHDR = struct.Struct("=IHHII")
_IFINFOMSG = struct.Struct("=BxHiII")
_RTATTR = struct.Struct("=HH")
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_NLM_F_REQUEST_DUMP = 0x1 | 0x300  # NLM_F_REQUEST | NLM_F_DUMP
_IFLA_IFNAME = 3
_AF_UNSPEC = 0
# netlink_dump() of net/netlink/af_netlink.c fits datagrams to the reader's buffer, up to 32 KiB.
_RECV_SIZE = 1 << 16


def dump_request() -> bytes:
    """Return the RTM_GETLINK request that dumps every link."""
    body = _IFINFOMSG.pack(_AF_UNSPEC, 0, 0, 0, 0)
    size = _NLMSGHDR.size + len(body)
    return _NLMSGHDR.pack(size, _RTM_GETLINK, _NLM_F_REQUEST_DUMP, 1, 0) + body


def parse_dump(datagram: bytes) -> tuple[dict[int, str], bool]:
    """Parse one datagram of the dump.

    Returns:
        ifindex -> name; and whether this datagram ends the dump.

    Raises:
        OSError: the datagram has an NLMSG_ERROR.
    """
    names: dict[int, str] = {}
    offset = 0
    while offset + _NLMSGHDR.size <= len(datagram):
        size, msg_type, *_ = _NLMSGHDR.unpack_from(datagram, offset)
        payload = datagram[offset + _NLMSGHDR.size : offset + size]
        if msg_type == _NLMSG_DONE:
            return names, True
        if msg_type == _NLMSG_ERROR:
            code = -struct.unpack_from("=i", payload)[0]
            raise OSError(code, os.strerror(code))
        if msg_type == _RTM_NEWLINK:
            _, _, ifindex, _, _ = _IFINFOMSG.unpack_from(payload)
            names[ifindex] = _interface_name(payload[_IFINFOMSG.size :])
        offset += (max(size, _NLMSGHDR.size) + 3) & ~3
    return names, False


def _interface_name(attributes: bytes) -> str:
    offset = 0
    while offset + _RTATTR.size <= len(attributes):
        size, attr_type = _RTATTR.unpack_from(attributes, offset)
        if attr_type == _IFLA_IFNAME:
            return os.fsdecode(attributes[offset + _RTATTR.size : offset + size].rstrip(b"\0"))
        offset += (max(size, _RTATTR.size) + 3) & ~3
    return ""


def _dump_links() -> dict[int, str]:
    """Return ifindex -> name in the network namespace of the calling thread."""
    import socket

    names: dict[int, str] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        route.settimeout(2)
        route.send(dump_request())
        last = False
        while not last:
            found, last = parse_dump(route.recv(_RECV_SIZE))
            names.update(found)
    return names


def interface_names(namespace: int | None = None) -> dict[int, str]:
    """Return ifindex -> name in a network namespace.

    Args:
        namespace: descriptor of the namespace; None for that of the calling thread, which takes no
            CAP_SYS_ADMIN.

    Raises:
        OSError: the namespace can't be entered, or the dump failed.
    """
    return _dump_links() if namespace is None else run_in_namespace(namespace, _dump_links)
