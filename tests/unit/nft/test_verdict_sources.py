"""What is hooked of nftables, by what there is of it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import pytest

from pypwru.discovery.plan import Handler
from pypwru.errors import KernelError
from pypwru.kernel.kallsyms import Symbols
from pypwru.nft.verdict_sources import VERDICT_SOURCES, VerdictSource

NFT = VERDICT_SOURCES[0]
CORE = ("nft_do_chain", "nft_immediate_eval", "nft_lookup_eval", "nft_objref_eval")


def symbols(*displays: str) -> Symbols:
    return Symbols(list(displays), array("Q", range(4096, 4096 + 16 * len(displays), 16)))


def of_module(names: Sequence[str], module: str = "nf_tables") -> list[str]:
    return [f"{name}[{module}]" for name in names]


def instead() -> VerdictSource:
    assert NFT.fallback
    return NFT.fallback[0]


def hooked(judge: VerdictSource, known: Symbols) -> dict[Handler, list[str]]:
    groups = judge.group_functions(judge.find_functions(known))
    return {handler: [one.display for one in functions] for handler, functions in groups.items()}


def test_nothing_without_nf_tables() -> None:
    known = symbols("ip_rcv", "sk_skb_reason_drop", "nft_nat_eval[nft_nat]")
    assert [judge.name for judge in VERDICT_SOURCES if judge.find_functions(known)] == []
    assert instead().find_functions(known) == []


def test_the_kernel_is_asked_where_it_can_tell() -> None:
    known = symbols("nft_do_chain", "__nft_trace_packet")
    assert list(hooked(NFT, known).values()) == [
        ["nft_do_chain"],
        ["nft_do_chain"],
        ["__nft_trace_packet"],
    ]


def test_a_kernel_that_can_not_tell() -> None:
    known = symbols(*of_module(CORE))
    with pytest.raises(KernelError, match="no symbol __nft_trace_packet"):
        NFT.enable(NFT.find_functions(known))
    assert NFT.symbols >= instead().symbols


def test_expressions_by_module() -> None:
    known = symbols(
        *of_module(CORE),
        *of_module(["nft_nat_eval", "nft_nat_inet_eval"], "nft_nat"),
        *of_module(["nft_objref_eval"], "nft_objref"),
        "nft_payload_eval[nf_tables]",
        "sk_skb_reason_drop",
    )
    start = known.addresses("nft_do_chain", "nf_tables")[0]
    asked = [
        *of_module(["nft_lookup_eval", "nft_objref_eval"]),
        *of_module(["nft_nat_eval", "nft_nat_inet_eval"], "nft_nat"),
        *of_module(["nft_objref_eval"], "nft_objref"),
    ]
    assert hooked(instead(), known) == {
        Handler("nft_chain_entry"): ["nft_do_chain[nf_tables]"],
        Handler("nft_chain_exit_inferred", is_return=True, number=start): [
            "nft_do_chain[nf_tables]"
        ],
        Handler("nft_skb_drop", 2, number=start): ["sk_skb_reason_drop"],
        Handler("nft_immediate"): ["nft_immediate_eval[nf_tables]"],
        Handler("nft_expr_entry"): asked,
        Handler("nft_expr_exit", is_return=True): asked,
    }


def test_what_comes_later_has_only_expressions() -> None:
    found = instead().find_functions(symbols(*of_module(CORE), "nft_queue_eval[nft_queue]"))
    late = [function for function in found if function.module == "nft_queue"]
    assert [handler.name for handler in instead().group_functions(late)] == [
        "nft_expr_exit",
        "nft_expr_entry",
    ]
