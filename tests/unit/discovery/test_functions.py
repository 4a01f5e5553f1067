"""Discovery of functions in small BTFs that the tests encode; tests/native has a real one."""

from __future__ import annotations

import pytest

from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.btf.types import Kind
from pypwru.config import Backend
from pypwru.discovery.functions import DiscoveryResult, discover_functions
from pypwru.discovery.no_match import no_function_error, no_tracepoint_error
from pypwru.discovery.plan import Handler, plan_functions, plan_tracepoints
from pypwru.discovery.selection import Selection
from pypwru.discovery.tracepoints import Tracepoint, discover_tracepoints
from pypwru.errors import KernelError, UsageError
from pypwru.kernel.ftrace import TraceableFunctions, parse_traceable, parse_traceable_addresses
from pypwru.kernel.kallsyms import Symbols, parse_symbols
from tests.data.btf_encoder import Encoder

ALL_FUNCTIONS = Selection()


class Kernel:
    """An encoder with the types of the prototypes of these tests."""

    def __init__(self) -> None:
        self.encoder = e = Encoder()
        self.int = e.integer("int", 4, encoding=1)
        skb = e.struct("sk_buff", 232)
        self.skb = e.ptr(skb)
        self.const = e.ptr(e.add(Kind.CONST, "", skb))
        self.pointer = e.ptr(0)
        self.reason = e.enum("skb_drop_reason", {"SKB_NOT_DROPPED_YET": 0})
        self.other_enum = e.enum("sk_rst_reason", {"SK_RST_REASON_NOT_SPECIFIED": 0})
        self.two_words = e.struct("sockptr_t", 16)
        self.one_word = e.struct("kuid_t", 4)
        self.large = e.struct("sockaddr_storage", 128)
        self.quad = e.integer("__int128", 16)

    def function(self, name: str, *types: int) -> None:
        self.encoder.func(
            name, self.encoder.proto(0, *((f"a{at}", t) for at, t in enumerate(types)))
        )

    def tracepoint(self, name: str, *types: int) -> None:
        params = [("__data", self.pointer), *(("", one) for one in types)]
        e = self.encoder
        e.add(Kind.TYPEDEF, f"btf_trace_{name}", e.ptr(e.proto(0, *params)))

    def btf(self) -> BTF:
        return BTF(parse(self.encoder.bytes()))

    def module(self, *functions: str) -> BTF:
        split = Encoder(self.encoder.order, self.encoder)
        for name in functions:
            split.func(name, split.proto(0, ("skb", self.skb)))
        return BTF(parse(split.bytes(), parse(self.encoder.bytes())))


def discovered_args(
    kernel: Kernel, selection: Selection = ALL_FUNCTIONS
) -> dict[str, tuple[int, int]]:
    result = discover_functions(kernel.btf(), {}, None, None, selection)
    return {one.display: (one.skb_arg, one.reason_arg) for one in result.functions}


def unattachable_reasons(discovery: DiscoveryResult) -> dict[str, str]:
    return {function.display: reason for function, reason in discovery.unattachable}


def test_skb_arg_is_the_first_skb() -> None:
    kernel = Kernel()
    kernel.function("first", kernel.skb)
    kernel.function("fifth", *[kernel.int] * 4, kernel.skb)
    kernel.function("const", kernel.pointer, kernel.const)
    # pwru counts (skb, x, skb) as 2, the register of x.
    kernel.function("bpf_skops_hdr_opt_len", kernel.pointer, kernel.skb, kernel.int, kernel.skb)
    kernel.function("none", kernel.pointer)
    assert discovered_args(kernel) == {
        "first": (1, 0),
        "fifth": (5, 0),
        "const": (2, 0),
        "bpf_skops_hdr_opt_len": (2, 0),
    }


def test_wide_arguments_take_two_registers() -> None:
    kernel = Kernel()
    kernel.function("two_words", kernel.two_words, kernel.skb)
    kernel.function("one_word", kernel.one_word, kernel.skb)
    kernel.function("quad", kernel.quad, kernel.int, kernel.skb)
    kernel.function("pushed_out", *[kernel.two_words] * 2, kernel.int, kernel.skb)
    kernel.function("large", kernel.large, kernel.skb)
    kernel.function("large_behind", kernel.skb, kernel.large)
    assert discovered_args(kernel) == {
        "two_words": (3, 0),
        "one_word": (2, 0),
        "quad": (4, 0),
        "large_behind": (1, 0),
    }
    refused = unattachable_reasons(discover_functions(kernel.btf(), {}, None, None, ALL_FUNCTIONS))
    assert refused["pushed_out"] == "argument 4: only the first 5 can be read"
    assert "bytes is passed by value" in refused["large"]


