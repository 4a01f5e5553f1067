"""Attachment of BPF_PROG_TYPE_TRACING programs; closing a returned descriptor detaches."""

from __future__ import annotations

import ctypes
import os
import struct

from pypwru.errors import PypwruError
from pypwru.kernel.bpf import LINK_CREATE, RAW_TRACEPOINT_OPEN, AttachType, call

_ENOTSUPP = 524  # ENOTSUPP, which strerror() doesn't have: from the architecture's trampoline


def tracing_link(program: int) -> int:
    """Attach ``program`` to the target that it was loaded for; return a link descriptor.

    By BPF_RAW_TRACEPOINT_OPEN without a name, which all kernels since Linux 5.5 support.

    Raises:
        OSError: the kernel refused.
    """
    return call(RAW_TRACEPOINT_OPEN, struct.pack("=QI", 0, program))


def tracing_multi_link(program: int, functions: list[int]) -> int:
    """Attach ``program`` to many kernel functions in one call (since Linux 7.2).

    Args:
        program: descriptor of a program of attach type TRACE_FENTRY_MULTI.
        functions: BTF type ids.

    Returns:
        A link descriptor; closing it detaches.

    Raises:
        OSError: the kernel refused.
    """
    array = (ctypes.c_uint32 * len(functions))(*functions)
    attach = AttachType.TRACE_FENTRY_MULTI
    attr = (program, 0, attach, 0, ctypes.addressof(array), 0, len(functions))
    return call(LINK_CREATE, struct.pack("=IIIIQQI", *attr))


def attach_failure_reason(error: PypwruError | OSError) -> str:
    """Return one line for the log: why a function or program could not be attached."""
    if isinstance(error, PypwruError):
        return error.cause  # without the cure: the run goes on without it
    if error.errno == _ENOTSUPP:
        return "not supported by this kernel on this architecture"
    return os.strerror(error.errno or 0)
