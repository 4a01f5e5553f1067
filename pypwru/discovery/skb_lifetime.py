"""Functions that allocate, copy and free sk_buffs: state per sk_buff is kept by hooking them.

Which of them exist depends on the kernel; bpf/skb/track.h explains why each set is sufficient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# When these return, their sk_buff is freed.
FREE_FUNCTIONS = frozenset(("kfree_skbmem", "napi_skb_cache_put", "napi_skb_free_stolen_head"))
# A function in FREES -> another one that it ends with, if the kernel has that.
_FINAL_CALLEE = {"napi_skb_free_stolen_head": "napi_skb_cache_put"}
# When these are called, packet data was already freed by skb_release_data(): nothing is captured
# there (trace_skb_last of bpf/trace.bpf.c).
DATA_ALREADY_FREED = frozenset(("kfree_skbmem", "napi_skb_cache_put"))
# Targets whose event is the last of an sk_buff: also two tracepoints, and kfree_skb_partial(),
# which may free it by none of FREES.
TERMINAL_TARGETS = FREE_FUNCTIONS | {"kfree_skb_partial", "tp:kfree_skb", "tp:consume_skb"}

# Targets that drop a packet, whatever the reason; kfree_skb is a function only before Linux 5.17.
DROP_TARGETS = frozenset(("kfree_skb", "kfree_skb_reason", "sk_skb_reason_drop", "tp:kfree_skb"))
# Targets that consume one: it was delivered, sent or merged.
CONSUME_TARGETS = frozenset(
    (
        "consume_skb",
        "__consume_stateless_skb",
        "napi_consume_skb",
        "kfree_skb_partial",
        "skb_attempt_defer_free",  # for sockets: frees it on the CPU that allocated it
        "tp:consume_skb",
    )
)
# Functions whose reason argument separates drops from consumes: since Linux 6.3 a list is freed in
# bulk, without calls of the above.
REASON_FUNCTIONS = frozenset(("kfree_skb_list_reason", "skb_release_data"))
OUTCOME_TARGETS = DROP_TARGETS | REASON_FUNCTIONS | {"tp:consume_skb"}
# Callers of the above on behalf of others: for whole lists and queues, or to count the drop.
DROP_WRAPPERS = frozenset(
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
        "__tcf_kfree_skb_list",  # net/core/dev.c: drops of qdiscs, freed after unlock
        "tcf_kfree_skb_list",
        "tcp_drop",  # net/ipv4/tcp_input.c
        "tcp_drop_reason",
    )
)


def terminal_free_functions(names: Collection[str]) -> frozenset[str]:
    """Return those of FREES after which an sk_buff has no further event.

    Args:
        names: of functions that can be hooked.
    """
    return FREE_FUNCTIONS - {outer for outer, inner in _FINAL_CALLEE.items() if inner in names}


class Hook(NamedTuple):
    """A probe that writes no event of its own.

    Args:
        handler: key of ``handlers.HANDLERS``.
        is_return: True to run at the function's return.
    """

    handler: str
    is_return: bool = False


# Hooks that are needed while state is kept by the address of an sk_buff: function -> hook.
LIFETIME_HOOKS: Mapping[str, Hook] = {
    "__copy_skb_header": Hook("hook_skb_copy"),  # clone, copy, segment, veth's copy for XDP
    "ip_copy_metadata": Hook("hook_skb_copy"),  # fragments (ip_do_fragment)
    "ip6_copy_metadata": Hook("hook_skb_copy"),
    "__build_skb_around": Hook("hook_skb_build"),
    "__alloc_skb": Hook("hook_skb_alloc_exit", is_return=True),
}
FREE_HOOK = Hook("hook_skb_free")
# Bulk frees of sk_buffs, of kernels that do that: the verifier of others may refuse the loop.
BULK_FREE_HOOKS: Mapping[str, Hook] = {"kmem_cache_free_bulk": Hook("hook_skb_free_bulk")}
HOOKED_FUNCTIONS = FREE_FUNCTIONS.union(LIFETIME_HOOKS, BULK_FREE_HOOKS)
"""All functions that get a lifetime hook, on any kernel."""
