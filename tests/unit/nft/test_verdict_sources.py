"""Which functions of nftables are hooked, by the symbols of the kernel."""

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


def in_module(names: Sequence[str], module: str = "nf_tables") -> list[str]:
    return [f"{name}[{module}]" for name in names]


def nft_fallback() -> VerdictSource:
    assert NFT.fallback
    return NFT.fallback[0]


def hooked_names(source: VerdictSource, present: Symbols) -> dict[Handler, list[str]]:
    groups = source.group_functions(source.find_functions(present))
    return {handler: [one.display for one in functions] for handler, functions in groups.items()}


def test_no_source_without_nf_tables() -> None:
    present = symbols("ip_rcv", "sk_skb_reason_drop", "nft_nat_eval[nft_nat]")
    assert [source.name for source in VERDICT_SOURCES if source.find_functions(present)] == []
    assert nft_fallback().find_functions(present) == []


def test_nft_trace_functions_are_hooked() -> None:
    present = symbols("nft_do_chain", "__nft_trace_packet")
    assert list(hooked_names(NFT, present).values()) == [
        ["nft_do_chain"],
        ["nft_do_chain"],
        ["__nft_trace_packet"],
    ]


def test_kernel_without_nft_trace() -> None:
    present = symbols(*in_module(CORE))
    with pytest.raises(KernelError, match="no symbol __nft_trace_packet"):
        NFT.enable(NFT.find_functions(present))
    assert NFT.symbols >= nft_fallback().symbols


def test_expressions_by_module() -> None:
    present = symbols(
        *in_module(CORE),
        *in_module(["nft_nat_eval", "nft_nat_inet_eval"], "nft_nat"),
        *in_module(["nft_objref_eval"], "nft_objref"),
        "nft_payload_eval[nf_tables]",
        "sk_skb_reason_drop",
    )
    start = present.addresses("nft_do_chain", "nf_tables")[0]
    evals = [
        *in_module(["nft_lookup_eval", "nft_objref_eval"]),
        *in_module(["nft_nat_eval", "nft_nat_inet_eval"], "nft_nat"),
        *in_module(["nft_objref_eval"], "nft_objref"),
    ]
    assert hooked_names(nft_fallback(), present) == {
        Handler("nft_chain_entry"): ["nft_do_chain[nf_tables]"],
        Handler("nft_chain_exit_inferred", is_return=True, number=start): [
            "nft_do_chain[nf_tables]"
        ],
        Handler("nft_skb_drop", 2, number=start): ["sk_skb_reason_drop"],
        Handler("nft_immediate"): ["nft_immediate_eval[nf_tables]"],
        Handler("nft_expr_entry"): evals,
        Handler("nft_expr_exit", is_return=True): evals,
    }


def test_late_module_has_expressions_only() -> None:
    found = nft_fallback().find_functions(symbols(*in_module(CORE), "nft_queue_eval[nft_queue]"))
    late = [function for function in found if function.module == "nft_queue"]
    assert [handler.name for handler in nft_fallback().group_functions(late)] == [
        "nft_expr_exit",
        "nft_expr_entry",
    ]
