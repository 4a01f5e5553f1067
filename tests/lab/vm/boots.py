"""The lab's guests: schedule.py has what they run; results are awaited job by job.

An emulated machine takes one CPU of this one, so two run at a time. Tests that run meanwhile come
first: guests, and the compiles for them, take the CPU time that is left (``_NICE``).

A guest that dies or hangs is booted again, once, for its remaining jobs; how often that happened is
printed at the end of the run (``report``).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.jobs.driver import Job
from tests.lab.kernels import Tier, kernel
from tests.lab.schedule import Boot
from tests.lab.suites import SUITES
from tests.lab.vm.lines import Hung, lines
from tests.support.paths import TREE

BOOT = TREE / "tests" / "lab" / "boot"
SILENCE = 300.0  # seconds without a line from a guest, which writes one every 5, until it hangs
GUESTS = int(os.environ.get("PYPWRU_LAB_GUESTS") or 2)  # at a time; 3 GiB each
_NICE = ("nice", "-n", "10")  # a ninth of the CPU time of a process beside it
Result = dict[str, Any]


class GuestError(Exception):
    """The guest died or hung; the message has its last output."""


class JobError(Exception):
    """The job left no result; the message has its last output."""


@dataclass
class Guest:
    """A boot and its times, for the report.

    Args:
        boot: its kernel and jobs.
        up: seconds from its start to the first job.
        jobs: seconds of each job that ended, and of QEMU's CPU meanwhile: they are more the busier
            this machine is, CPU seconds are not.
        total: seconds from its start to its end.
        compiled: jobs, with how many of their programs were not in the cache: an emulated CPU takes
            half a minute for each.
        again: why another one was booted for its remaining jobs; empty if none was.
    """

    boot: Boot
    up: float = 0.0
    jobs: dict[str, tuple[float, float]] = field(default_factory=dict)
    total: float = 0.0
    cpu: float = 0.0
    compiled: dict[str, int] = field(default_factory=dict)
    again: str = ""

    def __str__(self) -> str:
        jobs = [f"{name} {wall:.0f} ({cpu:.0f})" for name, (wall, cpu) in self.jobs.items()]
        total = f"{self.total:.0f} ({self.cpu:.0f})"
        jobs += [f"{count} compiled by {name}" for name, count in self.compiled.items() if count]
        return f"{self.boot.kernel:>8}: {total:>10}: up {self.up:.0f}, {', '.join(jobs)}"


class Lab:
    """The guests of a run of the tests.

    Args:
        plan: the boots, in the order in which they are begun.
        tier: of their jobs.
    """

    def __init__(self, plan: Sequence[Boot], tier: Tier) -> None:
        self.guests: list[Guest] = []
        self._tier = tier
        self._is_over = False
        self._running: set[subprocess.Popen[str]] = set()
        self._results: dict[tuple[str, str], Future[Result]] = {
            (boot.kernel, suite): Future() for boot in plan for suite in boot.suites
        }
        self._pool = ThreadPoolExecutor(max_workers=GUESTS)
        for boot in plan:
            self._pool.submit(self._run, boot)

    def result(self, name: str, suite: str) -> Result:
        """Return the result of the job of ``suite`` on the kernel ``name``, once it is there.

        One that is not in the plan is begun now.

        Raises:
            GuestError: its guest died twice.
            JobError: it left nothing.
        """
        if (name, suite) not in self._results:
            self._results[name, suite] = Future()
            self._pool.submit(self._run, Boot(name, (suite,)))
        return self._results[name, suite].result()

    def end(self) -> None:
        """Begin no more guests, and end those that run."""
        self._is_over = True
        for process in tuple(self._running):
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def report(self) -> Iterator[str]:
        """Yield lines about the guests, and those that were booted again."""
        yield "seconds of each guest and of its jobs, those of its CPU in parentheses"
        yield from map(str, self.guests)
        again = [guest for guest in self.guests if guest.again]
        verb = "guest was" if len(again) == 1 else "guests were"
        yield f"{len(again)} {verb} booted again"
        yield from (f"  {guest.boot}: {guest.again}" for guest in again)

    def _run(self, boot: Boot) -> None:
        if self._is_over:
            return
        owed = boot
        try:
            for attempt in (1, 2):
                guest = Guest(owed)
                self.guests.append(guest)
                try:
                    self._boot(guest)
                    return
                except GuestError as error:
                    if attempt == 2 or self._is_over:
                        raise
                    guest.again = str(error).splitlines()[0]
                    left = [name for name in boot.suites if not self._has(boot.kernel, name)]
                    owed = Boot(boot.kernel, tuple(left))
        except BaseException as error:  # any error: no test waits for ever
            for name in boot.suites:
                if not self._has(boot.kernel, name):
                    self._results[boot.kernel, name].set_exception(error)

    def _has(self, name: str, suite: str) -> bool:
        return self._results[name, suite].done()

    def _boot(self, guest: Guest) -> None:
        """Run its jobs, and hand over each one's result as it comes."""
        row = kernel(guest.boot.kernel)
        with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile("w+") as err:
            folder, jobs = Path(name), list[Job]()
            caches: dict[str, Sequence[Sequence[str]]] = {}
            for suite in guest.boot.suites:
                job, own = SUITES[suite], folder / suite
                own.mkdir()
                job.prepare(own, row, self._tier)
                caches[str(own / "cache")] = job.commands(row, self._tier)
                is_quick = self._tier is Tier.QUICK
                without = [*job.later, *row.steps_without(suite)] if is_quick else []
                words = job.words(row, self._tier)
                jobs.append(Job(suite, job.module, words, job.timeout, without))
            (folder / "jobs.json").write_text(json.dumps(jobs))
            compile_all(row.name, caches)
            timeout = sum(job.timeout for job in jobs) + SILENCE
            options = ["--timeout", str(timeout), "--rwdir", name]
            command = [
                *_NICE,
                str(BOOT),
                row.name,
                *options,
                "--",
                "python",
                "-m",
                "tests.lab.jobs.driver",
                name,
            ]
            began = time.monotonic()
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True) as vm:
                self._running.add(vm)
                try:
                    reason = self._follow(guest, vm, folder, began)
                finally:
                    vm.terminate()
                    vm.wait()
                    self._running.discard(vm)
                    guest.total = time.monotonic() - began
            err.seek(0)
            if not all(self._has(row.name, suite) for suite in guest.boot.suites):
                reason = reason or f"the guest ended with {vm.returncode}"
                raise GuestError(f"{reason}\n{err.read()[-3000:]}")

    def _follow(self, guest: Guest, vm: subprocess.Popen[str], folder: Path, began: float) -> str:
        """Read the driver's lines until its end; return why there are no more."""
        cached = {name: bytecodes(folder / name / "cache") for name in guest.boot.suites}
        wrote: dict[str, str] = {}
        assert vm.stdout
        try:
            for line in lines(vm.stdout, SILENCE):
                message = json.loads(line)
                if "kernel" in message:
                    guest.up, guest.cpu = time.monotonic() - began, cpu_seconds(vm.pid)
                    continue
                name = message["job"]
                wrote[name] = wrote.get(name, "") + message.get("wrote", "")
                _log(f"{guest.boot.kernel} {name} {cpu_seconds(vm.pid):.0f}", message)
                if "status" in message:
                    spent = cpu_seconds(vm.pid)
                    guest.jobs[name] = message["seconds"], spent - guest.cpu
                    guest.cpu = spent
                    guest.compiled[name] = bytecodes(folder / name / "cache") - cached[name]
                    self._hand_over(guest, name, message["status"], wrote[name], folder)
        except Hung:
            return f"the guest hung: {SILENCE:.0f} seconds without a line"
        return ""

    def _hand_over(self, guest: Guest, suite: str, status: int, wrote: str, folder: Path) -> None:
        name, own = guest.boot.kernel, folder / suite
        future = self._results[name, suite]
        file = own / "result.json"
        if status or not file.exists():
            words = f"{name}: the job of {suite} ended with {status}: {wrote[-3000:]}"
            future.set_exception(JobError(words))
            return
        result: Result = json.loads(file.read_text())
        compiled = guest.compiled[suite]
        future.set_result({**result, **SUITES[suite].collect(own), "compiled": compiled})
        shutil.rmtree(own)


