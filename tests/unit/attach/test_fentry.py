"""Targets of fentry, the fallback to kprobes, and when fentry is selected."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import pytest

from pypwru.attach.fentry import attach
from pypwru.attach.report import AttachReport
from pypwru.attach.select import MAX_SINGLE_FENTRY, why_not_preferred
from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.btf.types import Kind
from pypwru.config import Backend
from pypwru.discovery.auxiliary_probes import Probe
from pypwru.discovery.fentry_targets import type_ids
from pypwru.discovery.functions import DiscoveryResult, Function
from pypwru.discovery.plan import (
    AttachPlan,
    Handler,
    plan_fentry,
    plan_functions,
    with_kprobe_fallback,
)
from pypwru.discovery.skb_lifetime import Hook
from pypwru.errors import KernelError
from pypwru.kernel.kallsyms import Symbols
from pypwru.log import Log
from tests.data.btf_encoder import Encoder

if TYPE_CHECKING:
    from pypwru.program.load import Loader


def function(name: str, module: str = "", position: int = 1) -> Function:
    display = f"{name}[{module}]" if module else name
    return Function(name, module, position, 0, (16,), display, "ip", 1)


def symbols(*displays: str) -> Symbols:
    return Symbols(list(displays), array("Q", range(16, 16 + 16 * len(displays), 16)))


def encode_functions(*names: str, base: Encoder | None = None) -> Encoder:
    encoder = Encoder("<", base)
    proto = encoder.proto(0)
    for name in names:
        encoder.func(name, proto)
    return encoder


def add_unsupported(encoder: Encoder) -> Encoder:
    """Add prototypes that fentry doesn't support, and the longest that it does."""
    number = encoder.integer("int", 4)
    pair = encoder.struct("pair", 8, ("one", number, 0), ("two", number, 32))
    many = [(f"a{place}", number) for place in range(13)]
    encoder.func("variadic", encoder.proto(number, ("format", number), ("", 0)))
    encoder.func("thirteen", encoder.proto(number, *many))
    encoder.func("twelve", encoder.proto(number, *many[:12]))
    encoder.func("returns_pair", encoder.proto(encoder.add(Kind.TYPEDEF, "both", pair)))
    return encoder


CORE = add_unsupported(encode_functions("ip_rcv", "twice", "twice", "doubled", "shared"))
MODULE = encode_functions("veth_xmit", "shared", base=CORE)
UNSUPPORTED = ("variadic", "thirteen", "returns_pair")
BTFS = {"": BTF(parse(CORE.bytes()))}
BTFS["veth"] = BTF(parse(MODULE.bytes(), BTFS[""].blob))


def ids(*functions: Function) -> dict[str, int]:
    known = ["ip_rcv", "twice", "doubled", "doubled", "shared", "veth_xmit[veth]", "shared[veth]"]
    return type_ids(functions, BTFS, symbols(*known, *UNSUPPORTED, "twelve"))


def test_unique_name_has_its_type_id() -> None:
    found = ids(function("ip_rcv"))

    assert list(found) == ["ip_rcv"]
    assert BTFS[""].type(found["ip_rcv"]).name == "ip_rcv"


@pytest.mark.parametrize("name", ["twice", "doubled", "absent"])
def test_ambiguous_name_has_no_type_id(name: str) -> None:
    assert ids(function(name)) == {}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_prototype_is_left_out(name: str) -> None:
    assert ids(function(name)) == {}
    assert list(ids(function("twelve"))) == ["twelve"]


def test_module_function_is_in_module_btf() -> None:
    found = ids(function("veth_xmit", "veth"))

    assert found["veth_xmit[veth]"] in BTFS["veth"].ids()


def test_name_shared_with_vmlinux_is_ambiguous() -> None:
    assert ids(function("shared", "veth")) == {}
    assert list(ids(function("shared"))) == ["shared"]


