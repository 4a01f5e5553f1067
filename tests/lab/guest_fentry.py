"""Runs inside a guest: one ping by fentry and by kprobes; what was seen goes to a file.

    python -m tests.lab.guest_fentry FOLDER BACKEND...

BACKEND are those to compare; each traces the same functions. FOLDER/result.json is judged on the
host (test_fentry.py); nothing is here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.lab.guest_main_job import FAR, SENTINEL, ping, wire
from tests.lab.steps import Step, run_steps
from tests.lab.tracer import Seen, tracer

# One that is in a module, several that one name has, one whose arguments no trampoline passes.
FUNCTIONS = "(ip_(rcv|output|local_.*|send_skb)|icmp_.*|veth_xmit|kfree_skb.*|tcf_fill_node)"
FEW = "(ip_rcv|ip_output)"
WORDS = ("--debug", "--output-caller")


def traced(folder: Path, name: str, *words: str) -> Seen:
    """One ping, from all of its sights."""
    with tracer(folder, name, "pypwru", *words, "icmp") as own:
        own.wait_ready()
        ping(FAR)
        ping(SENTINEL)
        own.wait_line(f"{SENTINEL}:0->")
        return own.stop()


def by_backend(folder: Path, backend: str) -> Seen:
    words = ["--backend", backend, "--filter-func", FUNCTIONS, *WORDS]
    if Path("/sys/kernel/btf/veth").exists():  # modules have no types before Linux 5.11
        words += ["--kmods", "veth"]
    return traced(folder, backend, *words)


def following(folder: Path, backend: str) -> Seen:
    """What hangs on kprobes beside fentry."""
    words = ["--filter-track-skb", "--filter-non-skb-funcs", "fib_table_lookup,dst_release"]
    return traced(
        folder, f"follow-{backend}", "--backend", backend, "--filter-func", FUNCTIONS, *words
    )


def main() -> None:
    result_file = Path(sys.argv[1]) / "result.json"
    folder = Path("/run/fentry")
    folder.mkdir()
    os.environ["PYPWRU_CACHE"] = str(folder / "cache")
    backends = sys.argv[2:]
    subprocess.run(["modprobe", "veth"], check=True)
    wire()
    steps: list[Step] = [
        *((backend, lambda one=backend: by_backend(folder, one)) for backend in backends),
        ("following", lambda: following(folder, backends[0])),
        ("few", lambda: traced(folder, "few", "--filter-func", FEW)),
        ("many", lambda: traced(folder, "many", "--filter-func", FUNCTIONS)),
    ]
    result: dict[str, object] = {}
    run_steps(steps, result, result_file)


if __name__ == "__main__":
    main()
