"""Functions that tell of an sk_buff's life: what follows a tracked packet hangs on them.

Which of them a kernel has differs; the handlers (bpf/track.h) say why each set is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# The sk_buff that is an argument of these is no more when they return.
FREES = frozenset(("kfree_skbmem", "napi_skb_cache_put", "napi_skb_free_stolen_head"))
# Of these the bytes are no more when they are called: skb_release_data() was before.
WITHOUT_BYTES = frozenset(("kfree_skbmem", "napi_skb_cache_put"))
# Tracepoints of the same meaning, and a function of which it holds for what a user sees.
LAST_SIGHTS = FREES | {"kfree_skb_partial", "tp:kfree_skb", "tp:consume_skb"}


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
