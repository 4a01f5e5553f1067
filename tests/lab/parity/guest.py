"""Runs inside a guest: each invocation by pypwru and by pwru, both at once, over the same traffic.

    python -m tests.lab.parity.guest FOLDER [--whole | --record] [NAME...]

FOLDER/result.json says what each printed and how it ended; it is judged on the host. pwru is the
one on PATH, or ``PYPWRU_LAB_PWRU``; one that lacks a flag sits out the invocations with it.
``--whole`` has pwru run also where nothing is traced, which is to be compared with its recorded
words otherwise, and pypwru a second time beside them, with --output-json. ``--record`` has pwru run
alone.
FOLDER/traffic_programs.o is attached for the invocations that want it, which come last.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.lab.jobs.forked import Forked, forget, share
from tests.lab.jobs.tracer import StepResult, Tracer, executed, kill, wait_quiet
from tests.lab.net import topology
from tests.lab.net.traffic import KINDS, flush
from tests.lab.parity.conntrack_row import NAME, ROW, prepare
from tests.lab.parity.invocations import INVOCATIONS, Invocation
from tests.lab.parity.tracking import CONTROLS
from tests.oracles.conntrack import listing

OWN, PEER = "pypwru", "pwru"
AS_JSON = "json"  # pypwru once more, with --output-json
SINCE = "--output-json"  # what Debian's 1.0.5, whose --version says "unknown", doesn't have yet
SCRATCH = Path("/run/parity")  # not in a shared folder: Linux 7.2's 9p can answer ENODATA
_OFF_BEFORE = ("output-meta", "output-tuple")  # what pwru 1.0.5 prints only when asked to


Commands = Mapping[str, Sequence[str]]


def said(program: str, flag: str) -> str:
    """What it prints of itself."""
    done = subprocess.run([program, flag], capture_output=True, text=True, check=True)
    return done.stdout.strip() or done.stderr


def commands(invocation: Invocation, programs: Mapping[str, str], old: bool) -> Commands:
    """Who runs, and its words."""
    recorded = OWN in programs and AS_JSON not in programs and not invocation.kinds
    inode = os.stat("/run/netns/near").st_ino
    found = {}
    for who, program in programs.items():
        if who == PEER and (recorded or not invocation.peer or (old and not invocation.old)):
            continue
        if who == AS_JSON and not invocation.also_json:
            continue
        folder = SCRATCH / who
        folder.mkdir(parents=True, exist_ok=True)
        values = {"folder": str(folder), "inode": str(inode), "btf": "/sys/kernel/btf/vmlinux"}
        words = invocation.command(values) if who == PEER else invocation.own(values)
        words = ["--output-json"] * (who == AS_JSON) + words
        if who == PEER and old:
            words = [f"--{name}" for name in _OFF_BEFORE if f"--{name}=false" not in words] + words
        found[who] = [program, *words]
    return found


@contextlib.contextmanager
def started(name: str, invocation: Invocation, lines: Commands) -> Iterator[dict[str, Tracer]]:
    running = {}
    try:
        for who, (program, *words) in lines.items():
            label = f"{who}-{name}"
            ready = ["--ready-file", str(SCRATCH / f"{label}.ready")] if invocation.kinds else []
            start = executed if who == PEER else Forked
            running[who] = Tracer(SCRATCH, label, program, *ready, *words, start=start)
        yield running
    finally:
        for each in running.values():
            kill(each)


def seen(name: str, invocation: Invocation, lines: Commands) -> dict[str, StepResult]:
    """What each printed, and how it ended."""
    with started(name, invocation, lines) as running:
        files = {
            who: SCRATCH / who / invocation.output if invocation.output else each.out
            for who, each in running.items()
        }
        earlier = dict.fromkeys(running, 0)
        if invocation.kinds:
            for each in running.values():
                each.wait_ready()
            if invocation.filter == "":  # each has seen the other's start, or not
                wait_quiet(running.values(), files.values())
                earlier = {who: file.stat().st_size for who, file in files.items()}
            for kind in invocation.kinds:
                KINDS[kind].send()
            if not invocation.ends:
                flush()
                wait_quiet(running.values(), files.values())
                for each in running.values():
                    each.process.send_signal(signal.SIGINT)
        found = {who: each.end() for who, each in running.items()}
    for who, file in files.items():
        text = file.read_text() if file.exists() else ""
        header = "" if text.startswith("{") else text[: text.find("\n") + 1]
        found[who]["out"] = header + text[earlier[who] :] if earlier[who] else text
    return found


def repeated() -> dict[str, int]:
    """Names that several functions have, of which a tracer may take one or all."""
    symbols = Path("/proc/kallsyms").read_text()
    counted = Counter(re.findall(r"^[0-9a-f]+ [tT] (\w+)$", symbols, re.MULTILINE))
    return {name: count for name, count in counted.items() if count > 1}


def main() -> None:
    folder, names = Path(sys.argv[1]), [name for name in sys.argv[2:] if name[0] != "-"]
    os.environ["PYPWRU_CACHE"] = str(folder / "cache")
    rows = {**INVOCATIONS, **CONTROLS, NAME: ROW}
    programs = {OWN: OWN, PEER: os.environ.get("PYPWRU_LAB_PWRU") or PEER}
    old = SINCE not in said(programs[PEER], "--help")
    version = "pwru 1.0.5" if old else said(programs[PEER], "--version")
    if "--record" in sys.argv:
        del programs[OWN]
    if "--whole" in sys.argv:
        programs[AS_JSON] = OWN
    topology.wire()
    KINDS["ping4"].send()  # so that no row is the first to ask for the neighbours' headers
    result: dict[str, object] = {"kernel": os.uname().release, "pwru": version, "old": old}
    result["repeated"] = repeated()
    found: dict[str, dict[str, object]] = {}
    result["invocations"] = found
    attached = False
    for name in names or rows:
        invocation = rows[name]
        if invocation.programs and not attached:
            topology.attach_programs(folder / "traffic_programs.o")
            attached = True
            forget()  # the programs' symbols are in no reading of before
        share()
        began = time.monotonic()
        lines = commands(invocation, programs, old)
        try:
            if name == NAME:
                prepare()
            found[name] = {**seen(name, invocation, lines)}
            if name == NAME:
                found[name]["listed"] = listing("router")
        except (RuntimeError, subprocess.SubprocessError, OSError) as error:
            found[name] = {"error": str(error)}
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
        (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
