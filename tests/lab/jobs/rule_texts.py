"""Runs inside a guest: rules of the same names, rules that change, and a tracer that is killed.

    python -m tests.lab.jobs.rule_texts FOLDER REPLACEMENTS

FOLDER/result.json is checked on the host (test_rule_texts.py).
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lab.jobs.forked import Forked, share
from tests.lab.jobs.rule_replacement import PORT, ChangingRuleset, check_marks
from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import StepResult, Tracer, tracer
from tests.lab.net.containers import Container, count_namespaces, until

SENTINEL = PORT + 1
CONTAINERS = 6
ROUNDS = 3
_WAITED = 10  # every so many replacements wait until a line has the new text
_LAST = 1 << 16  # bytes of lines in which a text is looked for
WORDS = (
    "--output-json", "--output-nft=text", "--filter-func", "kfree_skb(_reason)?|sk_skb_reason_drop",
    f"udp dst portrange {PORT}-{SENTINEL}",
)  # fmt: skip
_TRACING = Path("/sys/kernel/tracing")
FUNCTION = "__nft_trace_packet"

# The same names and, where tables are counted by namespace, the same handles; other rules.
_RULES = """
table inet filter {{
    chain web {{ meta mark != {number} counter drop comment "container {number}"; }}
    chain input {{
        type filter hook input priority filter; policy accept;
        udp dport {port} meta mark != {number} jump web comment "web of {number}"
    }}
}}
"""


# Names of a chain, one after the other; some are as long as others and may get their memory.
NAMES = ("web", "shop", "web2", "a_much_longer_name_of_a_chain", "web3", "shop2")
_RENAMED = f"""
table inet renamed {{
    chain {NAMES[0]} {{ counter drop; }}
    chain input {{
        type filter hook input priority filter; policy accept;
        udp dport {PORT} jump {NAMES[0]}
    }}
}}
"""


def events(file: Path) -> Iterator[dict[str, Any]]:
    with file.open() as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def same_names(folder: Path, all_containers: list[Container]) -> StepResult:
    """Send a packet in each namespace, round and round, once their rules are listed."""
    with tracer(folder, "same", "pypwru", *WORDS, start=Forked) as running:
        running.wait_ready()
        for number, container in enumerate(all_containers, 1):
            _wait_text(running, container, rf"container {number}\"")
        for container in all_containers * ROUNDS:
            container.send(PORT)
        all_containers[0].send(SENTINEL)
        running.wait_line(f'"dport":{SENTINEL}')
        seen = running.stop()
    return {**seen, "inodes": [container.inode for container in all_containers]}


def _wait_text(running: Tracer, container: Container, text: str) -> None:
    """Send until a line has the text: emulated CPUs may be too slow for the first."""

    def is_known() -> bool:
        container.send(PORT)
        return text in running.out.read_text()

    running.until(text, is_known)


def listings(all_containers: list[Container]) -> list[str]:
    command = ["nft", "-a", "list", "ruleset"]
    host = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [host, *(container.output(*command) for container in all_containers)]


class Hits:
    """Counts calls of FUNCTION."""

    def __init__(self) -> None:
        # Not by Python's mode "a", which seeks to the end: the kernel refuses that here.
        file = os.open(_TRACING / "kprobe_events", os.O_WRONLY | os.O_APPEND)
        os.write(file, f"p:lab_key {FUNCTION}\n".encode())
        os.close(file)
        (_TRACING / "events/kprobes/lab_key/enable").write_text("1")

    def count(self) -> int:
        (found,) = re.findall(r"lab_key\s+(\d+)", (_TRACING / "kprobe_profile").read_text())
        return int(found)


def killed(folder: Path, all_containers: list[Container]) -> StepResult:
    """Kill it while it traces; send packets before, meanwhile and after."""
    container = all_containers[0]
    until("end of all others' namespaces", lambda: count_namespaces() == count_namespaces())
    counted, hits = [min(count_namespaces() for _ in range(5))], Hits()

    def sent() -> int:
        before = hits.count()
        container.send(PORT, 20)
        return hits.count() - before

    calls = [sent()]
    taken = [listings(all_containers)]
    with tracer(folder, "killed", "pypwru", *WORDS, start=Forked) as running:
        running.wait_ready()
        taken.append(listings(all_containers))
        counted.append(min(count_namespaces() for _ in range(5)))
        calls.append(sent())
        container.send(SENTINEL)
        running.wait_line(f'"dport":{SENTINEL}')
        taken.append(listings(all_containers))
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(60)
    until("end of the private namespaces", lambda: count_namespaces() == counted[0])
    taken.append(listings(all_containers))
    calls.append(sent())
    return {"listings": taken, "namespaces": [*counted, count_namespaces()], "calls": calls}


def stopped(folder: Path, all_containers: list[Container]) -> StepResult:
    """Record the rulesets before, while and after it traces, and stop it normally."""
    taken = [listings(all_containers)]
    with tracer(folder, "stopped", "pypwru", *WORDS, start=Forked) as running:
        running.wait_ready()
        taken.append(listings(all_containers))
        running.stop()
    return {"listings": [*taken, listings(all_containers)]}


def renamed(folder: Path) -> StepResult:
    """Send a packet through a chain under each of its names, read only after the last of them."""
    container = Container()
    container.load(_RENAMED)
    with tracer(folder, "renamed", "pypwru", *WORDS, start=Forked) as running:
        running.wait_ready()
        running.process.send_signal(signal.SIGSTOP)
        container.send(PORT)
        for before, after in itertools.pairwise(NAMES):
            container.output("nft", "rename", "chain", "inet", "renamed", before, after)
            container.send(PORT)
        running.process.send_signal(signal.SIGCONT)
        container.send(SENTINEL)
        running.wait_line(f'"dport":{SENTINEL}')
        return running.stop()


def replaced(folder: Path, replacements: int) -> StepResult:
    """Load so many rulesets, each replaced by the next while packets flow."""
    container = Container()
    changing = ChangingRuleset(container)
    changing.load(0)
    own = tracer(folder, "replaced", "pypwru", *WORDS, start=Forked)
    with own as running, container.flow(PORT):
        running.wait_ready()
        for number in range(1, replacements + 1):
            changing.load(number)
            container.send(PORT)
            if number % _WAITED == 0:
                _wait_shown(running, f"drops {number}")
        container.send(SENTINEL)
        _wait_shown(running, f'"dport":{SENTINEL}')
        seen = running.stop()
    found = check_marks(events(running.out))
    return {"status": seen["status"], "err": seen["err"], "replacements": replacements, **found}


def _wait_shown(running: Tracer, text: str) -> None:
    """Wait until one of the last lines has the text."""

    def shown() -> bool:
        with running.out.open("rb") as file:
            file.seek(max(0, running.out.stat().st_size - _LAST))
            return text.encode() in file.read()

    until(text, shown)


def main() -> None:
    result_file = Path(sys.argv[1]) / "result.json"
    folder = Path("/run/rule_texts")
    folder.mkdir()
    os.environ["PYPWRU_CACHE"] = str(result_file.with_name("cache"))
    all_containers = [Container() for _ in range(CONTAINERS)]
    for number, container in enumerate(all_containers, 1):
        container.load(_RULES.format(number=number, port=PORT))
    share()
    steps: list[Step] = [
        ("same", lambda: same_names(folder, all_containers)),
        ("stopped", lambda: stopped(folder, all_containers)),
        ("renamed", lambda: renamed(folder)),
        ("killed", lambda: killed(folder, all_containers)),
        ("replaced", lambda: replaced(folder, int(sys.argv[2]))),
    ]
    result: dict[str, object] = {}
    run_steps(steps, result, result_file)


if __name__ == "__main__":
    main()
