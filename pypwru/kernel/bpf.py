"""The bpf(2) commands that pypwru uses, as functions over file descriptors.

A failed call raises the OSError of its errno: its meaning and remedy depend on the caller. Layouts
are those of ``union bpf_attr`` in linux/bpf.h, which only ever grows: omitted fields are zero. The
caller owns each descriptor that is returned.
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
MAX_OBJECT_NAME = 15
"""Bytes that the kernel keeps of the name of a program or map: BPF_OBJ_NAME_LEN but its NUL."""


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


class AttachTarget(NamedTuple):
    """Attach target of a BPF_PROG_TYPE_TRACING program.

    Args:
        btf_id: type id of the function.
        program: descriptor of the BPF program whose BTF ``btf_id`` is of; None for the kernel's.
        btf: descriptor of the module BTF that ``btf_id`` is of; None for vmlinux.
        attach_type: TRACE_FENTRY for its entry, TRACE_FEXIT for its exit.
    """

    btf_id: int
    program: int | None = None
    btf: int | None = None
    attach_type: AttachType = AttachType.TRACE_FENTRY


class FunctionBtf(NamedTuple):
    """BTF of a program with one function; tracing programs need it to attach to that function.

    Args:
        btf: descriptor that ``btf_load`` returned.
        type_id: type id of the function in it.
    """

    btf: int
    type_id: int


MMAPABLE = 1 << 10  # BPF_F_MMAPABLE
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_NEXT_KEY, _PROG_LOAD, _TEST_RUN = 0, 1, 2, 4, 5, 10
INFO_BY_FD, RAW_TRACEPOINT_OPEN, _BTF_LOAD, LINK_CREATE = 15, 17, 18, 28
_RECURSION_MISSES_OFFSET = 208  # struct bpf_prog_info
_LOAD_ATTEMPTS = 5  # as libbpf's PROG_LOAD_ATTEMPTS
# Errors of BPF_PROG_LOAD that don't depend on the program: the verifier reached no result.
_RESOURCE_ERRORS = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)

_libc = ctypes.CDLL(None, use_errno=True)


class VerifierError(OSError):
    """The kernel's verifier rejected a program; ``log`` is its text."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(code, os.strerror(code))
        self.log = log


def require_architecture() -> None:
    """Raise if syscall numbers and calling convention of this machine are not supported.

    Raises:
        KernelError: this machine is neither x86-64 nor arm64, or this Python is a 32-bit one.
    """
    machine, bits = os.uname().machine, 8 * struct.calcsize("P")
    if machine not in _SYSCALL or bits != 64:
        raise KernelError(
            f"pypwru runs on x86-64 and arm64, by a 64-bit Python; this is {machine}, {bits} bits"
        )


def call(command: int, attr: bytes) -> int:
    """Call bpf(2).

    Args:
        command: ``enum bpf_cmd``.
        attr: the first bytes of ``union bpf_attr``; the rest is zero.

    Returns:
        The kernel's return value: 0 or a new descriptor.

    Raises:
        OSError: the kernel refused; ENOSYS on an unsupported architecture.
    """
    return call_with_output(command, ctypes.create_string_buffer(attr, max(_ATTR_SIZE, len(attr))))


