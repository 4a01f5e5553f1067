"""List entries of an AttachPlan: functions and tracepoints, with C declarations from BTF."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from pypwru.attach.fentry import WHY_NOT_FENTRY
from pypwru.btf.declare import declare, declare_function
from pypwru.btf.types import Kind
from pypwru.config import Backend
from pypwru.discovery import arguments
from pypwru.listing.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pypwru.btf.query import BTF
    from pypwru.discovery.functions import Function
    from pypwru.discovery.plan import AttachPlan
    from pypwru.discovery.tracepoints import Tracepoint

_FENTRY_BACKENDS = (Backend.FENTRY, Backend.FENTRY_MULTI)


class Attachability(NamedTuple):
    """Whether a function can be attached, and the reason if not.

    Args:
        attachable: None if unknown.
        reason: '' unless ``attachable`` is False.
    """

    attachable: bool | None
    reason: str = ""


ATTACHABLE, UNKNOWN = Attachability(True), Attachability(None)


def entries(
    plan: AttachPlan, btf: BTF, modules: Mapping[str, BTF], attachability: Attachability
) -> Iterator[Entry]:
    """Yield the entries of a plan, in its order.

    Args:
        plan: of functions or tracepoints.
        btf: of vmlinux.
        modules: module -> its BTF.
        attachability: of the planned functions; functions that the plan lists as unattachable have
            their own.

    Raises:
        BTFError: malformed BTF.
    """
    signatures = _Signatures({"": btf, **modules})
    needs_type_id = plan.backend in _FENTRY_BACKENDS and plan.kprobe_plan is None
    for function in plan.functions:
        is_attachable = not needs_type_id or function.display in plan.type_ids
        yield _function_entry(
            function,
            signatures,
            attachability if is_attachable else Attachability(False, WHY_NOT_FENTRY),
        )
    for function, reason in plan.unattachable:
        yield _function_entry(function, signatures, Attachability(False, reason))
    for tracepoint in plan.tracepoints:
        yield _tracepoint_entry(tracepoint, signatures, attachability)


def _function_entry(
    function: Function, signatures: _Signatures, attachability: Attachability
) -> Entry:
    return Entry(
        function.name,
        function.module,
        function.skb_arg or None,
        function.category,
        function.priority,
        signatures.of_function(function),
        *attachability,
    )


def _tracepoint_entry(
    tracepoint: Tracepoint, signatures: _Signatures, attachability: Attachability
) -> Entry:
    return Entry(
        tracepoint.display,
        tracepoint.module,
        tracepoint.skb_index + 1,
        tracepoint.category,
        tracepoint.priority,
        signatures.of_tracepoint(tracepoint),
        *attachability,
    )


class _Signatures:
    """C declarations of functions that take a packet; each BTF is searched once for all of them.

    Args:
        types: module ('' for vmlinux) -> BTF.
    """

    def __init__(self, types: Mapping[str, BTF]) -> None:
        self._types = types
        self._protos = {
            (module, name): proto_id
            for module, btf in types.items()
            for name, proto_id, _ in btf.functions_taking(arguments.SKB_STRUCT, max_args=32)
        }

    @cached_property
    def _callbacks(self) -> dict[tuple[str, str], int]:
        return {
            (module, name): proto_id
            for module, btf in self._types.items()
            for name, proto_id in btf.tracepoints()
        }

    def of_function(self, function: Function) -> str:
        """Return the kernel's declaration; '' if the BTF has no such function."""
        btf = self._types.get(function.module)
        if btf is None:
            return ""
        proto_id = self._protos.get((function.module, function.name))
        if proto_id is not None:
            return declare(btf, proto_id, function.name)
        is_known = bool(btf.find(function.name, Kind.FUNC))
        return declare_function(btf, function.name) if is_known else ""

    def of_tracepoint(self, tracepoint: Tracepoint) -> str:
        """Return the tracepoint as a function of its arguments, without the callback's context.

        The parameters of the callback's type have no names; those of ``__traceiter_NAME``, which
        calls it, have (since Linux 5.10, include/linux/tracepoint.h).
        """
        btf = self._types[tracepoint.module]
        traceiter = btf.find(f"__traceiter_{tracepoint.name}", Kind.FUNC)
        proto_id = (
            btf.type(traceiter[0]).type
            if traceiter
            else self._callbacks[tracepoint.module, tracepoint.name]
        )
        parameters = (declare(btf, param.type, param.name) for param in btf.params(proto_id)[1:])
        return f"void {tracepoint.name}({', '.join(parameters)})"