def test_plan_separates_kprobes() -> None:
    stacked = Probe(Hook("trace_nested_call"), function("fib_table_lookup"))
    built = Probe(Hook("hook_skb_build"), function("__build_skb_around"))
    discovery = DiscoveryResult((function("ip_rcv"), function("kfree_skbmem")), ())
    whole = plan_functions(Backend.FENTRY, discovery, [stacked], [built], tracks_lifetime=True)
    plan = plan_fentry(whole, {"ip_rcv": 7}, Backend.KPROBE)

    assert set(plan.groups) == {Handler("trace_skb", 1), Handler("trace_skb_last", 1)}
    assert not plan.hooks and plan.type_ids == {"ip_rcv": 7}
    assert plan.backends == {Backend.FENTRY, Backend.KPROBE}
    assert plan.kprobe_plan is not None and plan.kprobe_plan.backend is Backend.KPROBE
    assert set(plan.kprobe_plan.groups) == {Handler("trace_nested_call", 1)}
    assert set(plan.kprobe_plan.hooks) == {Handler("hook_skb_build", 1)}
    assert plan.target_count == whole.target_count == 3


def test_other_functions_fall_back_to_kprobes() -> None:
    whole = plan_functions(Backend.FENTRY, DiscoveryResult((function("ip_rcv"),), ()))
    plan = plan_fentry(whole, {}, Backend.KPROBE_MULTI)
    assert plan.kprobe_plan is not None
    freed = {Handler("trace_skb_last", 2): (function("kfree_skbmem"),)}
    probed = with_kprobe_fallback(plan.kprobe_plan, {**plan.groups, **freed})

    assert probed.backend is Backend.KPROBE_MULTI
    assert set(probed.groups) == {Handler("probe_skb", 1), Handler("probe_skb_last", 2)}


def test_fallback_of_all_functions_is_logged() -> None:
    """Else nothing but a debug line would report that another backend traces."""

    class RefusingLoader:
        def load(self, *args: object, **options: object) -> int:
            raise KernelError("The kernel's verifier refused trace_skb")

    whole = plan_functions(Backend.FENTRY, DiscoveryResult((function("ip_rcv"),), ()))
    plan = plan_fentry(whole, {"ip_rcv": 7}, Backend.KPROBE)
    attached: list[AttachPlan] = []

    @contextmanager
    def attach_kprobes(fallback: AttachPlan) -> Iterator[None]:
        attached.append(fallback)
        yield

    messages = io.StringIO()
    loader = cast("Loader", RefusingLoader())
    with attach(plan, loader, AttachReport(), Log(messages), lambda: False, attach_kprobes):
        pass
    assert [set(fallback.groups) for fallback in attached] == [{Handler("probe_skb", 1)}]
    why = 'why="The kernel\'s verifier refused trace_skb"'
    assert f"WARN Tracing all functions by kprobes instead {why}\n" in messages.getvalue()


def test_without_kprobes_no_fallback() -> None:
    whole = plan_functions(Backend.FENTRY, DiscoveryResult((function("ip_rcv"),), ()))

    assert plan_fentry(whole, {}, None).backends == {Backend.FENTRY}


def test_single_fentry_is_for_few_functions() -> None:
    assert not why_not_preferred(Backend.FENTRY, MAX_SINGLE_FENTRY, is_running_kernel=True)
    assert f"{MAX_SINGLE_FENTRY + 1} functions" in why_not_preferred(
        Backend.FENTRY, MAX_SINGLE_FENTRY + 1, is_running_kernel=True
    )
    assert not any(
        why_not_preferred(one, 2000, True) for one in Backend if one is not Backend.FENTRY
    )


@pytest.mark.parametrize("backend", Backend)
def test_foreign_btf_excludes_fentry(backend: Backend) -> None:
    refused = "--kernel-btf" in why_not_preferred(backend, 1, is_running_kernel=False)

    assert refused == (backend in (Backend.FENTRY, Backend.FENTRY_MULTI))
