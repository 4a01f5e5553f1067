"""Kprobes by perf_event_open(2): they go with their descriptor, however the process ends."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from pathlib import Path

_SYSCALL = {"x86_64": 298, "aarch64": 241}
_KPROBE_PMU = Path("/sys/bus/event_source/devices/kprobe/type")
_ATTR_SIZE = 112  # PERF_ATTR_SIZE_VER5
_FLAG_CLOEXEC = 1 << 3
_SET_BPF = 0x40042408  # PERF_EVENT_IOC_SET_BPF
_ENABLE = 0x2400  # PERF_EVENT_IOC_ENABLE

_libc = ctypes.CDLL(None, use_errno=True)


def kprobe_pmu() -> int | None:
    """The perf event type of kprobes, None on a kernel without them."""
    try:
        return int(_KPROBE_PMU.read_text())
    except (OSError, ValueError):
        return None


def kprobe_open(pmu: int, address: int, program: int) -> int:
    """Put a kprobe at ``address`` (a function's entry) and attach ``program``.

    Args:
        pmu: what ``kprobe_pmu`` said.

    Returns:
        The descriptor of the perf event.

    Raises:
        OSError: of perf_event_open(2) or ioctl(2); EINVAL or EADDRNOTAVAIL when the address can't be
            probed (blacklisted, or gone with its module).
    """
    # struct perf_event_attr: config1 = 0 says "no name", config2 is then the address
    attr = struct.pack("=IIQQQQQIIQQ", pmu, _ATTR_SIZE, 0, 1, 0, 0, 0, 1, 0, 0, address)
    buffer = ctypes.create_string_buffer(attr, _ATTR_SIZE)
    fd: int = _libc.syscall(
        ctypes.c_long(_SYSCALL[platform.machine()]),
        buffer,
        ctypes.c_int(-1),
        ctypes.c_int(0),
        ctypes.c_int(-1),
        ctypes.c_ulong(_FLAG_CLOEXEC),
    )
    if fd < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    try:
        fcntl.ioctl(fd, _SET_BPF, program)
        fcntl.ioctl(fd, _ENABLE, 0)
    except OSError:
        os.close(fd)
        raise
    return fd
