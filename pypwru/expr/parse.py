"""Pass 2: the parser. Tokens to a syntax tree, by C's operator precedence (precedence climbing)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.expr import int_types, literals
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
from pypwru.expr.lexer import Token, TokenKind, tokenize

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.errors import FilterError
    from pypwru.expr.position import Position

MAX_DEPTH = 64
"""Levels of nesting of a tree: every later pass recurses once for each."""
_PRECEDENCE_LEVELS = (
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
PRECEDENCE = {sign: level for level, signs in enumerate(_PRECEDENCE_LEVELS) for sign in signs}
_LOGIC = ("||", "&&")
_UNARY = ("-", "+", "~", "!")


def parse(source: Position) -> Node:
    """Parse ``source`` to a syntax tree.

    Raises:
        FilterError: a syntax error, or an expression that is nested deeper than MAX_DEPTH.
    """
    return _Parser(tokenize(source)).parse()


class _Parser:
    def __init__(self, token_list: list[Token]) -> None:
        self._tokens = token_list
        self._index = 0
        self._nesting = 0
        # id() of a node -> depth of its tree. No id is reused: the tree references every node.
        self._depths: dict[int, int] = {}

    def parse(self) -> Node:
        if self._is_at_end():
            raise self._next.position.error("the expression is empty")
        tree = self._parse_binary(0)
        if not self._is_at_end():
            raise self._unexpected_token("an operator or the end")
        return tree

    @property
    def _next(self) -> Token:
        return self._tokens[self._index]

    def _is_at_end(self) -> bool:
        return self._next.kind is TokenKind.END

    def _advance(self) -> Token:
        self._index += 1
        return self._tokens[self._index - 1]

    def _next_is(self, *punctuators: str) -> bool:
        return self._next.kind is TokenKind.PUNCTUATOR and self._next.text in punctuators

    def _expect(self, punctuator: str) -> None:
        if not self._next_is(punctuator):
            raise self._unexpected_token(f"'{punctuator}'")
        self._advance()

    def _unexpected_token(self, expected: str) -> FilterError:
        token = self._next
        found = "the end" if self._is_at_end() else f"'{token.text}'"
        previous = self._tokens[self._index - 1].text if self._index else ""
        # The shell took the '>' of an unquoted skb->len for a redirection: 'skb-' is left.
        hint = (
            "; quote the expression: '>' is the shell's"
            if (found, previous) == _SHELL_REDIRECTED
            else ""
        )
        return token.position.error(f"{expected} expected, not {found}{hint}")

    def _with_depth(self, node: Node, *children: Node) -> Node:
        depth = 1 + max((self._depths.get(id(child), 0) for child in children), default=0)
        if depth > MAX_DEPTH:
            raise node.position.error("the expression is nested too deep: write it shorter")
        self._depths[id(node)] = depth
        return node

    def _parse_nested(self, parse: Callable[..., Node], *arguments: int) -> Node:
        self._nesting += 1
        if self._nesting > MAX_DEPTH:
            raise self._next.position.error("the expression is nested too deep: write it shorter")
        node = parse(*arguments)
        self._nesting -= 1
        return node

    def _parse_binary(self, level: int) -> Node:
        left = self._parse_unary()
        while (
            self._next.kind is TokenKind.PUNCTUATOR and PRECEDENCE.get(self._next.text, -1) >= level
        ):
            op, position = self._next.text, self._next.position
            if op in _LOGIC:
                left = self._parse_logic(op, left, position)
                continue
            self._advance()
            right = self._parse_nested(self._parse_binary, PRECEDENCE[op] + 1)
            left = self._with_depth(
                BinaryExpr("==" if op == "=" else op, left, right, position), left, right
            )
        return left

    def _parse_logic(self, op: str, first: Node, position: Position) -> Node:
        """Parse the remaining terms of ``first && b && ...`` into one node."""
        terms = [first]
        while self._next_is(op):
            self._advance()
            terms.append(self._parse_nested(self._parse_binary, PRECEDENCE[op] + 1))
        return self._with_depth(LogicExpr(op, tuple(terms), position), *terms)

    def _parse_unary(self) -> Node:
        token = self._next
        if self._next_is("*"):
            self._advance()
            operand = self._parse_nested(self._parse_unary)
            zero = LiteralExpr(0, int_types.BOOL, token.position)
            return self._with_depth(IndexExpr(operand, zero, token.position), operand)
        if not self._next_is(*_UNARY):
            return self._parse_postfix(self._parse_primary())
        self._advance()
        operand = self._parse_nested(self._parse_unary)
        return self._with_depth(UnaryExpr(token.text, operand, token.position), operand)

    def _parse_postfix(self, node: Node) -> Node:
        while self._next_is("->", ".", "[", "("):
            token = self._advance()
            if token.text == "(":
                raise token.position.error("functions can't be called here")
            if token.text == "[":
                index_expr = self._parse_nested(self._parse_binary, 0)
                self._expect("]")
                node = self._with_depth(
                    IndexExpr(node, index_expr, token.position), node, index_expr
                )
                continue
            if self._next.kind is not TokenKind.NAME:
                raise self._unexpected_token("the name of a member")
            name = self._advance()
            node = self._with_depth(MemberExpr(node, name.text, name.position), node)
        return node

    def _parse_primary(self) -> Node:
        make_node = _PRIMARY_MAKERS.get(self._next.kind)
        if make_node is not None:
            return make_node(self._advance())
        if not self._next_is("("):
            raise self._unexpected_token("a member, a number or '('")
        self._advance()
        node = self._parse_nested(self._parse_binary, 0)
        self._expect(")")
        return node


def _character_literal(token: Token) -> Node:
    value = literals.parse_character(token)
    return LiteralExpr(value, int_types.constant_type(value), token.position)


_SHELL_REDIRECTED = ("the end", "-")
_PRIMARY_MAKERS: dict[TokenKind, Callable[[Token], Node]] = {
    TokenKind.NAME: lambda token: NameExpr(token.text, token.position),
    TokenKind.NUMBER: lambda token: LiteralExpr(*literals.parse_number(token), token.position),
    TokenKind.CHARACTER: _character_literal,
    TokenKind.STRING: lambda token: StringExpr(literals.parse_string(token), token.position),
}
