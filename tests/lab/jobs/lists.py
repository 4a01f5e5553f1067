"""Runs inside a guest: the lists of functions, a trace from one that was written, --features.

    python -m tests.lab.jobs.lists FOLDER

FOLDER/result.json is checked on the host (test_lists.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pypwru.kernel import pseudofs
from pypwru.kernel.ftrace import MOUNT_POINTS
from tests.data.record_functions import MODULES
from tests.lab.jobs.steps import run_steps
from tests.lab.jobs.tracer import StepResult, tracer
from tests.lab.net.topology import run

RULES = """
table inet listed {
    chain input { type filter hook input priority 0; icmp type echo-request counter accept; }
}
"""
FIREWALL = ("--priority", "1", "--category", "nft", "--category", "netfilter")
# Without nft events, which --functions doesn't select.
TRACED = ("--output-nft=false", "--output-json", "icmp")
COMMANDS = [TRACED, ("udp", "port", "9")]
_UNPRIVILEGED = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def listed(*flags: str, before: tuple[str, ...] = ()) -> StepResult:
    """Return pypwru's output for ``--list-functions`` and these flags, run by ``before``."""
    return printed("--list-functions", *flags, before=before)


def printed(*flags: str, before: tuple[str, ...] = ()) -> StepResult:
    """Return pypwru's output for these flags, run by ``before``."""
    words = [*before, sys.executable, "-m", "pypwru", *flags]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}


def everything() -> StepResult:
    """List vmlinux, and the modules that a firewall, router or container host has."""
    bare = listed("--output-json")
    for name in MODULES:
        subprocess.run(["modprobe", "-q", name], check=False)
    return {
        "bare": bare,
        "modules": listed("--output-json", "--all-kmods"),
        "nobody": listed("--output-json", before=_UNPRIVILEGED),
    }


def attached(folder: Path) -> StepResult:
    """Run everything up to level 2, from a list of it."""
    file = folder / "two.txt"
    names = listed("--priority", "2", "--all-kmods", "--function-list", str(file))
    with tracer(folder, "two", "pypwru", "--functions", str(file), "udp", "port", "9") as one:
        one.wait_ready()
        return {"list": names, "names": file.read_text(), "run": one.stop()}


def example(folder: Path) -> StepResult:
    """List, write, edit and trace a list."""
    run("nft", "-f", "-", words=RULES)
    file = folder / "firewall.txt"
    names = listed(*FIREWALL, "--all-kmods", "--function-list", str(file))
    with file.open("a") as more:
        more.write("no_such_function\nno_such_function[nf_tables]\nvprintk\ntp:kfree_skb\n")
    words = ["--functions", str(file), *TRACED]
    with tracer(folder, "firewall", "pypwru", *words) as one:
        one.wait_ready()
        subprocess.run(["ping", "-q", "-c", "2", "-i", "0.2", "127.0.0.1"], check=True)
        one.wait_line("nf_hook_slow")
        return {"list": names, "names": file.read_text(), "run": one.stop()}


def features() -> StepResult:
    """Probe the kernel, twice since answers are cached, while rules of nftables are loaded."""
    run("nft", "-f", "-", words=RULES)
    flags = ("--features", "--output-json")
    return {
        "first": printed(*flags),
        "second": printed(*flags),
        "nobody": printed(*flags, before=_UNPRIVILEGED),
        "table": printed("--features"),
        "kprobe_events": pseudofs.read_file("tracefs", "kprobe_events", MOUNT_POINTS).decode(),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    os.environ["PYPWRU_CACHE"] = str(folder / "cache")
    os.environ["PYTHONPATH"] = str(Path.cwd())  # this tree's, wherever the command is from
    run("ip", "link", "set", "lo", "up")
    steps = (
        ("lists", everything),
        ("attached", lambda: attached(folder)),
        ("example", lambda: example(folder)),
        ("features", features),
    )
    run_steps(steps, {}, folder / "result.json")


if __name__ == "__main__":
    main()
