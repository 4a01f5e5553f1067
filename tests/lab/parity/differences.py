"""The deliberate differences from pwru that the parity suite may find, and their findings.

The table of docs/differences-from-pwru.md has each by the same name; a finding that no row covers
fails the suite.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pypwru.btf.declare import declare_function
from pypwru.btf.query import BTF
from pypwru.errors import BTFError
from tests.lab.parity.compare import Finding
from tests.lab.parity.invocations import INVOCATIONS

_JSON = {name for name, row in INVOCATIONS.items() if "output-json" in row.flags}


class Difference(NamedTuple):
    """A deliberate difference.

    Args:
        row: the first cell of its row in docs/differences-from-pwru.md.
        covers: whether a finding is this difference.
    """

    row: str
    covers: Callable[[Finding], bool]


def _statuses(*rows: tuple[str, int, int]) -> Callable[[Finding], bool]:
    known = {name: (theirs, own) for name, theirs, own in rows}
    return lambda found: (
        found.what == "status" and known.get(found.invocation) == (found.theirs, found.own)
    )


def _own_key(found: Finding) -> bool:
    """True of a key that pwru's JSON lacks, or omits when it is 0; also inside a tuple."""
    if isinstance(found.own, dict) and isinstance(found.theirs, dict):
        return found.theirs.items() <= found.own.items()
    return found.invocation in _JSON and found.theirs is None


def _tuple(theirs: str, own: str) -> Callable[[Finding], bool]:
    """Match patterns of both sides' TUPLE."""
    return lambda found: (
        found.what == "tuple"
        and bool(re.fullmatch(theirs, str(found.theirs)))
        and bool(re.fullmatch(own, str(found.own)))
    )


def _stack_again(found: Finding) -> bool:
    """pwru deletes a stack once it is printed, also for other events with it, or prints another."""
    if found.what in {"more", "stack"}:
        return found.own.lstrip().startswith(found.function) and not (
            str(found.theirs).lstrip().startswith(found.function)
        )
    # The inner tuple stands behind the stack, so on the line where there is no stack.
    return found.what == "tail" and found.invocation == "everything" and found.own in found.theirs


def _never(found: Finding) -> bool:
    """Covered by the function's prototype (Declared), not by the finding."""
    return False


def _only_own(*invocations: str) -> Callable[[Finding], bool]:
    """Match lines, or a form of output, that pwru lacks in these invocations."""
    return lambda found: found.what in {"extra", "events"} and found.invocation in invocations


DIFFERENCES: Mapping[str, Difference] = {
    "const packet": Difference("functions", _never),
    "several packets": Difference("(skb, x, skb)", _never),
    "several functions of one name": Difference("several functions of one name", _never),
    "status 2 for a wrong value": Difference(
        "`--backend` with another word, `--filter-kprobe-batch 0`",
        _statuses(("bad_backend", 1, 2), ("bad_batch", 1, 2)),
    ),
    "status 2 for what can't be meant": Difference(
        "more than four members to print, `--filter-ifname` with `inode:`, an inode that is none",
        _statuses(("five_metadata", 1, 2), ("inode_and_interface", 1, 2), ("bad_inode", 1, 2)),
    ),
    "timestamp word": Difference(
        "`--timestamp` with another word", _statuses(("bad_timestamp", 0, 2))
    ),
    "task that has exited": Difference(
        "PROCESS of a task that has exited",
        lambda found: found.what == "process" and str(found.theirs).startswith("<empty>:"),
    ),
    "reason of any function": Difference(
        "drop reason of other functions than `kfree_skb_reason`, `sk_skb_reason_drop`",
        lambda found: (
            found.what == "func"
            and found.theirs == found.function
            and str(found.own).startswith(f"{found.function}(SKB_")
        ),
    ),
    "frame of XDP": Difference(
        "SKB of an XDP program",
        lambda found: found.what == "skb" and found.function.startswith("bpf_prog_"),
    ),
    "segments": Difference("`--filter-track-skb`, GSO", _only_own("tracked_segments")),
    "veth and XDP": Difference(
        "`--filter-track-skb`, veth with XDP", _only_own("tracked_veth", "tracked_xdp")
    ),
    "stacks": Difference(
        "`--filter-track-skb-by-stackid`, `--filter-non-skb-funcs`, `--filter-track-bpf-helpers`",
        _only_own("tracked_stack", "tracked_non_skb", "helpers"),
    ),
    "later fragments": Difference(
        "later fragments, ports",
        _tuple(r"([\d.]+):30840->([\d.]+):30840\(udp\)", r".*:0->.*:0\(udp\)"),
    ),
    "extension headers": Difference(
        "IPv6 with extension headers",
        _tuple(r"\[.*\]:0->\[.*\]:0\(\)", r"\[.*\]:\d+->\[.*\]:\d+\(udp\)"),
    ),
    "not IP": Difference(
        "TUPLE of what is not IP", _tuple(r".+:\d+->.+:\d+\(\w*\)", r":0->:0\(\)")
    ),
    "no data": Difference(
        "no filter, packets without data",
        lambda found: found.what == "extra" and bool(re.search(r" 0 +:0->:0\(\)", found.own)),
    ),
    "stack again": Difference("`--output-stack`", _stack_again),
    "JSON keys": Difference(
        "JSON keys: `cpu`, `netns`, `mark`, `proto`, `mtu`, `len`, ports, `tuple.proto` of 0",
        _own_key,
    ),
}


class Declared:
    """Reasons why pypwru has lines of a function that pwru has none of.

    Args:
        btf: of the kernel.
        repeated: name -> how many functions have it, where that is more than one.
    """

    def __init__(self, btf: BTF, repeated: Mapping[str, int]) -> None:
        self._btf = btf
        self._repeated = repeated

    def reason(self, function: str) -> str | None:
        """Return the difference's name; None when there is none."""
        try:
            arguments = declare_function(self._btf, function).partition("(")[2]
        except BTFError:
            return None
        packets = re.findall(r"(const )?struct sk_buff \*(?!\*)", arguments)
        if packets and all(packets):
            return "const packet"
        if len(packets) > 1:
            return "several packets"
        return "several functions of one name" if function in self._repeated else None


def explanation(found: Finding, declared: Declared) -> str | None:
    """Return the name of the difference that ``found`` is; None when it is none."""
    if found.what == "extra" and (reason := declared.reason(found.function)):
        return reason
    for name, difference in DIFFERENCES.items():
        if difference.covers(found):
            return name
    return None
