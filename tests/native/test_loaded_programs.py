"""The kernel's information on loaded programs, compared with bpftool and /proc/kallsyms."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from contextlib import ExitStack

import pytest

from pypwru.asm.ebpf import (
    ADD,
    ALU64,
    CALL_HELPER,
    EXIT_PROGRAM,
    LD_IMM64,
    MOV,
    R0,
    R1,
    R2,
    R6,
    R10,
    REGISTER,
    ST,
    Insn,
    pack,
)
from pypwru.discovery import bpf_prog_names
from pypwru.fds import closing_fd
from pypwru.kernel import bpf, bpf_info
from pypwru.kernel.bpf import MapType, ProgramType
from pypwru.kernel.kallsyms import read_symbols
from tests.native.loaded_programs import bpftool, loaded, types_of
from tests.native.tracing import need_tracing
from tests.support.need import need

pytestmark = pytest.mark.native

LONG = "entry_function_of_more_than_fifteen_characters"
ENABLE_STATS = 32  # bpf(2)'s command; the sysctl is global, and other processes reset it
TYPES = {"sched_cls": ProgramType.SCHED_CLS, "xdp": ProgramType.XDP}


@pytest.fixture(autouse=True)
def _can_trace() -> None:
    need_tracing()
    need(shutil.which("bpftool"), "bpftool (Debian's package bpftool)")


@pytest.mark.parametrize("kind", TYPES)
def test_program_info_equals_bpftools(kind: str) -> None:
    with loaded(TYPES[kind], "short", function=LONG) as fd:
        found = bpf_info.program_info(fd)
        theirs = bpftool("prog", "show", "id", str(found.id))

    assert theirs["type"] == kind and TYPES[kind] == found.kind
    assert (theirs["id"], theirs["tag"], theirs["btf_id"]) == (found.id, found.tag, found.btf_id)
    assert theirs["name"] in (found.name, LONG)  # bpftool prefers the whole name
    assert found.name == "short"


def test_display_name_is_in_kallsyms() -> None:
    with loaded(ProgramType.XDP, "short", function=LONG) as fd:
        found = bpf_info.program_info(fd)
        entry = bpf_prog_names.entry_function(found)
        assert entry is not None and entry == (LONG, found.entry_type_id)
        displays = read_symbols().by_name

    assert bpf_prog_names.program_display_name(found, entry) in displays


def test_btf_of_program_is_loaded_btf() -> None:
    types, type_id = types_of(LONG)
    with loaded(ProgramType.SCHED_CLS, "short", function=LONG) as fd:
        found = bpf_info.program_info(fd)
        btf = bpf_info.btf_open(found.btf_id)
        assert btf is not None
        with closing_fd(btf):
            assert bpf_info.btf_data(btf) == types

    assert found.entry_type_id == type_id


def test_program_without_btf_has_no_entry() -> None:
    with loaded(ProgramType.SCHED_CLS, "bare") as fd:
        found = bpf_info.program_info(fd)

    assert (found.btf_id, found.entry_type_id) == (0, 0)
    assert bpf_prog_names.entry_function(found) is None


def test_program_ids_after_an_id() -> None:
    newest = max(bpf_info.program_ids(), default=0)
    with loaded(ProgramType.SCHED_CLS, "one") as first, loaded(ProgramType.XDP, "two") as second:
        ours = [bpf_info.program_info(fd).id for fd in (first, second)]
        later = list(bpf_info.program_ids(newest))
        after_first = list(bpf_info.program_ids(ours[0]))

    assert later == sorted(later)
    assert set(ours) <= set(later)
    assert ours[0] not in after_first and ours[1] in after_first


def test_unloaded_program_is_none() -> None:
    with ExitStack() as stack:
        fd = stack.enter_context(loaded(ProgramType.SCHED_CLS, "gone"))
        program_id = bpf_info.program_info(fd).id
        again = bpf_info.program_open(program_id)
        assert again is not None
        os.close(again)

    assert bpf_info.program_open(program_id) is None
    assert bpf_info.btf_open(0x7FFFFFFF) is None


def _calls_helpers(table: int) -> bytes:
    """Return code that calls helpers, and functions of the hash map that the verifier inlines."""

    def call(helper: int) -> Insn:
        return Insn(CALL_HELPER, imm=helper)

    def with_key(helper: int) -> list[Insn]:
        return [
            Insn(LD_IMM64, R1, 1, 0, table),
            Insn(0),
            Insn(ALU64 | MOV | REGISTER, R2, R10),
            Insn(ALU64 | ADD, R2, imm=-4),
            call(helper),
        ]

    return pack(
        [
            Insn(ALU64 | MOV | REGISTER, R6, R1),
            Insn(ST | 0x60, R10, 0, -4, 0),
            *with_key(1),  # bpf_map_lookup_elem
            *with_key(3),  # bpf_map_delete_elem
            call(5),  # bpf_ktime_get_ns
            Insn(ALU64 | MOV | REGISTER, R1, R6),
            call(34),  # bpf_get_hash_recalc
            Insn(ALU64 | MOV, R0),
            Insn(EXIT_PROGRAM),
        ]
    )


def test_called_kernel_functions_are_bpftools() -> None:
    """Those of all programs here: others may be loaded, and bpftool dumps one at a time."""
    with (
        closing_fd(bpf.map_create(MapType.HASH, "table", 4, 8, 4)) as table,
        loaded(ProgramType.SCHED_CLS, "calls", _calls_helpers(table)) as fd,
    ):
        ours = str(bpf_info.program_info(fd).id)
        found = bpf_prog_names.called_kernel_functions(read_symbols())
        dump = ["bpftool", "prog", "dump", "xlated", "id", ours]
        listing = subprocess.run(dump, capture_output=True, text=True, check=True).stdout

    theirs = set(re.findall(r" call ([a-z_]\w+)#", listing))
    assert {"__htab_map_lookup_elem", "htab_map_delete_elem", "bpf_ktime_get_ns"} <= theirs
    assert theirs <= found


def test_run_stats_count_runs() -> None:
    counting = bpf.call(ENABLE_STATS, struct.pack("=I", 0))  # of run times, while it is open
    with closing_fd(counting), loaded(ProgramType.SCHED_CLS, "runs") as fd:
        assert bpf_info.program_run_stats(fd) == (0, 0)
        bpf.program_test_run(fd, bytes(64), repeat=7)
        runs = bpf_info.program_run_stats(fd)

    assert runs.run_count == 7 and runs.run_time_ns > 0


def test_error_names_cap_sys_admin() -> None:
    script = (
        "from pypwru.errors import KernelError\n"
        "from pypwru.kernel.kallsyms import read_symbols\n"
        "from pypwru.discovery.bpf_prog_names import called_kernel_functions\n"
        "try:\n    called_kernel_functions(read_symbols())\n"
        "except KernelError as error:\n    print(error)\n"
    )
    found = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith("Failed to list BPF programs: Operation not permitted; ")
    assert "CAP_SYS_ADMIN" in found.stdout
