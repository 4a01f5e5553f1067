"""Loaded BPF programs, some with BTF, and bpftool's description of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pypwru.asm.ebpf import ALU64, EXIT_PROGRAM, MOV, R0, Insn, pack
from pypwru.fds import closing_fd
from pypwru.kernel import bpf
from pypwru.kernel.bpf import FunctionBtf, ProgramType
from tests.data.btf_encoder import Encoder

PASS = pack([Insn(ALU64 | MOV, R0, imm=2), Insn(EXIT_PROGRAM)])  # XDP_PASS, TC_ACT_SHOT


def types_of(function: str) -> tuple[bytes, int]:
    """Return BTF of ``int function(struct __sk_buff *ctx)``, and the function's type id."""
    types = Encoder()
    integer = types.integer("int", 4, encoding=1)
    context = types.ptr(types.struct("__sk_buff", 0))
    type_id = types.func(function, types.proto(integer, ("ctx", context)), 1)
    return types.bytes(), type_id


@contextmanager
def loaded(kind: ProgramType, name: str, code: bytes = PASS, function: str = "") -> Iterator[int]:
    """Load a program, with BTF if it has a ``function``."""
    with ExitStack() as stack:
        signature = None
        if function:
            types, type_id = types_of(function)
            signature = FunctionBtf(stack.enter_context(closing_fd(bpf.btf_load(types))), type_id)
        yield stack.enter_context(
            closing_fd(bpf.program_load(kind, name, code, function_btf=signature))
        )


def bpftool(*words: str) -> Any:
    """Return bpftool's JSON."""
    done = subprocess.run(["bpftool", "-j", *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
