"""A function of pypwru's, called in a child process: what it maps and allocates goes with that.

The child is a new interpreter and no fork, since a script that traces may have threads. It has this
process's rights, limits, environment and search path, and of its descriptors only those that are
passed. SIGINT, SIGTERM and SIGHUP are left to this process to answer; when that ends, however it
does, the kernel kills the child.
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
from pypwru.errors import ChildError, cure
from pypwru.kernel.descriptors import owned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HERE = Path(__file__).resolve().parent
_NOT_ITS_OWN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Child:
    """A call that is under way.

    Args:
        function: ``module:name``; gets and returns what JSON can hold.
        arguments: of the call.
        descriptors: that the child has, too, by the same numbers.
        nice: how much less of a busy processor it gets, as of nice(2).

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
        with ExitStack() as stack, _explained():
            # Files and no pipes: nobody has to read while the other writes.
            self._answer = stack.enter_context(owned(os.memfd_create("answer")))
            self._errors = stack.enter_context(owned(os.memfd_create("errors")))
            with owned(os.memfd_create("request")) as asked:
                os.pwrite(asked, json.dumps(request).encode(), 0)
                self._process = _start(asked, self._answer, self._errors, descriptors)
            self._files = stack.pop_all()

    def is_over(self) -> bool:
        """Whether ``result`` need not wait."""
        return self._process.poll() is not None

    def result(self) -> Any:
        """What the function returned; waits for it.

        Raises:
            PypwruError: the one that the function raised.
            ChildError: there is no answer: the process was killed, or failed otherwise.
        """
        if self._process.returncode is None:
            # Popen.wait() goes on for a quarter of a second where Ctrl-C interrupts it.
            with suppress(ChildProcessError):  # who ignores SIGCHLD has no child that ended
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        status = self._process.wait()
        words = _content(self._errors).decode(errors="replace")
        try:
            answer = json.loads(_content(self._answer))
        except ValueError:
            raise ChildError(f"A child process {_end(status, words)}", words) from None
        if "result" in answer:
            return answer["result"]
        name, message, detail = answer["error"]
        raise getattr(errors, name, errors.PypwruError)(message, detail)

    def close(self) -> None:
        """Have it no longer run; once it is over, or a second time, only lets go of its files."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._files.close()


@contextmanager
def child(function: str, *arguments: object) -> Iterator[Child]:
    """A Child that is closed on the way out; arguments and errors as of Child."""
    started = Child(function, *arguments)
    try:
        yield started
    finally:
        started.close()


def _start(
    asked: int, answer: int, errors: int, descriptors: Sequence[int]
) -> subprocess.Popen[bytes]:
    """The child's process, with these as its standard streams."""
    # Without site-packages: it gets the search path from us.
    flags = {"-S": True, "-B": sys.dont_write_bytecode, "-E": sys.flags.ignore_environment}
    words = [_interpreter(), *(flag for flag, is_set in flags.items() if is_set), str(_HERE)]
    with _blocked_signals():
        return subprocess.Popen(
            words, stdin=asked, stdout=answer, stderr=errors, pass_fds=descriptors
        )


@contextmanager
def _explained() -> Iterator[None]:
    """OSError as ChildError."""
    try:
        yield
    except OSError as error:
        advice = cure(error, "pypwru compiles in a process of its own")
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        raise ChildError(f"Can't start a child process: {what}; {advice}") from error


def _interpreter() -> str:
    """This one; where another program has it inside, that of the same installation."""
    if os.path.basename(sys.executable or "").startswith("python"):
        return sys.executable
    major, minor = sys.version_info[:2]
    return os.path.join(sys.base_exec_prefix, "bin", f"python{major}.{minor}")


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """A process that is started meanwhile never gets these signals; this one gets them later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_ITS_OWN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _end(status: int, words: str) -> str:
    """How it ended, with the last line that it left."""
    last = words.strip().rpartition("\n")[2]
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"{how}: {last}" if last else f"{how}; is there enough memory?"
