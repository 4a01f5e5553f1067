"""Call a function of pypwru in a child process: its memory is freed when the process exits.

The child is a new interpreter, not a fork, since a script that traces may have threads. It has this
process's credentials, limits, environment and module search path, and only those file descriptors
that are passed. SIGINT, SIGTERM and SIGHUP are blocked in it: this process handles them. When this
process ends for whatever reason, the kernel kills the child (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pypwru import errors
from pypwru.errors import ChildError, remedy
from pypwru.fds import closing_fd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HERE = Path(__file__).resolve().parent
_PARENT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Child:
    """A running call.

    Args:
        function: ``module:name``; its arguments and result are JSON values.
        arguments: of the call.
        descriptors: file descriptors that the child inherits, by the same numbers.
        nice: increment of the child's nice value, as of nice(2).

    Raises:
        ChildError: no interpreter can be started.
    """

    def __init__(
        self, function: str, *arguments: object, descriptors: Sequence[int] = (), nice: int = 0
    ) -> None:
        request = {
            "arguments": arguments,
            "function": function,
            "nice": nice,
            "parent": os.getpid(),
            "path": [folder for folder in sys.path if isinstance(folder, str)],
            "root": str(_HERE.parents[1]),
        }
        with ExitStack() as stack, _as_child_error():
            # Files instead of pipes: neither process blocks until the other one reads.
            self._result_fd = stack.enter_context(closing_fd(os.memfd_create("answer")))
            self._stderr_fd = stack.enter_context(closing_fd(os.memfd_create("errors")))
            with closing_fd(os.memfd_create("request")) as request_fd:
                os.pwrite(request_fd, json.dumps(request).encode(), 0)
                self._process = _start(request_fd, self._result_fd, self._stderr_fd, descriptors)
            self._files = stack.pop_all()

    def is_done(self) -> bool:
        """Return whether the child has exited, so that ``result`` doesn't block."""
        return self._process.poll() is not None

    def result(self) -> Any:
        """Wait for the function to return, and return its result.

        Raises:
            PypwruError: the error that the function raised.
            ChildError: there is no result: the process was killed, or failed otherwise.
        """
        if self._process.returncode is None:
            # Popen.wait() waits for another quarter of a second after Ctrl-C interrupts it.
            with suppress(ChildProcessError):  # if SIGCHLD is ignored, the kernel reaps children
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        status = self._process.wait()
        stderr_text = _read_all(self._stderr_fd).decode(errors="replace")
        try:
            reply = json.loads(_read_all(self._result_fd))
        except ValueError:
            raise ChildError(
                f"A child process {_describe_exit(status, stderr_text)}", detail=stderr_text
            ) from None
        if "result" in reply:
            return reply["result"]
        name, *arguments = reply["error"]
        raise getattr(errors, name, errors.PypwruError)(*arguments)

    def close(self) -> None:
        """Kill the child if it still runs, and close its files; a second call does nothing."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._files.close()


@contextmanager
def child(function: str, *arguments: object) -> Iterator[Child]:
    """Start a Child and close it on the way out.

    Args:
        function: ``module:name`` of the function to call.
        *arguments: of the call; JSON values.

    Yields:
        The child.

    Raises:
        ChildError: no interpreter can be started.
    """
    started = Child(function, *arguments)
    try:
        yield started
    finally:
        started.close()


def _start(
    request_fd: int, result_fd: int, stderr_fd: int, descriptors: Sequence[int]
) -> subprocess.Popen[bytes]:
    """Start the child's process; the first three descriptors become its standard streams."""
    # -S: no site-packages, since the request has the search path.
    flags = {"-S": True, "-B": sys.dont_write_bytecode, "-E": sys.flags.ignore_environment}
    command = [_interpreter_path(), *(flag for flag, is_set in flags.items() if is_set), str(_HERE)]
    with _blocked_signals():
        return subprocess.Popen(
            command, stdin=request_fd, stdout=result_fd, stderr=stderr_fd, pass_fds=descriptors
        )


@contextmanager
def _as_child_error() -> Iterator[None]:
    """Convert OSError to ChildError."""
    try:
        yield
    except OSError as error:
        advice = remedy(error, "pypwru compiles in a process of its own")
        cause = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        raise ChildError(f"Can't start a child process: {cause}", advice) from error


def _interpreter_path() -> str:
    """Return the path of this interpreter.

    If Python is embedded in another program, that of the same installation.
    """
    if os.path.basename(sys.executable or "").startswith("python"):
        return sys.executable
    major, minor = sys.version_info[:2]
    return os.path.join(sys.base_exec_prefix, "bin", f"python{major}.{minor}")


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block _PARENT_SIGNALS until the way out; a process started meanwhile inherits the mask.

    Signals that this process gets meanwhile are delivered afterwards.
    """
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENT_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)


def _read_all(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _describe_exit(status: int, stderr_text: str) -> str:
    """Return how the child ended, with the last line of its standard error.

    Args:
        status: ``Popen.returncode``.
        stderr_text: the child's standard error.
    """
    last = stderr_text.strip().rpartition("\n")[2]
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"{how}: {last}" if last else f"{how}; is there enough memory?"
