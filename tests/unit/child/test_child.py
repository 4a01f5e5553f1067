"""Functions called in a child process: what it has of ours, and how it ends."""

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
PATIENCE = 60.0  # seconds


@pytest.fixture(autouse=True)
def _tests_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(TREE), *sys.path])


def called(function: str, *arguments: object) -> Any:
    with child(f"{ANSWERS}:{function}", *arguments) as started:
        return started.result()


def until(fact: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_it_answers() -> None:
    assert called("add", 2, 3) == 5


def test_much_is_written_to_whichever_stream() -> None:
    assert called("print_much") == "z" * 1_000_000


def test_it_finds_modules_where_this_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert called("search_path") == sys.path


def test_it_runs_this_pypwru(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pypwru").mkdir()
    (tmp_path / "pypwru" / "__init__.py").write_text("raise ImportError('another one')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert called("package") == pypwru.__file__


def test_an_environment_that_this_process_ignores(tmp_path: Path) -> None:
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


def test_errors_come_back() -> None:
    with pytest.raises(BuildError) as caught:
        called("refuse")
    assert str(caught.value) == "no such thing" and caught.value.detail == "line 1\nline 2"
    with pytest.raises(ChildError, match=r"out of memory \(ulimit -v\)"):
        called("use_up_memory")


def test_there_is_no_answer() -> None:
    with pytest.raises(ChildError, match=r"status 1: RuntimeError: of another kind$") as caught:
        called("fail")
    assert "Traceback" in caught.value.detail
    with pytest.raises(ChildError, match="killed by signal 9"):
        called("kill_itself")


def test_there_is_no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that has Python inside is not taken for one."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert called("add", 1, 1) == 2
    monkeypatch.setattr(sys, "base_exec_prefix", "/nonexistent")
    with pytest.raises(ChildError, match=r"/nonexistent/bin/python3[.]"):
        called("add", 1, 1)


def test_it_has_none_of_our_descriptors_but_those_that_it_is_to_have(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with (tmp_path / "file").open() as file:
        os.set_inheritable(file.fileno(), True)
        found = called("descriptors")
        assert set(found) >= {"0", "1", "2"}
        assert not [path for path in found.values() if not path.startswith("/memfd:")]
        started = Child(f"{ANSWERS}:read", file.fileno(), descriptors=[file.fileno()])
        assert started.result() == "content"
        started.close()


def test_standard_streams_that_are_closed() -> None:
    program = (
        "import os; os.closerange(0, 3); from pypwru.child import child\n"
        f"with child('{ANSWERS}:add', 2, 3) as one: os._exit(one.result())"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=TREE, check=False).returncode == 5


def test_signals_of_the_terminal_are_left_to_us() -> None:
    assert called("interrupt_itself") == "goes on"
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGINT, signal.SIGTERM}


def test_it_is_nice() -> None:
    started = Child(f"{ANSWERS}:niceness", nice=3)
    assert started.result() == os.nice(0) + 3
    started.close()


def test_it_need_not_be_waited_for(tmp_path: Path) -> None:
    started = Child(f"{ANSWERS}:add", 2, 3)
    until(started.is_done)
    assert started.result() == 5
    file = tmp_path / "pid"
    another = Child(f"{ANSWERS}:sleep_from", str(file))
    until(lambda: file.exists() and file.read_text())
    assert not another.is_done()
    for each in (started, another, another):
        each.close()
    assert not is_running(int(file.read_text()))


def test_an_interrupt_ends_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    def interrupt() -> None:
        until(lambda: file.exists() and file.read_text())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    with pytest.raises(KeyboardInterrupt):
        called("sleep_from", str(file))
    waiting.join()
    assert not is_running(int(file.read_text()))


@pytest.mark.parametrize("thread", [False, True])
def test_it_dies_with_us(tmp_path: Path, thread: bool) -> None:
    file = tmp_path / "pid"
    call = f"lambda: Child('{ANSWERS}:sleep_from', {str(file)!r}).result()"
    start = f"threading.Thread(target={call}).start()" if thread else f"({call})()"
    program = f"import threading\nfrom pypwru.child import Child\n{start}"
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=TREE)
    until(lambda: file.exists() and file.read_text())
    pid = int(file.read_text())
    assert is_running(pid)
    parent.kill()
    parent.wait()
    until(lambda: not is_running(pid))


def test_there_are_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    def memfd_create(name: str) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "memfd_create", memfd_create)
    with pytest.raises(ChildError, match=r"Too many open files; raise the limit .* ulimit -n"):
        called("add", 1, 1)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: os.waitpid(-1, os.WNOHANG)])
def test_a_script_that_reaps_all_its_children(handler: Any) -> None:
    before = signal.signal(signal.SIGCHLD, handler)
    try:
        assert called("add", 2, 3) == 5
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_threads_may_have_one_each() -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(called("add", 1, 1))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [2] * 4


def test_a_search_path_of_another_module_named_like_ours() -> None:
    """The folder that is run has nothing that shadows a module of Python's."""
    names = {path.name for path in Path(children.__file__).parent.iterdir()}
    assert names - {"__pycache__"} == {"__init__.py", "__main__.py"}
