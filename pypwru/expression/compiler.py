"""``--filter-skb-expr`` and ``--filter-xdp-expr``: text to eBPF.

text -> words (tokens.py) -> tree (parse.py) -> meaning (check.py) -> shared reads (uses.py) -> eBPF
(emit.py)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import FilterError
from pypwru.expression.check import Checker, mentions
from pypwru.expression.emit import emit
from pypwru.expression.memory import OutOfStack
from pypwru.expression.parse import parse
from pypwru.expression.paths import Paths
from pypwru.expression.source import Mark, shown
from pypwru.expression.uses import shared

if TYPE_CHECKING:
    from pypwru.btf.query import BTF
    from pypwru.expression.tree import Cell, Value
    from pypwru.filter.ebpf import Insn

STRUCTS = {"skb": "sk_buff", "xdp": "xdp_buff"}
"""What the roots of expressions point to."""


class Expression(NamedTuple):
    """A filter, ready to be written for any stack.

    Args:
        source: its text.
        meaning: what decides; a match is what is not 0.
        kept: the cells that are read once and kept.
    """

    source: Mark
    meaning: Value
    kept: tuple[Cell, ...]

    def body(self, stack_base: int) -> list[Insn]:
        """The instructions: r1 = address of the struct in, r0 != 0 out for a match.

        Where memory can't be read, because a pointer on the way is NULL say, the whole expression
        does not match. r1-r5 are lost, r6-r9 not touched.

        Args:
            stack_base: the lowest offset from r10 that is in use, 0 or negative.

        Raises:
            FilterError: the stack or the registers do not suffice.
        """
        try:
            try:
                return emit(self.meaning, list(self.kept), stack_base)
            except OutOfStack:
                return emit(self.meaning, [], stack_base)
        except FilterError as problem:
            raise self.source.error(str(problem)) from None


def compile_filter_expression(text: str, root: str, btf: BTF) -> Expression:
    """Compile a C expression over the members of a struct.

    Args:
        text: the expression.
        root: "skb" or "xdp".
        btf: the kernel's types.

    Raises:
        FilterError: no such expression or member; the message points at the column.
        BTFError: the struct is not in ``btf``.
    """
    flag = f"--filter-{root}-expr"
    source = Mark(text, flag)
    tree = parse(source)
    if not mentions(tree, root):
        raise FilterError(
            f"{flag} must start with {root}: '{shown(text)}' is not about the packet; "
            f"write {root}->len > 100 for example"
        )
    meaning = Checker(Paths(btf, root, STRUCTS[root])).value(tree)
    return Expression(source, meaning, tuple(shared(meaning)))
