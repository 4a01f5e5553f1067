"""Run in a guest: C expressions and members, accepted and found true by this kernel's verifier.

    python -m tests.lab.jobs.expression FOLDER

First tests/native/test_expression_load.py; then the same in a tracing program, whose skb is a
pointer with BTF. FOLDER/result.json is checked on the host (test_expression.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pypwru.asm import ebpf
from pypwru.asm.ebpf import R0, R1, R2, R10, Assembler, Insn
from pypwru.btf.load import load_vmlinux
from pypwru.btf.types import Kind
from pypwru.expr import compile_filter_expression, compile_members
from pypwru.kernel import bpf
from pypwru.kernel.bpf import AttachTarget, AttachType, ProgramType
from tests.lab.jobs.steps import run_steps
from tests.lab.jobs.tracer import StepResult
from tests.native.test_expression_load import MEMBERS, OUT, TRUE

NATIVE = "tests/native/test_expression_load.py"


def native() -> StepResult:
    """Return status and output of the native tests."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", NATIVE]
    environment = {**os.environ, "PYPWRU_TESTS": "all"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return {"status": done.returncode, "out": done.stdout}


def tracing() -> StepResult:
    """Return how many tracing programs the kernel loaded; a refused one is an error."""
    btf = load_vmlinux()
    target = AttachTarget(btf.find("ip_rcv", Kind.FUNC)[0])
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
    return {"loaded": len(bodies)}


def main() -> None:
    run_steps([("native", native), ("tracing", tracing)], {}, Path(sys.argv[1]) / "result.json")


if __name__ == "__main__":
    main()
