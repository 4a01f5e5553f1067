"""What is known where: value numbers of A, X and scratch words, and facts about values.

A value is named by how it was computed, so two loads of the same bytes are the same value. No value
ever changes: packets don't, and what differs from one way to another is a value of its own at
the block where the ways meet (JOIN). So what was found out of a value holds wherever the
finding lies on every way.

Global value numbering in one walk over the blocks in program order, since all jumps but those of
``protochain`` go forward; where one comes back nothing is known.
"""

from __future__ import annotations

from typing import NamedTuple

from pypwru.filter import ebpf, ranges
from pypwru.filter.blocks import Block, Flow, loop_heads
from pypwru.filter.cbpf import ClassicInstruction, Kind
from pypwru.filter.liveness import reads, writes
from pypwru.filter.ranges import Ranges
from pypwru.filter.terms import DIVISIONS, EQUAL, GREATER, JOIN, LENGTH, LOAD, PACKET, Terms

MOST_RANGES = 8
"""More are not kept of one value, so that filters of thousands of ports take linear time."""

_INDIRECT = (Kind.LOAD_INDIRECT, Kind.CHECK_INDIRECT)


class Condition(NamedTuple):
    """What makes a branch true: that ``value`` is in ``when``."""

    value: int
    when: Ranges

    @property
    def number(self) -> int | None:
        """That with which the value is compared for equality; None: it is another condition."""
        for found in (self.when, ranges.invert(self.when)):
            if len(found) == 1 and found[0][0] == found[0][1]:
                return found[0][0]
        return None


