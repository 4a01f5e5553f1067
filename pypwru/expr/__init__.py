"""C expressions over ``struct sk_buff`` and ``struct xdp_buff``: filters, and members to print.

``compiler.compile_filter_expression`` returns an ``Expression``, ``metadata.compile_members``
the ``MetadataMembers`` of ``--output-skb-metadata``. Each generates eBPF whose stack frame begins
below the host program's.
"""

from pypwru.expr.compiler import Expression, compile_filter_expression
from pypwru.expr.metadata import MetadataMembers, compile_members

__all__ = ["Expression", "MetadataMembers", "compile_filter_expression", "compile_members"]
