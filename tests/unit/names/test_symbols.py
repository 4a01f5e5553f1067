"""Names of functions by address, stacks, and locations of drops."""

from __future__ import annotations

from array import array

import pytest

from pypwru.errors import KernelError
from pypwru.kernel.kallsyms import Symbols
from pypwru.names import symbols as symbols_module
from pypwru.names.symbols import SymbolNames

CORE = {0x1000: "ip_rcv", 0x2000: "ip_output", 0x3000: "end_of_core"}
MODULE = {0x9000: "veth_xmit[veth]", 0x9100: "veth_poll[veth]"}
OURS = "bpf_prog_0123456789abcdef_trace_skb[bpf]"
NAMED_LIKE_OURS = "bpf_prog_fedcba9876543210_trace_skb[bpf]"
THEIRS = "bpf_prog_0123456789abcdef_tc_prog[bpf]"


class Kernel:
    """Symbols that a test changes, and the number of times they were read."""

    def __init__(self, read_now: bool = True) -> None:
        self.symbols = CORE | MODULE
        self.now = 0.0
        self.reads = 0
        self.hidden = False
        self.names = SymbolNames(read_now, self.read, lambda: self.now)

    def read(self) -> Symbols:
        self.reads += 1
        if self.hidden:
            raise KernelError("hidden")
        return Symbols(list(self.symbols.values()), array("Q", self.symbols))


def test_nearest_symbol_names_an_address() -> None:
    kernel = Kernel()
    named = {0x1000: "ip_rcv", 0x1FFF: "ip_rcv", 0x2001: "ip_output", 0x9010: "veth_xmit[veth]"}
    assert {address: kernel.names.name(address) for address in named} == named
    kernel.now = 100.0
    assert kernel.names.name(0x1001) == "ip_rcv"
    assert kernel.reads == 1, "these were loaded before"


def test_below_first_symbol_is_a_number() -> None:
    assert Kernel().names.name(0x10) == "0x10"


def test_late_module_is_named_after_1_s() -> None:
    kernel = Kernel()
    kernel.symbols |= {0xA000: "wg_xmit[wireguard]", 0xA100: "wg_poll[wireguard]"}
    assert kernel.names.name(0xA010) == "veth_poll[veth]"
    kernel.now = 1.0
    assert kernel.names.name(0xA010) == "wg_xmit[wireguard]"
    assert kernel.names.name(0xA020) == "wg_xmit[wireguard]"
    assert kernel.reads == 2
    kernel.now = 50.0
    assert kernel.names.name(0xA010) == "wg_xmit[wireguard]"
    assert kernel.reads == 2, "it is known"


def test_late_program_is_named() -> None:
    kernel = Kernel()
    kernel.symbols |= {0xB000: OURS, 0xB200: THEIRS}
    kernel.now = 1.0
    assert kernel.names.name(0xB010) == OURS
    kernel.symbols |= {0xB100: "bpf_trampoline_7[bpf]"}
    kernel.now = 2.0
    assert kernel.names.name(0xB110) == "bpf_trampoline_7[bpf]"


def test_reread_updates_cached_names() -> None:
    kernel = Kernel()
    assert kernel.names.name(0x9110) == "veth_poll[veth]"
    kernel.symbols = CORE | {0x9000: "a[m]", 0x9200: "b[m]"}
    kernel.now = 1.0
    kernel.names.name(0x9300)
    assert kernel.names.name(0x9110) == "a[m]"


def test_symbols_hidden_later_are_kept() -> None:
    kernel = Kernel()
    kernel.hidden = True
    kernel.now = 1.0
    assert kernel.names.name(0x9999) == "veth_poll[veth]"
    assert kernel.names.name(0x8888) == "end_of_core"
    assert kernel.reads == 2


def test_symbols_hidden_at_start() -> None:
    def refuse() -> Symbols:
        raise KernelError("hidden")

    with pytest.raises(KernelError, match="hidden"):
        SymbolNames(True, refuse)


