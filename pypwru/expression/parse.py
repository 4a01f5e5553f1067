"""Pass 2: the parser. Tokens to a syntax tree, by C's operator precedence (precedence climbing)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.expression import literals, numbers
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
from pypwru.expression.tokens import Token, Word, tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.errors import FilterError
    from pypwru.expression.source import Mark

MAX_DEPTH = 64
"""Levels of nesting of a tree: every later pass recurses once for each."""
_LEVELS = (
    ("||",),
    ("&&",),
    ("|",),
    ("^",),
    ("&",),
    ("==", "!=", "="),
    ("<", "<=", ">", ">="),
    ("<<", ">>"),
    ("+", "-"),
    ("*", "/", "%"),
)
PRECEDENCE = {sign: level for level, signs in enumerate(_LEVELS) for sign in signs}
_LOGIC = ("||", "&&")
_UNARY = ("-", "+", "~", "!")


def parse(source: Mark) -> Node:
    """Parse ``source`` to a syntax tree.

    Raises:
        FilterError: a syntax error, or an expression that is nested deeper than MAX_DEPTH.
    """
    return _Parser(tokens(source)).parse()


class _Parser:
    def __init__(self, words: list[Token]) -> None:
        self._words = words
        self._at = 0
        self._nesting = 0
        # id() of a node -> depth of its tree. No id is reused: the tree references every node.
        self._depths: dict[int, int] = {}

    def parse(self) -> Node:
        if self._ended():
            raise self._next.mark.error("the expression is empty")
        tree = self._binary(0)
        if not self._ended():
            raise self._unexpected("an operator or the end")
        return tree

    @property
    def _next(self) -> Token:
        return self._words[self._at]

    def _ended(self) -> bool:
        return self._next.kind is Word.END

    def _take(self) -> Token:
        self._at += 1
        return self._words[self._at - 1]

    def _sees(self, *signs: str) -> bool:
        return self._next.kind is Word.SIGN and self._next.text in signs

    def _expect(self, sign: str) -> None:
        if not self._sees(sign):
            raise self._unexpected(f"'{sign}'")
        self._take()

    def _unexpected(self, wanted: str) -> FilterError:
        word = self._next
        found = "the end" if self._ended() else f"'{word.text}'"
        before = self._words[self._at - 1].text if self._at else ""
        # The shell took the '>' of an unquoted skb->len for a redirection: 'skb-' is left.
        quote = "; quote the expression: '>' is the shell's" if (found, before) == _CUT else ""
        return word.mark.error(f"{wanted} expected, not {found}{quote}")

    def _grown(self, node: Node, *children: Node) -> Node:
        depth = 1 + max((self._depths.get(id(child), 0) for child in children), default=0)
        if depth > MAX_DEPTH:
            raise node.mark.error("the expression is nested too deep: write it shorter")
        self._depths[id(node)] = depth
        return node

    def _nested(self, parse: Callable[..., Node], *arguments: int) -> Node:
        self._nesting += 1
        if self._nesting > MAX_DEPTH:
            raise self._next.mark.error("the expression is nested too deep: write it shorter")
        node = parse(*arguments)
        self._nesting -= 1
        return node

    def _binary(self, level: int) -> Node:
        left = self._unary()
        while self._next.kind is Word.SIGN and PRECEDENCE.get(self._next.text, -1) >= level:
            sign, mark = self._next.text, self._next.mark
            if sign in _LOGIC:
                left = self._logic(sign, left, mark)
                continue
            self._take()
            right = self._nested(self._binary, PRECEDENCE[sign] + 1)
            left = self._grown(
                Binary("==" if sign == "=" else sign, left, right, mark), left, right
            )
        return left

    def _logic(self, sign: str, first: Node, mark: Mark) -> Node:
        """Parse the remaining terms of ``first && b && ...`` into one node."""
        terms = [first]
        while self._sees(sign):
            self._take()
            terms.append(self._nested(self._binary, PRECEDENCE[sign] + 1))
        return self._grown(Logic(sign, tuple(terms), mark), *terms)

    def _unary(self) -> Node:
        word = self._next
        if self._sees("*"):
            self._take()
            operand = self._nested(self._unary)
            zero = Literal(0, numbers.TRUTH, word.mark)
            return self._grown(Index(operand, zero, word.mark), operand)
        if not self._sees(*_UNARY):
            return self._postfix(self._primary())
        self._take()
        operand = self._nested(self._unary)
        return self._grown(Unary(word.text, operand, word.mark), operand)

    def _postfix(self, node: Node) -> Node:
        while self._sees("->", ".", "[", "("):
            sign = self._take()
            if sign.text == "(":
                raise sign.mark.error("functions can't be called here")
            if sign.text == "[":
                place = self._nested(self._binary, 0)
                self._expect("]")
                node = self._grown(Index(node, place, sign.mark), node, place)
                continue
            if self._next.kind is not Word.NAME:
                raise self._unexpected("the name of a member")
            name = self._take()
            node = self._grown(Member(node, name.text, name.mark), node)
        return node

    def _primary(self) -> Node:
        make = _PRIMARIES.get(self._next.kind)
        if make is not None:
            return make(self._take())
        if not self._sees("("):
            raise self._unexpected("a member, a number or '('")
        self._take()
        node = self._nested(self._binary, 0)
        self._expect(")")
        return node


def _character(token: Token) -> Node:
    value = literals.character(token)
    return Literal(value, numbers.of(value), token.mark)


_CUT = ("the end", "-")
_PRIMARIES: dict[Word, Callable[[Token], Node]] = {
    Word.NAME: lambda token: Name(token.text, token.mark),
    Word.NUMBER: lambda token: Literal(*literals.number(token), token.mark),
    Word.CHARACTER: _character,
    Word.STRING: lambda token: String(literals.string(token), token.mark),
}
