"""A start without a cache compiles, without headers, in a child that ends; a second one doesn't."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.tracing import COMMAND, TIMEOUT, Run, environment, need_tracing, tracing
from tests.support.need import need

pytestmark = pytest.mark.native

COMPILER = re.compile(r"lib(LLVM|bcc|clang)[-.\w]*")
EXPRESSION = "udp and host 10.255.255.254 and port 9"


class Compiles:
    """Counts imports of BCC, one by each process that compiles.

    Args:
        folder: for the module that shadows BCC, and for a cache.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "compiles"
        self._file.touch()
        self.cache = folder / "cache"
        before = folder / "before"
        (before / "bcc").mkdir(parents=True)
        (before / "bcc" / "__init__.py").write_text(
            "import importlib, os, sys\n"
            f"sys.path.remove({str(before)!r})\n"
            f"with open({str(self._file)!r}, 'a') as file:\n"
            "    print(os.getpid(), os.getppid(), file=file)\n"
            "del sys.modules['bcc']\n"
            "importlib.import_module('bcc')\n"
        )
        self.env = environment(PYPWRU_CACHE=str(self.cache))
        self.env["PYTHONPATH"] = f"{before}:{self.env['PYTHONPATH']}"

    @property
    def processes(self) -> list[tuple[int, int]]:
        """Return (process, its parent) of each compile."""
        pairs = (line.split() for line in self._file.read_text().splitlines())
        return [(int(pid), int(parent)) for pid, parent in pairs]

    def __len__(self) -> int:
        return len(self.processes)


@pytest.fixture
def compiles(tmp_path: Path) -> Compiles:
    return Compiles(tmp_path)


def assert_no_compiler(run: Run) -> None:
    """Assert that no compiler is mapped, and that no child is left."""
    maps = run.maps()
    assert "/libc." in maps, "the maps were not read"
    assert not COMPILER.search(maps)
    children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children")
    assert children.read_text() == ""


def test_start_never_maps_llvm(compiles: Compiles) -> None:
    with tracing(EXPRESSION, env=compiles.env) as cold:
        assert_no_compiler(cold)
    ((pid, parent),) = compiles.processes
    assert pid != cold.process.pid == parent
    with tracing(EXPRESSION, env=compiles.env) as warm:
        assert_no_compiler(warm)
    assert len(compiles) == 1
    assert cold.status == warm.status == 0
    assert cold.done["attached"] == warm.done["attached"] > 0


def test_other_macros_need_compile(compiles: Compiles) -> None:
    runs = (
        ([EXPRESSION], 1),
        (["--output-meta=false", EXPRESSION], 2),
        (["udp and host 10.255.255.253"], 2),
        ([EXPRESSION], 2),
    )
    for arguments, count in runs:
        with tracing(*arguments, env=compiles.env):
            pass
        assert len(compiles) == count, arguments


def test_world_writable_cache_is_not_loaded(compiles: Compiles) -> None:
    with tracing(EXPRESSION, env=compiles.env):
        pass
    compiles.cache.chmod(0o777)
    with tracing(EXPRESSION, env=compiles.env) as run:
        assert_no_compiler(run)
    assert len(compiles) == 2 and run.status == 0


def test_start_without_cache_folder(compiles: Compiles) -> None:
    """The bytecode reaches the run all the same."""
    with tracing(EXPRESSION, env={**compiles.env, "PYPWRU_CACHE": "/proc/cache"}) as run:
        assert_no_compiler(run)
    assert len(compiles) == 1 and run.status == 0 and run.done["attached"] > 0


def test_traces_in_threads_compile_in_children(compiles: Compiles, tmp_path: Path) -> None:
    """Traces begin at once, in threads of one process, which itself runs no compiler."""
    program = (
        "import re, threading\n"
        "from pathlib import Path\n"
        "from pypwru import trace\n"
        "def run(number):\n"
        f"    with trace({EXPRESSION!r}, backend='tracepoint', max_hits=number + 5) as one:\n"
        "        attached.append(one)\n"
        "attached = []\n"
        "threads = [threading.Thread(target=run, args=(each,)) for each in range(3)]\n"
        "for each in threads: each.start()\n"
        "for each in threads: each.join()\n"
        "assert len(attached) == 3\n"
        f"assert not re.search({COMPILER.pattern!r}, Path('/proc/self/maps').read_text())\n"
    )
    need_tracing()
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=compiles.env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert len(compiles) >= 1


def test_compile_opens_no_kernel_headers(tmp_path: Path) -> None:
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
        timeout=TIMEOUT,
        check=False,
    )  # fmt: skip
    assert found.returncode == 1 and b"ready file" in found.stderr
    opened = re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]+)".* = \d+$', trace.read_text(), re.M)
    assert any(path.endswith("trace.h") for path in opened), "nothing was compiled"
    assert [path for path in opened if path.startswith(("/lib/modules", "/usr/src"))] == []


def test_damaged_bytecode_is_compiled_again(compiles: Compiles) -> None:
    """Another hexadecimal digit is another instruction, which the kernel might accept."""
    with tracing(EXPRESSION, env=compiles.env):
        pass
    (kept,) = compiles.cache.glob("bytecode-*")
    whole = kept.read_bytes()
    digit = whole.rindex(b'":"') + 40
    other = b"0" if whole[digit : digit + 1] != b"0" else b"1"
    damages = (whole[:digit] + other + whole[digit + 1 :], whole[:digit], b"", None)
    for count, damaged in enumerate(damages, 2):
        kept.unlink()
        if damaged is None:
            os.mkfifo(kept)
        else:
            kept.write_bytes(damaged)
        with tracing(EXPRESSION, env=compiles.env) as run:
            pass
        assert len(compiles) == count
        assert run.status == 0 and kept.read_bytes() == whole