def test_sixth_argument_is_unattachable() -> None:
    kernel = Kernel()
    kernel.function("ip_generic_getfrag", *[kernel.int] * 5, kernel.skb)
    discovery = discover_functions(kernel.btf(), {}, None, None, ALL_FUNCTIONS)
    assert discovery.functions == ()
    assert unattachable_reasons(discovery) == {
        "ip_generic_getfrag": "argument 6: only the first 5 can be read"
    }


def test_reason_arg_is_found_by_type() -> None:
    kernel = Kernel()
    kernel.function("kfree_skb_reason", kernel.skb, kernel.reason)
    kernel.function("sk_skb_reason_drop", kernel.pointer, kernel.skb, kernel.reason)
    kernel.function("kfree_skb_list_reason", kernel.skb, kernel.reason)
    assert discovered_args(kernel) == {
        "kfree_skb_reason": (1, 2),
        "sk_skb_reason_drop": (2, 3),
        "kfree_skb_list_reason": (1, 2),
    }


def traceable(*lines: str) -> TraceableFunctions:
    return parse_traceable("".join(f"{line}\n" for line in lines))


def symbols(*lines: str) -> Symbols:
    return parse_symbols("".join(f"{line}\n" for line in lines))


def test_ftrace_lists_traceable_functions() -> None:
    kernel = Kernel()
    for name in ("ip_rcv", "inlined", "xfrm_prep", "veth_xmit"):
        kernel.function(name, kernel.skb)
    listed = traceable("ip_rcv", "xfrm_prep.isra.0", "veth_xmit [veth]")
    discovery = discover_functions(kernel.btf(), {}, listed, None, ALL_FUNCTIONS)
    assert [one.name for one in discovery.functions] == ["ip_rcv"]
    assert unattachable_reasons(discovery).keys() == {"inlined", "xfrm_prep", "veth_xmit"}
    assert "xfrm_prep.isra.0" in unattachable_reasons(discovery)["xfrm_prep"]
    assert "ftrace can't hook it" in unattachable_reasons(discovery)["inlined"]


def test_modules_have_their_own_names() -> None:
    kernel = Kernel()
    kernel.function("start_xmit", kernel.pointer, kernel.skb)
    modules = {"virtio_net": kernel.module("start_xmit"), "veth": kernel.module("gone")}
    listed = traceable("start_xmit", "start_xmit [virtio_net]", "gone")
    table = symbols("ffffffff81000000 t start_xmit", "ffffffffc0000000 t start_xmit\t[virtio_net]")
    discovery = discover_functions(kernel.btf(), modules, listed, table, ALL_FUNCTIONS)
    assert [(one.display, one.skb_arg, one.addresses) for one in discovery.functions] == [
        ("start_xmit", 2, (0xFFFFFFFF81000000,)),
        ("start_xmit[virtio_net]", 1, (0xFFFFFFFFC0000000,)),
    ]
    assert unattachable_reasons(discovery).keys() == {"gone[veth]"}


DUPLICATES = (
    "ffffffff81000000 t reg_vif_xmit",
    "ffffffff81000040 t ip_rcv",
    "ffffffff81000080 t reg_vif_xmit",
)


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        (traceable("reg_vif_xmit", "ip_rcv"), (0xFFFFFFFF81000000, 0xFFFFFFFF81000080)),
        (
            parse_traceable_addresses("ffffffff81000084 reg_vif_xmit\nffffffff81000044 ip_rcv\n"),
            (0xFFFFFFFF81000080,),
        ),
        (
            parse_traceable_addresses(
                "ffffffff81000000 reg_vif_xmit\nffffffff81000090 reg_vif_xmit\n"
            ),
            (0xFFFFFFFF81000000, 0xFFFFFFFF81000080),
        ),
    ],
    ids=["unknown", "behind ENDBR", "both"],
)
def test_addresses_of_a_shared_name(listing: TraceableFunctions, expected: tuple[int, ...]) -> None:
    kernel = Kernel()
    kernel.function("reg_vif_xmit", kernel.skb)
    discovery = discover_functions(kernel.btf(), {}, listing, symbols(*DUPLICATES), ALL_FUNCTIONS)
    (function,) = discovery.functions
    assert function.addresses == expected


