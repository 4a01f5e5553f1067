"""Functions called in a child process: what it inherits, and how it ends."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pypwru
from pypwru import child as children
from pypwru.child import Child, child
from pypwru.errors import BuildError, ChildError
from tests.support.paths import TREE

ANSWERS = "tests.unit.child.answers"
TIMEOUT = 60.0  # seconds


@pytest.fixture(autouse=True)
def _tests_on_sys_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(TREE), *sys.path])


def call_in_child(function: str, *arguments: object) -> Any:
    with child(f"{ANSWERS}:{function}", *arguments) as started:
        return started.result()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Return whether the process exists and is no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_child_returns_result() -> None:
    assert call_in_child("add", 2, 3) == 5


def test_child_output_is_drained() -> None:
    assert call_in_child("print_much") == "z" * 1_000_000


def test_child_has_our_sys_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert call_in_child("search_path") == sys.path


def test_child_imports_this_pypwru(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pypwru").mkdir()
    (tmp_path / "pypwru" / "__init__.py").write_text("raise ImportError('another one')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert call_in_child("package") == pypwru.__file__


def test_child_ignores_environment_as_we_do(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "__init__.py").write_text("raise SystemExit(7)")
    program = (
        "import os; from pypwru.child import child\n"
        f"with child('{ANSWERS}:add', 2, 3) as one: os._exit(one.result())"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for flag, status in (("-E", 5), ("-B", 7)):
        words = [sys.executable, flag, "-c", program]
        assert subprocess.run(words, cwd=TREE, env=env, check=False).returncode == status


def test_errors_are_reraised() -> None:
    with pytest.raises(BuildError) as caught:
        call_in_child("refuse")
    error = caught.value
    assert (error.cause, error.cure) == ("no such thing", "take another")
    assert error.detail == "line 1\nline 2"
    with pytest.raises(ChildError, match=r"out of memory \(ulimit -v\)"):
        call_in_child("use_up_memory")


def test_failed_child_is_an_error() -> None:
    with pytest.raises(ChildError, match=r"status 1: RuntimeError: of another kind$") as caught:
        call_in_child("fail")
    assert "Traceback" in caught.value.detail
    with pytest.raises(ChildError, match="killed by signal 9"):
        call_in_child("kill_itself")


def test_missing_interpreter_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """``sys.executable`` may be a program that embeds Python: it is not run."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert call_in_child("add", 1, 1) == 2
    monkeypatch.setattr(sys, "base_exec_prefix", "/nonexistent")
    with pytest.raises(ChildError, match=r"/nonexistent/bin/python3[.]"):
        call_in_child("add", 1, 1)


def test_child_inherits_given_descriptors_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with (tmp_path / "file").open() as file:
        os.set_inheritable(file.fileno(), True)
        found = call_in_child("descriptors")
        assert set(found) >= {"0", "1", "2"}
        assert not [path for path in found.values() if not path.startswith("/memfd:")]
        started = Child(f"{ANSWERS}:read", file.fileno(), descriptors=[file.fileno()])
        assert started.result() == "content"
        started.close()


def test_closed_standard_streams() -> None:
    program = (
        "import os; os.closerange(0, 3); from pypwru.child import child\n"
        f"with child('{ANSWERS}:add', 2, 3) as one: os._exit(one.result())"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=TREE, check=False).returncode == 5


def test_child_ignores_terminal_signals() -> None:
    assert call_in_child("interrupt_itself") == "goes on"
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGINT, signal.SIGTERM}


def test_child_niceness() -> None:
    started = Child(f"{ANSWERS}:niceness", nice=3)
    assert started.result() == os.nice(0) + 3
    started.close()


def test_close_kills_unfinished_child(tmp_path: Path) -> None:
    started = Child(f"{ANSWERS}:add", 2, 3)
    wait_until(started.is_done)
    assert started.result() == 5
    file = tmp_path / "pid"
    another = Child(f"{ANSWERS}:sleep_from", str(file))
    wait_until(lambda: file.exists() and file.read_text())
    assert not another.is_done()
    for each in (started, another, another):
        each.close()
    assert not is_running(int(file.read_text()))


def test_interrupt_kills_child(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    def interrupt() -> None:
        wait_until(lambda: file.exists() and file.read_text())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    with pytest.raises(KeyboardInterrupt):
        call_in_child("sleep_from", str(file))
    waiting.join()
    assert not is_running(int(file.read_text()))


@pytest.mark.parametrize("thread", [False, True])
def test_child_dies_with_parent(tmp_path: Path, thread: bool) -> None:
    file = tmp_path / "pid"
    call = f"lambda: Child('{ANSWERS}:sleep_from', {str(file)!r}).result()"
    start = f"threading.Thread(target={call}).start()" if thread else f"({call})()"
    program = f"import threading\nfrom pypwru.child import Child\n{start}"
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=TREE)
    wait_until(lambda: file.exists() and file.read_text())
    pid = int(file.read_text())
    assert is_running(pid)
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_running(pid))


def test_no_free_descriptor_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def memfd_create(name: str) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "memfd_create", memfd_create)
    with pytest.raises(ChildError, match=r"Too many open files; raise the limit .* ulimit -n"):
        call_in_child("add", 1, 1)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: os.waitpid(-1, os.WNOHANG)])
def test_parent_that_reaps_all_children(handler: Any) -> None:
    before = signal.signal(signal.SIGCHLD, handler)
    try:
        assert call_in_child("add", 2, 3) == 5
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_child_in_each_thread() -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(call_in_child("add", 1, 1))) for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [2] * 4


def test_child_folder_shadows_no_module() -> None:
    """The child's folder has no module that shadows one of Python's."""
    names = {path.name for path in Path(children.__file__).parent.iterdir()}
    assert names - {"__pycache__"} == {"__init__.py", "__main__.py"}