def bytecodes(cache: Path) -> int:
    """Return how many programs are in pypwru's cache."""
    return sum(1 for _ in cache.glob("bytecode-*"))


def cpu_seconds(process: int) -> float:
    """Return the CPU time of the children of ``process`` so far."""
    spent = 0
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            spent += int(fields[11]) + int(fields[12])  # utime, stime
    return spent / os.sysconf("SC_CLK_TCK")


def _log(where: str, message: Mapping[str, Any]) -> None:
    """Append it to the file that ``PYPWRU_LAB_LOG`` names, as it comes."""
    text = message.get("wrote", f"{message.get('status')}, {message.get('seconds')} s")
    if (file := os.environ.get("PYPWRU_LAB_LOG")) and text:
        with open(file, "a") as log:
            log.write("".join(f"{where}: {line}\n" for line in text.splitlines()))


def compile_for(name: str, folder: Path, commands: Sequence[Sequence[str]]) -> None:
    """Fill pypwru's cache ``folder`` for the runs with these arguments on the kernel ``name``."""
    compile_all(name, {str(folder): commands})


def compile_all(name: str, commands: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Fill caches on this machine, where that is fast (warm_cache.py).

    Args:
        name: of the kernel.
        commands: cache folder to the arguments of the runs in the guest.
    """
    words = [*_NICE, sys.executable, "-m", "tests.lab.vm.warm_cache", name]
    subprocess.run(words, input=json.dumps(commands), text=True, check=True, cwd=TREE)