class State:
    """What holds at one place, on every way to it.

    Args:
        values: location -> its value.
        proved: base of a load (PACKET, or the value of X) -> base + this <= caplen.
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
        return State(dict(self.values), dict(self.proved), dict(self.facts))


class Values(Terms):
    """All values of ``flow``, and where they are."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        named = (reads(instruction) | writes(instruction) for instruction in flow.instructions())
        self._locations = sorted({"A", "X"}.union(*named))

    def start(self) -> State:
        """At the entry of a program all is zero."""
        return State(dict.fromkeys(self._locations, self.constant(0)), {}, {})

    def unknown(self, block: int) -> State:
        """Nothing is known when ``block`` begins."""
        return State({name: self._join(block, name) for name in self._locations}, {}, {})

    def meet(self, block: int, states: list[State]) -> State:
        """What holds in each of ``states``, from which control comes to ``block``."""
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
        for value, known in first.facts.items():
            for state in rest:
                known = ranges.unite(known, state.facts.get(value, ranges.FULL))
            if known != ranges.FULL:
                facts[value] = known
        return State(values, proved, facts)

    def run(self, state: State, instruction: ClassicInstruction) -> None:
        """``state`` after ``instruction``."""
        if instruction.kind is Kind.STORE_SCRATCH:
            state.values[f"M{instruction.k}"] = state.values[instruction.form.reads]
            return
        if instruction.form.size:
            base, offset = self.address(state, instruction)
            end = offset + instruction.form.size
            state.proved[base] = max(state.proved.get(base, 0), end)
        if instruction.form.writes:
            state.values[instruction.form.writes] = self.result(state, instruction)

    def result(self, state: State, instruction: ClassicInstruction) -> int:
        """The value that ``instruction``, which writes A or X, writes."""
        kind = instruction.kind
        if instruction.form.size:
            base, offset = self.address(state, instruction)
            loaded = self.number((LOAD + instruction.form.size, base, offset))
            if kind is not Kind.LOAD_HEADER_LENGTH:
                return loaded
            low = self.compute(ebpf.AND, loaded, self.constant(15))
            return self.compute(ebpf.LSH, low, self.constant(2))
        if kind is Kind.LOAD_IMMEDIATE:
            return self.constant(instruction.k)
        if kind is Kind.LOAD_LENGTH:
            return self.number((LENGTH, 0, 0))
        if kind is Kind.LOAD_SCRATCH:
            return state.values[f"M{instruction.k}"]
        if kind is Kind.MOVE:
            return state.values[instruction.form.reads]
        if instruction.operation == ebpf.NEG:
            return self.compute(ebpf.SUB, self.constant(0), state.values["A"])
        return self.compute(
            instruction.operation, state.values["A"], self.operand(state, instruction)
        )

    def operand(self, state: State, instruction: ClassicInstruction) -> int:
        """The second one of an ALU or branch instruction."""
        return state.values["X"] if instruction.uses_x else self.constant(instruction.k)

    def address(self, state: State, instruction: ClassicInstruction) -> tuple[int, int]:
        """Base and offset of a packet load: of an indirect one without what is added to X."""
        offset = instruction.k
        if instruction.kind not in _INDIRECT:
            return PACKET, offset
        base, added = self.split(state.values["X"])
        offset += added
        known = self.constant_of(base)
        if known is not None:
            return PACKET, min(known + offset, ranges.MAX)  # which no packet has either
        return base, offset

    def is_safe(self, state: State, instruction: ClassicInstruction) -> bool:
        """Whether ``instruction`` can't end the filter: no load out of bounds, no division by 0."""
        if instruction.form.size:
            base, offset = self.address(state, instruction)
            return state.proved.get(base, 0) >= offset + instruction.form.size
        if instruction.kind is Kind.ALU and instruction.operation in DIVISIONS:
            return not ranges.intersect(
                self.known(state, self.operand(state, instruction)), ranges.single(0)
            )
        return True

    def condition(self, state: State, branch: ClassicInstruction) -> Condition:
        """What ``branch`` asks, of the simplest value."""
        one, other = state.values["A"], self.operand(state, branch)
        if branch.operation == ebpf.JSET:
            return Condition(self.compute(ebpf.AND, one, other), ranges.invert(ranges.single(0)))
        number = self.constant_of(other)
        if number is None:
            return self._comparison(branch.operation, one, other)
        low = number + (branch.operation == ebpf.JGT)
        high = number if branch.operation == ebpf.JEQ else ranges.MAX
        return self._simplest(one, ((low, high),) if low <= high else ranges.NONE)

    def known(self, state: State, value: int) -> Ranges:
        """The numbers that ``value`` may be."""
        number = self.constant_of(value)
        if number is not None:
            return ranges.single(number)
        most = ((0, self.most(value)),)
        return ranges.intersect(state.facts.get(value, most), most)

    def outcome(self, state: State, condition: Condition) -> bool | None:
        """Of a branch with ``condition``, if it is the same whatever the packet."""
        known = self.known(state, condition.value)
        both = ranges.intersect(known, condition.when)
        return bool(both) if both in (ranges.NONE, known) else None

    def learn(self, state: State, condition: Condition, outcome: bool) -> None:
        """``state`` on the way that is taken for ``outcome``."""
        when = condition.when if outcome else ranges.invert(condition.when)
        known = ranges.intersect(self.known(state, condition.value), when)
        if len(known) <= MOST_RANGES:
            state.facts[condition.value] = known

    def _comparison(self, operation: int, one: int, other: int) -> Condition:
        if operation == ebpf.JEQ:
            return self._simplest(self.compute(ebpf.SUB, one, other), ranges.single(0))
        when = ranges.single(1)
        if operation == ebpf.JGE:  # not the other way round
            one, other, when = other, one, ranges.single(0)
        if one == other:
            return Condition(self.constant(0), when)
        return Condition(self.number((GREATER, one, other)), when)

    def _simplest(self, value: int, when: Ranges) -> Condition:
        """The condition that ``value`` is in ``when``, asked of what it is computed from."""
        operation, one, other = self.terms[value]
        if operation == ebpf.ADD and (number := self.constant_of(other)) is not None:
            return self._simplest(one, ranges.shift(when, -number))
        if operation == ebpf.SUB and (number := self.constant_of(one)) is not None:
            return self._simplest(other, ranges.shift(ranges.negate(when), number))
        if operation == ebpf.SUB and ranges.single(0) in (when, ranges.invert(when)):
            equal = self.number((EQUAL, min(one, other), max(one, other)))
            return Condition(equal, ranges.single(int(when == ranges.single(0))))
        return Condition(value, when)

    def _join(self, block: int, location: str) -> int:
        return self.number((JOIN, block, self._locations.index(location)))


def departures(values: Values, state: State, block: Block) -> list[tuple[int, State]]:
    """Where control may go that comes to ``block`` in ``state``, and what is known then."""
    for instruction in block.instructions:
        values.run(state, instruction)
    branch = block.instructions[-1]
    if len(block.successors) < 2:
        return [(successor, state) for successor in block.successors]
    condition = values.condition(state, branch)
    outcome = values.outcome(state, condition)
    if outcome is not None:
        return [(block.successors[not outcome], state)]
    other = state.copy()
    values.learn(state, condition, outcome=True)
    values.learn(other, condition, outcome=False)
    return list(zip(block.successors, (state, other), strict=True))


def states_at_entries(flow: Flow, values: Values) -> dict[int, State]:
    """What holds when each block begins."""
    heads = loop_heads(flow)
    arriving: dict[int, list[State]] = {start: [] for start in flow.blocks}
    if flow.blocks:
        arriving[flow.entry].append(values.start())
    found = {}
    for start, block in flow.blocks.items():
        states = arriving.pop(start)
        is_known = states and start not in heads  # else no way leads here that can be taken
        found[start] = values.meet(start, states) if is_known else values.unknown(start)
        for successor, state in departures(values, found[start].copy(), block):
            if successor in arriving:
                arriving[successor].append(state)
    return found
