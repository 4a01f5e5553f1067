"""C expressions over ``struct sk_buff`` and ``struct xdp_buff``: filters, and members to print.

``compiler.compile_filter_expression`` returns an ``Expression``, ``members.compile_members`` the
``Members`` of ``--output-skb-metadata``. Each generates eBPF whose stack frame begins below the
host program's.
"""

from pypwru.expression.compiler import Expression, compile_filter_expression
from pypwru.expression.members import MetadataMembers, compile_members

__all__ = ["Expression", "MetadataMembers", "compile_filter_expression", "compile_members"]
