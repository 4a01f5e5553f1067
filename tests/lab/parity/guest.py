"""Runs inside a guest: each invocation by pypwru and by pwru, both at once, over the same traffic.

    python -m tests.lab.parity.guest FOLDER [--whole | --record] [NAME...]

FOLDER/result.json has the output and exit status of each, which the host checks. pwru is the one on
PATH, or ``PYPWRU_LAB_PWRU``; invocations with a flag that it lacks are run without it. ``--whole``
runs pwru also where nothing is traced, whose output is otherwise compared with the recorded one,
and pypwru a second time beside them, with --output-json. ``--record`` runs pwru alone.
FOLDER/traffic_programs.o is attached for the invocations that need it, which come last.
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
SINCE = "--output-json"  # a flag that Debian's 1.0.5 lacks, whose --version prints "unknown"
SCRATCH = Path("/run/parity")  # not in a shared folder: Linux 7.2's 9p can answer ENODATA
_OFF_BEFORE = ("output-meta", "output-tuple")  # what pwru 1.0.5 prints only with these flags


Commands = Mapping[str, Sequence[str]]


def program_output(program: str, flag: str) -> str:
    """Return what it prints for a flag."""
    done = subprocess.run([program, flag], capture_output=True, text=True, check=True)
    return done.stdout.strip() or done.stderr


def commands(invocation: Invocation, programs: Mapping[str, str], old: bool) -> Commands:
    """Map each tracer that runs to its command line."""
    recorded = OWN in programs and AS_JSON not in programs and not invocation.kinds
    inode = os.stat("/run/netns/near").st_ino
    found = {}
    for tracer_name, program in programs.items():
        if tracer_name == PEER and (
            recorded or not invocation.peer or (old and not invocation.old)
        ):
            continue
        if tracer_name == AS_JSON and not invocation.also_json:
            continue
        folder = SCRATCH / tracer_name
        folder.mkdir(parents=True, exist_ok=True)
        values = {"folder": str(folder), "inode": str(inode), "btf": "/sys/kernel/btf/vmlinux"}
        words = invocation.command(values) if tracer_name == PEER else invocation.own(values)
        words = ["--output-json"] * (tracer_name == AS_JSON) + words
        if tracer_name == PEER and old:
            words = [f"--{name}" for name in _OFF_BEFORE if f"--{name}=false" not in words] + words
        found[tracer_name] = [program, *words]
    return found


@contextlib.contextmanager
def started(name: str, invocation: Invocation, lines: Commands) -> Iterator[dict[str, Tracer]]:
    running = {}
    try:
        for tracer_name, (program, *words) in lines.items():
            label = f"{tracer_name}-{name}"
            ready = ["--ready-file", str(SCRATCH / f"{label}.ready")] if invocation.kinds else []
            start = executed if tracer_name == PEER else Forked
            running[tracer_name] = Tracer(SCRATCH, label, program, *ready, *words, start=start)
        yield running
    finally:
        for each in running.values():
            kill(each)


def run_invocation(name: str, invocation: Invocation, lines: Commands) -> dict[str, StepResult]:
    """Return the output and status of each tracer."""
    with started(name, invocation, lines) as running:
        files = {
            tracer_name: SCRATCH / tracer_name / invocation.output
            if invocation.output
            else each.out
            for tracer_name, each in running.items()
        }
        earlier = dict.fromkeys(running, 0)
        if invocation.kinds:
            for each in running.values():
                each.wait_ready()
            if invocation.filter == "":  # each has events of the other's start, or not
                wait_quiet(running.values(), files.values())
                earlier = {tracer_name: file.stat().st_size for tracer_name, file in files.items()}
            for kind in invocation.kinds:
                KINDS[kind].send()
            if not invocation.ends:
                flush()
                wait_quiet(running.values(), files.values())
                for each in running.values():
                    each.process.send_signal(signal.SIGINT)
        found = {tracer_name: each.end() for tracer_name, each in running.items()}
    for tracer_name, file in files.items():
        text = file.read_text() if file.exists() else ""
        header = "" if text.startswith("{") else text[: text.find("\n") + 1]
        found[tracer_name]["out"] = (
            header + text[earlier[tracer_name] :] if earlier[tracer_name] else text
        )
    return found


def repeated() -> dict[str, int]:
    """Return names that several functions have, of which a tracer may take one or all."""
    symbols = Path("/proc/kallsyms").read_text()
    counted = Counter(re.findall(r"^[0-9a-f]+ [tT] (\w+)$", symbols, re.MULTILINE))
    return {name: count for name, count in counted.items() if count > 1}


def main() -> None:
    folder, names = Path(sys.argv[1]), [name for name in sys.argv[2:] if name[0] != "-"]
    os.environ["PYPWRU_CACHE"] = str(folder / "cache")
    rows = {**INVOCATIONS, **CONTROLS, NAME: ROW}
    programs = {OWN: OWN, PEER: os.environ.get("PYPWRU_LAB_PWRU") or PEER}
    old = SINCE not in program_output(programs[PEER], "--help")
    version = "pwru 1.0.5" if old else program_output(programs[PEER], "--version")
    if "--record" in sys.argv:
        del programs[OWN]
    if "--whole" in sys.argv:
        programs[AS_JSON] = OWN
    topology.wire()
    KINDS["ping4"].send()  # so that no row is the first to resolve neighbours
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
            forget()  # symbols read before lack the programs'
        share()
        began = time.monotonic()
        lines = commands(invocation, programs, old)
        try:
            if name == NAME:
                prepare()
            found[name] = {**run_invocation(name, invocation, lines)}
            if name == NAME:
                found[name]["listed"] = listing("router")
        except (RuntimeError, subprocess.SubprocessError, OSError) as error:
            found[name] = {"error": str(error)}
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
        (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
