"""Pass 3: the type checker. A syntax tree to the intermediate representation (tree.py).

Members become offsets in kernel memory, enumerators become constants, operators get their types.

Establishes: everything that is read exists in the kernel's BTF, and is an integer or a pointer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.expression import algebra, numbers
from pypwru.expression.numbers import COMPARISONS
from pypwru.expression.syntax import (
    Binary,
    Index,
    Literal,
    Logic,
    Member,
    Name,
    Node,
    String,
    Unary,
)
from pypwru.expression.tree import Arithmetic, Constant, Read, Text, Value
from pypwru.expression.tree import Unary as UnaryValue
from pypwru.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.expression.paths import Paths, Spot

_WORDS = {"true": 1, "false": 0, "NULL": 0}
_EQUALITY = ("==", "!=")
_MISPLACED = "a string can only be compared, by == or !=, with a char array or a char *"


class Checker:
    """Translates syntax trees.

    Args:
        paths: resolves members of the root.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def value(self, node: Node, enum: int = 0) -> Value:
        """Return the value that ``node`` computes (an rvalue).

        Args:
            node: the syntax tree.
            enum: BTF type id of the enum in which names are looked up first, or 0.

        Raises:
            FilterError: an unknown name or a type error; the message points at the column.
        """
        return _MEANINGS[type(node)](self, node, enum)

    def spot(self, node: Node) -> Spot | None:
        """Return the object that ``node`` names (an lvalue): a member or an element.

        None stands for the root itself.

        Raises:
            FilterError: ``node`` names no object, or one that does not exist.
        """
        if isinstance(node, Member):
            return self._paths.member(self.spot(node.parent), node.name, node.mark)
        if isinstance(node, Index):
            return self._paths.element(self.spot(node.parent), self._place(node), node.mark)
        if isinstance(node, Name) and node.text == self._paths.root:
            return None
        raise node.mark.error(
            f"a member of {self._paths.root} is expected, such as {self._paths.root}->len"
        )

    def _place(self, node: Index) -> int:
        value = self.value(node.place)
        if not isinstance(value, Constant):
            raise node.place.mark.error("an index must be a constant")
        if value.value < 0:
            raise node.place.mark.error(f"{value.value} is not an index: the first is 0")
        return value.value

    def _path(self, node: Node, _: int) -> Value:
        return self._paths.read(self.spot(node), node.mark)

    def _name(self, node: Name, enum: int) -> Value:
        if node.text == self._paths.root:
            return self._path(node, enum)
        own = self._paths.btf.enumerators(enum) if enum else {}
        value = own.get(node.text, _WORDS.get(node.text))
        if value is None:
            value = self._foreign(node, own)
        return Constant(value, numbers.of(value))

    def _foreign(self, node: Name, own: dict[str, int]) -> int:
        """Return the value of an enumerator of any enum, if all enums agree on it.

        Args:
            node: the name.
            own: the enumerators of the enum that was tried first, for suggestions.
        """
        values = sorted(set(self._paths.btf.enum_values(node.text)))
        if not values:
            raise node.mark.error(self._unknown(node.text, own))
        if len(values) > 1:
            found = " and ".join(map(str, values))
            raise node.mark.error(f"{node.text} is {found} in different enums: write its number")
        return values[0]

    def _unknown(self, name: str, own: dict[str, int]) -> str:
        root = self._paths.root
        if name in self._paths.names():
            return f"{name} is a member: write {root}->{name}"
        return (
            f"{name} is neither {root} nor in an enum of this kernel's BTF, which has no macros: "
            "write its number" + did_you_mean(name, [root, *own])
        )

    def _literal(self, node: Literal, _: int) -> Value:
        return Constant(node.value, node.number)

    def _string(self, node: String, _: int) -> Value:
        raise node.mark.error(_MISPLACED)

    def _unary(self, node: Unary, enum: int) -> Value:
        operand = self.value(node.operand, enum)
        return _UNARY[node.sign](operand)

    def _binary(self, node: Binary, enum: int) -> Value:
        if isinstance(node.left, String) or isinstance(node.right, String):
            return self._text(node)
        if node.sign in COMPARISONS:
            enum = 0
        left, right = self._sides(node, enum)
        if node.sign in COMPARISONS:
            return algebra.compare(node.sign, left, right, node.mark)
        return algebra.arithmetic(node.sign, left, right, node.mark)

    def _sides(self, node: Binary, enum: int) -> tuple[Value, Value]:
        """Return the values of both operands.

        The one that reads the root is resolved first: its enum is where names of the other are
        looked up.
        """
        if self._is_about_root(node.left) or not self._is_about_root(node.right):
            left = self.value(node.left, enum)
            return left, self.value(node.right, enum_of(left) or enum)
        right = self.value(node.right, enum)
        return self.value(node.left, enum_of(right) or enum), right

    def _is_about_root(self, node: Node) -> bool:
        return mentions(node, self._paths.root)

    def _text(self, node: Binary) -> Value:
        string, other = node.left, node.right
        if not isinstance(string, String):
            string, other = other, string
        if not isinstance(string, String) or node.sign not in _EQUALITY:
            raise node.mark.error(_MISPLACED)
        spot = self.spot(other) if isinstance(other, Name | Member | Index) else None
        cell = self._paths.text(spot, len(string.data), other.mark)
        if cell is None:
            raise string.mark.error(_MISPLACED)
        if len(string.data) > cell.size:
            raise string.mark.error(
                f"the array has {cell.size} characters: it is never this string"
            )
        text = Text(cell, (string.data + b"\0")[: cell.size])
        return text if node.sign == "==" else algebra.inverse(text)

    def _logic(self, node: Logic, _: int) -> Value:
        return algebra.logic(node.sign, [self.value(term) for term in node.terms])


def enum_of(value: Value) -> int:
    """Return the BTF type id of the enum that ``value`` is of, or is computed from; 0 for none."""
    if isinstance(value, Read):
        return value.enum
    if isinstance(value, UnaryValue):
        return enum_of(value.operand)
    if isinstance(value, Arithmetic):
        return enum_of(value.left) or enum_of(value.right)
    return 0


def mentions(node: Node, name: str) -> bool:
    """Return whether ``node`` references ``name``."""
    if isinstance(node, Name):
        return node.text == name
    return any(mentions(child, name) for child in _children(node))


def _children(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Logic):
        return node.terms
    if isinstance(node, Binary):
        return node.left, node.right
    if isinstance(node, Index):
        return node.parent, node.place
    if isinstance(node, Member):
        return (node.parent,)
    return (node.operand,) if isinstance(node, Unary) else ()


def _same(operand: Value) -> Value:
    return operand


_UNARY: dict[str, Callable[[Value], Value]] = {
    "-": algebra.negated,
    "+": _same,
    "~": algebra.complement,
    "!": algebra.inverse,
}
_MEANINGS: dict[type, Callable[..., Value]] = {
    Name: Checker._name,
    Member: Checker._path,
    Index: Checker._path,
    Literal: Checker._literal,
    String: Checker._string,
    Unary: Checker._unary,
    Binary: Checker._binary,
    Logic: Checker._logic,
}
