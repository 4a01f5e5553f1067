"""Runs inside a guest: rulesets in the styles of the programs that people use, and their packets.

    python -m tests.lab.jobs.corpus FOLDER FEATURES RULESET...

FEATURES are names of the kernel's features (kernels.Feature), separated by commas; a RULESET is a
file of the folder truth/corpus, or ``large``: 3,000 rules, of which the last has the first event.
Each ruleset has its own namespace (truth/hosts.py). All exist when pypwru starts, once for all of
them, and each gets the same packets, while the kernel's own trace records are read, also by ``nft
monitor trace``. FOLDER/result.json is checked on the host (test_corpus.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from tests.lab.jobs.steps import Step, run_steps
from tests.lab.jobs.tracer import StepResult, tracer
from tests.lab.net.containers import until
from tests.lab.net.topology import inside, run
from tests.lab.truth import hosts, records, rulefiles, texts
from tests.lab.truth.comparison import compare, event_record, untraced
from tests.lab.truth.guest import Output, skipped
from tests.lab.truth.rulesets import TRACING, tracing

WORDS = ("--output-json", "--output-nft=text", "--filter-func", "ip_rcv")
LARGE = 3000  # rules
# One of each style that is parsed in its own way: those of the quick tier.
QUICK = (
    "bridge.nft", "chain-bindings.nft", "comments.nft", "docker.iptables", "firewalld-owned.nft",
    "fw4.nft", "kube-proxy.nft", "long-sets.nft", "netdev-ingress.nft",
)  # fmt: skip
_MARKS = 50000  # no packet has a port above
_TRIES = 5
_SHOWN = 20
_MODULES = """
8021q bridge nf_conntrack_bridge nf_flow_table nf_flow_table_inet nft_flow_offload nft_connlimit
nft_ct nft_dup_netdev nft_fib nft_fib_inet nft_fib_ipv4 nft_fib_ipv6 nft_hash nft_limit nft_log
nft_meta_bridge nft_nat nft_numgen nft_queue nft_quota nft_reject_bridge nft_reject_inet nft_socket
nft_synproxy nft_tproxy nf_conntrack_ftp nf_log_syslog nf_log_ipv4 nf_log_ipv6 nfnetlink_log
nfnetlink_queue nft_compat veth
"""


def _output(name: str, command: str, words: str = "") -> str:
    """Return the output of a command in a namespace, given ``words`` on its standard input."""
    with inside(name):
        done = subprocess.run(
            command.split(), input=words, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise RuntimeError(f"{name}: {command}: {done.stderr.strip()[:500]}")
    return done.stdout


class Host:
    """A ruleset in its namespace.

    Args:
        file: the ruleset.
        number: of the namespace's wires.
    """

    def __init__(self, file: Path, number: int) -> None:
        self.name, self.number, self.file = file.name, number, file
        self.text = file.read_text()
        self.owner: subprocess.Popen[str] | None = None
        is_bridged = file.suffix == ".ebtables" or "table bridge" in self.text
        hosts.host(self.name, number, is_bridged)
        self.inode = os.stat(f"/run/netns/{self.name}").st_ino

    def run(self, command: str, words: str = "") -> str:
        return _output(self.name, command, words)

    def load(self) -> None:
        """Load its rules, and before them the rules that make the kernel write trace records."""
        self.run("nft -f -", tracing(("eth0", "eth1")))
        if rulefiles.is_owned(self.file):
            self._own()
        else:
            rulefiles.load(self.run, self.file)

    def _own(self) -> None:
        """Load it by a process that keeps running: its end would delete the tables."""
        with inside(self.name):
            self.owner = subprocess.Popen(["nft", "-i"], stdin=subprocess.PIPE, text=True)
        assert self.owner.stdin
        self.owner.stdin.write(f'include "{self.file}"\n')
        self.owner.stdin.flush()
        until("owned table", lambda: "progname" in self.run("nft -a list ruleset"))


@contextlib.contextmanager
def monitor(name: str, out: IO[bytes]) -> Iterator[None]:
    """Run ``nft monitor trace`` in a namespace."""
    with inside(name):
        words = ["stdbuf", "-oL", "nft", "-a", "-s", "monitor", "trace"]
        process = subprocess.Popen(words, stdout=out)

    def is_listening() -> bool:
        with inside(name):
            text = Path("/proc/thread-self/net/netlink").read_text()
        rows = [row.split() for row in text.splitlines()[1:]]
        return any(row[2] == str(process.pid) and int(row[3], 16) & 1 << 8 for row in rows)

    try:
        until("nft monitor", is_listening)
        yield
    finally:
        process.kill()
        process.wait()


def compare_host(host: Host, output: Output, folder: Path) -> StepResult:
    """Compare a host's packets; again if the kernel skipped a handler meanwhile, which pypwru
    counts.
    """
    for _ in range(_TRIES):
        before, pypwru_records = skipped(), _sent(host, output, folder)
        if skipped() == before:
            return pypwru_records
    raise RuntimeError(f"handlers were skipped in each of {_TRIES} passes")


def _sent(host: Host, output: Output, folder: Path) -> StepResult:
    file = folder / f"{host.name}.monitor"
    known_rules, bound = rulefiles.known_texts(host.run, host.file)
    output.events()
    with file.open("wb") as out, monitor(host.name, out), contextlib.ExitStack() as stack:
        with inside(host.name):
            kernel = stack.enter_context(records.listening())
        hosts.send(host.name, host.number)
        kernel_records = records.received(kernel)
        lines = sum(record.decision.startswith(("handle", "policy")) for record in kernel_records)
        until("lines of nft monitor", lambda: _count_records(file.read_bytes()) >= lines)
    kernel_records = untraced(kernel_records)
    every = [event for event in output.events() if event["netns"] == host.inode]
    own = [event for event in every if event["nft"]["table"] != TRACING]
    pypwru_records = [event_record(event) for event in own]
    same = compare([*texts.name_chains(kernel_records, bound)], pypwru_records)
    found = texts.compared(own, known_rules)
    of_monitor = dict(texts.monitored(file.read_text(), host.text))
    of_xt = {handle for handle, text in known_rules.items() if text.startswith("-A ")}
    odd = [
        f"{handle}: nft monitor {text!r}, nft list {known_rules.get(handle)!r}"
        for handle, text in of_monitor.items()
        if handle[1] != TRACING and handle not in of_xt and text != known_rules.get(handle)
    ]
    return {
        "packets": len({event["skb"] for event in own}),
        "records": same.compared,
        "rules": found.rules,
        "texts": found.compared,
        "unknown": found.unknown,
        "monitored": len([each for each in of_monitor if each[1] != TRACING]),
        "mismatches": same.mismatches[:_SHOWN],
        "texts that differ": found.mismatches[:_SHOWN],
        "texts that nft monitor differs in": odd[:_SHOWN],
    }


def _count_records(text: bytes) -> int:
    """Count lines of rules and policies.

    Linux 5.10 records a rule that returns as a return, which nft prints without the rule.
    """
    line = rb"^trace id \w+ \w+ \S+ \S+ (?:rule|policy|unknown rule|verdict return) "
    return len(re.findall(line, text, re.M))


def large(folder: Path) -> StepResult:
    """Trace the first packet after the ready file, of the last of many rules."""
    name = "large"
    run("ip", "netns", "add", name)
    lines = "\n".join(f"udp dport {port} counter drop" for port in range(1, LARGE + 1))
    head = "type filter hook input priority 0;"
    _output(name, "nft -f -", f"table ip t {{ chain c {{\n{head}\n{lines}\n}}\n}}")
    run("ip", "-n", name, "link", "set", "lo", "up")
    with inside(name):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender, tracer(folder, name, "pypwru", *WORDS) as running:
        running.wait_ready()
        sender.sendto(b"first", ("127.0.0.1", LARGE))
        running.wait_line('"nft_rule"')
        pypwru_records = running.stop()
    run("ip", "netns", "del", name)
    return pypwru_records


def main() -> None:
    result_file = Path(sys.argv[1]) / "result.json"
    has, names = set(sys.argv[2].split(",")), sys.argv[3:]
    folder = Path("/run/corpus")
    folder.mkdir()
    os.environ["PYPWRU_CACHE"] = str(result_file.with_name("cache"))
    os.sched_setaffinity(0, {1})  # the packets have a CPU of their own (hosts.py)
    subprocess.run(
        ["modprobe", "--all", "--quiet", *_MODULES.split()], check=False, stderr=subprocess.DEVNULL
    )
    result: dict[str, object] = {}
    hosts.mark_namespace()
    if "large" in names:
        run_steps([("large", partial(large, folder))], result, result_file)
    files = [rulefiles.FOLDER / name for name in names if name != "large"]
    hosts.outside()
    made = [Host(file, n) for n, file in enumerate(files) if has >= set(rulefiles.features(file))]
    hosts.wires_up([host.number for host in made])
    loaded = []
    for host in made:
        try:
            host.load()
            loaded.append(host)
        except RuntimeError as error:
            result[host.name] = {"error": repr(error)}
    for host in loaded:
        hosts.send(host.name, host.number)  # the kernel loads and learns now what it needs once
    with tracer(folder, "pypwru", "pypwru", *WORDS) as own:
        own.wait_ready()
        output = Output(own, _MARKS)
        steps: list[Step] = [
            (host.name, partial(compare_host, host, output, folder)) for host in loaded
        ]
        run_steps(steps, result, result_file)
        result["pypwru"] = {**own.stop(), "out": ""}
    result_file.write_text(json.dumps(result))
    for host in made:
        if host.owner is not None:
            host.owner.kill()
            host.owner.wait()


if __name__ == "__main__":
    main()
