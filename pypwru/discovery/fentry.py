"""Which functions fentry can be had on: that the kernel finds, and can call, by their type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pypwru.btf.types import STRUCTS, Kind
from pypwru.kernel.kallsyms import Symbols, display_name

if TYPE_CHECKING:
    from pypwru.btf.query import BTF
    from pypwru.discovery.functions import Function

TypeIds = Mapping[str, int]

_ARGUMENTS = 12  # MAX_BPF_FUNC_ARGS


def type_ids(
    functions: Iterable[Function], types: Mapping[str, BTF], symbols: Symbols
) -> dict[str, int]:
    """Display -> type id of those whose name is one function's, and whose prototype will do.

    The kernel takes a type id, looks the type's name up among its symbols, and attaches to the
    first; before Linux 6.3 to one of vmlinux even where a module's is meant (31bf1dbccfb0).

    Args:
        types: module, '' for vmlinux -> its BTF.
        symbols: of the running kernel.
    """
    wanted = list(functions)
    cores = {display_name(one.name) for one in wanted if one.module}
    found = symbols.select({one.display for one in wanted} | cores)
    ids = {}
    for one in wanted:
        places = len(found.get(one.display, ())) + bool(one.module) * len(found.get(one.name, ()))
        btf = types[one.module]
        own = [number for number in btf.find(one.name, Kind.FUNC) if number in btf.ids()]
        if places == 1 and len(own) == 1 and _will_do(btf, btf.type(own[0]).type):
            ids[one.display] = own[0]
    return ids


def _will_do(btf: BTF, proto_id: int) -> bool:
    """Whether a trampoline can stand in front of such a function: btf_distill_func_proto().

    One link takes many functions or none, and to find the culprit costs a dozen more.
    """
    params = btf.params(proto_id)
    returned = btf.type(btf.resolve(btf.type(proto_id).type))
    is_variadic = bool(params) and params[-1].type == 0
    return not is_variadic and len(params) <= _ARGUMENTS and returned.kind not in STRUCTS
