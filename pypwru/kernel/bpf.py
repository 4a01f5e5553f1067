"""The few bpf(2) calls that pypwru makes, as functions over file descriptors.

A call that the kernel refuses raises the OSError of its errno: what a refusal means, and its cure,
is known only where the call was wanted. Layouts are those of ``union bpf_attr`` in linux/bpf.h,
which only ever grows: what is left out is zero.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYSCALL = {"x86_64": 321, "aarch64": 280}
_ATTR_SIZE = 128
LOG_SIZE = 16 << 20


class MapType(IntEnum):
    """``enum bpf_map_type``."""

    HASH = 1
    ARRAY = 2
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    RINGBUF = 27


class ProgramType(IntEnum):
    """``enum bpf_prog_type``."""

    KPROBE = 2
    SCHED_CLS = 3
    XDP = 6
    RAW_TRACEPOINT = 17
    TRACING = 26


class AttachType(IntEnum):
    """``enum bpf_attach_type``."""

    NONE = 0
    TRACE_FENTRY = 24
    TRACE_FEXIT = 25
    TRACE_KPROBE_MULTI = 42
    TRACE_FENTRY_MULTI = 59


class Target(NamedTuple):
    """What a tracing program hangs on.

    Args:
        btf_id: type id of the function.
        program: descriptor of the BPF program whose BTF that id is of; None for the kernel's.
        btf: descriptor of a module's BTF, if it is of that.
        attach: to its entry or its exit.
    """

    btf_id: int
    program: int | None = None
    btf: int | None = None
    attach: AttachType = AttachType.TRACE_FENTRY


class Signature(NamedTuple):
    """The types of a program of one function, which is what others trace it by.

    Args:
        btf: descriptor of what ``btf_load`` loaded.
        function: type id of the function in it.
    """

    btf: int
    function: int


MMAPABLE = 1 << 10  # BPF_F_MMAPABLE
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_NEXT_KEY, _PROG_LOAD, _TEST_RUN = 0, 1, 2, 4, 5, 10
INFO_BY_FD, RAW_TRACEPOINT_OPEN, _BTF_LOAD, LINK_CREATE = 15, 17, 18, 28
_RECURSION_MISSES = 208  # struct bpf_prog_info
_LOAD_ATTEMPTS = 5  # as libbpf's PROG_LOAD_ATTEMPTS
_NO_VERDICT = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # of the verifier

_libc = ctypes.CDLL(None, use_errno=True)


class VerifierError(OSError):
    """The kernel's verifier refused a program; ``log`` is what it said."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(code, os.strerror(code))
        self.log = log


def require_architecture() -> None:
    """Stop where the numbers of system calls, and how arguments are passed, are not known.

    Raises:
        KernelError: this machine is neither x86-64 nor arm64, or this Python is a 32-bit one.
    """
    machine, bits = os.uname().machine, 8 * struct.calcsize("P")
    if machine not in _SYSCALL or bits != 64:
        raise KernelError(
            f"pypwru runs on x86-64 and arm64, by a 64-bit Python; this is {machine}, {bits} bits"
        )


def call(command: int, attr: bytes) -> int:
    """bpf(2). Raises OSError; returns what the kernel returned."""
    return call_into(command, ctypes.create_string_buffer(attr, max(_ATTR_SIZE, len(attr))))


