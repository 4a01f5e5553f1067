"""Runs a regular expression in time linear in the text, whatever the expression.

The expression becomes a program of an NFA whose threads are ordered by preference (Ken Thompson,
"Regular Expression Search Algorithm", CACM 11:6, 1968), and the sets of threads become the states
of a DFA as texts lead to them (Russ Cox, "Regular Expression Matching in the Wild", 2010).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Sequence as Nodes
from typing import NamedTuple

_MOST_INSTRUCTIONS = 20_000
_MOST_STATES = 2_000  # that are kept
_MATCH = 0  # the program's first instruction
_FOUND, _LOST = -1, -2  # no states: it is known that there is a match, or none
_WORD = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")


class TooLargeError(Exception):
    """The expression has too many repetitions of repetitions."""

    def __init__(self) -> None:
        super().__init__("expression too large")


class Letter(NamedTuple):
    """One character; ``pattern`` of Python's re matches which."""

    pattern: str


class Assertion(NamedTuple):
    """What must hold of the characters before and behind a place; None for none."""

    holds: Callable[[str | None, str | None], bool]


class Sequence(NamedTuple):
    """One after the other."""

    parts: Nodes[Node]


class Choice(NamedTuple):
    """One of these, earlier ones rather."""

    parts: Nodes[Node]


class Repeat(NamedTuple):
    """Several of one.

    Args:
        part: of what.
        least, most: how many; None for any number.
        is_lazy: as few as will do, not as many.
    """

    part: Node
    least: int
    most: int | None
    is_lazy: bool


Node = Letter | Assertion | Sequence | Choice | Repeat

BEGINS = Assertion(lambda before, behind: before is None)
ENDS = Assertion(lambda before, behind: behind is None)
BEGINS_LINE = Assertion(lambda before, behind: before in (None, "\n"))
ENDS_LINE = Assertion(lambda before, behind: behind in (None, "\n"))
BETWEEN_WORD = Assertion(lambda before, behind: (before in _WORD) != (behind in _WORD))
NOT_BETWEEN_WORD = Assertion(lambda before, behind: (before in _WORD) == (behind in _WORD))


class _Take(NamedTuple):
    """Take a character that matches, and go on."""

    matches: Callable[[str], object]
    then: int


class _Check(NamedTuple):
    """Go on if it holds here."""

    holds: Callable[[str | None, str | None], bool]
    then: int


class _Split(NamedTuple):
    """Go on in several places, in the order of preference."""

    then: tuple[int, ...]


_Instruction = _Take | _Check | _Split | None


class _Program:
    """Instructions; the first is the match."""

    def __init__(self) -> None:
        self.instructions: list[_Instruction] = [None]

    def add(self, node: Node, then: int) -> int:
        """Where ``node`` begins, behind which ``then`` is gone on with."""
        if isinstance(node, Letter):
            return self._put(_Take(re.compile(node.pattern, re.ASCII).fullmatch, then))
        if isinstance(node, Assertion):
            return self._put(_Check(node.holds, then))
        if isinstance(node, Choice):
            begins = tuple(self.add(part, then) for part in node.parts)
            return begins[0] if len(begins) == 1 else self._put(_Split(begins))
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                then = self.add(part, then)
            return then
        return self._add_repeat(node, then)

    def _add_repeat(self, node: Repeat, then: int) -> int:
        part, least, most, is_lazy = node
        if most is None:
            begin = self._add_loop(part, then, is_lazy)
            if not least:
                begin = self._put(_Split(_preferred(begin, then, is_lazy)))
            then, least = begin, least - 1
        else:
            end = then
            for _ in range(most - least):
                then = self._put(_Split(_preferred(self.add(part, then), end, is_lazy)))
        for _ in range(least):
            then = self.add(part, then)
        return then

    def _add_loop(self, part: Node, then: int, is_lazy: bool) -> int:
        """One or more."""
        again = self._put(None)
        begin = self.add(part, again)
        self.instructions[again] = _Split(_preferred(begin, then, is_lazy))
        return begin

    def _put(self, instruction: _Instruction) -> int:
        if len(self.instructions) >= _MOST_INSTRUCTIONS:
            raise TooLargeError
        self.instructions.append(instruction)
        return len(self.instructions) - 1


def _preferred(more: int, no_more: int, is_lazy: bool) -> tuple[int, int]:
    return (no_more, more) if is_lazy else (more, no_more)


class Machine:
    """Matches texts.

    Args:
        expression: of what is looked for.
        anchored: whether the leftmost match, of those by preference, has to be the whole text;
            else it may be anywhere.

    Raises:
        TooLargeError: of the expression.
        re.error: of a letter's pattern.
    """

    def __init__(self, expression: Node, *, anchored: bool) -> None:
        program = _Program()
        self._begin = program.add(expression, _MATCH)
        self._program = program.instructions
        self._anchored = anchored
        self._forget()

    def _forget(self) -> None:
        # By state, which is of threads and what was before them, and the next character.
        self._states: dict[tuple[tuple[int, ...], str | None], int] = {}
        self._contents: list[tuple[tuple[int, ...], str | None]] = []
        self._next: list[dict[str | None, int]] = []

    def matches(self, text: str) -> bool:
        """Whether it does."""
        state = self._state((self._begin,), None)
        for char in (*text, None):
            after = self._next[state].get(char)
            state = self._step(state, char) if after is None else after
            if state < 0:
                break
        return state == _FOUND

    def _state(self, threads: tuple[int, ...], before: str | None) -> int:
        kind = before if before is None or before == "\n" else "_" if before in _WORD else " "
        state = self._states.setdefault((threads, kind), len(self._next))
        if state == len(self._next):
            self._contents.append((threads, kind))
            self._next.append({})
        return state

    def _step(self, state: int, char: str | None) -> int:
        """The state behind ``char``, None for the end of the text."""
        threads, before = self._contents[state]
        after: dict[int, None] = {}
        found = False
        for at in self._reached(threads, before, char):
            instruction = self._program[at]
            if instruction is None:
                found = True
                break  # what comes behind is not preferred to this match
            if isinstance(instruction, _Take) and char is not None and instruction.matches(char):
                after[instruction.then] = None
        if not self._anchored:
            after[self._begin] = None
        if found and (char is None or not self._anchored):
            reached = _FOUND
        elif char is None or not after:
            reached = _LOST
        else:
            if len(self._next) >= _MOST_STATES:
                self._forget()
                return self._state(tuple(after), char)
            reached = self._state(tuple(after), char)
        self._next[state][char] = reached
        return reached

    def _reached(
        self, threads: tuple[int, ...], before: str | None, behind: str | None
    ) -> list[int]:
        """Instructions that take a character, or match; in their order, each once."""
        seen: set[int] = set()
        reached = []
        left = [*reversed(threads)]
        while left:
            at = left.pop()
            if at in seen:
                continue
            seen.add(at)
            instruction = self._program[at]
            if isinstance(instruction, _Split):
                left.extend(reversed(instruction.then))
            elif isinstance(instruction, _Check):
                if instruction.holds(before, behind):
                    left.append(instruction.then)
            else:
                reached.append(at)
        return reached
