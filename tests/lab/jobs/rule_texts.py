"""Runs inside a guest: rules of the same names, rules that change, and a tracer that is killed.

    python -m tests.lab.jobs.rule_texts FOLDER REPLACEMENTS

FOLDER/result.json is judged on the host (test_rule_texts.py).
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
from tests.lab.jobs.rule_replacement import PORT, Changing, judged
from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import Seen, Tracer, tracer
from tests.lab.net.containers import Place, count_namespaces, until

SENTINEL = PORT + 1
PLACES = 6
ROUNDS = 3
_WAITED = 10  # every so many replacements wait until a line shows the new text
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


# What a chain is called, one after the other; some are as long as others and may get their memory.
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


def same_names(folder: Path, places: list[Place]) -> Seen:
    """A packet in each namespace, round and round, once their rules are known."""
    with tracer(folder, "same", "pypwru", *WORDS, start=Forked) as running:
        running.wait_ready()
        for number, place in enumerate(places, 1):
            _wait_known(running, place, rf"container {number}\"")
        for place in places * ROUNDS:
            place.send(PORT)
        places[0].send(SENTINEL)
        running.wait_line(f'"dport":{SENTINEL}')
        seen = running.stop()
    return {**seen, "inodes": [place.inode for place in places]}


def _wait_known(running: Tracer, place: Place, text: str) -> None:
    """Send until a line has the text: emulated CPUs may be too slow for the first."""

    def known() -> bool:
        place.send(PORT)
        return text in running.out.read_text()

    running.until(text, known)


def listings(places: list[Place]) -> list[str]:
    command = ["nft", "-a", "list", "ruleset"]
    host = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [host, *(place.output(*command) for place in places)]


class Hits:
    """How often the kernel calls FUNCTION."""

    def __init__(self) -> None:
        # Not by Python's mode "a", which seeks to the end: the kernel refuses that here.
        file = os.open(_TRACING / "kprobe_events", os.O_WRONLY | os.O_APPEND)
        os.write(file, f"p:lab_key {FUNCTION}\n".encode())
        os.close(file)
        (_TRACING / "events/kprobes/lab_key/enable").write_text("1")

    def count(self) -> int:
        (found,) = re.findall(r"lab_key\s+(\d+)", (_TRACING / "kprobe_profile").read_text())
        return int(found)


def killed(folder: Path, places: list[Place]) -> Seen:
    """SIGKILL while it traces; packets before, while and after."""
    place = places[0]
    until("end of all others' namespaces", lambda: count_namespaces() == count_namespaces())
    counted, hits = [min(count_namespaces() for _ in range(5))], Hits()

    def sent() -> int:
        before = hits.count()
        place.send(PORT, 20)
        return hits.count() - before

    calls = [sent()]
    taken = [listings(places)]
    with tracer(folder, "killed", "pypwru", *WORDS, start=Forked) as running:
        running.wait_ready()
        taken.append(listings(places))
        counted.append(min(count_namespaces() for _ in range(5)))
        calls.append(sent())
        place.send(SENTINEL)
        running.wait_line(f'"dport":{SENTINEL}')
        taken.append(listings(places))
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(60)
    until("end of the private namespaces", lambda: count_namespaces() == counted[0])
    taken.append(listings(places))
    calls.append(sent())
    return {"listings": taken, "namespaces": [*counted, count_namespaces()], "calls": calls}


def stopped(folder: Path, places: list[Place]) -> Seen:
    """The rulesets before, while and after it traces, and its end is an ordinary one."""
    taken = [listings(places)]
    with tracer(folder, "stopped", "pypwru", *WORDS, start=Forked) as running:
        running.wait_ready()
        taken.append(listings(places))
        running.stop()
    return {"listings": [*taken, listings(places)]}


def renamed(folder: Path) -> Seen:
    """A packet through a chain under each of its names, read only after the last of them."""
    place = Place()
    place.load(_RENAMED)
    with tracer(folder, "renamed", "pypwru", *WORDS, start=Forked) as running:
        running.wait_ready()
        running.process.send_signal(signal.SIGSTOP)
        place.send(PORT)
        for before, after in itertools.pairwise(NAMES):
            place.output("nft", "rename", "chain", "inet", "renamed", before, after)
            place.send(PORT)
        running.process.send_signal(signal.SIGCONT)
        place.send(SENTINEL)
        running.wait_line(f'"dport":{SENTINEL}')
        return running.stop()


def replaced(folder: Path, replacements: int) -> Seen:
    """So many rulesets, each replaced by the next while packets flow."""
    place = Place()
    changing = Changing(place)
    changing.load(0)
    own = tracer(folder, "replaced", "pypwru", *WORDS, start=Forked)
    with own as running, place.flow(PORT):
        running.wait_ready()
        for number in range(1, replacements + 1):
            changing.load(number)
            place.send(PORT)
            if number % _WAITED == 0:
                _wait_shown(running, f"drops {number}")
        place.send(SENTINEL)
        _wait_shown(running, f'"dport":{SENTINEL}')
        seen = running.stop()
    found = judged(events(running.out))
    return {"status": seen["status"], "err": seen["err"], "replacements": replacements, **found}


def _wait_shown(running: Tracer, text: str) -> None:
    """Until one of the last lines has the text."""

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
    places = [Place() for _ in range(PLACES)]
    for number, place in enumerate(places, 1):
        place.load(_RULES.format(number=number, port=PORT))
    share()
    steps: list[Step] = [
        ("same", lambda: same_names(folder, places)),
        ("stopped", lambda: stopped(folder, places)),
        ("renamed", lambda: renamed(folder)),
        ("killed", lambda: killed(folder, places)),
        ("replaced", lambda: replaced(folder, int(sys.argv[2]))),
    ]
    result: dict[str, object] = {}
    run_steps(steps, result, result_file)


if __name__ == "__main__":
    main()
