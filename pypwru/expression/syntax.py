"""What the parser makes of an expression: a tree of the words as they were typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from pypwru.expression.numbers import Number
    from pypwru.expression.source import Mark


class Name(NamedTuple):
    """The root, or an enumerator."""

    text: str
    mark: Mark


class Literal(NamedTuple):
    """A number or a character."""

    value: int
    number: Number
    mark: Mark


class String(NamedTuple):
    """A string's bytes, without a NUL at the end."""

    data: bytes
    mark: Mark


class Member(NamedTuple):
    """``parent->name`` or ``parent.name``; the mark is the name's."""

    parent: Node
    name: str
    mark: Mark


class Index(NamedTuple):
    """``parent[place]``, or ``*parent`` with place 0."""

    parent: Node
    place: Node
    mark: Mark


class Unary(NamedTuple):
    """``sign`` is one of - + ~ !"""

    sign: str
    operand: Node
    mark: Mark


class Binary(NamedTuple):
    """``sign`` is that of arithmetic or of a comparison; the mark is the sign's."""

    sign: str
    left: Node
    right: Node
    mark: Mark


class Logic(NamedTuple):
    """``sign`` is && or ||, of two terms or more."""

    sign: str
    terms: tuple[Node, ...]
    mark: Mark


Node: TypeAlias = Name | Literal | String | Member | Index | Unary | Binary | Logic
