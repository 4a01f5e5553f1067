"""The files of --debug, compared with what clang and the verifier make of them."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pypwru.bpf_sources import BPF_DIR, MAIN
from pypwru.kernel import bpf
from pypwru.kernel.bpf import LOG_SIZE, ProgramType
from tests.native.tracing import Network, environment, network, tracing
from tests.support.need import need
from tests.support.sessions import session_of

pytestmark = pytest.mark.native

_PROG_LOAD = 5  # BPF_PROG_LOAD
_LOG_LEVEL = 2  # BPF_LOG_LEVEL2: also of paths that are accepted
_LINE = re.compile(r" *(\d+): (\([0-9a-f]{2}\) .*)")
_ADDRESS = re.compile(r"(\(18\) r\d = )(0x[0-9a-f]+|map\[\w+\])")


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def only_folder(where: Path) -> Path:
    (folder,) = where.glob("pypwru-debug-*")
    return folder


def test_debug_files_are_in_private_folder(net: Network, tmp_path: Path) -> None:
    need(shutil.which("clang"), "clang (package clang)")
    words = ("--debug", "--output-tuple", f"icmp and host {net.v4(2)}")
    with tracing(*words, env=environment(TMPDIR=str(tmp_path))) as run:
        net.ping(net.v4(2))
        number_of_programs = len(list(loaded_programs(run.process.pid)))
    folder = only_folder(tmp_path)
    assert run.status == 0 and run.lines, run.stderr
    assert run.stderr.count(f" DEBUG Kept the generated files folder={folder}\n") == 1
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    names = {path.name for path in folder.iterdir()}
    assert {"layout.h", "macros.h", "trace_skb.ebpf"} <= names
    assert 0 < sum(name.endswith(".ebpf") for name in names) <= number_of_programs
    assert not any(name.endswith(".log") for name in names)

    headers = ("macros.h", "layout.h")
    included = [word for name in headers for word in ("-include", str(folder / name))]
    flags = ("-target", "bpf", "-fsyntax-only", *included, "-I", str(BPF_DIR))
    command = ["clang", *flags, str(BPF_DIR / MAIN)]
    read = subprocess.run(command, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr


def loaded_programs(pid: int) -> Iterator[str]:
    """Yield types of the BPF programs that a process has open."""
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # others are opened and closed meanwhile
            if found := re.search(r"^prog_type:\t(\d+)$", path.read_text(), re.MULTILINE):
                yield found[1]


def test_run_continues_without_room_for_debug_files(net: Network, tmp_path: Path) -> None:
    """Files are limited to 16 blocks of 512 bytes; a disassembly is longer."""
    limited = ("sh", "-c", 'ulimit -f 16; exec "$@"', "sh")
    words = ("--debug", f"icmp and host {net.v4(2)}")
    with (
        Path(os.devnull).open("wb") as null,
        tracing(*words, env=environment(TMPDIR=str(tmp_path)), before=limited, stdout=null) as run,
    ):
        net.ping(net.v4(2))
    assert run.status == 0 and run.done["events"] > 0, run.stderr
    (line,) = (line for line in run.stderr.splitlines() if " WARN Debug files" in line)
    assert f"folder={only_folder(tmp_path)}" in line and 'why="File too large"' in line


def verifier_log(kind: ProgramType, code: bytes) -> str:
    """Return what the verifier logs of a program that it accepts."""
    slots = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(LOG_SIZE)
    addresses = bpf.address_of(slots), bpf.address_of(license_), _LOG_LEVEL, LOG_SIZE
    attr = struct.pack("=IIQQIIQ", kind, len(code) // 8, *addresses, bpf.address_of(log))
    os.close(bpf.call(_PROG_LOAD, attr))
    return log.value.decode()


def instructions(text: str) -> dict[int, str]:
    """Return position -> instruction, without the verifier's state, names of helpers, addresses."""
    found: dict[int, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.partition(";")[0].rstrip())
        if match:
            instruction = re.sub(r"call \w+#", "call #", match[2])
            found[int(match[1])] = _ADDRESS.sub(r"\1...", instruction)
    return found


def test_disassembly_is_that_of_verifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: dict[str, tuple[int, str]] = {}
    load = bpf.program_load

    def load_and_log(kind: ProgramType, name: str, code: bytes, *rest: Any) -> int:
        if name not in loaded:
            loaded[name] = len(code) // 8, verifier_log(kind, code)
        return load(kind, name, code, *rest)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(bpf, "program_load", load_and_log)
    words = ("--debug", "--backend=tracepoint", "--output-tuple", "--filter-track-skb")
    with session_of(*words, "--max-hits=5", "--output-stack", "tcp or udp port 53"):
        folder = only_folder(tmp_path)
    assert "trace_skb" in loaded
    for handler, (length, log) in loaded.items():
        text = (folder / f"{handler}.ebpf").read_text()
        listed, verified = instructions(text), instructions(log)
        assert len(listed) == len(text.splitlines()), handler
        assert len(listed) + text.count(": (18) ") == length
        assert len(verified) > length // 2
        assert {position: listed.get(position) for position in verified} == verified
