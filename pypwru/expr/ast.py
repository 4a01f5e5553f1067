"""The syntax tree of an expression: the nodes that the parser builds, before name resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from pypwru.expr.int_types import IntType
    from pypwru.expr.position import Position


class NameExpr(NamedTuple):
    """An identifier: the root (``skb`` or ``xdp``), an enumerator or a keyword."""

    text: str
    position: Position


class LiteralExpr(NamedTuple):
    """A number or a character constant."""

    value: int
    int_type: IntType
    position: Position


class StringExpr(NamedTuple):
    """A string literal's bytes, without the terminating NUL."""

    data: bytes
    position: Position


class MemberExpr(NamedTuple):
    """``parent->name`` or ``parent.name``; ``position`` is the position of the name."""

    parent: Node
    name: str
    position: Position


class IndexExpr(NamedTuple):
    """``parent[place]``; ``*parent`` is one with the index 0."""

    parent: Node
    index_expr: Node
    position: Position


class UnaryExpr(NamedTuple):
    """A unary operation; ``op`` is one of - + ~ !"""

    op: str
    operand: Node
    position: Position


class BinaryExpr(NamedTuple):
    """Arithmetic or a comparison; ``position`` is the position of the operator."""

    op: str
    left: Node
    right: Node
    position: Position


class LogicExpr(NamedTuple):
    """A chain of two or more terms with one operator; ``op`` is && or ||."""

    op: str
    terms: tuple[Node, ...]
    position: Position


Node: TypeAlias = (
    NameExpr
    | LiteralExpr
    | StringExpr
    | MemberExpr
    | IndexExpr
    | UnaryExpr
    | BinaryExpr
    | LogicExpr
)
