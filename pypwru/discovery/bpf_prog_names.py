"""Loaded BPF programs as targets of tracing: entry function, displayed name, called functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.asm.ebpf import CALL_HELPER, unpack
from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.errors import BTFError, KernelError, remedy
from pypwru.fds import closing_fd
from pypwru.kernel import bpf_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.kernel.bpf_info import ProgramInfo
    from pypwru.kernel.kallsyms import Symbols

_CALL_BASE = "__bpf_call_base"  # imm of a helper call is relative to it
_TAIL_CALL = 12  # BPF_FUNC_tail_call: imm stays the helper number, since it isn't a call
_PSEUDO_CALL = 1  # BPF_PSEUDO_CALL: source register of a call inside the program


class EntryFunction(NamedTuple):
    """The entry function of a program.

    Args:
        name: complete; the name of the program itself is truncated to 15 characters.
        type_id: of the function, in the BTF of the program.
    """

    name: str
    type_id: int


def entry_function(program: ProgramInfo) -> EntryFunction | None:
    """Return the entry function of ``program``; None if it was loaded without BTF of functions.

    Raises:
        OSError: the kernel refused to open its BTF.
    """
    if not program.entry_type_id:
        return None
    fd = bpf_info.btf_open(program.btf_id)
    if fd is None:
        return None
    with closing_fd(fd):
        data = bpf_info.btf_data(fd)
    try:
        name = BTF(parse(data)).type(program.entry_type_id).name
    except BTFError:  # a BTF kind newer than this pypwru
        name = program.name
    return EntryFunction(name, program.entry_type_id)


def program_display_name(program: ProgramInfo, entry: EntryFunction) -> str:
    """Return the name in /proc/kallsyms (the kernel's bpf_get_prog_name()), the format of pwru."""
    return f"bpf_prog_{program.tag}_{entry.name}[bpf]"


def called_kernel_functions(symbols: Symbols) -> set[str]:
    """Return the names of the kernel functions that loaded BPF programs call: helpers and kfuncs.

    Read from the instructions after verification: a look-up in a hash map is
    ``__htab_map_lookup_elem``, and inlined helpers are absent. Empty if the kernel hides addresses
    (kernel.kptr_restrict). Kfuncs are found only on architectures that encode them as calls
    relative to __bpf_call_base, as helpers: not on arm64.

    Args:
        symbols: of the running kernel, with addresses.

    Raises:
        KernelError: no right to list programs (CAP_SYS_ADMIN).
    """
    base = symbols.addresses(_CALL_BASE)[0]
    try:
        found = {
            symbols.by_address.get((base + offset) & 0xFFFF_FFFF_FFFF_FFFF)
            for program_id in bpf_info.program_ids()
            for offset in _called_offsets(_instructions(program_id))
        }
    except OSError as error:
        raise listing_error(error) from error
    return {name for name in found if name is not None and name != _CALL_BASE}


def listing_error(error: OSError) -> KernelError:
    """Return the KernelError for a failure to list BPF programs."""
    rights = "it takes CAP_SYS_ADMIN: run as root of the host"
    return KernelError(f"Failed to list BPF programs: {error.strerror}", remedy(error, rights))


def _instructions(program_id: int) -> bytes:
    fd = bpf_info.program_open(program_id)
    if fd is None:
        return b""
    with closing_fd(fd):
        return bpf_info.program_instructions(fd)


def _called_offsets(code: bytes) -> Iterator[int]:
    """Yield the offsets from __bpf_call_base of called functions (bpf_insn_prepare_dump())."""
    for insn in unpack(code):
        if (
            insn.code == CALL_HELPER
            and insn.src != _PSEUDO_CALL
            and insn.imm not in (0, _TAIL_CALL)
        ):
            yield insn.imm
