"""Programs of kind TRACING onto what they were loaded for; closing a descriptor detaches."""

from __future__ import annotations

import ctypes
import os
import struct

from pypwru.kernel.bpf import LINK_CREATE, RAW_TRACEPOINT_OPEN, AttachType, call

_NOT_SUPPORTED = 524  # ENOTSUPP, for which there is no text: what the trampoline would have to do


def tracing_link(program: int) -> int:
    """Attach a program to its target.

    The nameless raw tracepoint of Linux 5.5, which newer kernels still know.
    """
    return call(RAW_TRACEPOINT_OPEN, struct.pack("=QI", 0, program))


def tracing_multi_link(program: int, functions: list[int]) -> int:
    """Attach ``program`` to the kernel functions of these BTF type ids, at once (since 7.2)."""
    array = (ctypes.c_uint32 * len(functions))(*functions)
    attach = AttachType.TRACE_FENTRY_MULTI
    attr = (program, 0, attach, 0, ctypes.addressof(array), 0, len(functions))
    return call(LINK_CREATE, struct.pack("=IIIIQQI", *attr))


def why_refused(error: Exception) -> str:
    """For the user."""
    if not isinstance(error, OSError):
        return str(error).partition("; ")[0]  # what to do about it was for who can't do without
    if error.errno == _NOT_SUPPORTED:
        return "not supported by this kernel on this architecture"
    return os.strerror(error.errno or 0)
