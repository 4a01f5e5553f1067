"""ebtables-legacy's table broute, set as its command does: there need not be one."""

from __future__ import annotations

import ctypes
import socket

BROUTING = 5  # NF_BR_BROUTING
_DROP = -2  # EBT_DROP
_SET_ENTRIES = 128  # EBT_SO_SET_ENTRIES


class _Entries(ctypes.Structure):
    """struct ebt_entries: the head of a chain."""

    _fields_ = (
        ("distinguisher", ctypes.c_uint),
        ("name", ctypes.c_char * 32),
        ("counter_offset", ctypes.c_uint),
        ("policy", ctypes.c_int),
        ("nentries", ctypes.c_uint),
    )


class _Replace(ctypes.Structure):
    """struct ebt_replace."""

    _fields_ = (
        ("name", ctypes.c_char * 32),
        ("valid_hooks", ctypes.c_uint),
        ("nentries", ctypes.c_uint),
        ("entries_size", ctypes.c_uint),
        ("hook_entry", ctypes.c_void_p * 6),
        ("num_counters", ctypes.c_uint),
        ("counters", ctypes.c_void_p),
        ("entries", ctypes.c_void_p),
    )


def route_all() -> None:
    """The policy DROP for this namespace: what comes to a bridge's port is the port's own."""
    entries = _Entries(0, b"BROUTING", 0, _DROP, 0)
    size, at = ctypes.sizeof(entries), ctypes.addressof(entries)
    table = _Replace(b"broute", 1 << BROUTING, 0, size, counters=None, entries=at)
    table.hook_entry[BROUTING] = at
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as one:
        one.setsockopt(socket.IPPROTO_IP, _SET_ENTRIES, bytes(table) + bytes(size))
