"""Run in a guest: expressions and members in a tracing program, whose skb is a pointer with BTF."""

from __future__ import annotations

import os

from pypwru.btf.load import load_vmlinux
from pypwru.btf.types import Kind
from pypwru.expression import compile_filter_expression, compile_members
from pypwru.filter import ebpf
from pypwru.filter.ebpf import R0, R1, R2, R10, Assembler, Insn
from pypwru.kernel import bpf
from pypwru.kernel.bpf import AttachType, ProgramType, Target
from tests.native.test_expression_load import MEMBERS, OUT, TRUE


def main() -> None:
    btf = load_vmlinux()
    target = Target(btf.find("ip_rcv", Kind.FUNC)[0])
    bodies = [compile_filter_expression(text, "skb", btf).body(OUT) for text in TRUE]
    bodies.append(compile_members(MEMBERS, "skb", btf).body(OUT))
    start, end = Assembler(), Assembler()
    start.load(8, R1, R1, 0)
    start.move(R2, R10)
    start.add(R2, OUT)
    end.constant(R0, 0)
    end_insns = [*end.finish(), Insn(ebpf.EXIT_PROGRAM)]
    start_insns = start.finish()
    for body in bodies:
        code = ebpf.pack([*start_insns, *body, *end_insns])
        os.close(
            bpf.program_load(
                ProgramType.TRACING, "expression", code, AttachType.TRACE_FENTRY, target
            )
        )
    print(f"{len(bodies)} tracing programs load")


if __name__ == "__main__":
    main()
