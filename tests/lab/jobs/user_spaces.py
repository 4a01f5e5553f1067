"""Runs inside a guest: pypwru in the user space of other Debian releases, their BCC and nft.

    python -m tests.lab.jobs.user_spaces FOLDER RELEASE...

Each compiles for itself, as at a first start. FOLDER/result.json is checked on the host
(test_user_spaces.py).
"""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path

from tests.lab.jobs.main_job import FAR, wire
from tests.lab.jobs.nft_filter import RULES, SENT, SHOWN, has_texts, send
from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import StepResult, tracer
from tests.lab.net.topology import inside, run
from tests.lab.net.traffic import flush
from tests.lab.vm import chroots

PORTS = (7101, 7102)


def traced(folder: Path, release: str) -> StepResult:
    """Trace a datagram that a rule drops, and one that a rule accepts."""
    script = folder / f"pypwru-{release}"
    words = shlex.join(chroots.inside(release, ["python3", "-m", "pypwru"]))
    script.write_text(f'#!/bin/sh\nexport PYPWRU_CACHE={folder}/{release}\nexec {words} "$@"\n')
    script.chmod(0o755)
    with tracer(folder, release, str(script), *SHOWN, "--output-nft=text", SENT) as own:
        own.wait_ready()
        own.until("text of a rule", partial(has_texts, own, FAR))
        send(FAR, PORTS)
        flush()
        return own.stop()


def main() -> None:
    shared = Path(sys.argv[1])
    folder = Path("/tmp/user_spaces")  # which the other user spaces see, too
    folder.mkdir()
    wire()
    with inside("far"):
        run("nft", "-f", "-", words=RULES)
    steps: list[Step] = [(release, partial(traced, folder, release)) for release in sys.argv[2:]]
    result: dict[str, object] = {}
    run_steps(steps, result, shared / "result.json")


if __name__ == "__main__":
    main()
