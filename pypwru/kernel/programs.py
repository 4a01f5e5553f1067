"""BPF programs that are loaded, as a tracer sees them: by which function to trace, and its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.errors import BTFError, KernelError, cure
from pypwru.filter.ebpf import CALL_HELPER, unpack
from pypwru.kernel import bpf_objects
from pypwru.kernel.descriptors import owned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.kernel.bpf_objects import ProgramInfo
    from pypwru.kernel.kallsyms import Symbols

_CALL_BASE = "__bpf_call_base"  # calls of helpers are relative to it
_TAIL_CALL = 12  # BPF_FUNC_tail_call: shown as its number, since it isn't a call
_PSEUDO_CALL = 1  # source register of a call inside the program


class Entry(NamedTuple):
    """The function in which a program begins.

    Args:
        name: whole, where a program's own name is cut to 15 characters.
        type_id: of the function, in the BTF of the program.
    """

    name: str
    type_id: int


def entry_of(program: ProgramInfo) -> Entry | None:
    """Where ``program`` begins; None if it was loaded without BTF of its functions."""
    if not program.entry:
        return None
    fd = bpf_objects.btf_open(program.btf)
    if fd is None:
        return None
    with owned(fd):
        data = bpf_objects.btf_data(fd)
    try:
        name = BTF(parse(data)).type(program.entry).name
    except BTFError:  # of a kind that is newer than this pypwru
        name = program.name
    return Entry(name, program.entry)


def display_name(program: ProgramInfo, entry: Entry) -> str:
    """As /proc/kallsyms has it (bpf_get_prog_name() of the kernel), and pwru."""
    return f"bpf_prog_{program.tag}_{entry.name}[bpf]"


def helper_targets(symbols: Symbols) -> set[str]:
    """Names of the kernel functions that the loaded programs call: helpers and kfuncs.

    As the verifier left them, so that a look-up in a hash map is ``__htab_map_lookup_elem``, and
    what it inlined is no call. Where the kernel hides addresses (kernel.kptr_restrict) there are
    none. The calls of kfuncs are known where they are as short as those of helpers: not on arm64.

    Args:
        symbols: of the running kernel, addresses included.

    Raises:
        KernelError: no right to look at programs.
    """
    base = symbols.addresses(_CALL_BASE)[0]
    try:
        found = {
            symbols.by_address.get((base + offset) & 0xFFFF_FFFF_FFFF_FFFF)
            for identity in bpf_objects.program_ids()
            for offset in _calls(_instructions(identity))
        }
    except OSError as error:
        raise cannot_list(error) from error
    return {name for name in found if name is not None and name != _CALL_BASE}


def cannot_list(error: OSError) -> KernelError:
    """The error of who has no right to look at programs."""
    rights = "it takes CAP_SYS_ADMIN: run as root of the host"
    return KernelError(f"Failed to list BPF programs: {error.strerror}; {cure(error, rights)}")


def _instructions(identity: int) -> bytes:
    fd = bpf_objects.program_open(identity)
    if fd is None:
        return b""
    with owned(fd):
        return bpf_objects.program_instructions(fd)


def _calls(code: bytes) -> Iterator[int]:
    """Offsets from __bpf_call_base of what is called: bpf_insn_prepare_dump() of the kernel."""
    for insn in unpack(code):
        if (
            insn.code == CALL_HELPER
            and insn.src != _PSEUDO_CALL
            and insn.imm not in (0, _TAIL_CALL)
        ):
            yield insn.imm