def test_name_without_address_is_unattachable() -> None:
    kernel = Kernel()
    kernel.function("ip_rcv", kernel.skb)
    kernel.function("gone", kernel.skb)
    discovery = discover_functions(kernel.btf(), {}, None, symbols(*DUPLICATES), ALL_FUNCTIONS)
    assert [one.name for one in discovery.functions] == ["ip_rcv"]
    assert unattachable_reasons(discovery) == {"gone": "it has no address in /proc/kallsyms"}


def test_ambiguous_prototype_is_unattachable() -> None:
    kernel = Kernel()
    kernel.function("add_grec", kernel.skb)
    kernel.function("add_grec", kernel.pointer, kernel.skb)
    kernel.function("alike", kernel.skb, kernel.int)
    kernel.function("alike", kernel.skb)
    discovery = discover_functions(kernel.btf(), {}, None, None, ALL_FUNCTIONS)
    assert [one.name for one in discovery.functions] == ["alike"]
    assert "different arguments" in unattachable_reasons(discovery)["add_grec"]


def test_select_by_name_priority_category() -> None:
    kernel = Kernel()
    for name in ("ip_rcv", "ip_rcv_core", "tcp_v4_rcv", "tcp_ack", "nobody_lists_this"):
        kernel.function(name, kernel.skb)
    assert discovered_args(kernel, Selection(filter_func="ip_rcv")).keys() == {"ip_rcv"}
    assert discovered_args(kernel, Selection(priority=0)).keys() == {"ip_rcv_core", "tcp_v4_rcv"}
    assert discovered_args(kernel, Selection(categories=frozenset({"tcp"}))).keys() == {
        "tcp_v4_rcv",
        "tcp_ack",
    }
    both = Selection(filter_func="tcp_.*", priority=1, categories=frozenset({"tcp", "ip"}))
    assert discovered_args(kernel, both).keys() == {"tcp_v4_rcv"}
    assert discovered_args(kernel, Selection(categories=frozenset({"other"}))).keys() == {
        "nobody_lists_this"
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"priority": 4}, "--priority 4"),
        ({"priority": -1}, "--priority -1"),
        (
            {"categories": frozenset({"tcp", "tpc"})},
            r"--category tpc: .*nft, .*other; did you mean tcp\?$",
        ),
    ],
)
def test_unknown_priority_or_category(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Selection(**arguments)  # type: ignore[arg-type]


def test_tracepoint_argument_indexes() -> None:
    kernel = Kernel()
    kernel.tracepoint("kfree_skb", kernel.skb, kernel.pointer, kernel.reason, kernel.pointer)
    kernel.tracepoint("tcp_send_reset", kernel.pointer, kernel.const, kernel.other_enum)
    kernel.tracepoint("qdisc_dequeue", kernel.pointer, kernel.pointer, kernel.int, kernel.skb)
    kernel.tracepoint("sched_switch", kernel.int, kernel.pointer)
    assert discover_tracepoints(kernel.btf(), ALL_FUNCTIONS) == (
        Tracepoint("kfree_skb", 0, 2, "drop", 0),
        Tracepoint("tcp_send_reset", 1, None, "tcp", 1),
        Tracepoint("qdisc_dequeue", 3, None, "qdisc", 2),
    )
    named = discover_tracepoints(kernel.btf(), Selection(filter_func="qdisc.*"))
    assert [one.name for one in named] == ["qdisc_dequeue"]
    assert [one.name for one in discover_tracepoints(kernel.btf(), Selection(priority=0))] == [
        "kfree_skb"
    ]


def test_plan_groups_by_handler() -> None:
    kernel = Kernel()
    kernel.function("ip_rcv", kernel.skb)
    kernel.function("sk_skb_reason_drop", kernel.pointer, kernel.skb, kernel.reason)
    kernel.function("tcp_v4_rcv", kernel.skb)
    kernel.function("tcp_ack", kernel.pointer, kernel.skb)
    kernel.tracepoint("kfree_skb", kernel.skb)
    plan = plan_functions(
        Backend.KPROBE, discover_functions(kernel.btf(), {}, None, None, ALL_FUNCTIONS)
    )
    assert {key: [one.name for one in group] for key, group in plan.groups.items()} == {
        Handler("trace_skb", 1, 0): ["ip_rcv", "tcp_v4_rcv"],
        Handler("trace_skb", 2, 0): ["tcp_ack"],
        Handler("trace_skb", 2, 3): ["sk_skb_reason_drop"],
    }
    assert (plan.target_count, plan.addresses) == (4, 0)
    other = plan_tracepoints(discover_tracepoints(kernel.btf(), ALL_FUNCTIONS))
    assert (other.backend, other.target_count, other.groups) == (Backend.TRACEPOINT, 1, {})


def no_match_message(
    kernel: Kernel, selection: Selection, listed: TraceableFunctions | None = None
) -> str:
    btf = kernel.btf()
    discovery = discover_functions(btf, {}, listed, None, selection)
    assert discovery.functions == ()
    error = no_function_error(selection, btf, {}, discovery)
    assert isinstance(error, KernelError)
    assert "\n" not in str(error)
    return str(error)


def test_no_match_names_the_cure() -> None:
    kernel = Kernel()
    for name in ("ip_rcv", "ip_rcv_core", "tcp_v4_rcv"):
        kernel.function(name, kernel.skb)
    kernel.function("sock_poll", kernel.pointer)
    prefix = "Cannot find a matching kernel function: "
    for expression, words in {
        "ip_recv": "ip_recv is not in this kernel's BTF; did you mean ip_rcv",
        "sock_poll": "sock_poll has no sk_buff argument; ",
        "zzz": "add --all-kmods",
        "ip_re.*": "loosen --filter-func 'ip_re.*', or add --all-kmods",
    }.items():
        message = no_match_message(kernel, Selection(filter_func=expression))
        assert message.startswith(prefix) and words in message
    assert "--priority 0" in no_match_message(kernel, Selection(filter_func="ip_rcv", priority=0))
    assert "--category nft" in no_match_message(kernel, Selection(categories=frozenset({"nft"})))
    refused = no_match_message(kernel, Selection(filter_func="ip_rcv"), traceable("other"))
    assert "ip_rcv can't be traced (ftrace can't hook it" in refused
    unhooked = no_match_message(kernel, ALL_FUNCTIONS, traceable("other"))
    assert "none to be hooked; pypwru --list-functions has the reasons" in unhooked
    kernel.tracepoint("sched_switch", kernel.pointer)
    assert no_match_message(kernel, ALL_FUNCTIONS, traceable("other")) == unhooked, (
        "it has no packet"
    )
    kernel.tracepoint("kfree_skb", kernel.skb)
    assert "trace with --backend tracepoint" in no_match_message(
        kernel, ALL_FUNCTIONS, traceable("other")
    )


def test_no_tracepoint_suggests_similar() -> None:
    kernel = Kernel()
    kernel.tracepoint("netif_receive_skb", kernel.skb)
    message = str(no_tracepoint_error(Selection(filter_func="netif_receive"), kernel.btf(), {}))
    assert "did you mean netif_receive_skb?" in message
    narrow = Selection(categories=frozenset({"nft"}))
    assert "--category nft" in str(no_tracepoint_error(narrow, kernel.btf(), {}))


@pytest.mark.parametrize("selection", [ALL_FUNCTIONS, Selection("kfree_skb"), Selection("", 0)])
def test_no_skb_tracepoint_suggests_another_backend(selection: Selection) -> None:
    kernel = Kernel()
    kernel.tracepoint("sched_switch", kernel.pointer)
    message = str(no_tracepoint_error(selection, kernel.btf(), {}))
    assert message.endswith("none with an sk_buff argument; choose another --backend")


def test_btf_without_functions_is_named() -> None:
    kernel = Kernel()
    selection = Selection("", 3, frozenset())
    error = no_function_error(selection, kernel.btf(), {}, DiscoveryResult((), ()))
    assert "types but no functions" in str(error) and "tracepoint" not in str(error)
    kernel.tracepoint("kfree_skb", kernel.skb)
    error = no_function_error(selection, kernel.btf(), {}, DiscoveryResult((), ()))
    assert "types but no functions" in str(error) and "--backend tracepoint" in str(error)
