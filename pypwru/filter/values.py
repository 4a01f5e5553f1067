"""Global value numbering: the values of A, X and scratch words, and facts about values.

A value is identified by how it was computed, so two loads of the same bytes are the same value.
Values are immutable: the packet doesn't change, and a location that has different values on the
paths to a block gets a new value there (JOIN). So a fact about a value holds everywhere that is
reached only through the branch or load that established it.

One walk over the blocks in program order is enough, since all jumps but those of ``protochain`` go
forward; nothing is assumed at a loop header.
"""

from __future__ import annotations

from typing import NamedTuple

from pypwru.asm import ebpf
from pypwru.asm.cbpf import ClassicInstruction, InstructionKind
from pypwru.filter import ranges
from pypwru.filter.cfg import CFG, Block, loop_headers
from pypwru.filter.liveness import locations_read, locations_written
from pypwru.filter.ranges import Ranges
from pypwru.filter.terms import DIVISIONS, EQUAL, GREATER, JOIN, LENGTH, LOAD, PACKET, Terms

MAX_RANGES = 8
"""Limit of a fact's ranges, so that compiling a filter of thousands of ports takes linear time."""

_INDIRECT = (InstructionKind.LOAD_INDIRECT, InstructionKind.CHECK_INDIRECT)


class Condition(NamedTuple):
    """The condition of a branch: it is true if ``value`` is in ``accepted``."""

    value: int
    accepted: Ranges

    @property
    def number(self) -> int | None:
        """The number that the value is compared with by == or !=; None for other conditions."""
        for found in (self.accepted, ranges.invert(self.accepted)):
            if len(found) == 1 and found[0][0] == found[0][1]:
                return found[0][0]
        return None


class State:
    """What holds at a point of the program, on every path to it. Mutable.

    Args:
        values: location -> its value.
        proved: base of a load (PACKET, or the value of X) -> n, where base + n <= caplen.
        facts: value -> the numbers that it may be.
    """

    __slots__ = ("facts", "proved", "values")

    def __init__(
        self, values: dict[str, int], proved: dict[int, int], facts: dict[int, Ranges]
    ) -> None:
        self.values = values
        self.proved = proved
        self.facts = facts

    def copy(self) -> State:
        """Return an independent copy."""
        return State(dict(self.values), dict(self.proved), dict(self.facts))


