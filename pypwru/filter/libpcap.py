"""ctypes bindings of the five libpcap functions that compile a filter.

Source: pcap/pcap.h and pcap/bpf.h of libpcap 1.x. The library is loaded by its soname. ctypes.util
is not used, since find_library() starts ldconfig, which would slow down every start with a filter.
"""

from __future__ import annotations

import ctypes
from functools import cache

from pypwru.errors import FilterError

# Debian's name, then upstream's.
SONAMES = ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so")


class BpfInsn(ctypes.Structure):
    """``struct bpf_insn``."""

    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    )


class BpfProgram(ctypes.Structure):
    """``struct bpf_program``; libpcap owns the instructions until pcap_freecode()."""

    _fields_ = (("bf_len", ctypes.c_uint), ("bf_insns", ctypes.POINTER(BpfInsn)))


@cache
def load_libpcap() -> ctypes.CDLL:
    """Load libpcap and declare its functions' prototypes; later calls return the same object.

    Raises:
        FilterError: it is not installed.
    """
    library = _open_library()
    handle, program = ctypes.c_void_p, ctypes.POINTER(BpfProgram)
    library.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
    library.pcap_open_dead.restype = handle
    library.pcap_compile.argtypes = [
        handle,
        program,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_uint32,
    ]
    library.pcap_compile.restype = ctypes.c_int
    library.pcap_geterr.argtypes = [handle]
    library.pcap_geterr.restype = ctypes.c_char_p
    library.pcap_freecode.argtypes = [program]
    library.pcap_freecode.restype = None
    library.pcap_close.argtypes = [handle]
    library.pcap_close.restype = None
    return library


def _open_library() -> ctypes.CDLL:
    problem = OSError()
    for name in SONAMES:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            problem = error
    raise FilterError(f"can't load libpcap ({problem}): install libpcap0.8") from problem
