"""C expressions over the packet's struct: filters, and members to print.

``compiler.compile_filter_expression`` makes an ``Expression``, ``members.compile_members`` the
``Members`` of ``--output-skb-metadata``; both are written as eBPF below any stack.
"""

from pypwru.expression.compiler import Expression, compile_filter_expression
from pypwru.expression.members import Members, compile_members

__all__ = ["Expression", "Members", "compile_filter_expression", "compile_members"]
