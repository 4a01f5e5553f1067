"""Information on loaded BPF programs, links and BTF, including those of other processes.

Enumerating them, and opening one by its id, takes CAP_SYS_ADMIN. Layouts are ``struct
bpf_prog_info``, ``struct bpf_link_info`` and ``struct bpf_btf_info`` of linux/bpf.h, which only
ever grow. Functions raise OSError if the kernel refuses.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pypwru.fds import closing_fd
from pypwru.kernel.bpf import INFO_BY_FD, address_of, call, call_with_output

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROG_NEXT, _PROG_FD, _BTF_FD, _BTF_NEXT, _ENABLE_STATS = 11, 13, 19, 23, 32
_RUN_TIME = 0  # BPF_STATS_RUN_TIME
_PROGRAM_INFO_SIZE, _BTF_INFO_SIZE = 232, 32  # bytes
_XLATED_OFFSET, _BTF_ID_OFFSET, _RUN_TIME_OFFSET = 20, 128, 192  # offsets in struct bpf_prog_info


_LINK_INFO_SIZE, _MISSED_OFFSET = (
    64,
    32,
)  # size of struct bpf_link_info; offset of kprobe_multi.missed


class ProgramInfo(NamedTuple):
    """A loaded program.

    Args:
        id: of the program.
        kind: ``enum bpf_prog_type``.
        tag: hash of its instructions, 16 hexadecimal digits.
        name: at most 15 characters; may be empty.
        btf_id: id of its BTF; 0 without any.
        entry_type_id: type id in that BTF of its first function; 0 without any.
    """

    id: int
    kind: int
    tag: str
    name: str
    btf_id: int
    entry_type_id: int


class RunStats(NamedTuple):
    """Run statistics of a program, counted while BPF statistics were enabled.

    Args:
        run_time_ns: total run time.
        run_count: number of runs.
    """

    run_time_ns: int
    run_count: int


def program_ids(after: int = 0) -> Iterator[int]:
    """Yield the ids of loaded programs above ``after``, ascending; newer ones have higher ids."""
    return _ids(_PROG_NEXT, after)


def program_open(program_id: int) -> int | None:
    """Return a descriptor of a program by its id; None if it was unloaded."""
    return _open(_PROG_FD, program_id)


def program_info(fd: int) -> ProgramInfo:
    """Return the description of program ``fd``."""
    info = _info(fd, _PROGRAM_INFO_SIZE)
    kind, program_id, tag = struct.unpack_from("=II8s", info)
    name = info[64:80].split(b"\0")[0].decode(errors="replace")
    btf_id, record_size, _, functions = struct.unpack_from("=IIQI", info, _BTF_ID_OFFSET)
    entry_type_id = 0
    if btf_id and functions:
        records = ctypes.create_string_buffer(record_size)
        pointer = struct.pack("=IIQI", 0, record_size, address_of(records), 1)
        _info(fd, _PROGRAM_INFO_SIZE, {_BTF_ID_OFFSET: pointer})
        entry_type_id = struct.unpack_from("=II", records.raw)[1]
    return ProgramInfo(program_id, kind, tag.hex(), name, btf_id, entry_type_id)


def program_instructions(fd: int) -> bytes:
    """Return the instructions of program ``fd`` as the verifier rewrote them (xlated_prog_insns).

    Empty if the kernel hides them: constant-blinded ones, while it hides addresses
    (kernel.kptr_restrict).
    """
    size: int = struct.unpack_from("=I", _info(fd, _PROGRAM_INFO_SIZE), _XLATED_OFFSET)[0]
    code = ctypes.create_string_buffer(size)
    length, pointer = struct.pack("=I", size), struct.pack("=Q", address_of(code))
    info = _info(fd, _PROGRAM_INFO_SIZE, {_XLATED_OFFSET: length, 32: pointer})
    hidden = struct.unpack_from("=Q", info, 32)[0] == 0
    return b"" if hidden else code.raw


def program_run_stats(fd: int) -> RunStats:
    """Return the run statistics of program ``fd``, since it was loaded."""
    return RunStats(*struct.unpack_from("=QQ", _info(fd, _PROGRAM_INFO_SIZE), _RUN_TIME_OFFSET))


@contextmanager
def enable_bpf_stats() -> Iterator[bool]:
    """Enable BPF run statistics in the context (BPF_ENABLE_STATS, since Linux 5.8).

    The kernel counts while any process holds such a descriptor, for all programs.

    Yields:
        Whether the kernel counts; false without CAP_SYS_ADMIN, or before Linux 5.8.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(closing_fd(call(_ENABLE_STATS, struct.pack("=I", _RUN_TIME))))
        except OSError:
            yield False
        else:
            yield True


def kprobe_multi_missed(fd: int) -> int:
    """Return how many hits of kprobe-multi link ``fd`` were missed by recursion protection.

    0 before Linux 6.7.
    """
    missed: int = struct.unpack_from("=Q", _info(fd, _LINK_INFO_SIZE), _MISSED_OFFSET)[0]
    return missed


def btf_open(btf_id: int) -> int | None:
    """Return a descriptor of BTF by its id; None if it was unloaded."""
    return _open(_BTF_FD, btf_id)


def btf_data(fd: int) -> bytes:
    """Return the raw bytes of BTF ``fd``; those of a module are split BTF on top of vmlinux's."""
    size: int = struct.unpack_from("=I", _info(fd, _BTF_INFO_SIZE), 8)[0]
    data = ctypes.create_string_buffer(size)
    _info(fd, _BTF_INFO_SIZE, {0: struct.pack("=QI", address_of(data), size)})
    return data.raw


def module_btf(module: str) -> int | None:
    """Return a descriptor of a loaded module's BTF; None without (always before Linux 5.11)."""
    for btf_id in _ids(_BTF_NEXT, 0):
        fd = btf_open(btf_id)
        if fd is not None:
            if _btf_name(fd) == module.replace("-", "_"):
                return fd
            os.close(fd)
    return None


def _btf_name(fd: int) -> str:
    """Return the name of BTF ``fd``: a module or "vmlinux"; empty for BTF of programs."""
    name = ctypes.create_string_buffer(64)  # MODULE_NAME_LEN is 56
    _info(fd, _BTF_INFO_SIZE, {16: struct.pack("=QI", address_of(name), len(name))})
    return name.value.decode(errors="replace")


def _ids(command: int, after: int) -> Iterator[int]:
    while True:
        attr = ctypes.create_string_buffer(struct.pack("=I", after), 128)
        try:
            call_with_output(command, attr)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        after = struct.unpack_from("=I", attr.raw, 4)[0]
        yield after


def _open(command: int, object_id: int) -> int | None:
    try:
        return call(command, struct.pack("=I", object_id))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def _info(fd: int, size: int, inputs: dict[int, bytes] | None = None) -> bytes:
    """Return the info struct of an object (BPF_OBJ_GET_INFO_BY_FD).

    Args:
        fd: of a program, link or BTF.
        size: of the struct, in bytes.
        inputs: offset in the struct -> input to write there: lengths of and pointers to buffers
            that the kernel fills.
    """
    content = bytearray(size)
    for offset, value in (inputs or {}).items():
        content[offset : offset + len(value)] = value
    info = ctypes.create_string_buffer(bytes(content), size)
    call(INFO_BY_FD, struct.pack("=IIQ", fd, size, address_of(info)))
    return info.raw
