"""Which raw tracepoints carry a packet: BTF alone says it, without ftrace and without kprobes.

``btf_trace_NAME`` is the type of the kernel's own callback (include/trace/bpf_probe.h): its first
parameter is the context, the others are what a raw tracepoint program finds in ``ctx->args``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from pypwru.discovery import prototypes, tables
from pypwru.discovery.selection import TRACEPOINT, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pypwru.btf.query import BTF

_NO_MODULES: Mapping[str, BTF] = MappingProxyType({})


class Tracepoint(NamedTuple):
    """A raw tracepoint to trace.

    Args:
        name: as BPF_RAW_TRACEPOINT_OPEN wants it.
        position: index in ``ctx->args`` of the packet.
        reason: index in ``ctx->args`` of an ``enum skb_drop_reason``; None for none.
        category: one of tables.categories().
        priority: 0 to 3.
        module: '' for vmlinux.
    """

    name: str
    position: int
    reason: int | None
    category: str
    priority: int
    module: str = ""

    @property
    def display(self) -> str:
        """``tp:name``."""
        return TRACEPOINT + self.name


def discover_tracepoints(
    btf: BTF, selection: Selection, modules: Mapping[str, BTF] = _NO_MODULES
) -> tuple[Tracepoint, ...]:
    """Find the tracepoints to trace.

    Args:
        btf, modules: as of ``all_tracepoints``.
        selection: by name, category and priority.

    Raises:
        BTFError: malformed BTF.
    """
    return select(all_tracepoints(btf, modules), selection)


def select(found: Iterable[Tracepoint], selection: Selection) -> tuple[Tracepoint, ...]:
    """Those of ``found`` that the selection matches."""
    return tuple(
        one
        for one in found
        if selection.tells(one.display, reason=True)
        or selection.asks(one.name, one.display, one.category, one.priority)
    )


def all_tracepoints(btf: BTF, modules: Mapping[str, BTF] = _NO_MODULES) -> tuple[Tracepoint, ...]:
    """Find every tracepoint that carries a packet.

    Args:
        btf: of vmlinux.
        modules: module -> its BTF, of those whose tracepoints are traced too.

    Raises:
        BTFError: malformed BTF.
    """
    found = []
    for module, types in {"": btf, **modules}.items():
        for name, proto_id in types.tracepoints():
            place = prototypes.place_of_packet(types, proto_id)
            if place is None:
                continue
            category = tables.category(name, module)
            priority = tables.tracepoint_priority(name)
            reason = prototypes.place_of_reason(types, proto_id)
            # Places count from 1 and with the context, args from 0 and without it.
            index = None if reason is None else reason - 2
            found.append(Tracepoint(name, place - 2, index, category, priority, module))
    return tuple(found)
