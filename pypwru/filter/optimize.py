"""Pass 2: the optimizer, which replaces libpcap's.

Establishes: everything that its passes do; see their modules. The order matters: jump threading,
merging and reordering need blocks that load all their operands themselves, so loads that repeat
those of earlier blocks are removed last.
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
    """Return a program with the same result as ``flow``, which executes fewer instructions.

    Args:
        flow: the program after :func:`fold`.
    """
    flow = merge(thread(flow))
    flow = merge(thread(flow))  # merged blocks allow more threading
    flow = group(flow)
    flow = reuse(flow)
    return merge(flow)
