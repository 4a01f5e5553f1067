"""Runs inside a guest: TC and XDP programs on a veth pair, traced; the outputs go to a file.

    python -m tests.lab.jobs.programs FOLDER

FOLDER/result.json is checked on the host (test_programs.py), which has compiled into FOLDER/cache.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

from pypwru.asm.ebpf import ALU64, CALL_HELPER, EXIT_PROGRAM, LD_IMM64, MOV, R0, R2, R3, Insn, pack
from pypwru.bpf_sources import KERNEL_TREE
from pypwru.discovery.bpf_prog_names import called_kernel_functions
from pypwru.kernel import bpf
from pypwru.kernel.bpf import AttachTarget, AttachType, FunctionBtf, MapType, ProgramType
from pypwru.kernel.bpf_info import program_info
from pypwru.kernel.bpf_links import tracing_link
from pypwru.kernel.kallsyms import read_symbols
from tests.lab.jobs.forked import Forked, share
from tests.lab.jobs.main_job import FAR, SENTINEL, ping, wire
from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import WAIT, StepResult, Tracer, tracer
from tests.native.loaded_programs import loaded, types_of

PINNED = Path("/run/bpf")  # ip and tc hide what is under /sys when they enter a namespace
EXTENSION = cast(ProgramType, 28)  # BPF_PROG_TYPE_EXT
PROGRAM_ARRAY = cast(MapType, 3)
TAIL_CALL = 12
TEXT = """
struct __sk_buff { unsigned len; };
struct xdp_md { unsigned data; };
static unsigned long long (*bpf_ktime_get_ns)(void) = (void *)5;
static unsigned (*bpf_get_prandom_u32)(void) = (void *)7;
int classifier_with_a_long_name(struct __sk_buff *ctx)
{
    return bpf_ktime_get_ns() == bpf_get_prandom_u32() ? 0 : -1;
}
int classifier_that_is_late(struct __sk_buff *ctx) { return -1; }
int frames_with_a_long_name(struct xdp_md *ctx) { return 2; }
int frames_that_are_late(struct xdp_md *ctx) { return 2; }
"""
_TRACED = ("--filter-trace-tc", "--filter-trace-xdp", "--filter-func", "ip_local_deliver")
_ALONE = ("--filter-func", "no_such_function")
COMMANDS: Mapping[str, Sequence[str]] = {
    "programs": ("--debug", *_TRACED, "icmp"),
    "address": (
        *("--filter-trace-xdp", *_ALONE),
        *("--output-xdp-metadata", "xdp->data_hard_start", "icmp"),
    ),
    "tracked": ("--filter-track-skb", *_TRACED, "icmp"),
    "tail_call": ("--filter-trace-tc", *_ALONE),
    "nothing": ("--filter-trace-tc", "--filter-trace-xdp", *_ALONE),
}


def traced(folder: Path, name: str) -> AbstractContextManager[Tracer]:
    """Run pypwru with the ``COMMANDS`` of this name."""
    return tracer(folder, name, "pypwru", *COMMANDS[name], start=Forked)


class Programs:
    """Programs built from C by BCC, loaded and pinned by name on request."""

    def __init__(self) -> None:
        os.environ["BCC_KERNEL_SOURCE"] = str(KERNEL_TREE)
        from bcc import BPF, lib

        self._kinds = {"classifier": BPF.SCHED_CLS, "frames": BPF.XDP}
        self._module, self._lib = BPF(text=TEXT), lib
        PINNED.mkdir()
        subprocess.run(["mount", "-t", "bpf", "bpf", PINNED], check=True)

    def load(self, name: str) -> int:
        function = self._module.load_func(name, self._kinds[name.partition("_")[0]])
        assert self._lib.bpf_obj_pin(function.fd, str(PINNED / name).encode()) == 0
        return cast(int, function.fd)


def on_ingress(namespace: str, name: str) -> None:
    """Attach a TC program to the device ``inside``."""
    tc = ["tc", "-n", namespace]
    subprocess.run([*tc, "qdisc", "add", "dev", "inside", "clsact"], check=True)
    words = f"filter add dev inside ingress bpf da object-pinned {PINNED / name}"
    subprocess.run([*tc, *words.split()], check=True)


def on_frames(namespace: str, name: str, mode: str = "xdpdrv") -> None:
    """Attach an XDP program to the device ``inside``."""
    words = f"ip -n {namespace} link set dev inside {mode} pinned {PINNED / name}"
    subprocess.run(words.split(), check=True)


@contextlib.contextmanager
def load_untraceable() -> Iterator[dict[str, str]]:
    """Load a program without BTF, and one that another replaces: the kernel lets none trace it."""
    types, function = types_of("replaced_classifier")
    btf = bpf.btf_load(types)
    with (
        loaded(ProgramType.SCHED_CLS, "bare_classifier") as bare,
        loaded(ProgramType.SCHED_CLS, "replaced", function="replaced_classifier") as target,
    ):
        replacement = bpf.program_load(
            EXTENSION,
            "replacement",
            pack([Insn(ALU64 | MOV, R0), Insn(EXIT_PROGRAM)]),
            target=AttachTarget(function, program=target, attach_type=AttachType.NONE),
            function_btf=FunctionBtf(btf, function),
        )
        link = tracing_link(replacement)
        found = {"bare": program_info(bare), "replaced": program_info(target)}
        yield {name: f"SchedCLS({one.name})#{one.id}" for name, one in found.items()}
        for fd in (link, replacement, btf):
            os.close(fd)


def nothing(folder: Path) -> StepResult:
    """Trace no program, and no function: nothing."""
    done = subprocess.run(
        ["pypwru", *COMMANDS["nothing"]],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT,
    )
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}


def ping_until(running: Tracer, text: str) -> None:
    """Ping until a line has ``text``."""
    while text not in running.out.read_text():
        running.until("life", lambda: True)
        ping(FAR)


def programs(folder: Path, made: Programs) -> StepResult:
    """Trace programs that were there, and such as are loaded while tracing."""
    with (
        load_untraceable() as refused,
        traced(folder, "programs") as own,
    ):
        own.wait_ready()
        ping(FAR)
        ping(SENTINEL)
        own.wait_line(f"{SENTINEL}:0->")
        made.load("classifier_that_is_late")
        on_ingress("near", "classifier_that_is_late")
        made.load("frames_that_are_late")
        on_frames("near", "frames_that_are_late", "xdpgeneric")
        ping_until(own, "classifier_that_is_late")
        ping_until(own, "frames_that_are_late")
        return {**own.stop(), "refused": refused, "symbols": bpf_symbols()}


def bpf_symbols() -> list[str]:
    return [name for name in read_symbols().by_name if name.endswith("[bpf]")]


def address(folder: Path) -> StepResult:
    """Trace a frame: its line's SKB equals what the expression reads."""
    with traced(folder, "address") as own:
        own.wait_ready()
        ping_until(own, "frames_with_a_long_name")
        return own.stop()


