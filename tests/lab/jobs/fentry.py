"""Runs inside a guest: one ping by fentry and by kprobes; what was seen goes to a file.

    python -m tests.lab.jobs.fentry FOLDER BACKEND...

BACKEND are those to compare; each traces the same functions. FOLDER/result.json is judged on the
host (test_fentry.py), which has compiled into FOLDER/cache; nothing is here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.lab.jobs.forked import Forked, share
from tests.lab.jobs.main_job import FAR, SENTINEL, ping, wire
from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import Seen, tracer

# One that is in a module, several that one name has, one whose arguments no trampoline passes.
FUNCTIONS = "(ip_(rcv|output|local_.*|send_skb)|icmp_.*|veth_xmit|kfree_skb.*|tcf_fill_node)"
FEW = "(ip_rcv|ip_output)"
WORDS = ("--debug", "--output-caller")

SWITCHES = {
    "kprobes": Path("/sys/kernel/debug/kprobes/enabled"),
    "ftrace": Path("/proc/sys/kernel/ftrace_enabled"),
}
SILENCED = {
    "kprobes": ("kprobe",),
    "ftrace": ("kprobe", "kprobe-multi", "fentry", "fentry-multi"),
}
FOLLOWING = ("--filter-track-skb", "--filter-non-skb-funcs", "fib_table_lookup,dst_release")


def commands(backends: Sequence[str], modules: Sequence[str]) -> Mapping[str, list[str]]:
    """What is run, by name: each backend, what hangs on kprobes beside the first, the choices.

    Args:
        modules: words for the functions of modules.
    """
    found = {
        one: ["--backend", one, "--filter-func", FUNCTIONS, *WORDS, *modules] for one in backends
    }
    found["following"] = ["--backend", backends[0], "--filter-func", FUNCTIONS, *FOLLOWING]
    found |= {"few": ["--filter-func", FEW], "many": ["--filter-func", FUNCTIONS]}
    return {name: [*words, "icmp"] for name, words in found.items()}


def traced(folder: Path, name: str, words: Sequence[str]) -> Seen:
    """One ping, from all of its sights."""
    with tracer(folder, name, "pypwru", *words, start=Forked) as own:
        own.wait_ready()
        ping(FAR)
        ping(SENTINEL)
        own.wait_line(f"{SENTINEL}:0->")
        return own.stop()


def silenced(folder: Path, name: str, switch: Path, words: Sequence[str]) -> Seen:
    """A ping while probes are switched off, one behind; and what begins while they are off."""
    with tracer(folder, name, "pypwru", *words, start=Forked) as own:
        own.wait_ready()
        try:
            switch.write_text("0")
            own.wait_word("was switched off")
            ping(FAR)
            with tracer(folder, f"{name}-refused", "pypwru", *words, start=Forked) as refused:
                then = refused.end()
            chosen = traced(folder, f"{name}-chosen", ["--filter-func", FEW, "icmp"])
        finally:
            switch.write_text("1")
        own.wait_word("was switched on")
        ping(SENTINEL)
        own.wait_line(f"{SENTINEL}:0->")
        return {**own.stop(), "refused": then, "chosen": chosen}


def main() -> None:
    result_file = Path(sys.argv[1]) / "result.json"
    folder = Path("/run/fentry")
    folder.mkdir()
    os.environ["PYPWRU_CACHE"] = str(result_file.with_name("cache"))
    subprocess.run(["modprobe", "veth"], check=True)
    wire()
    share()
    # Modules have no types before Linux 5.11.
    modules = ["--kmods", "veth"] if Path("/sys/kernel/btf/veth").exists() else []
    steps: list[Step] = [
        (name, partial(traced, folder, name, words))
        for name, words in commands(sys.argv[2:], modules).items()
    ]
    steps += [
        (f"{name}-{one}", partial(silenced, folder, f"{name}-{one}", switch, words))
        for name, switch in SWITCHES.items()
        for one, words in commands(sys.argv[2:], modules).items()
        if one in SILENCED[name]
    ]
    result: dict[str, object] = {}
    run_steps(steps, result, result_file)


if __name__ == "__main__":
    main()
