"""perf_event_open(2), to run a BPF program at a trace event."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

_SYSCALL = {"x86_64": 298, "aarch64": 241}
_TYPE_TRACEPOINT = 2  # PERF_TYPE_TRACEPOINT
_ATTR_SIZE = 112  # PERF_ATTR_SIZE_VER5
_FLAG_CLOEXEC = 1 << 3
_SET_BPF = 0x40042408  # PERF_EVENT_IOC_SET_BPF
_ENABLE = 0x2400  # PERF_EVENT_IOC_ENABLE

_libc = ctypes.CDLL(None, use_errno=True)


def attach_to_trace_event(event_id: int, program: int) -> int:
    """Run ``program`` whenever the trace event fires, on every CPU.

    Args:
        event_id: the number in the event's ``id`` file in tracefs.
        program: descriptor of a program of type KPROBE.

    Returns:
        A descriptor; closing it detaches.

    Raises:
        OSError: perf_event_open(2) or ioctl(2) failed.
    """
    # struct perf_event_attr: type, size, config, sample_period. The perf event is bound to CPU 0,
    # but the program is attached to the trace event itself, and so runs on all CPUs.
    attr = struct.pack("=IIQQ", _TYPE_TRACEPOINT, _ATTR_SIZE, event_id, 1)
    buffer = ctypes.create_string_buffer(attr, _ATTR_SIZE)
    fd: int = _libc.syscall(
        ctypes.c_long(_SYSCALL[os.uname().machine]),
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