class ValueNumbering(Terms):
    """The values of ``cfg``, and the transfer functions of its instructions."""

    def __init__(self, cfg: CFG) -> None:
        super().__init__()
        named = (
            locations_read(instruction) | locations_written(instruction)
            for instruction in cfg.instructions()
        )
        self._locations = sorted({"A", "X"}.union(*named))

    def entry_state(self) -> State:
        """Return the state at the entry of the program: all locations are zero."""
        return State(dict.fromkeys(self._locations, self.constant(0)), {}, {})

    def unknown_state(self, block: int) -> State:
        """Return a state at the start of ``block`` in which nothing is known."""
        return State({name: self._join(block, name) for name in self._locations}, {}, {})

    def meet(self, block: int, states: list[State]) -> State:
        """Return what holds in all of ``states``, those at the ends of edges to ``block``."""
        if len(states) == 1:
            return states[0]
        first, rest = states[0], states[1:]
        values = {
            name: value
            if all(state.values[name] == value for state in rest)
            else self._join(block, name)
            for name, value in first.values.items()
        }
        proved = {
            base: min(end, *(state.proved[base] for state in rest))
            for base, end in first.proved.items()
            if all(base in state.proved for state in rest)
        }
        facts = {}
        for value, numbers in first.facts.items():
            for state in rest:
                numbers = ranges.unite(numbers, state.facts.get(value, ranges.FULL))
            if numbers != ranges.FULL:
                facts[value] = numbers
        return State(values, proved, facts)

    def apply(self, state: State, instruction: ClassicInstruction) -> None:
        """Apply ``instruction`` to ``state``."""
        if instruction.kind is InstructionKind.STORE_SCRATCH:
            state.values[f"M{instruction.k}"] = state.values[instruction.opcode.reads]
            return
        if instruction.opcode.size:
            base, offset = self.load_address(state, instruction)
            end = offset + instruction.opcode.size
            state.proved[base] = max(state.proved.get(base, 0), end)
        if instruction.opcode.writes:
            state.values[instruction.opcode.writes] = self.result_value(state, instruction)

    def result_value(self, state: State, instruction: ClassicInstruction) -> int:
        """Return the value that ``instruction`` writes to A or X."""
        kind = instruction.kind
        if instruction.opcode.size:
            base, offset = self.load_address(state, instruction)
            loaded = self.value_number((LOAD + instruction.opcode.size, base, offset))
            if kind is not InstructionKind.LOAD_HEADER_LENGTH:
                return loaded
            low = self.compute(ebpf.AND, loaded, self.constant(15))
            return self.compute(ebpf.LSH, low, self.constant(2))
        if kind is InstructionKind.LOAD_IMMEDIATE:
            return self.constant(instruction.k)
        if kind is InstructionKind.LOAD_LENGTH:
            return self.value_number((LENGTH, 0, 0))
        if kind is InstructionKind.LOAD_SCRATCH:
            return state.values[f"M{instruction.k}"]
        if kind is InstructionKind.MOVE:
            return state.values[instruction.opcode.reads]
        if instruction.operation == ebpf.NEG:
            return self.compute(ebpf.SUB, self.constant(0), state.values["A"])
        return self.compute(
            instruction.operation, state.values["A"], self.second_operand(state, instruction)
        )

    def second_operand(self, state: State, instruction: ClassicInstruction) -> int:
        """Return the value of the second operand of an ALU or branch instruction."""
        return state.values["X"] if instruction.uses_x else self.constant(instruction.k)

    def load_address(self, state: State, instruction: ClassicInstruction) -> tuple[int, int]:
        """Return base and offset of a packet load.

        For an indirect load, a constant that was added to X is part of the offset.
        """
        offset = instruction.k
        if instruction.kind not in _INDIRECT:
            return PACKET, offset
        base, added = self.split_addend(state.values["X"])
        offset += added
        constant = self.constant_of(base)
        if constant is not None:
            return PACKET, min(constant + offset, ranges.MAX)  # out of bounds too
        return base, offset

    def is_safe(self, state: State, instruction: ClassicInstruction) -> bool:
        """Return whether ``instruction`` can't end the filter.

        A load out of bounds and a division by 0 end it.
        """
        if instruction.opcode.size:
            base, offset = self.load_address(state, instruction)
            return state.proved.get(base, 0) >= offset + instruction.opcode.size
        if instruction.kind is InstructionKind.ALU and instruction.operation in DIVISIONS:
            return not ranges.intersect(
                self.possible_numbers(state, self.second_operand(state, instruction)),
                ranges.single(0),
            )
        return True

    def branch_condition(self, state: State, branch: ClassicInstruction) -> Condition:
        """Return the condition of ``branch``, on the simplest value."""
        one, other = state.values["A"], self.second_operand(state, branch)
        if branch.operation == ebpf.JSET:
            return Condition(self.compute(ebpf.AND, one, other), ranges.invert(ranges.single(0)))
        number = self.constant_of(other)
        if number is None:
            return self._comparison(branch.operation, one, other)
        low = number + (branch.operation == ebpf.JGT)
        high = number if branch.operation == ebpf.JEQ else ranges.MAX
        return self._simplify(one, ((low, high),) if low <= high else ranges.NONE)

    def possible_numbers(self, state: State, value: int) -> Ranges:
        """Return the numbers that ``value`` may be."""
        number = self.constant_of(value)
        if number is not None:
            return ranges.single(number)
        bounds = ((0, self.upper_bound(value)),)
        return ranges.intersect(state.facts.get(value, bounds), bounds)

    def known_outcome(self, state: State, condition: Condition) -> bool | None:
        """Return the outcome of a branch on ``condition`` if ``state`` implies it, or None."""
        numbers = self.possible_numbers(state, condition.value)
        both = ranges.intersect(numbers, condition.accepted)
        return bool(both) if both in (ranges.NONE, numbers) else None

    def assume(self, state: State, condition: Condition, outcome: bool) -> None:
        """Add to ``state`` the fact that a branch on ``condition`` had this ``outcome``.

        Args:
            state: the state on the edge that is taken then; it is changed.
            condition: of the branch.
            outcome: true or false.
        """
        accepted = condition.accepted if outcome else ranges.invert(condition.accepted)
        numbers = ranges.intersect(self.possible_numbers(state, condition.value), accepted)
        if len(numbers) <= MAX_RANGES:
            state.facts[condition.value] = numbers

    def _comparison(self, operation: int, one: int, other: int) -> Condition:
        if operation == ebpf.JEQ:
            return self._simplify(self.compute(ebpf.SUB, one, other), ranges.single(0))
        accepted = ranges.single(1)
        if operation == ebpf.JGE:  # not (other > one)
            one, other, accepted = other, one, ranges.single(0)
        if one == other:
            return Condition(self.constant(0), accepted)
        return Condition(self.value_number((GREATER, one, other)), accepted)

    def _simplify(self, value: int, accepted: Ranges) -> Condition:
        """Return the condition that ``value`` is in ``accepted``, on what it is computed from."""
        operation, one, other = self.terms[value]
        if operation == ebpf.ADD and (number := self.constant_of(other)) is not None:
            return self._simplify(one, ranges.shift(accepted, -number))
        if operation == ebpf.SUB and (number := self.constant_of(one)) is not None:
            return self._simplify(other, ranges.shift(ranges.negate(accepted), number))
        if operation == ebpf.SUB and ranges.single(0) in (accepted, ranges.invert(accepted)):
            equal = self.value_number((EQUAL, min(one, other), max(one, other)))
            return Condition(equal, ranges.single(int(accepted == ranges.single(0))))
        return Condition(value, accepted)

    def _join(self, block: int, location: str) -> int:
        return self.value_number((JOIN, block, self._locations.index(location)))


