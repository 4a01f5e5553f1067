"""A second start maps no compiler; a first one without a cache does compile, without headers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.native.tracing import COMMAND, PATIENCE, environment, need_tracing, tracing
from tests.support.need import need

pytestmark = pytest.mark.native

COMPILER = re.compile(r"lib(LLVM|bcc|clang)[-.\w]*")
EXPRESSION = "udp and host 10.255.255.254 and port 9"


def compilers(maps: str) -> set[str]:
    return {found[0] for found in COMPILER.finditer(maps)}


def test_a_warm_start_never_maps_llvm(tmp_path: Path) -> None:
    env = environment(PYPWRU_CACHE=str(tmp_path / "cache"))
    with tracing(EXPRESSION, env=env) as cold:
        assert any("LLVM" in name for name in compilers(cold.maps()))
    with tracing(EXPRESSION, env=env) as warm:
        assert compilers(warm.maps()) == set()
        assert "pypwru" in Path(f"/proc/{warm.process.pid}/cmdline").read_text()
    assert cold.status == warm.status == 0
    assert cold.done["attached"] == warm.done["attached"] > 0


def test_other_macros_compile_anew_and_another_filter_does_not(tmp_path: Path) -> None:
    env = environment(PYPWRU_CACHE=str(tmp_path / "cache"))
    runs = (
        ([EXPRESSION], True),
        (["--output-meta=false", EXPRESSION], True),
        (["udp and host 10.255.255.253"], False),
        ([EXPRESSION], False),
    )
    for arguments, compiles in runs:
        with tracing(*arguments, env=env) as run:
            assert bool(compilers(run.maps())) is compiles, arguments


def test_a_cache_of_others_is_not_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    env = environment(PYPWRU_CACHE=str(folder))
    with tracing(EXPRESSION, env=env):
        pass
    folder.chmod(0o777)
    with tracing(EXPRESSION, env=env) as run:
        assert compilers(run.maps())
    assert run.status == 0


def test_no_kernel_headers_are_opened(tmp_path: Path) -> None:
    """The compile reads this project's stubs alone: no /lib/modules, no /usr/src."""
    need_tracing()
    need(shutil.which("strace"), "strace")
    trace = tmp_path / "strace"
    ready = tmp_path / "missing" / "ready"  # ends the run once all is attached
    found = subprocess.run(
        ["strace", "-f", "-e", "trace=open,openat", "-o", trace, *COMMAND,
         "--backend=tracepoint", f"--ready-file={ready}", EXPRESSION],
        env=environment(PYPWRU_CACHE=str(tmp_path / "cache")),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert found.returncode == 1 and b"ready file" in found.stderr
    opened = re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]+)".* = \d+$', trace.read_text(), re.M)
    assert any(path.endswith("trace.h") for path in opened), "nothing was compiled"
    assert [path for path in opened if path.startswith(("/lib/modules", "/usr/src"))] == []


def test_damaged_bytecode_is_compiled_anew(tmp_path: Path) -> None:
    """One hexadecimal digit of it is another instruction, which the kernel might take."""
    env = environment(PYPWRU_CACHE=str(tmp_path / "cache"))
    with tracing(EXPRESSION, env=env):
        pass
    (kept,) = (tmp_path / "cache").glob("bytecode-*")
    whole = kept.read_bytes()
    digit = whole.rindex(b'":"') + 40
    other = b"0" if whole[digit : digit + 1] != b"0" else b"1"
    for damaged in (whole[:digit] + other + whole[digit + 1 :], whole[:digit], b"", None):
        kept.unlink()
        if damaged is None:
            os.mkfifo(kept)
        else:
            kept.write_bytes(damaged)
        with tracing(EXPRESSION, env=env) as run:
            assert compilers(run.maps())
        assert run.status == 0 and kept.read_bytes() == whole
