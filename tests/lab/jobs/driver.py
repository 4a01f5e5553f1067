"""Runs inside a guest: several jobs, one after the other, each as its own process.

    python -m tests.lab.jobs.driver FOLDER

FOLDER/jobs.json is a list of jobs (``Job``). Each is run as ``python -m MODULE FOLDER/NAME WORDS``
and leaves FOLDER/NAME/result.json. It reports to the host on standard output, a JSON object a line:
that the guest has started, what a job wrote on its streams, and how it ended. There is a line every
few seconds, so that the host notices a guest that hangs. Between two jobs the guest is restored
(restored.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.lab.jobs.restored import restored
from tests.support.paths import TREE

_PULSE = 5.0  # seconds between two lines
_LOGS = Path("/run/driver")  # not in a shared folder: Linux 7.2's 9p can answer ENODATA


class Job(NamedTuple):
    """One of FOLDER/jobs.json.

    Args:
        name: of its folder.
        module: the module that is run.
        words: its arguments after the folder.
        timeout: seconds after which it is ended.
        without: its steps that are left out.
    """

    name: str
    module: str
    words: list[str]
    timeout: float
    without: list[str]


def report(**line: object) -> None:
    """Print a line for the host."""
    print(json.dumps(line), flush=True)


def run(job: Job, folder: Path) -> None:
    """Run a job to its end, and report on it."""
    log = _LOGS / job.name
    began = time.monotonic()
    command = [sys.executable, "-m", job.module, str(folder / job.name), *job.words]
    environment = {**os.environ, "PYTHONPATH": str(TREE)}
    environment |= {"PYPWRU_LAB_WITHOUT": ",".join(job.without), "PYTHONFAULTHANDLER": "1"}
    with (
        log.open("wb") as out,
        log.open(errors="replace") as copied,
        restored(_LOGS),
        subprocess.Popen(
            command, stdout=out, stderr=out, env=environment, start_new_session=True
        ) as process,
    ):
        status = None
        while status is None:
            try:
                status = process.wait(_PULSE)
            except subprocess.TimeoutExpired:
                if time.monotonic() - began > job.timeout:
                    process.send_signal(signal.SIGABRT)  # it writes where it is, and ends
            report(job=job.name, wrote=copied.read())
    seconds = round(time.monotonic() - began, 1)
    report(job=job.name, status=status, seconds=seconds)


def main() -> None:
    folder = Path(sys.argv[1])
    _LOGS.mkdir()
    report(kernel=os.uname().release)
    for words in json.loads((folder / "jobs.json").read_text()):
        run(Job(*words), folder)


if __name__ == "__main__":
    main()
