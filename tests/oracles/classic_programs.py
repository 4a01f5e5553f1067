"""Random classic BPF of few bytes and few numbers, so that loads and tests are related."""

from __future__ import annotations

import random

from pypwru.asm.cbpf import ClassicInstruction
from tests.oracles.filters import Packet

NUMBERS = (0, 1, 2, 3, 4, 6, 20)
CONSTANT_BRANCHES, X_BRANCHES = (0x15, 0x15, 0x25, 0x35, 0x45), (0x1D, 0x2D, 0x3D, 0x4D)
X_ALU = (0x0C, 0x1C, 0x3C, 0x5C, 0x6C, 0x7C, 0x9C, 0xAC)
CONSTANT_ALU = (0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0x64, 0x94)
LOADS, INDIRECT_LOADS = (0x20, 0x28, 0x30, 0x30), (0x48, 0x50)
SCRATCH = (0x60, 0x61, 0x02, 0x03)
WITHOUT_OPERAND = (0x80, 0x81, 0x84, 0x07, 0x87)
JUMP, RETURN, RETURN_A = 0x05, 0x06, 0x16
COUNTER = 5  # a scratch word that no other instruction names


def program(chance: random.Random) -> list[ClassicInstruction]:
    """Return a valid program without backward jumps."""
    length = chance.randrange(4, 40)
    code = [_instruction(chance, length - position - 1) for position in range(length)]
    last = (RETURN, 1) if chance.random() < 0.7 else (RETURN_A, 0)
    return [*code, _plain(*last)]


def loop(chance: random.Random) -> list[ClassicInstruction]:
    """Return a loop of up to four trips, as protochain makes it, and code behind it."""
    body = [i for i in program(chance) if i.code not in (RETURN, RETURN_A)]
    for position, instruction in enumerate(body):
        left = len(body) - position - 1  # no further than the jump back
        k = min(instruction.k, left) if instruction.code == JUMP else instruction.k
        body[position] = instruction._replace(
            jt=min(instruction.jt, left), jf=min(instruction.jf, left), k=k
        )
    head = [
        _plain(0x60, COUNTER),
        _plain(0x04, 1),
        _plain(0x02, COUNTER),
        ClassicInstruction(0x25, 0, 1, chance.randrange(1, 5)),
        _plain(JUMP, len(body) + 1),
    ]
    back = -(len(head) + len(body) + 1) & 0xFFFFFFFF
    return [*head, *body, _plain(JUMP, back), *program(chance)]


def packet(chance: random.Random) -> Packet:
    """Return a short one: some loads are out of its bounds."""
    data = bytes(chance.choices(NUMBERS, k=chance.choice((0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 30))))
    return Packet(data, len(data) + chance.choice((0, 5)))


def _instruction(chance: random.Random, left: int) -> ClassicInstruction:
    """Return any instruction; ``left`` is how far it may jump."""

    def distance() -> int:
        return min(left, chance.choice((0, 0, 0, 1, 1, 2, 3, chance.randrange(left + 1))))

    kind, number = chance.randrange(12), chance.choice(NUMBERS)
    if kind <= 3:
        code = chance.choice((*CONSTANT_BRANCHES, *X_BRANCHES))
        return ClassicInstruction(code, distance(), distance(), number)
    if kind == 4:
        jump = chance.random() < 0.5
        return _plain(JUMP, distance()) if jump else _plain(RETURN, chance.randrange(2))
    if kind <= 7:
        return _plain(chance.choice(LOADS), number)
    if kind == 8:
        return _plain(chance.choice((*INDIRECT_LOADS, 0xB1)), number % 4)
    if kind == 9:
        return _plain(chance.choice((*WITHOUT_OPERAND, 0x00, 0x01)), 0)._replace(k=number)
    if kind == 10:
        return _plain(chance.choice(SCRATCH), chance.randrange(3))
    if chance.random() < 0.5:
        return _plain(chance.choice(X_ALU), 0)
    return _plain(chance.choice(CONSTANT_ALU), number or 1)


def _plain(code: int, k: int) -> ClassicInstruction:
    return ClassicInstruction(code, 0, 0, k)
