"""Runs inside a guest: one ping by fentry and by kprobes; the outputs go to a file.

    python -m tests.lab.jobs.fentry FOLDER BACKEND...

BACKEND are those to compare; each traces the same functions. FOLDER/result.json is checked on the
host (test_fentry.py), which has compiled into FOLDER/cache.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.lab.jobs.forked import Forked, share
from tests.lab.jobs.main_job import FAR, SENTINEL, ping, wire
from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import StepResult, tracer
from tests.lab.net.traffic import flush

# One in a module, several of one name, and one whose arguments no trampoline passes.
FUNCTIONS = "(ip_(rcv|output|local_.*|send_skb)|icmp_.*|veth_xmit|kfree_skb.*|tcf_fill_node)"
FEW = "(ip_rcv|ip_output)"
WORDS = ("--debug", "--output-caller")

DUMMY_PORT = 9999
RELOADED = (
    "--backend", "kprobe", "--kmods", "dummy", "--filter-func", "dummy_xmit",
    f"udp port {DUMMY_PORT}",
)  # fmt: skip
FOLLOWING = ("--filter-track-skb", "--filter-non-skb-funcs", "fib_table_lookup,dst_release")


def commands(backends: Sequence[str], modules: Sequence[str]) -> Mapping[str, list[str]]:
    """Return the command lines by name: each backend, kprobes beside the first, the automatic
    choices.

    Args:
        modules: words for the functions of modules.
    """
    found = {
        one: ["--backend", one, "--filter-func", FUNCTIONS, *WORDS, *modules] for one in backends
    }
    # With packet ids, which handlers keep by the address that their argument is.
    found |= {f"json {one}": [*found[one], "--output-json"] for one in backends[:-1]}
    found["following"] = ["--backend", backends[0], "--filter-func", FUNCTIONS, *FOLLOWING]
    found |= {"few": ["--filter-func", FEW], "many": ["--filter-func", FUNCTIONS]}
    return {name: [*words, "icmp"] for name, words in found.items()}


def traced(folder: Path, name: str, words: Sequence[str]) -> StepResult:
    """Trace one ping, to its last event."""
    last = f'"saddr":"{SENTINEL}"' if "--output-json" in words else f"{SENTINEL}:0->"
    with tracer(folder, name, "pypwru", *words, start=Forked) as own:
        own.wait_ready()
        ping(FAR)
        ping(SENTINEL)
        own.wait_line(last)
        return own.stop()


def reloaded(folder: Path) -> StepResult:
    """Send a datagram by each of two loads of the module dummy, of which the second comes later."""
    load_dummy()
    # By exec: the symbols that the forked ones share don't have this module.
    with tracer(folder, "reloaded", "pypwru", *RELOADED) as own:
        own.wait_ready()
        send_by_dummy()
        subprocess.run(["ip", "link", "delete", "away"], check=True)
        subprocess.run(["rmmod", "dummy"], check=True)
        load_dummy()
        own.wait_word("Attached to a module again")
        send_by_dummy()
        flush()
        return own.stop()


def load_dummy() -> None:
    subprocess.run(["modprobe", "dummy", "numdummies=0"], check=True)
    subprocess.run(["ip", "link", "add", "away", "type", "dummy"], check=True)
    subprocess.run(["ip", "address", "add", "203.0.113.1/24", "dev", "away"], check=True)
    subprocess.run(["ip", "link", "set", "away", "up"], check=True)


def send_by_dummy() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"by dummy", ("203.0.113.9", DUMMY_PORT))


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
    if modules and "kprobe" in sys.argv[2:]:  # links of other backends keep a module from going
        steps.append(("reloaded", partial(reloaded, folder)))
    result: dict[str, object] = {}
    run_steps(steps, result, result_file)


if __name__ == "__main__":
    main()