def call_with_output(command: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    """Call bpf(2) with a ``union bpf_attr`` that the kernel may write to.

    Args:
        command: ``enum bpf_cmd``.
        buffer: the whole union; read it afterwards for the kernel's output.

    Returns:
        The kernel's return value.

    Raises:
        OSError: as of ``call``.
    """
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
    """Return the address of a ctypes object; valid while the caller holds the object."""
    return ctypes.addressof(buffer)  # type: ignore[arg-type]


def _object_name(name: str) -> bytes:
    """Encode as ``char[BPF_OBJ_NAME_LEN]``: at most 15 characters of [A-Za-z0-9_.]."""
    return name.encode()[:MAX_OBJECT_NAME].ljust(MAX_OBJECT_NAME + 1, b"\0")


def map_create(kind: MapType, name: str, key: int, value: int, entries: int, flags: int = 0) -> int:
    """Create a map.

    Args:
        kind: its type.
        name: at most 15 characters are used.
        key: size of a key in bytes; 0 for a ring buffer.
        value: size of a value in bytes; 0 for a ring buffer.
        entries: ``max_entries``; of a ring buffer its size in bytes.
        flags: BPF_F_*.

    Returns:
        Its file descriptor.

    Raises:
        OSError: the kernel refused.
    """
    return call(
        _MAP_CREATE,
        struct.pack("=7I16s", kind, key, value, entries, flags, 0, 0, _object_name(name)),
    )


def map_lookup(fd: int, key: int | bytes, size: int) -> bytes:
    """Return the value under a key.

    Args:
        fd: the map.
        key: its bytes; or the index into an array.
        size: of the value in bytes; of a per-CPU map, of the values of all possible CPUs.

    Raises:
        OSError: ENOENT without such a key; or the kernel refused.
    """
    key_bytes = struct.pack("=I", key) if isinstance(key, int) else key
    key_buffer = ctypes.create_string_buffer(key_bytes, len(key_bytes))
    value = ctypes.create_string_buffer(size)
    call(_MAP_LOOKUP, struct.pack("=IxxxxQQQ", fd, address_of(key_buffer), address_of(value), 0))
    return value.raw


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Insert or replace an entry (BPF_ANY).

    Args:
        fd: the map.
        key: its bytes.
        value: its bytes; of a per-CPU map, the values of all possible CPUs.

    Raises:
        OSError: the kernel refused: E2BIG if the map is full.
    """
    buffers = [ctypes.create_string_buffer(part, len(part)) for part in (key, value)]
    call(_MAP_UPDATE, struct.pack("=IxxxxQQQ", fd, *map(address_of, buffers), 0))


def map_keys(fd: int, size: int) -> Iterator[bytes]:
    """Yield the keys of a hash map.

    The map must not change meanwhile: BPF_MAP_GET_NEXT_KEY restarts at the first key if the
    previous one was deleted.

    Args:
        fd: the map.
        size: of a key, in bytes.
    """
    key: bytes | None = None
    while True:
        previous = ctypes.create_string_buffer(key, size) if key is not None else None
        following = ctypes.create_string_buffer(size)
        address = address_of(previous) if previous is not None else 0
        try:
            call(_MAP_NEXT_KEY, struct.pack("=IxxxxQQQ", fd, address, address_of(following), 0))
        except FileNotFoundError:  # ENOENT: no key is left
            return
        key = following.raw
        yield key


def btf_load(types: bytes) -> int:
    """Load the raw BTF of a program into the kernel; return its descriptor."""
    data = ctypes.create_string_buffer(types, len(types))
    return call(_BTF_LOAD, struct.pack("=QQII", address_of(data), 0, len(types), 0))


def program_load(
    kind: ProgramType,
    name: str,
    code: bytes,
    attach_type: AttachType = AttachType.NONE,
    target: AttachTarget | None = None,
    function_btf: FunctionBtf | None = None,
) -> int:
    """Load a program, licensed GPL.

    The verifier's log is requested only by a second attempt after a failure, since writing it makes
    the load several times slower.

    Args:
        kind: its type.
        name: at most 15 characters are used.
        code: ``struct bpf_insn[]``, with map descriptors filled in.
        attach_type: ``expected_attach_type``; that of ``target`` takes precedence.
        target: function that a program of type TRACING attaches to.
        function_btf: BTF of the program, with which it can be traced itself.

    Returns:
        The program's file descriptor.

    Raises:
        VerifierError: the verifier rejected it; with its log.
        BlockingIOError: signals interrupted the verifier in every attempt; it may succeed later.
        OSError: missing capability, no memory or descriptor, or a type that this kernel lacks.
    """
    instructions = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(b"GPL")
    func_info = ctypes.create_string_buffer(
        struct.pack("=II", 0, function_btf.type_id if function_btf else 0)
    )
    types = bytes(36)  # prog_btf_fd, func_info, line_info
    if function_btf:
        types = struct.pack("=IIQI16x", function_btf.btf, 8, address_of(func_info), 1)

    def load(log: ctypes.Array[ctypes.c_char] | None) -> int:
        level, size, log_address = (1, len(log), address_of(log)) if log is not None else (0, 0, 0)
        attr = struct.pack(
            "=IIQQIIQII16sII",
            kind,
            len(code) // 8,
            address_of(instructions),
            address_of(license_),
            level,
            size,
            log_address,
            0,
            0,
            _object_name(name),
            0,
            target.attach_type if target else attach_type,
        )
        return _load_despite_signals(attr + types + _encode_target(target))

    try:
        return load(None)
    except OSError as first:
        if first.errno in _RESOURCE_ERRORS:
            raise
        # An anonymous mapping takes memory only as far as the log is written: probes of features
        # fail often, and without a log.
        log = (ctypes.c_char * LOG_SIZE).from_buffer(mmap.mmap(-1, LOG_SIZE))
        try:
            return load(log)
        except OSError as error:
            text = log.value.decode(errors="replace")
            if not text or error.errno in _RESOURCE_ERRORS:
                raise
            raise VerifierError(error.errno or 0, text) from error


def _load_despite_signals(attr: bytes) -> int:
    """Retry BPF_PROG_LOAD: the verifier returns EAGAIN if a signal is pending (do_check()).

    Signal handlers run between two attempts; an exception of theirs ends the load. The last attempt
    blocks all signals, for a process whose timer fires during each of the others.

    Raises:
        OSError: as of ``call``; BlockingIOError if even the last attempt was interrupted.
    """
    for _ in range(_LOAD_ATTEMPTS):
        try:
            return call(_PROG_LOAD, attr)
        except BlockingIOError:
            continue
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        return call(_PROG_LOAD, attr)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)


def _encode_target(target: AttachTarget | None) -> bytes:
    """Encode ``attach_btf_id`` and ``attach_prog_fd`` (a union with ``attach_btf_obj_fd``)."""
    if target is None:
        return b""
    object_fd = target.program if target.program is not None else target.btf
    return struct.pack("=II", target.btf_id, object_fd or 0)


def program_test_run(fd: int, packet: bytes, repeat: int = 1) -> int:
    """Run a networking program by BPF_PROG_TEST_RUN.

    Args:
        fd: the program.
        packet: at least 14 bytes (an Ethernet header).
        repeat: number of runs.

    Returns:
        The u32 return value of the last run.
    """
    data = ctypes.create_string_buffer(packet, len(packet))
    attr = ctypes.create_string_buffer(
        struct.pack("=IIIIQQII", fd, 0, len(packet), 0, address_of(data), 0, repeat, 0), _ATTR_SIZE
    )
    call_with_output(_TEST_RUN, attr)
    result: int = struct.unpack_from("=I", attr.raw, 4)[0]
    return result


def raw_test_run(fd: int, arguments: bytes) -> int:
    """Run a raw tracepoint program in this task; return its u32 result (since Linux 5.10).

    Args:
        fd: the program.
        arguments: its context, ``u64[]``, at least as long as the program reads.
    """
    context = ctypes.create_string_buffer(arguments, len(arguments))
    attr = ctypes.create_string_buffer(
        struct.pack("=II32xIxxxxQ", fd, 0, len(arguments), address_of(context)), _ATTR_SIZE
    )
    call_with_output(_TEST_RUN, attr)
    result: int = struct.unpack_from("=I", attr.raw, 4)[0]
    return result


def program_recursion_misses(fd: int) -> int:
    """Return how often the kernel skipped program ``fd`` since it was already running on that CPU.

    0 before Linux 5.12.
    """
    info = ctypes.create_string_buffer(256)
    call(INFO_BY_FD, struct.pack("=IIQ", fd, len(info), address_of(info)))
    misses: int = struct.unpack_from("=Q", info.raw, _RECURSION_MISSES_OFFSET)[0]
    return misses


def raw_tracepoint_open(name: str, program: int) -> int:
    """Attach ``program`` to raw tracepoint ``name``; return a descriptor, closing it detaches."""
    text = ctypes.create_string_buffer(name.encode())
    return call(RAW_TRACEPOINT_OPEN, struct.pack("=QI", address_of(text), program))


def kprobe_multi_link(program: int, addresses: list[int], returns: bool = False) -> int:
    """Attach ``program`` to the functions at ``addresses`` in one call (since Linux 5.18).

    Args:
        program: descriptor of a program of type KPROBE, attach type TRACE_KPROBE_MULTI.
        addresses: of functions that ftrace can hook.
        returns: attach to their return instead of their entry.

    Returns:
        A link descriptor; closing it detaches.

    Raises:
        OSError: the kernel refused; one address that ftrace can't hook fails all of them.
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
