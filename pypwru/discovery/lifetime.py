"""Functions that tell of an sk_buff's life: what follows a tracked packet hangs on them.

Which of them a kernel has differs; the handlers (bpf/track.h) say why each set is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# The sk_buff that is an argument of these is no more when they return.
FREES = frozenset(("kfree_skbmem", "napi_skb_cache_put", "napi_skb_free_stolen_head"))
# A function in FREES -> another of them that it calls in the end, where the kernel has that.
_CALLS = {"napi_skb_free_stolen_head": "napi_skb_cache_put"}
# Of these the bytes are no more when they are called: skb_release_data() was before. So nothing is
# captured in them (trace_skb_last of bpf/trace.bpf.c).
WITHOUT_BYTES = frozenset(("kfree_skbmem", "napi_skb_cache_put"))
# Tracepoints of the same meaning, and a function of which it holds for what a user sees.
LAST_SIGHTS = FREES | {"kfree_skb_partial", "tp:kfree_skb", "tp:consume_skb"}

# What ends a packet that is thrown away, for whatever reason: the first before Linux 5.17.
DROPPING = frozenset(("kfree_skb", "kfree_skb_reason", "sk_skb_reason_drop", "tp:kfree_skb"))
# What ends one that did its work.
CONSUMING = frozenset(
    (
        "consume_skb",
        "__consume_stateless_skb",
        "napi_consume_skb",
        "kfree_skb_partial",
        "skb_attempt_defer_free",  # by which a socket gives back what was received
        "tp:consume_skb",
    )
)
# And what tells of them by its reason: since Linux 6.3 a list is freed in bulk.
BY_REASON = frozenset(("kfree_skb_list_reason", "skb_release_data"))
TELLING = DROPPING | BY_REASON | {"tp:consume_skb"}
# Who calls the former for others: for whole lists and queues, or with something counted.
DROPPING_FOR_OTHERS = frozenset(
    (
        "__dev_kfree_skb_any",  # net/core/dev.c
        "dev_kfree_skb_any_reason",
        "inet_frag_rbtree_purge",  # net/ipv4/inet_fragment.c
        "kfree_skb_list",  # net/core/skbuff.c, before Linux 5.17
        "rtnl_kfree_skbs",  # net/core/rtnetlink.c
        "sk_stream_kill_queues",  # net/core/stream.c
        "skb_errqueue_purge",  # net/core/skbuff.c
        "skb_queue_purge",
        "skb_queue_purge_reason",
        "skb_rbtree_purge",
        "__tcf_kfree_skb_list",  # net/core/dev.c: what qdiscs drop, freed behind their lock
        "tcf_kfree_skb_list",
        "tcp_drop",  # net/ipv4/tcp_input.c
        "tcp_drop_reason",
    )
)


def final(names: Collection[str]) -> frozenset[str]:
    """Those of FREES after which nothing is seen of the sk_buff any more.

    Args:
        names: of functions that can be hooked.
    """
    return FREES - {outer for outer, inner in _CALLS.items() if inner in names}


class Hook(NamedTuple):
    """A probe that writes no record.

    Args:
        handler: of trace.bpf.c.
        returns: at the function's return.
    """

    handler: str
    returns: bool = False


# What must be told of while packets are tracked by address: function -> hook.
TRACKING: Mapping[str, Hook] = {
    "__copy_skb_header": Hook("follow_copy"),  # clone, copy, segment, veth's copy for XDP
    "ip_copy_metadata": Hook("follow_copy"),  # fragments (ip_do_fragment)
    "ip6_copy_metadata": Hook("follow_copy"),
    "__build_skb_around": Hook("born_skb"),
    "__alloc_skb": Hook("born_skb_exit", returns=True),
}
FORGETTING = Hook("forget_skb")
# And where they are freed many at a time; a kernel that doesn't may refuse the handler's loop.
IN_BULK: Mapping[str, Hook] = {"kmem_cache_free_bulk": Hook("forget_bulk")}
NAMES = FREES.union(TRACKING, IN_BULK)
"""Of all functions that follow a packet and write no record."""