def outgoing_states(values: ValueNumbering, state: State, block: Block) -> list[tuple[int, State]]:
    """Return the possible successors of ``block``, each with the state on its edge.

    Args:
        values: the program's values.
        state: at the start of the block; it is changed.
        block: the block.
    """
    for instruction in block.instructions:
        values.apply(state, instruction)
    branch = block.instructions[-1]
    if len(block.successors) < 2:
        return [(successor, state) for successor in block.successors]
    condition = values.branch_condition(state, branch)
    outcome = values.known_outcome(state, condition)
    if outcome is not None:
        return [(block.successors[not outcome], state)]
    false_state = state.copy()
    values.assume(state, condition, outcome=True)
    values.assume(false_state, condition, outcome=False)
    return list(zip(block.successors, (state, false_state), strict=True))


def entry_states(cfg: CFG, values: ValueNumbering) -> dict[int, State]:
    """Return name of a block -> state at its start."""
    headers = loop_headers(cfg)
    arriving: dict[int, list[State]] = {start: [] for start in cfg.blocks}
    if cfg.blocks:
        arriving[cfg.entry].append(values.entry_state())
    found = {}
    for start, block in cfg.blocks.items():
        states = arriving.pop(start)
        is_reached = states and start not in headers  # no states: unreachable
        found[start] = values.meet(start, states) if is_reached else values.unknown_state(start)
        for successor, state in outgoing_states(values, found[start].copy(), block):
            if successor in arriving:
                arriving[successor].append(state)
    return found
