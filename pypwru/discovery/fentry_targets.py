"""Find the functions that fentry can attach to, which the kernel resolves by BTF type id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pypwru.btf.types import STRUCTS, Kind
from pypwru.kernel.kallsyms import Symbols, display_name

if TYPE_CHECKING:
    from pypwru.btf.query import BTF
    from pypwru.discovery.functions import Function

TypeIds = Mapping[str, int]
"""Display name -> BTF type id of a FUNC, in the BTF of the function's module."""

_MAX_ARGUMENTS = 12  # MAX_BPF_FUNC_ARGS of linux/bpf.h


def type_ids(
    functions: Iterable[Function], types: Mapping[str, BTF], symbols: Symbols
) -> dict[str, int]:
    """Return the type ids of functions that have a unique name and a compatible prototype.

    The kernel looks up the name of a type id among its symbols and attaches to the first one;
    before Linux commit 31bf1dbccfb0 ("bpf: Fix attaching fentry/fexit/fmod_ret/lsm to modules") (in
    v6.3) to one of vmlinux, even for a type of a module.

    Args:
        functions: candidates.
        types: module name, '' for vmlinux -> its BTF.
        symbols: all of kallsyms.
    """
    candidates = list(functions)
    vmlinux_names = {display_name(function.name) for function in candidates if function.module}
    found = symbols.select({function.display for function in candidates} | vmlinux_names)
    ids = {}
    for function in candidates:
        symbol_count = len(found.get(function.display, ())) + bool(function.module) * len(
            found.get(function.name, ())
        )
        btf = types[function.module]
        func_ids = [number for number in btf.find(function.name, Kind.FUNC) if number in btf.ids()]
        if (
            symbol_count == 1
            and len(func_ids) == 1
            and _is_compatible_prototype(btf, btf.type(func_ids[0]).type)
        ):
            ids[function.display] = func_ids[0]
    return ids


def _is_compatible_prototype(btf: BTF, proto_id: int) -> bool:
    """Return whether a trampoline can call such a function: btf_distill_func_proto().

    One multi link takes all of its functions or none, and finding the culprit costs a dozen more.
    """
    params = btf.params(proto_id)
    returned = btf.type(btf.resolve(btf.type(proto_id).type))
    is_variadic = bool(params) and params[-1].type == 0
    return not is_variadic and len(params) <= _MAX_ARGUMENTS and returned.kind not in STRUCTS
