"""What the kernel tells of BPF programs and BTF that are loaded, whoever loaded them.

Going through them, and opening one by its id, takes CAP_SYS_ADMIN. Layouts are ``struct
bpf_prog_info`` and ``struct bpf_btf_info`` of linux/bpf.h, which only ever grow.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pypwru.kernel.bpf import INFO_BY_FD, address_of, call, call_into
from pypwru.kernel.descriptors import owned

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROG_NEXT, _PROG_FD, _BTF_FD, _BTF_NEXT, _ENABLE_STATS = 11, 13, 19, 23, 32
_RUN_TIME = 0  # BPF_STATS_RUN_TIME
_PROGRAM_INFO, _BTF_INFO = 232, 32  # bytes
_XLATED, _BTF, _RUN = 20, 128, 192  # of struct bpf_prog_info


_LINK_INFO, _MISSED = 64, 32  # struct bpf_link_info: its kprobe_multi.missed


class ProgramInfo(NamedTuple):
    """A loaded program.

    Args:
        kind: its ``enum bpf_prog_type``.
        tag: hash of its instructions, hexadecimal.
        name: at most 15 characters; may be empty.
        btf: id of its BTF; 0 without any.
        entry: type id, in that, of its first function; 0 without any.
    """

    id: int
    kind: int
    tag: str
    name: str
    btf: int
    entry: int


class Runs(NamedTuple):
    """How long and how often a program ran while somebody had the kernel count that."""

    nanoseconds: int
    times: int


def program_ids(after: int = 0) -> Iterator[int]:
    """Ids of the loaded programs beyond ``after``, ascending; newer ones have higher ids."""
    return _ids(_PROG_NEXT, after)


def program_open(identity: int) -> int | None:
    """A descriptor of the program; None if it is gone by now."""
    return _open(_PROG_FD, identity)


def program_info(fd: int) -> ProgramInfo:
    """The program of this descriptor."""
    info = _info(fd, _PROGRAM_INFO)
    kind, identity, tag = struct.unpack_from("=II8s", info)
    name = info[64:80].split(b"\0")[0].decode(errors="replace")
    btf, record_size, _, functions = struct.unpack_from("=IIQI", info, _BTF)
    entry = 0
    if btf and functions:
        records = ctypes.create_string_buffer(record_size)
        pointer = struct.pack("=IIQI", 0, record_size, address_of(records), 1)
        _info(fd, _PROGRAM_INFO, {_BTF: pointer})
        entry = struct.unpack_from("=II", records.raw)[1]
    return ProgramInfo(identity, kind, tag.hex(), name, btf, entry)


def program_instructions(fd: int) -> bytes:
    """What the verifier made of its instructions; empty if the kernel doesn't show them."""
    size: int = struct.unpack_from("=I", _info(fd, _PROGRAM_INFO), _XLATED)[0]
    code = ctypes.create_string_buffer(size)
    length, pointer = struct.pack("=I", size), struct.pack("=Q", address_of(code))
    info = _info(fd, _PROGRAM_INFO, {_XLATED: length, 32: pointer})
    hidden = struct.unpack_from("=Q", info, 32)[0] == 0
    return b"" if hidden else code.raw


def program_runs(fd: int) -> Runs:
    """How often it ran so far."""
    return Runs(*struct.unpack_from("=QQ", _info(fd, _PROGRAM_INFO), _RUN))


@contextmanager
def runs_counted() -> Iterator[bool]:
    """Have the kernel count runs of programs, until the way out; false if it won't.

    Since Linux 5.8, for CAP_SYS_ADMIN. Others may have it count, too: it counts until the last of
    them has closed his descriptor.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(owned(call(_ENABLE_STATS, struct.pack("=I", _RUN_TIME))))
        except OSError:
            yield False
        else:
            yield True


def kprobe_multi_missed(fd: int) -> int:
    """Hits of a kprobe-multi link that ftrace skipped, since it was busy (0 before Linux 6.7)."""
    missed: int = struct.unpack_from("=Q", _info(fd, _LINK_INFO), _MISSED)[0]
    return missed


def btf_open(identity: int) -> int | None:
    """A descriptor of this BTF; None if it is gone by now."""
    return _open(_BTF_FD, identity)


def btf_data(fd: int) -> bytes:
    """Its bytes; a module's continue those of vmlinux."""
    size: int = struct.unpack_from("=I", _info(fd, _BTF_INFO), 8)[0]
    data = ctypes.create_string_buffer(size)
    _info(fd, _BTF_INFO, {0: struct.pack("=QI", address_of(data), size)})
    return data.raw


def module_btf(module: str) -> int | None:
    """A descriptor of a loaded module's BTF; None if there is none (or before Linux 5.11)."""
    for identity in _ids(_BTF_NEXT, 0):
        fd = btf_open(identity)
        if fd is not None:
            if _btf_name(fd) == module.replace("-", "_"):
                return fd
            os.close(fd)
    return None


def _btf_name(fd: int) -> str:
    """Of a module, or vmlinux; empty for BTF of programs."""
    name = ctypes.create_string_buffer(64)  # MODULE_NAME_LEN is 56
    _info(fd, _BTF_INFO, {16: struct.pack("=QI", address_of(name), len(name))})
    return name.value.decode(errors="replace")


def _ids(command: int, after: int) -> Iterator[int]:
    while True:
        attr = ctypes.create_string_buffer(struct.pack("=I", after), 128)
        try:
            call_into(command, attr)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        after = struct.unpack_from("=I", attr.raw, 4)[0]
        yield after


def _open(command: int, identity: int) -> int | None:
    try:
        return call(command, struct.pack("=I", identity))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def _info(fd: int, size: int, asked: dict[int, bytes] | None = None) -> bytes:
    """``BPF_OBJ_GET_INFO_BY_FD``; ``asked``: offset -> lengths and pointers to fill in there."""
    content = bytearray(size)
    for offset, value in (asked or {}).items():
        content[offset : offset + len(value)] = value
    info = ctypes.create_string_buffer(bytes(content), size)
    call(INFO_BY_FD, struct.pack("=IIQ", fd, size, address_of(info)))
    return info.raw
