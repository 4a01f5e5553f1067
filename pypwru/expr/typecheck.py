"""Pass 3: the type checker. A syntax tree to the intermediate representation (ir.py).

Members become offsets in kernel memory, enumerators become constants, operators get their types.

Establishes: everything that is read exists in the kernel's BTF, and is an integer or a pointer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.enums import find_values
from pypwru.expr import fold, int_types
from pypwru.expr.ast import (
    BinaryExpr,
    IndexExpr,
    LiteralExpr,
    LogicExpr,
    MemberExpr,
    NameExpr,
    Node,
    StringExpr,
    UnaryExpr,
)
from pypwru.expr.int_types import COMPARISONS
from pypwru.expr.ir import Arithmetic, Constant, Read, StringCompare, Value
from pypwru.expr.ir import Unary as UnaryValue
from pypwru.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.expr.member_access import LValue, MemberAccess

_KEYWORDS = {"true": 1, "false": 0, "NULL": 0}
_EQUALITY_OPERATORS = ("==", "!=")
_STRING_MISUSE = "a string can only be compared, by == or !=, with a char array or a char *"


class TypeChecker:
    """Translates syntax trees.

    Args:
        member_access: resolves members of the root.
    """

    def __init__(self, member_access: MemberAccess) -> None:
        self._member_access = member_access

    def rvalue(self, node: Node, enum: int = 0) -> Value:
        """Return the value that ``node`` computes (an rvalue).

        Args:
            node: the syntax tree.
            enum: BTF type id of the enum in which names are looked up first, or 0.

        Raises:
            FilterError: an unknown name or a type error; the message points at the column.
        """
        return _NODE_HANDLERS[type(node)](self, node, enum)

    def lvalue(self, node: Node) -> LValue | None:
        """Return the object that ``node`` names (an lvalue): a member or an element.

        None stands for the root itself.

        Raises:
            FilterError: ``node`` names no object, or one that does not exist.
        """
        if isinstance(node, MemberExpr):
            return self._member_access.member(self.lvalue(node.parent), node.name, node.position)
        if isinstance(node, IndexExpr):
            return self._member_access.element(
                self.lvalue(node.parent), self._constant_index(node), node.position
            )
        if isinstance(node, NameExpr) and node.text == self._member_access.root:
            return None
        raise node.position.error(
            f"a member of {self._member_access.root} is expected, "
            f"such as {self._member_access.root}->len"
        )

    def _constant_index(self, node: IndexExpr) -> int:
        value = self.rvalue(node.index_expr)
        if not isinstance(value, Constant):
            raise node.index_expr.position.error("an index must be a constant")
        if value.value < 0:
            raise node.index_expr.position.error(f"{value.value} is not an index: the first is 0")
        return value.value

    def _read_member(self, node: Node, _: int) -> Value:
        return self._member_access.read(self.lvalue(node), node.position)

    def _resolve_name(self, node: NameExpr, enum: int) -> Value:
        if node.text == self._member_access.root:
            return self._read_member(node, enum)
        enumerators = self._member_access.btf.enumerators(enum) if enum else {}
        value = enumerators.get(node.text, _KEYWORDS.get(node.text))
        if value is None:
            value = self._unique_enumerator(node, enumerators)
        return Constant(value, int_types.constant_type(value))

    def _unique_enumerator(self, node: NameExpr, enumerators: dict[str, int]) -> int:
        """Return the value of an enumerator of any enum, if all enums agree on it.

        Args:
            node: the name.
            enumerators: the enumerators of the enum that was tried first, for suggestions.
        """
        values = sorted(set(find_values(self._member_access.btf, node.text)))
        if not values:
            raise node.position.error(self._unknown_name(node.text, enumerators))
        if len(values) > 1:
            found = " and ".join(map(str, values))
            raise node.position.error(
                f"{node.text} is {found} in different enums: write its number"
            )
        return values[0]

    def _unknown_name(self, name: str, enumerators: dict[str, int]) -> str:
        root = self._member_access.root
        if name in self._member_access.members_of():
            return f"{name} is a member: write {root}->{name}"
        return (
            f"{name} is neither {root} nor in an enum of this kernel's BTF, which has no macros: "
            "write its number" + did_you_mean(name, [root, *enumerators])
        )

    def _literal(self, node: LiteralExpr, _: int) -> Value:
        return Constant(node.value, node.int_type)

    def _string(self, node: StringExpr, _: int) -> Value:
        raise node.position.error(_STRING_MISUSE)

    def _unary(self, node: UnaryExpr, enum: int) -> Value:
        operand = self.rvalue(node.operand, enum)
        return _UNARY[node.op](operand)

    def _binary(self, node: BinaryExpr, enum: int) -> Value:
        if isinstance(node.left, StringExpr) or isinstance(node.right, StringExpr):
            return self._compare_string(node)
        if node.op in COMPARISONS:
            enum = 0
        left, right = self._operands(node, enum)
        if node.op in COMPARISONS:
            return fold.make_comparison(node.op, left, right, node.position)
        return fold.make_arithmetic(node.op, left, right, node.position)

    def _operands(self, node: BinaryExpr, enum: int) -> tuple[Value, Value]:
        """Return the values of both operands.

        The one that reads the root is resolved first: its enum is where names of the other are
        looked up.
        """
        if self._references_root(node.left) or not self._references_root(node.right):
            left = self.rvalue(node.left, enum)
            return left, self.rvalue(node.right, enum_of(left) or enum)
        right = self.rvalue(node.right, enum)
        return self.rvalue(node.left, enum_of(right) or enum), right

    def _references_root(self, node: Node) -> bool:
        return references_name(node, self._member_access.root)

    def _compare_string(self, node: BinaryExpr) -> Value:
        string, other = node.left, node.right
        if not isinstance(string, StringExpr):
            string, other = other, string
        if not isinstance(string, StringExpr) or node.op not in _EQUALITY_OPERATORS:
            raise node.position.error(_STRING_MISUSE)
        lvalue = (
            self.lvalue(other) if isinstance(other, NameExpr | MemberExpr | IndexExpr) else None
        )
        memory = self._member_access.string_memory(lvalue, len(string.data), other.position)
        if memory is None:
            raise string.position.error(_STRING_MISUSE)
        if len(string.data) > memory.size:
            raise string.position.error(
                f"the array has {memory.size} characters: it is never this string"
            )
        comparison = StringCompare(memory, (string.data + b"\0")[: memory.size])
        return comparison if node.op == "==" else fold.invert(comparison)

    def _logic(self, node: LogicExpr, _: int) -> Value:
        return fold.make_logic(node.op, [self.rvalue(term) for term in node.terms])


def enum_of(value: Value) -> int:
    """Return the BTF type id of the enum that ``value`` is of, or is computed from; 0 for none."""
    if isinstance(value, Read):
        return value.enum_id
    if isinstance(value, UnaryValue):
        return enum_of(value.operand)
    if isinstance(value, Arithmetic):
        return enum_of(value.left) or enum_of(value.right)
    return 0


def references_name(node: Node, name: str) -> bool:
    """Return whether ``node`` references ``name``."""
    if isinstance(node, NameExpr):
        return node.text == name
    return any(references_name(child, name) for child in _children(node))


def _children(node: Node) -> tuple[Node, ...]:
    if isinstance(node, LogicExpr):
        return node.terms
    if isinstance(node, BinaryExpr):
        return node.left, node.right
    if isinstance(node, IndexExpr):
        return node.parent, node.index_expr
    if isinstance(node, MemberExpr):
        return (node.parent,)
    return (node.operand,) if isinstance(node, UnaryExpr) else ()


def _identity(operand: Value) -> Value:
    return operand


_UNARY: dict[str, Callable[[Value], Value]] = {
    "-": fold.negate,
    "+": _identity,
    "~": fold.complement,
    "!": fold.invert,
}
_NODE_HANDLERS: dict[type, Callable[..., Value]] = {
    NameExpr: TypeChecker._resolve_name,
    MemberExpr: TypeChecker._read_member,
    IndexExpr: TypeChecker._read_member,
    LiteralExpr: TypeChecker._literal,
    StringExpr: TypeChecker._string,
    UnaryExpr: TypeChecker._unary,
    BinaryExpr: TypeChecker._binary,
    LogicExpr: TypeChecker._logic,
}
