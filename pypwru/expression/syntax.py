"""The syntax tree of an expression: the nodes that the parser builds, before name resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from pypwru.expression.numbers import Number
    from pypwru.expression.source import Mark


class Name(NamedTuple):
    """An identifier: the root (``skb`` or ``xdp``), an enumerator or a keyword."""

    text: str
    mark: Mark


class Literal(NamedTuple):
    """A number or a character constant."""

    value: int
    number: Number
    mark: Mark


class String(NamedTuple):
    """A string literal's bytes, without the terminating NUL."""

    data: bytes
    mark: Mark


class Member(NamedTuple):
    """``parent->name`` or ``parent.name``; ``mark`` is the position of the name."""

    parent: Node
    name: str
    mark: Mark


class Index(NamedTuple):
    """``parent[place]``; ``*parent`` is one with the index 0."""

    parent: Node
    place: Node
    mark: Mark


class Unary(NamedTuple):
    """A unary operation; ``sign`` is one of - + ~ !"""

    sign: str
    operand: Node
    mark: Mark


class Binary(NamedTuple):
    """Arithmetic or a comparison; ``mark`` is the position of the operator."""

    sign: str
    left: Node
    right: Node
    mark: Mark


class Logic(NamedTuple):
    """A chain of two or more terms with one operator; ``sign`` is && or ||."""

    sign: str
    terms: tuple[Node, ...]
    mark: Mark


Node: TypeAlias = Name | Literal | String | Member | Index | Unary | Binary | Logic