def call_into(command: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    """bpf(2) on a ``union bpf_attr`` in which the kernel answers. Raises OSError."""
    number = _SYSCALL.get(os.uname().machine)
    if number is None:
        raise OSError(38, f"bpf(2) is not known on {os.uname().machine}")
    result: int = _libc.syscall(
        ctypes.c_long(number), ctypes.c_int(command), buffer, ctypes.c_uint(len(buffer))
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def address_of(buffer: object) -> int:
    """Where a ctypes object is, for the pointers of ``union bpf_attr``."""
    return ctypes.addressof(buffer)  # type: ignore[arg-type]


def _name(name: str) -> bytes:
    """``char[BPF_OBJ_NAME_LEN]``: 15 characters of [A-Za-z0-9_.]."""
    return name.encode()[:15].ljust(16, b"\0")


def map_create(kind: MapType, name: str, key: int, value: int, entries: int, flags: int = 0) -> int:
    """Make a map.

    Args:
        key, value: sizes in bytes.
        entries: ``max_entries``; of a ring buffer its bytes.

    Returns:
        Its file descriptor.
    """
    return call(
        _MAP_CREATE, struct.pack("=7I16s", kind, key, value, entries, flags, 0, 0, _name(name))
    )


def map_lookup(fd: int, key: int | bytes, size: int) -> bytes:
    """The value of a key or an array's element; ``size`` in bytes, all CPUs' of a per-CPU map."""
    octets = struct.pack("=I", key) if isinstance(key, int) else key
    asked = ctypes.create_string_buffer(octets, len(octets))
    value = ctypes.create_string_buffer(size)
    call(_MAP_LOOKUP, struct.pack("=IxxxxQQQ", fd, address_of(asked), address_of(value), 0))
    return value.raw


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Put ``value`` under ``key``, whatever was there."""
    where = [ctypes.create_string_buffer(octets, len(octets)) for octets in (key, value)]
    call(_MAP_UPDATE, struct.pack("=IxxxxQQQ", fd, *map(address_of, where), 0))


def map_keys(fd: int, size: int) -> Iterator[bytes]:
    """The keys of a hash that nobody writes to any more.

    Args:
        size: of a key, in bytes.
    """
    key: bytes | None = None
    while True:
        before = ctypes.create_string_buffer(key, size) if key is not None else None
        after = ctypes.create_string_buffer(size)
        where = address_of(before) if before is not None else 0
        try:
            call(_MAP_NEXT_KEY, struct.pack("=IxxxxQQQ", fd, where, address_of(after), 0))
        except FileNotFoundError:  # ENOENT: that was the last one
            return
        key = after.raw
        yield key


def btf_load(types: bytes) -> int:
    """Give the kernel BTF of a program; returns its descriptor."""
    data = ctypes.create_string_buffer(types, len(types))
    return call(_BTF_LOAD, struct.pack("=QQII", address_of(data), 0, len(types), 0))


def program_load(
    kind: ProgramType,
    name: str,
    code: bytes,
    attach: AttachType = AttachType.NONE,
    target: Target | None = None,
    signature: Signature | None = None,
) -> int:
    """Load instructions (``struct bpf_insn``, map descriptors filled in), licensed GPL.

    Args:
        attach: the expected attach type; that of ``target`` if there is one.
        target: what a program of kind TRACING hangs on.
        signature: makes it one that can be traced itself.

    Returns:
        The program's file descriptor.

    Raises:
        VerifierError: with the verifier's log, asked for only after a first refusal, since writing
            it makes the load several times slower.
        BlockingIOError: the verifier was interrupted each time, which is no refusal.
        OSError: no right to load, no memory or descriptor for it, or a type that the kernel does
            not have.
    """
    instructions = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(b"GPL")
    entry = ctypes.create_string_buffer(
        struct.pack("=II", 0, signature.function if signature else 0)
    )
    types = bytes(36)  # prog_btf_fd, func_info, line_info
    if signature:
        types = struct.pack("=IIQI16x", signature.btf, 8, address_of(entry), 1)

    def load(log: ctypes.Array[ctypes.c_char] | None) -> int:
        level, size, where = (1, len(log), address_of(log)) if log is not None else (0, 0, 0)
        attr = struct.pack(
            "=IIQQIIQII16sII",
            kind,
            len(code) // 8,
            address_of(instructions),
            address_of(license_),
            level,
            size,
            where,
            0,
            0,
            _name(name),
            0,
            target.attach if target else attach,
        )
        return _load_despite_signals(attr + types + _attach_to(target))

    try:
        return load(None)
    except OSError as first:
        if first.errno in _NO_VERDICT:
            raise
        # Pages that are there once they are written: what is refused without a log is common.
        log = (ctypes.c_char * LOG_SIZE).from_buffer(mmap.mmap(-1, LOG_SIZE))
        try:
            return load(log)
        except OSError as error:
            text = log.value.decode(errors="replace")
            if not text or error.errno in _NO_VERDICT:
                raise
            raise VerifierError(error.errno or 0, text) from error


def _load_despite_signals(attr: bytes) -> int:
    """BPF_PROG_LOAD, from which the verifier returns EAGAIN when a signal is pending (do_check()).

    The handlers of signals run between two attempts; what one of them raises ends the load. A
    process whose timer comes too often for any attempt has its signals wait for the last one.

    Raises:
        OSError: as of ``call``; BlockingIOError if it was interrupted even so.
    """
    for _ in range(_LOAD_ATTEMPTS):
        try:
            return call(_PROG_LOAD, attr)
        except BlockingIOError:
            continue
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        return call(_PROG_LOAD, attr)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _attach_to(target: Target | None) -> bytes:
    """``attach_btf_id`` and ``attach_prog_fd``, which is also ``attach_btf_obj_fd``."""
    if target is None:
        return b""
    whose = target.program if target.program is not None else target.btf
    return struct.pack("=II", target.btf_id, whose or 0)


def program_test_run(fd: int, packet: bytes, repeat: int = 1) -> int:
    """Run a networking program on ``packet`` (at least 14 bytes); returns its 32-bit result."""
    data = ctypes.create_string_buffer(packet, len(packet))
    attr = ctypes.create_string_buffer(
        struct.pack("=IIIIQQII", fd, 0, len(packet), 0, address_of(data), 0, repeat, 0), _ATTR_SIZE
    )
    call_into(_TEST_RUN, attr)
    result: int = struct.unpack_from("=I", attr.raw, 4)[0]
    return result


def raw_test_run(fd: int, arguments: bytes) -> int:
    """Run a raw tracepoint program in this task; returns its 32-bit result.

    Args:
        arguments: what its context holds, at least as far as the program reads.
    """
    context = ctypes.create_string_buffer(arguments, len(arguments))
    attr = ctypes.create_string_buffer(
        struct.pack("=II32xIxxxxQ", fd, 0, len(arguments), address_of(context)), _ATTR_SIZE
    )
    call_into(_TEST_RUN, attr)
    result: int = struct.unpack_from("=I", attr.raw, 4)[0]
    return result


def program_recursion_misses(fd: int) -> int:
    """How often the kernel skipped it: another ran on that CPU (0 before Linux 5.12)."""
    info = ctypes.create_string_buffer(256)
    call(INFO_BY_FD, struct.pack("=IIQ", fd, len(info), address_of(info)))
    misses: int = struct.unpack_from("=Q", info.raw, _RECURSION_MISSES)[0]
    return misses


def raw_tracepoint_open(name: str, program: int) -> int:
    """Attach ``program`` to the tracepoint ``name``; closing the descriptor detaches."""
    text = ctypes.create_string_buffer(name.encode())
    return call(RAW_TRACEPOINT_OPEN, struct.pack("=QI", address_of(text), program))


def kprobe_multi_link(program: int, addresses: list[int], returns: bool = False) -> int:
    """Attach ``program`` to the functions at ``addresses``, at once (since 5.18).

    Args:
        returns: at their return instead of their entry.

    One address that ftrace doesn't know makes the kernel refuse all of them.
    """
    array = (ctypes.c_uint64 * len(addresses))(*addresses)
    return call(
        LINK_CREATE,
        struct.pack(
            "=IIIIIIQQQ",
            program,
            0,
            AttachType.TRACE_KPROBE_MULTI,
            0,
            int(returns),  # BPF_F_KPROBE_MULTI_RETURN
            len(addresses),
            0,
            ctypes.addressof(array),
            0,
        ),
    )