def test_slow_read_is_less_frequent() -> None:
    kernel = Kernel(read_now=False)

    def read_slowly() -> Symbols:
        kernel.now += 0.1
        return kernel.read()

    kernel.names = SymbolNames(True, read_slowly, lambda: kernel.now)
    kernel.now = 5.0
    kernel.names.name(0xA010)
    assert kernel.reads == 1
    kernel.now = 5.2
    kernel.names.name(0xA010)
    assert kernel.reads == 2


def test_name_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols_module, "_MAX_CACHED", 10)
    kernel = Kernel()
    for address in range(0x1000, 0x1100):
        assert kernel.names.name(address) == "ip_rcv"
    assert len(kernel.names._names) <= 10


@pytest.mark.parametrize(
    ("frames", "shown"),
    [
        (["ip_rcv", "ip_output"], ["ip_rcv", "ip_output"]),
        # fentry
        ([OURS, "bpf_trampoline_6442468112[bpf]", "ip_rcv"], ["ip_rcv"]),
        ([OURS, "bpf_trampoline_6442468112[bpf]", THEIRS, "ip_rcv"], [THEIRS, "ip_rcv"]),
        # a raw tracepoint
        ([OURS, "bpf_trace_run3", "__bpf_trace_kfree_skb", "ip_rcv"], ["ip_rcv"]),
        ([OURS, "bpf_trace_run1", "__traceiter_consume_skb", "ip_rcv"], ["ip_rcv"]),
        # Linux 5.10
        ([OURS, OURS, "bpf_trace_run1", "ip_rcv"], ["ip_rcv"]),
        # a program of another tool with the name of ours
        ([OURS, "bpf_trampoline_7[bpf]", NAMED_LIKE_OURS, "ip_rcv"], [NAMED_LIKE_OURS, "ip_rcv"]),
        # a kprobe in the function that calls tracers of a tracepoint
        (["__traceiter_consume_skb", "ip_rcv"], ["__traceiter_consume_skb", "ip_rcv"]),
        ([OURS], []),
        ([], []),
    ],
)
def test_stack_begins_at_traced_function(frames: list[str], shown: list[str]) -> None:
    starts = array("Q", [0x1000 * number for number in range(1, len(frames) + 1)])
    names = SymbolNames(True, lambda: Symbols(frames, starts))
    assert names.stack([start + 5 for start in starts]) == shown


@pytest.mark.parametrize(
    ("frames", "is_tracepoint", "location"),
    [
        # a kprobe: the return address only
        (["tcp_v4_rcv"], False, "tcp_v4_rcv+0x5"),
        (["__tcf_kfree_skb_list"], False, "__tcf_kfree_skb_list+0x5"),
        # or its stack, which begins with the function
        (["kfree_skb_list_reason", "__tcf_kfree_skb_list", "qdisc_run"], False, "qdisc_run+0x5"),
        (["sk_skb_reason_drop", "tcp_drop_reason", "tcp_rcv"], False, "tcp_rcv+0x5"),
        # fentry, in a function that drops for a qdisc
        (
            [OURS, "bpf_trampoline_7[bpf]", "kfree_skb_list", "__tcf_kfree_skb_list", "qdisc_run"],
            False,
            "qdisc_run+0x5",
        ),
        # a tracepoint in sk_skb_reason_drop(), of a socket that is closed
        (
            [OURS, "bpf_trace_run4", "sk_skb_reason_drop", "skb_queue_purge_reason", "tcp_close"],
            True,
            "tcp_close+0x5",
        ),
        (["sk_skb_reason_drop"], True, "sk_skb_reason_drop+0x5"),
        ([OURS], True, ""),
        ([], True, ""),
    ],
)
def test_location_is_caller_of_drop(frames: list[str], is_tracepoint: bool, location: str) -> None:
    starts = array("Q", [0x1000 * number for number in range(1, len(frames) + 1)])
    names = SymbolNames(True, lambda: Symbols(frames, starts))
    assert names.location([start + 5 for start in starts], is_tracepoint) == location
