"""Runs inside a guest: probes that an administrator switches off, by each backend.

    python -m tests.lab.jobs.switches FOLDER BACKEND...

FOLDER/result.json is checked on the host (test_switches.py), which has compiled into FOLDER/cache.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.lab.jobs.fentry import traced
from tests.lab.jobs.forked import Forked
from tests.lab.jobs.main_job import FAR, SENTINEL, ping, wire
from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import StepResult, tracer

FILES = {
    "kprobes": Path("/sys/kernel/debug/kprobes/enabled"),
    "ftrace": Path("/proc/sys/kernel/ftrace_enabled"),
}
SILENCED = {
    "kprobes": ("kprobe",),
    "ftrace": ("kprobe-multi", "fentry", "fentry-multi"),
}
FUNCTIONS = "(ip_rcv|ip_output|netif_receive_skb)"  # the last is a tracepoint, too


def commands(backends: Sequence[str]) -> Mapping[str, list[str]]:
    """Return the command lines, by the backend's name; of the automatic choice as ``automatic``."""
    words = ["--filter-func", FUNCTIONS, "icmp"]
    return {"automatic": words} | {one: ["--backend", one, *words] for one in backends}


def silenced(folder: Path, name: str, switch: Path, words: Sequence[str]) -> StepResult:
    """Ping before, while and after probes are off; start another run while they are."""
    with tracer(folder, name, "pypwru", *words, start=Forked) as own:
        own.wait_ready()
        ping(FAR)
        own.wait_line(f"{FAR}:0->")
        before = own.out.stat().st_size
        try:
            try:
                switch.write_text("0")
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                return {**own.stop(), "kept": switch.read_text()}
            own.wait_word("was switched off")
            ping(FAR)
            with tracer(folder, f"{name}-refused", "pypwru", *words, start=Forked) as refused:
                then = refused.end()
            automatic = traced(folder, f"{name}-automatic", commands(())["automatic"])
        finally:
            switch.write_text("1")
        own.wait_word("was switched on")
        ping(SENTINEL)
        own.wait_line(f"{SENTINEL}:0->")
        return {**own.stop(), "before": before, "refused": then, "automatic": automatic}


def main() -> None:
    result_file = Path(sys.argv[1]) / "result.json"
    folder = Path("/run/switches")
    folder.mkdir()
    os.environ["PYPWRU_CACHE"] = str(result_file.with_name("cache"))
    wire()
    steps: list[Step] = [
        (f"{name}-{one}", partial(silenced, folder, f"{name}-{one}", switch, words))
        for name, switch in FILES.items()
        for one, words in commands(sys.argv[2:]).items()
        if one in SILENCED[name]
    ]
    result: dict[str, object] = {}
    run_steps(steps, result, result_file)


if __name__ == "__main__":
    main()
