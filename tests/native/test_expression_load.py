"""The verifier accepts expressions over this kernel's own structs, and its packets match them.

A sched_cls program's context is the sk_buff itself, and BPF_PROG_TEST_RUN makes one on ``lo``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pypwru.asm import ebpf
from pypwru.asm.ebpf import R0, R1, R2, R3, R6, R10, Assembler, Insn
from pypwru.btf.load import load_vmlinux
from pypwru.btf.query import BTF
from pypwru.expr import MetadataMembers, compile_filter_expression, compile_members
from pypwru.kernel import bpf
from pypwru.kernel.bpf import MapType, ProgramType
from tests.support.need import need

pytestmark = pytest.mark.native

PACKET = b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\x00" + bytes(range(86))
OUT = -32
RESERVE, SUBMIT = 131, 132  # BPF_FUNC_ringbuf_*
PSEUDO_MAP_FD = 1

TRUE = (
    "skb->len == 86 || skb->len == 100",
    "skb->protocol == 0x0800 && skb->protocol < 0x0801",
    'skb->dev->ifindex == 1 && skb->dev->name == "lo" && skb.dev.ifindex < 2',
    "skb->data_len == 0 && !skb->data_len && skb->truesize > skb->len",
    "skb->sk != NULL && skb->sk->__sk_common.skc_family != 10",
    "skb->users.refs.counter == 1",
    "skb->pkt_type == 3 || skb->pkt_type == 0",
    "skb->data - skb->head > 0 && skb->data[0] == 0 + skb->data[0]",
    "skb->dev->mtu >= 1500 && skb->dev->mtu != skb->len",
    "skb->dev->reg_state == NETREG_REGISTERED",
    "skb->dev->flags & 8",
    "(skb->mark | 0x80000001) == 0x80000001",
    "skb->dev->nd_net.net->ns.inum != 0",
    "skb->cb[47] == 0 || 1",
)
FALSE = (
    "skb->len == 5",
    "skb->protocol == 8",
    "skb->dev->ifindex != 1",
    "skb->mark == 0x80000001",
    "skb->prev->len >= 0 || skb->next->len >= 0 || skb->next->next->next->len == 7",
)


@pytest.fixture(autouse=True)
def _root() -> None:
    need(os.geteuid() == 0, "root, for BPF_PROG_TEST_RUN")


@pytest.fixture(scope="module")
def btf() -> BTF:
    """Read once: in an emulated guest that takes seconds."""
    return load_vmlinux()


def run(body: list[Insn]) -> int:
    program = [*body, Insn(ebpf.EXIT_PROGRAM)]
    fd = bpf.program_load(ProgramType.SCHED_CLS, "expression", ebpf.pack(program))
    try:
        return bpf.program_test_run(fd, PACKET)
    finally:
        os.close(fd)


@pytest.mark.parametrize("text", TRUE)
def test_true_expressions_match(btf: BTF, text: str) -> None:
    assert run(compile_filter_expression(text, "skb", btf).body(0)) == 1
    assert run(compile_filter_expression(f"!({text})", "skb", btf).body(-200)) == 0


@pytest.mark.parametrize("text", FALSE)
def test_false_expressions_do_not_match(btf: BTF, text: str) -> None:
    assert run(compile_filter_expression(text, "skb", btf).body(0)) == 0


@pytest.mark.parametrize(
    "text",
    [
        " || ".join(f"skb->len == {n} && skb->mark == {n + 1}" for n in range(1000, 1300)),
        " && ".join(f"skb->dev->ifindex != {n}" for n in range(2, 300)),
        " + ".join(f"(skb->len == {n} || skb->dev->mtu == {n})" for n in range(20)),
    ],
    ids=["600 comparisons", "298 terms", "20 summands"],
)
def test_verifier_accepts_long_expressions(btf: BTF, text: str) -> None:
    expression = compile_filter_expression(text, "skb", btf)
    assert run(expression.body(-100)) == (" && skb->dev" in text)


def test_member_of_xdp_buff(btf: BTF) -> None:
    """The example of pwru's help."""
    expression = compile_filter_expression("xdp->rxq->dev->ifindex == 9", "xdp", btf)
    assert run(expression.body(0)) == 0
    assert compile_members(["xdp->rxq->queue_index"], "xdp", btf).items[0].name == "queue_index"


MEMBERS = ("skb->protocol", "skb->dev->ifindex", "skb->next->len", "skb->dev->reg_state")


def member_value(members: MetadataMembers, index: int) -> int:
    """Return the kernel's value of one of four members."""
    before, after = Assembler(), Assembler()
    before.move(R2, R10)
    before.add(R2, OUT)
    after.load(8, R0, R10, OUT + 8 * index)
    return run([*before.finish(), *members.body(OUT), *after.finish()])


def test_members_of_packet(btf: BTF) -> None:
    members = compile_members(MEMBERS, "skb", btf)
    values = [member_value(members, index) for index in range(4)]
    # An u8 since Linux 6.14, an enum before.
    assert members.format_text(values) in (
        " protocol=8 ifindex=1 len=0 reg_state=1",
        " protocol=8 ifindex=1 len=0 reg_state=NETREG_REGISTERED",
    )


@pytest.fixture
def ring() -> Iterator[int]:
    fd = bpf.map_create(MapType.RINGBUF, "ring", 0, 0, 4096)
    yield fd
    os.close(fd)


def test_members_are_written_to_ring(btf: BTF, ring: int) -> None:
    """The verifier keeps the record's pointer across the calls that read memory."""
    members = compile_members(MEMBERS[1:], "skb", btf)
    head, tail = Assembler(), Assembler()
    head.move(R6, R1)
    reserve = [
        *head.finish(),
        Insn(ebpf.LD_IMM64, R1, PSEUDO_MAP_FD, imm=ring),
        Insn(0),
        Insn(ebpf.ALU32 | ebpf.MOV, R2, imm=64),
        Insn(ebpf.ALU32 | ebpf.MOV, R3, imm=0),
        Insn(ebpf.CALL_HELPER, imm=RESERVE),
        Insn(ebpf.JMP | ebpf.JNE, R0, off=2),
        Insn(ebpf.ALU32 | ebpf.MOV, R0, imm=0),
        Insn(ebpf.EXIT_PROGRAM),
    ]
    middle = Assembler()
    middle.move(R1, R6)
    middle.move(R6, R0)
    middle.move(R2, R0)
    middle.add(R2, 16)
    tail.move(R1, R6)
    tail.constant(R2, 0)
    tail.load(4, R6, R1, 16)
    tail.call(SUBMIT)
    tail.move(R0, R6)
    assert run([*reserve, *middle.finish(), *members.body(-8), *tail.finish()]) == 1


@pytest.mark.parametrize("kind", [ProgramType.RAW_TRACEPOINT, ProgramType.KPROBE])
def test_expressions_load_in_other_program_types(btf: BTF, kind: ProgramType) -> None:
    """Their argument is a number to the verifier."""
    start = Assembler()
    start.load(8, R1, R1, 0 if kind is ProgramType.RAW_TRACEPOINT else 112)  # pt_regs.di
    for text in TRUE:
        body = compile_filter_expression(text, "skb", btf).body(-8)
        program = ebpf.pack([*start.finish(), *body, Insn(ebpf.EXIT_PROGRAM)])
        os.close(bpf.program_load(kind, "expression", program))
