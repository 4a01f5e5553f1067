"""A ruleset of each namespace, loaded into the kernel, once as it is and once with ``nftrace``
set.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab.net.topology import inside, run
from tests.lab.truth.records import forget_connections
from tests.lab.truth.wires import DEVICES, TRACED

WORDS = ("--output-json", "--filter-func", "ip_rcv")  # pypwru's
TRACING = "tracing"
FILLERS, STEPS = 1000, 15
_FOLDER = Path(__file__).with_name("rules")
_IPTABLES = ("iptables", "ip6tables")
_HOOKS = {
    "inet": ("prerouting", "input", "forward", "output", "postrouting"),
    "bridge": ("prerouting", "input", "forward", "output", "postrouting"),
    "arp": ("input", "output"),
}
# Expressions after a counter that don't stop a counted packet silently; of iptables, all.
_SURE = {
    *("accept", "drop", "jump", "goto", "return", "log", "mangle", "queue", "reject", "xt"),
    *("dnat", "snat", "masquerade", "redirect", "notrack", "counter"),
}


class Ruleset(NamedTuple):
    """Rules for nft and iptables-nft-restore.

    Args:
        nft: namespace to text.
        iptables: ``iptables`` or ``ip6tables`` to text, for far.
    """

    nft: Mapping[str, str]
    iptables: Mapping[str, str]


def fixed() -> Ruleset:
    """Return the one of the folder ``rules``."""
    filler = "".join(f"\t\tudp dport {20000 + number} drop\n" for number in range(FILLERS))
    texts = {name: (_FOLDER / f"{name}.nft").read_text() for name in TRACED}
    steps = [f"\tchain step{number} {{ jump step{number + 1}; }}\n" for number in range(1, STEPS)]
    steps.append(f"\tchain step{STEPS} {{ counter return; }}\n")
    texts["router"] = texts["router"].replace("FILLER\n", filler).replace("STEPS\n", "".join(steps))
    return Ruleset(texts, {name: (_FOLDER / f"far.{name}").read_text() for name in _IPTABLES})


def load(ruleset: Ruleset, traced: bool) -> None:
    """Load it into empty tables of rules and of connections.

    Args:
        traced: with ``tracing``.
    """
    for name in TRACED:
        with inside(name):
            first = tracing(DEVICES[name]) if traced else ""
            text = f"flush ruleset\n{ruleset.nft.get(name, '')}\n{first}"
            run("nft", "-f", "-", words=text)
            forget_connections()
    with inside("far"):
        for program, text in ruleset.iptables.items():
            run(f"{program}-nft-restore", "--noflush", words=text)


def tracing(devices: tuple[str, ...]) -> str:
    """Return tables that set ``nftrace`` for each packet, before any other function of a hook."""

    def chain(hook: str, device: str = "") -> str:
        where = f"{hook} device {device}" if device else hook
        kind = f"type filter hook {where} priority -500"
        return f"chain {hook}{device} {{ {kind}; meta nftrace set 1 accept; }}"

    tables = {family: [chain(hook) for hook in hooks] for family, hooks in _HOOKS.items()}
    tables["netdev"] = [chain("ingress", device) for device in devices]
    return "\n".join(
        f"table {family} {TRACING} {{\n" + "\n".join(chains) + "\n}"
        for family, chains in tables.items()
    )


def listed(namespace: str) -> list[dict[str, Any]]:
    """Return the objects of ``nft -j list ruleset``."""
    with inside(namespace):
        shown = subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True, check=True)
    found: list[dict[str, Any]] = json.loads(shown.stdout)["nftables"]
    return found


def counts(objects: list[dict[str, Any]]) -> Iterator[tuple[str, int, int]]:
    """Yield chain, handle and packets of the rules that count exactly the packets of their
    events.
    """
    for rule in (entry["rule"] for entry in objects if "rule" in entry):
        names = [next(iter(expression)) for expression in rule["expr"]]
        if "counter" not in names or rule["table"] == TRACING:
            continue
        at = names.index("counter")
        counter = rule["expr"][at]["counter"]
        if set(names[at:]) <= _SURE and isinstance(counter, dict):  # a named one is a word
            chain = f"{rule['family']} {rule['table']} {rule['chain']}"
            yield chain, rule["handle"], counter["packets"]


def base_chains(objects: list[dict[str, Any]]) -> Iterator[tuple[str, tuple[str, int]]]:
    """Yield each base chain, its hook and priority."""
    for chain in (entry["chain"] for entry in objects if "chain" in entry):
        if "hook" in chain:
            where = f"{chain['family']} {chain['table']} {chain['name']}"
            yield where, (chain["hook"], chain["prio"])
