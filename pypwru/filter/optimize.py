"""Pass 2: the optimizer, which replaces libpcap's.

Establishes: everything that its passes do; see their modules. The order matters: jump threading,
merging and reordering need blocks that load all their operands themselves, so loads that repeat
those of earlier blocks are removed last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.filter.group import group_tests
from pypwru.filter.shorten import fold, reuse
from pypwru.filter.thread import merge_equal_blocks, thread_jumps

if TYPE_CHECKING:
    from pypwru.filter.cfg import CFG

__all__ = ["fold", "optimize"]


def optimize(cfg: CFG) -> CFG:
    """Return a program with the same result as ``cfg``, which executes fewer instructions.

    Args:
        cfg: the program after :func:`fold`.
    """
    cfg = merge_equal_blocks(thread_jumps(cfg))
    cfg = merge_equal_blocks(thread_jumps(cfg))  # merged blocks allow more threading
    cfg = group_tests(cfg)
    cfg = reuse(cfg)
    return merge_equal_blocks(cfg)
