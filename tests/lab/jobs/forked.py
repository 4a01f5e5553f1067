"""pypwru in a child that has already imported it: on an emulated CPU that saves it 3 seconds.

It runs what its command runs (pypwru.cli.main with the same words); that the command itself starts,
and reads the kernel's functions, is shown by main_job. ``share`` reads those once for all children,
which saves each of them 4 seconds more.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO

# Modules that a run imports on demand; here once, before there is a child.
import pypwru.attach.bpf_programs
import pypwru.expr
import pypwru.session  # noqa: F401
from pypwru.attach import select
from pypwru.cli import main
from pypwru.discovery.function_tables import category
from pypwru.kernel.ftrace import traceable_functions
from pypwru.kernel.kallsyms import read_symbols

_READ = {"read_symbols": read_symbols, "traceable_functions": traceable_functions}
_shared: list[str] = []  # the kernel modules that the children's symbols have


def share() -> None:
    """Read for all children what is the same until a module comes or goes; again if one did.

    Symbols that a run looks up later, as of a program that was loaded meanwhile, it reads itself.
    """
    modules = sorted(line.split()[0] for line in Path("/proc/modules").read_text().splitlines())
    if modules == _shared:
        return
    symbols, traceable = read_symbols(), traceable_functions()
    _ = symbols.by_name, category("ip_rcv")  # cached at the first use
    vars(select).update(read_symbols=lambda: symbols, traceable_functions=lambda: traceable)
    _shared[:] = modules
    gc.freeze()  # a child's collector doesn't walk, and so copy, all that


def forget() -> None:
    """Have each child read it all by itself."""
    vars(select).update(_READ)
    _shared.clear()


class Forked:
    """As much of subprocess.Popen as a tracer needs.

    Args:
        words: the command line, its name first.
        out, err: its streams.
    """

    def __init__(self, words: Sequence[str], out: IO[bytes], err: IO[bytes]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._status: int | None = None
        self.pid = os.fork()
        if not self.pid:
            self._become(words, out, err)

    @staticmethod
    def _become(words: Sequence[str], out: IO[bytes], err: IO[bytes]) -> None:
        status = 1
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = list(words)
            status = main.main()
        except BaseException:  # as the interpreter has it
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def wait(self, timeout: float) -> int:
        """Return the exit status.

        Raises:
            subprocess.TimeoutExpired: there is none yet.
        """
        end = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("pypwru", timeout)
            time.sleep(0.05)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
