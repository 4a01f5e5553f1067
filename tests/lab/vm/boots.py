"""The lab's boots: each once, for all the tests that judge it, and two at a time.

An emulated machine takes one CPU of this one, so where all tests are asked for
(``PYPWRU_TESTS=all``) conftest.py begins with the first test every boot that a collected module
lists in its ``BOOTS``, and while one is judged the next ones run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.need import need
from tests.support.paths import TREE

BOOT = TREE / "tests" / "lab" / "boot"
Result = dict[str, Any]

_POOL = ThreadPoolExecutor(max_workers=2)  # 3 GiB each


class GuestError(Exception):
    """The guest didn't come to an end of its own; the message has its last words."""


class Boot(NamedTuple):
    """A boot that tests of a module need.

    Args:
        minutes: what it takes about; the longest are begun first.
        begin: begins it, if nobody has yet.
    """

    minutes: int
    begin: Callable[[], Future[Result]]


@cache
def begun(work: Callable[..., Result], *words: str) -> Future[Result]:
    """``work(*words)``, begun at the first call; a failed one isn't tried again."""
    return _POOL.submit(work, *words)


def result(future: Future[Result]) -> Result:
    """What a boot saw; its failure is the test's."""
    need(shutil.which("qemu-system-x86_64"), "qemu-system-x86_64 (package qemu-system-x86)")
    need(os.geteuid() == 0, "root: the guest's file system is this machine's, read by QEMU")
    try:
        return future.result()
    except GuestError as error:
        pytest.fail(str(error))


def compile_for(kernel: str, folder: Path, commands: Sequence[Sequence[str]]) -> None:
    """Fill pypwru's cache ``folder`` on this machine, where that is fast (warm_cache.py).

    Args:
        commands: the arguments of the runs in the guest.
    """
    words = [sys.executable, "-m", "tests.lab.vm.warm_cache", kernel, str(folder)]
    subprocess.run(words, input=json.dumps(commands), text=True, check=True, cwd=TREE)


def job(kernel: str, module: str, *words: str, commands: Sequence[Sequence[str]] = ()) -> Result:
    """``python -m MODULE FOLDER WORDS...`` in a guest: what it left in FOLDER/result.json.

    Args:
        commands: arguments of pypwru for which FOLDER/cache is filled.
    """
    with tempfile.TemporaryDirectory() as folder:
        compile_for(kernel, Path(folder, "cache"), commands)
        return run(kernel, Path(folder), ["python", "-m", module, folder, *words])


def run(
    kernel: str,
    folder: Path,
    command: Sequence[str],
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Run ``command``, which leaves its result in ``folder``, shared with the guest.

    Args:
        options: of vm.

    Raises:
        GuestError: it ended before it had a result.
    """
    done = subprocess.run(
        [BOOT, kernel, *options, "--rwdir", str(folder), "--", *command],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    file = folder / "result.json"
    if done.returncode or not file.exists():
        raise GuestError(f"the guest ended with {done.returncode}: {done.stderr[-3000:]}")
    found: Result = json.loads(file.read_text())
    return found


def step(seen: Result, kernel: str, name: str) -> Any:
    """One step of a job; its own failure fails only the tests that need it."""
    if "error" in seen[name]:
        pytest.fail(f"{kernel}: {name}: {seen[name]['error']}")
    return seen[name]


def end() -> None:
    """Begin no more."""
    _POOL.shutdown(wait=False, cancel_futures=True)
