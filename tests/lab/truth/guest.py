"""Runs inside a guest: rulesets and traffic, traced by pypwru and by the kernel itself.

    python -m tests.lab.truth.guest FOLDER

FOLDER/rulesets.json has the random rulesets; FOLDER/result.json gets the results of the
comparisons, which test_truth.py checks. One pypwru traces all the time, and another for which the
kernel can't enable nft trace events. Each ruleset gets the traffic twice: in the first pass only
pypwru traces it; in the second ``nftrace`` is set, and the kernel's records are read.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from pypwru.fds import closing_fd
from pypwru.kernel.bpf import program_recursion_misses
from pypwru.kernel.bpf_info import program_ids, program_info, program_open
from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import StepResult, Tracer, tracer
from tests.lab.net.topology import inside
from tests.lab.truth import records, traffic, wires
from tests.lab.truth.comparison import (
    compare,
    compare_counts,
    deciding,
    event_record,
    misplaced,
    untraced,
    verdict_name,
)
from tests.lab.truth.records import Record
from tests.lab.truth.rulesets import WORDS, Ruleset, base_chains, counts, fixed, listed, load

MAX_NAMESPACES = Path("/proc/sys/user/max_net_namespaces")
_TRIES = 10
_SHOWN = 20  # mismatches of one kind
Event = dict[str, Any]


class Output:
    """pypwru's output, split by marks that it traces, too.

    Args:
        running: the tracer.
        marks: the ports of marks follow this one; no packet has one of them.
    """

    def __init__(self, running: Tracer, marks: int = 0) -> None:
        self._running = running
        self._marks, self._read = marks, 0

    def events(self) -> list[Event]:
        """Return events of rules since the last call: of all packets that were sent before this
        one.
        """
        self._marks += 1
        traffic.mark(self._marks)
        text, kernel_records = f'"dport":{self._marks},'.encode(), bytearray()
        with self._running.out.open("rb") as out:
            out.seek(self._read)

            def has_mark() -> bool:
                kernel_records.extend(out.read())
                return text in kernel_records

            self._running.until(f"mark {self._marks}", has_mark)
        whole = kernel_records.rfind(b"\n") + 1
        self._read += whole
        lines = [line for line in kernel_records[:whole].splitlines() if b'"nft_rule"' in line]
        return [json.loads(line) for line in lines]


class Pass(NamedTuple):
    """The events and records of the traffic; by namespace, except events; also those of the second
    pypwru.
    """

    events: list[Event]
    unaided: list[Event]
    kernel_records: dict[str, list[Record]]
    objects: dict[str, list[dict[str, Any]]]
    segments: list[int]


def skipped() -> int:
    """Return hits of nftables' probes so far for which the kernel skipped the handler.

    It counts them, as pypwru does (lost_recursion): they have no event.
    """
    missed = 0
    for program_id in program_ids():
        with contextlib.ExitStack() as stack:
            opened = program_open(program_id)
            if opened is not None:
                program = stack.enter_context(closing_fd(opened))
                if program_info(program).name.startswith("nft_"):
                    missed += program_recursion_misses(program)
    return missed


def one_pass(ruleset: Ruleset, traced: bool, outputs: Sequence[Output]) -> Pass:
    """Send the traffic on a fresh ruleset; again after other packets, or a skipped handler,
    meanwhile.
    """
    for _ in range(_TRIES):
        load(ruleset, traced)
        for output in outputs:
            output.events()
        before, segments = traffic.disturbances() + skipped(), traffic.segments()
        with contextlib.ExitStack() as stack:
            sockets = {}
            for name in wires.TRACED if traced else ():
                with inside(name):
                    sockets[name] = stack.enter_context(records.listening())
            traffic.send_all()
            kernel_records = {
                name: untraced(records.received(one)) for name, one in sockets.items()
            }
        objects = {name: listed(name) for name in wires.TRACED}
        if traffic.disturbances() + skipped() == before:
            events, unaided = (output.events() for output in outputs)
            sent = [now - then for now, then in zip(traffic.segments(), segments, strict=True)]
            return Pass(events, unaided, kernel_records, objects, sent)
    raise RuntimeError(f"others sent, or handlers were skipped, in each of {_TRIES} passes")


def order(seen: Pass) -> dict[int, list[str]]:
    """Map each namespace to its packets in their order, once for consecutive events."""
    found: dict[int, list[Record]] = {}
    for event in seen.events:
        found.setdefault(event["netns"], []).append(event_record(event))
    flows = {
        netns: [flow for flow, _ in groupby(record.flow for record in untraced(records_))]
        for netns, records_ in found.items()
    }
    return {netns: packets for netns, packets in flows.items() if packets}


def equal_passes(ruleset: Ruleset, outputs: Sequence[Output]) -> tuple[Pass, Pass]:
    """Return two passes, without and with the kernel's records, in which TCP sent the same, and
    packets came in the same order: what a timer of TCP's sends comes between others.
    """
    plain = one_pass(ruleset, False, outputs)
    for turn in range(_TRIES):
        if turn % 2:  # which of the two differs from the usual is unknown
            plain = one_pass(ruleset, False, outputs)
        else:
            traced = one_pass(ruleset, True, outputs)
        if plain.segments == traced.segments and order(plain) == order(traced):
            return plain, traced
    raise RuntimeError(f"packets were others in each of {_TRIES} pairs of passes")


def both_passes(ruleset: Ruleset, outputs: Sequence[Output]) -> StepResult:
    """Return the comparisons, by namespace: how much, and the first mismatches."""
    plain, traced = equal_passes(ruleset, outputs)
    found: dict[str, Any] = {"rules": 0, "tracing rules": 0, "verdicts": Counter(), "families": {}}
    for name in wires.TRACED:
        inode = os.stat(f"/run/netns/{name}").st_ino
        own, with_trace = (
            [event for event in one.events if event["netns"] == inode] for one in (plain, traced)
        )
        events, kernel = list(map(event_record, own)), traced.kernel_records[name]
        unaided = [event_record(event) for event in plain.unaided if event["netns"] == inode]
        beside = untraced(map(event_record, with_trace))
        counted, counted_again = (list(counts(one.objects[name])) for one in (plain, traced))
        verdicts = {
            "records": compare(kernel, events),
            "records of the same run": compare(kernel, beside),
            "records without help": compare(deciding(events), unaided),
            "counters": compare_counts(counted, events),
            "the kernel's counters": compare_counts(counted_again, kernel),
            "places": misplaced(own, dict(base_chains(plain.objects[name]))),
        }
        for kind, (compared, mismatches) in verdicts.items():
            row = found.setdefault(kind, {"compared": 0, "mismatches": []})
            row["compared"] += compared
            row["mismatches"] += [f"{name}: {mismatch}" for mismatch in mismatches[:_SHOWN]]
        found["rules"] += sum("rule" in entry for entry in plain.objects[name])
        found["tracing rules"] += len(
            {record[:2] for record in kernel if "handle" in record.decision}
        )
        found["verdicts"].update(map(verdict_name, kernel))
        found["families"] |= dict.fromkeys(record.chain.split()[0] for record in kernel)
    return found


def main() -> None:
    shared = Path(sys.argv[1])
    folder = Path("/run/truth")
    folder.mkdir()
    os.environ["PYPWRU_CACHE"] = str(shared / "cache")
    rulesets = {"fixed": fixed()}
    for number, (nft, iptables) in enumerate(json.loads((shared / "rulesets.json").read_text())):
        rulesets[f"random {number}"] = Ruleset(nft, iptables)
    result: dict[str, object] = {}
    os.sched_setaffinity(0, {1})  # the packets have a CPU of their own (traffic.py)
    wires.wire()
    for ruleset in reversed(rulesets.values()):
        load(ruleset, False)
    traffic.send_all()  # the kernel loads and learns now what it needs once, modules of rules
    with tracer(folder, "pypwru", "pypwru", *WORDS) as own, contextlib.ExitStack() as stack:
        own.wait_ready()
        MAX_NAMESPACES.write_text("0")
        unaided = stack.enter_context(tracer(folder, "unaided", "pypwru", *WORDS))
        unaided.wait_ready()
        outputs = Output(own), Output(unaided)
        steps: list[Step] = [
            (name, partial(both_passes, ruleset, outputs)) for name, ruleset in rulesets.items()
        ]
        run_steps(steps, result, folder / "result.json")
        result["unaided"] = {**unaided.stop(), "out": ""}
        result["pypwru"] = {**own.stop(), "out": ""}
    (shared / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
