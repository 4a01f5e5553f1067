"""Find the raw tracepoints that have an sk_buff argument, by BTF alone: needs no ftrace or kprobes.

``btf_trace_NAME`` is the type of the kernel's own callback (include/trace/bpf_probe.h). Its first
parameter is the context; a raw tracepoint program finds the others in ``ctx->args``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from pypwru.discovery import arguments, function_tables
from pypwru.discovery.selection import TRACEPOINT_PREFIX, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pypwru.btf.query import BTF

_NO_MODULES: Mapping[str, BTF] = MappingProxyType({})


class Tracepoint(NamedTuple):
    """A raw tracepoint to trace.

    Args:
        name: as BPF_RAW_TRACEPOINT_OPEN takes it.
        skb_index: index of the sk_buff in ``ctx->args``, from 0.
        reason_index: the same of an ``enum skb_drop_reason``; None for none.
        category: one of function_tables.categories().
        priority: 0 (highest) to 3.
        module: '' for vmlinux.
    """

    name: str
    skb_index: int
    reason_index: int | None
    category: str
    priority: int
    module: str = ""

    @property
    def display(self) -> str:
        """Display name ``tp:name``."""
        return TRACEPOINT_PREFIX + self.name


def discover_tracepoints(
    btf: BTF, selection: Selection, modules: Mapping[str, BTF] = _NO_MODULES
) -> tuple[Tracepoint, ...]:
    """Return the tracepoints to trace.

    Args:
        btf: of vmlinux.
        modules: module name -> its BTF, of the modules whose tracepoints are traced.
        selection: by name, category and priority.

    Raises:
        BTFError: malformed BTF.
    """
    return select(find_all_tracepoints(btf, modules), selection)


def select(found: Iterable[Tracepoint], selection: Selection) -> tuple[Tracepoint, ...]:
    """Return the tracepoints in ``found`` that match the selection."""
    return tuple(
        tracepoint
        for tracepoint in found
        if selection.is_implicit(tracepoint.display, has_reason=True)
        or selection.matches(
            tracepoint.name, tracepoint.display, tracepoint.category, tracepoint.priority
        )
    )


def find_all_tracepoints(
    btf: BTF, modules: Mapping[str, BTF] = _NO_MODULES
) -> tuple[Tracepoint, ...]:
    """Return every tracepoint that has an sk_buff argument.

    Args:
        btf: of vmlinux.
        modules: module name -> its BTF, of the modules whose tracepoints are traced.

    Raises:
        BTFError: malformed BTF.
    """
    found = []
    for module, types in {"": btf, **modules}.items():
        for name, proto_id in types.tracepoints():
            skb_param = arguments.find_skb_param(types, proto_id)
            if skb_param is None:
                continue
            category = function_tables.category(name, module)
            priority = function_tables.tracepoint_priority(name)
            reason_param = arguments.find_reason_param(types, proto_id)
            # A place counts from 1 and includes the context, an index of args from 0 without it.
            reason_index = None if reason_param is None else reason_param - 2
            found.append(Tracepoint(name, skb_param - 2, reason_index, category, priority, module))
    return tuple(found)
