"""Fallback without nft trace events: hook eval() of every expression that can set a verdict.

These are all eval(expr, regs, pkt) that can leave a verdict other than NFT_CONTINUE and NFT_BREAK
in ``regs`` (net/netfilter/nft_*.c). Rules without such an expression are not seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.discovery.plan import Groups, Handler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pypwru.discovery.functions import Function

NFT_DO_CHAIN = "nft_do_chain"
_IMMEDIATE_EVAL = "nft_immediate_eval"
# Module -> its functions. nft_objref was a module of its own until Linux 6.2.
_OBJREF_EVALS = ("nft_objref_eval", "nft_objref_map_eval")
_VERDICT_EXPRESSIONS: Mapping[str, tuple[str, ...]] = {
    "nf_tables": ("nft_lookup_eval", "nft_exthdr_tcp_strip_eval", *_OBJREF_EVALS),
    "nft_compat": (
        "nft_target_eval_xt",
        "nft_target_eval_bridge",
        "nft_match_eval",
        "nft_match_large_eval",
    ),
    "nft_connlimit": ("nft_connlimit_eval",),
    "nft_ct": ("nft_ct_set_zone_eval",),
    "nft_fwd_netdev": ("nft_fwd_netdev_eval", "nft_fwd_neigh_eval"),
    "nft_masq": (
        "nft_masq_eval",
        "nft_masq_ipv4_eval",
        "nft_masq_ipv6_eval",
        "nft_masq_inet_eval",
    ),
    "nft_nat": ("nft_nat_eval", "nft_nat_inet_eval"),
    "nft_objref": _OBJREF_EVALS,
    "nft_queue": ("nft_queue_eval", "nft_queue_sreg_eval"),
    "nft_redir": (
        "nft_redir_eval",
        "nft_redir_ipv4_eval",
        "nft_redir_ipv6_eval",
        "nft_redir_inet_eval",
    ),
    "nft_reject_bridge": ("nft_reject_bridge_eval",),
    "nft_reject_inet": ("nft_reject_inet_eval",),
    "nft_reject_ipv4": ("nft_reject_ipv4_eval",),
    "nft_reject_ipv6": ("nft_reject_ipv6_eval",),
    "nft_reject_netdev": ("nft_reject_netdev_eval",),
    "nft_synproxy": ("nft_synproxy_eval",),
}
# Function by which nft_do_chain() itself frees a dropped packet -> index of its sk_buff, from 1.
_DROP_SKB_ARG: Mapping[str, int] = {"sk_skb_reason_drop": 2, "kfree_skb_reason": 1}

MODULES = tuple(_VERDICT_EXPRESSIONS)
FUNCTIONS = (
    NFT_DO_CHAIN,
    _IMMEDIATE_EVAL,
    *_DROP_SKB_ARG,
    *dict.fromkeys(sum(_VERDICT_EXPRESSIONS.values(), ())),
)


def group_functions(functions: Sequence[Function]) -> Groups:
    """Map the handlers of nft_eval.bpf.c to the functions that each is attached to.

    Args:
        functions: of FUNCTIONS, those that exist.
    """
    named = {function.name: function for function in functions}
    found: dict[Handler, tuple[Function, ...]] = {}
    if NFT_DO_CHAIN in named:
        do_chain, number = named[NFT_DO_CHAIN], named[NFT_DO_CHAIN].addresses[0]
        found[Handler("nft_chain_entry")] = (do_chain,)
        found[Handler("nft_chain_exit_inferred", is_return=True, number=number)] = (do_chain,)
        for name, skb_arg in _DROP_SKB_ARG.items():
            if name in named:
                found[Handler("nft_skb_drop", skb_arg, number=number)] = (named[name],)
    if _IMMEDIATE_EVAL in named:
        found[Handler("nft_immediate")] = (named[_IMMEDIATE_EVAL],)
    verdict_evals = {name for names in _VERDICT_EXPRESSIONS.values() for name in names}
    evals = tuple(function for function in functions if function.name in verdict_evals)
    if evals:
        found[Handler("nft_expr_exit", is_return=True)] = evals
        found[Handler("nft_expr_entry")] = evals
    return found
