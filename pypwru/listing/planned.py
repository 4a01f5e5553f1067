"""List entries of an AttachPlan: functions and tracepoints, with C declarations from BTF."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from pypwru.attach.fentry import UNFIT
from pypwru.btf.types import Kind
from pypwru.config import Backend
from pypwru.discovery import prototypes
from pypwru.listing.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pypwru.btf.query import BTF
    from pypwru.discovery.functions import Function
    from pypwru.discovery.plan import AttachPlan
    from pypwru.discovery.tracepoints import Tracepoint

_BY_TYPE = (Backend.FENTRY, Backend.FENTRY_MULTI)


class Verdict(NamedTuple):
    """Whether a function can be attached, and the reason if not.

    Args:
        attachable: None if unknown.
        why: '' unless ``attachable`` is False.
    """

    attachable: bool | None
    why: str = ""


YES, UNKNOWN = Verdict(True), Verdict(None)


def entries(
    plan: AttachPlan, btf: BTF, modules: Mapping[str, BTF], verdict: Verdict
) -> Iterator[Entry]:
    """Yield the entries of a plan, in its order.

    Args:
        plan: of functions or tracepoints.
        btf: of vmlinux.
        modules: module -> its BTF.
        verdict: of the planned functions; functions that the plan lists as unattachable have their
            own.

    Raises:
        BTFError: malformed BTF.
    """
    declared = _Signatures({"": btf, **modules})
    unfit = plan.backend in _BY_TYPE and plan.probes is None
    for function in plan.functions:
        fits = not unfit or function.display in plan.type_ids
        yield _function(function, declared, verdict if fits else Verdict(False, UNFIT))
    for function, why in plan.refused:
        yield _function(function, declared, Verdict(False, why))
    for tracepoint in plan.tracepoints:
        yield _tracepoint(tracepoint, declared, verdict)


def _function(function: Function, declared: _Signatures, verdict: Verdict) -> Entry:
    return Entry(
        function.name,
        function.module,
        function.position or None,
        function.category,
        function.priority,
        declared.of_function(function),
        *verdict,
    )


def _tracepoint(tracepoint: Tracepoint, declared: _Signatures, verdict: Verdict) -> Entry:
    return Entry(
        tracepoint.display,
        tracepoint.module,
        tracepoint.position + 1,
        tracepoint.category,
        tracepoint.priority,
        declared.of_tracepoint(tracepoint),
        *verdict,
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
            for name, proto_id, _ in btf.functions_taking(prototypes.PACKET, max_args=32)
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
            return btf.declare(proto_id, function.name)
        known = btf.find(function.name, Kind.FUNC)
        return btf.declare(btf.type(known[0]).type, function.name) if known else ""

    def of_tracepoint(self, tracepoint: Tracepoint) -> str:
        """Return the tracepoint as a function of its arguments, without the callback's context.

        The parameters of the callback's type have no names; those of ``__traceiter_NAME``, which
        calls it, have (since Linux 5.10, include/linux/tracepoint.h).
        """
        btf = self._types[tracepoint.module]
        named = btf.find(f"__traceiter_{tracepoint.name}", Kind.FUNC)
        proto_id = (
            btf.type(named[0]).type
            if named
            else self._callbacks[tracepoint.module, tracepoint.name]
        )
        given = (btf.declare(param.type, param.name) for param in btf.params(proto_id)[1:])
        return f"void {tracepoint.name}({', '.join(given)})"
