"""Run a regular expression in time linear in the text, whatever the expression.

The expression is compiled to an NFA with threads ordered by preference (Ken Thompson, "Regular
Expression Search Algorithm", CACM 11:6, 1968); sets of threads become the states of a DFA, built
lazily while matching (Russ Cox, "Regular Expression Matching in the Wild", 2010).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Sequence as Nodes
from typing import NamedTuple

_MAX_INSTRUCTIONS = 20_000
_MAX_STATES = 2_000  # in the cache of DFA states
_MATCH = 0  # the program's first instruction
_FOUND, _NOT_FOUND = -1, -2  # final results in place of a state: match, no match
_WORD = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")


class TooLargeError(Exception):
    """The expression has too many instructions, by repetitions of repetitions."""

    def __init__(self) -> None:
        super().__init__("expression too large")


class Letter(NamedTuple):
    """One character; ``pattern`` is the Python re pattern that must match it."""

    pattern: str


class Assertion(NamedTuple):
    """A condition on the characters before and after a position; None at the ends of the text."""

    holds: Callable[[str | None, str | None], bool]


class Concatenation(NamedTuple):
    """A concatenation."""

    parts: Nodes[Node]


class Alternation(NamedTuple):
    """An alternation; earlier parts are preferred."""

    parts: Nodes[Node]


class Repeat(NamedTuple):
    """A repetition.

    Args:
        part: the repeated node.
        min_count, max_count: number of repetitions; ``max_count`` None for unbounded.
        is_lazy: prefer fewer repetitions.
    """

    part: Node
    min_count: int
    max_count: int | None
    is_lazy: bool


Node = Letter | Assertion | Concatenation | Alternation | Repeat

TEXT_BEGIN = Assertion(lambda before, behind: before is None)
TEXT_END = Assertion(lambda before, behind: behind is None)
LINE_BEGIN = Assertion(lambda before, behind: before in (None, "\n"))
LINE_END = Assertion(lambda before, behind: behind in (None, "\n"))
WORD_BOUNDARY = Assertion(lambda before, behind: (before in _WORD) != (behind in _WORD))
NOT_WORD_BOUNDARY = Assertion(lambda before, behind: (before in _WORD) == (behind in _WORD))


class _Consume(NamedTuple):
    """Consume a character that matches, and continue at ``then``."""

    matches: Callable[[str], object]
    then: int


class _Check(NamedTuple):
    """Continue at ``then`` if the condition holds here."""

    holds: Callable[[str | None, str | None], bool]
    then: int


class _Split(NamedTuple):
    """Continue at several instructions, in the order of preference."""

    then: tuple[int, ...]


_Instruction = _Consume | _Check | _Split | None


class _Program:
    """The NFA's instructions; the first one is the match."""

    def __init__(self) -> None:
        self.instructions: list[_Instruction] = [None]

    def add(self, node: Node, then: int) -> int:
        """Compile ``node``, to be followed by instruction ``then``.

        Args:
            node: to compile; parts are compiled back to front.
            then: index of the next instruction.

        Returns:
            Index of its first instruction.

        Raises:
            TooLargeError: the program has too many instructions.
        """
        if isinstance(node, Letter):
            return self._put(_Consume(re.compile(node.pattern, re.ASCII).fullmatch, then))
        if isinstance(node, Assertion):
            return self._put(_Check(node.holds, then))
        if isinstance(node, Alternation):
            begins = tuple(self.add(part, then) for part in node.parts)
            return begins[0] if len(begins) == 1 else self._put(_Split(begins))
        if isinstance(node, Concatenation):
            for part in reversed(node.parts):
                then = self.add(part, then)
            return then
        return self._add_repeat(node, then)

    def _add_repeat(self, node: Repeat, then: int) -> int:
        part, min_count, max_count, is_lazy = node
        if max_count is None:
            begin = self._add_loop(part, then, is_lazy)
            if not min_count:
                begin = self._put(_Split(_preferred(begin, then, is_lazy)))
            then, min_count = begin, min_count - 1
        else:
            end = then
            for _ in range(max_count - min_count):
                then = self._put(_Split(_preferred(self.add(part, then), end, is_lazy)))
        for _ in range(min_count):
            then = self.add(part, then)
        return then

    def _add_loop(self, part: Node, then: int, is_lazy: bool) -> int:
        """Compile one or more repetitions."""
        again = self._put(None)
        begin = self.add(part, again)
        self.instructions[again] = _Split(_preferred(begin, then, is_lazy))
        return begin

    def _put(self, instruction: _Instruction) -> int:
        if len(self.instructions) >= _MAX_INSTRUCTIONS:
            raise TooLargeError
        self.instructions.append(instruction)
        return len(self.instructions) - 1


def _preferred(more: int, no_more: int, is_lazy: bool) -> tuple[int, int]:
    return (no_more, more) if is_lazy else (more, no_more)


class Machine:
    """A matcher with a bounded cache of DFA states.

    Args:
        expression: the syntax tree.
        anchored: True if the leftmost-first match at the start must be the whole text; False if
            the match may be anywhere.

    Raises:
        TooLargeError: the expression has too many instructions.
        re.error: the pattern of a Letter is invalid.
    """

    def __init__(self, expression: Node, *, anchored: bool) -> None:
        program = _Program()
        self._start = program.add(expression, _MATCH)
        self._program = program.instructions
        self._anchored = anchored
        self._reset_cache()

    def _reset_cache(self) -> None:
        # A state is a list of threads and the class of the character before: \n, word, other, None.
        self._states: dict[tuple[tuple[int, ...], str | None], int] = {}
        self._contents: list[tuple[tuple[int, ...], str | None]] = []
        self._next: list[dict[str | None, int]] = []

    def matches(self, text: str) -> bool:
        """Return whether the expression matches ``text``."""
        state = self._state((self._start,), None)
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
        """Return the state after ``char``, None for the end of the text."""
        threads, before = self._contents[state]
        after: dict[int, None] = {}
        found = False
        for at in self._closure(threads, before, char):
            instruction = self._program[at]
            if instruction is None:
                found = True
                break  # later threads have lower preference than this match
            if isinstance(instruction, _Consume) and char is not None and instruction.matches(char):
                after[instruction.then] = None
        if not self._anchored:
            after[self._start] = None
        if found and (char is None or not self._anchored):
            reached = _FOUND
        elif char is None or not after:
            reached = _NOT_FOUND
        else:
            if len(self._next) >= _MAX_STATES:
                self._reset_cache()
                return self._state(tuple(after), char)
            reached = self._state(tuple(after), char)
        self._next[state][char] = reached
        return reached

    def _closure(
        self, threads: tuple[int, ...], before: str | None, after: str | None
    ) -> list[int]:
        """Return the instructions that consume a character or match, in order of preference."""
        seen: set[int] = set()
        reached = []
        pending = [*reversed(threads)]
        while pending:
            at = pending.pop()
            if at in seen:
                continue
            seen.add(at)
            instruction = self._program[at]
            if isinstance(instruction, _Split):
                pending.extend(reversed(instruction.then))
            elif isinstance(instruction, _Check):
                if instruction.holds(before, after):
                    pending.append(instruction.then)
            else:
                reached.append(at)
        return reached