def tracked(folder: Path) -> StepResult:
    """Track: every XDP program has a program on its exit, too."""
    with traced(folder, "tracked") as own:
        own.wait_ready()
        ping(FAR)
        own.wait_line("frames_with_a_long_name")
        shown = subprocess.run(
            ["bpftool", "-j", "prog", "show"], capture_output=True, text=True, check=True
        )
        return {**own.stop(), "programs": json.loads(shown.stdout)}


def tail_call(folder: Path) -> StepResult:
    """Trace a program that ends in another one, and count the events of each."""
    array = bpf.map_create(PROGRAM_ARRAY, "array", 4, 4, 1)
    code = [
        Insn(LD_IMM64, R2, 1, 0, array),
        Insn(0),
        Insn(ALU64 | MOV, R3),
        Insn(CALL_HELPER, imm=TAIL_CALL),
        Insn(ALU64 | MOV, R0),
        Insn(EXIT_PROGRAM),
    ]
    with (
        loaded(ProgramType.SCHED_CLS, "caller", pack(code), function="caller_program") as caller,
        loaded(ProgramType.SCHED_CLS, "callee", function="callee_program") as callee,
        traced(folder, "tail_call") as own,
    ):
        key, value = ctypes.c_uint32(0), ctypes.c_uint32(callee)
        where = (array, ctypes.addressof(key), ctypes.addressof(value), 0)
        bpf.call(2, struct.pack("=IxxxxQQQ", *where))  # BPF_MAP_UPDATE_ELEM
        own.wait_ready()
        result = bpf.program_test_run(caller, bytes(64), 3)
        own.wait_line("caller_program")
        alone = bpf.program_test_run(callee, bytes(64), 5)
        own.wait_line("callee_program")
        os.close(array)
        return {**own.stop(), "results": [result, alone]}


def helpers() -> StepResult:
    """Return the functions that programs call, by pypwru and by bpftool."""
    listings = [
        subprocess.run(
            ["bpftool", "prog", "dump", "xlated", "id", str(program["id"])],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        for program in json.loads(subprocess.check_output(["bpftool", "-j", "prog", "show"]))
    ]
    return {"ours": sorted(called_kernel_functions(read_symbols())), "listings": listings}


def main() -> None:
    result_file = Path(sys.argv[1]) / "result.json"
    folder = Path("/run/programs")
    folder.mkdir()
    os.environ["PYPWRU_CACHE"] = str(result_file.with_name("cache"))
    result: dict[str, object] = {}
    wire()
    share()
    made: list[Programs] = []

    def attach() -> StepResult:
        made.append(Programs())
        for name in ("classifier_with_a_long_name", "frames_with_a_long_name"):
            made[0].load(name)
        on_ingress("far", "classifier_with_a_long_name")
        on_frames("far", "frames_with_a_long_name")
        return {}

    steps: list[Step] = [
        ("nothing", lambda: nothing(folder)),
        ("attach", attach),
        ("programs", lambda: programs(folder, made[0])),
        ("address", lambda: address(folder)),
        ("tracked", lambda: tracked(folder)),
        ("tail_call", lambda: tail_call(folder)),
        ("helpers", helpers),
    ]
    run_steps(steps, result, result_file)


if __name__ == "__main__":
    main()
