"""Pass 2: the passes that make libpcap's program short again, in their order.

Establishes: all that holds after each of them; see the modules for how. The order matters: blocks
that share nothing can be led past, are equal, and can change places; what they share goes last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.filter.group import group
from pypwru.filter.shorten import fold, reuse
from pypwru.filter.thread import merge, thread

if TYPE_CHECKING:
    from pypwru.filter.blocks import Flow

__all__ = ["fold", "optimize"]


def optimize(flow: Flow) -> Flow:
    """``flow``, whose constants are folded, with the same answer in fewer steps."""
    flow = merge(thread(flow))
    flow = merge(thread(flow))  # what is one block now may be led past
    flow = group(flow)
    flow = reuse(flow)
    return merge(flow)
