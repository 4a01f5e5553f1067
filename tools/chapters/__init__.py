"""Text of the man page beyond the flags: chapters as plain text, which ``manpage.py`` typesets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.chapters import functions, operation, output, selection, statistics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.chapters.block import Block

SUMMARY = "trace packets through the functions of the Linux kernel"
DESCRIPTION = """\
Attach to every kernel function that takes a packet (struct sk_buff), and print a line whenever one
of them is called with a packet that matches the filter: which packet, on which CPU, in which
process, network namespace and interface, with its addresses, and why it was dropped where it was.
Command line and output are those of pwru. Needs root, or CAP_BPF, CAP_PERFMON and CAP_SYSLOG with
access to tracefs.
"""

_BY_HEADING: Mapping[str, tuple[Block, ...]] = {
    **functions.CHAPTERS,
    **selection.CHAPTERS,
    **output.CHAPTERS,
    **statistics.CHAPTERS,
    **operation.CHAPTERS,
}
# In the order of the page.
CHAPTERS: Mapping[str, tuple[Block, ...]] = {
    name: _BY_HEADING[name]
    for name in (
        "command line",
        "functions",
        "priorities",
        "backends",
        "filter",
        "expressions",
        "sampling and limits",
        "drops",
        "tracking",
        "following packets",
        "output",
        "json",
        "nftables",
        "journeys",
        "output file",
        "packets in a file",
        "statistics",
        "losses",
        "python",
        "signals",
        "exit status",
        "environment",
        "files",
        "capabilities",
        "examples",
        "see also",
    )
}
