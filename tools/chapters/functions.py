"""Chapters about the traced functions: selection, priorities, backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.discovery.function_tables import categories

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.chapters.block import Block

CHAPTERS: Mapping[str, tuple[Block, ...]] = {
    "functions": (
        "A function is traced when it takes a packet among its first five arguments, by the "
        "kernel's types (BTF), when the kernel lets it be traced, and when --priority, "
        "--category, --filter-func, --kmods and --all-kmods all include it. --list-functions "
        "prints these functions and traces nothing: by priority, category and name, each a line "
        "of words that awk(1) can count:",
        {
            "NAME": "the function; tp:NAME is a tracepoint",
            "MODULE": "its module; - for the kernel itself",
            "ARG": "which argument the packet is, 1 the first; ? without BTF",
            "CATEGORY, PRIORITY": "as --category and --priority take them",
            "ATTACH": (
                "yes, no, or ? where the kernel can't be queried: without root, or of another "
                "kernel"
            ),
            "SIGNATURE": "in C; behind two spaces and # why it can't be attached",
        },
        "With --output-json that is one object: metadata (total, timestamp, kernel, backend), "
        "statistics (by_priority, by_category) and functions (name, param_position, category, "
        "priority, signature, module, attachable, why).",
        "--function-list writes the names of the functions that can be attached to a file, one on "
        "each line. --functions traces exactly what such a file names, or the object of "
        "--list-functions; the module of br_forward[bridge] is searched without --kmods. A name "
        "that the kernel lacks is in the log, with the reason; when no name is left, that is an "
        "error.",
        "Lists need no rights. Without BTF they have the names of pypwru's own tables that the "
        "kernel has, and a note of that. --kernel-btf lists the functions of another machine's "
        "kernel.",
    ),
    "priorities": (
        "--priority selects functions by how much their events show of the outcome of packets:",
        {
            "0": (
                "10 to 20 functions that every packet passes: receive and transmit entry, "
                "delivery, forwarding, output, hooks of netfilter, TCP and UDP, and the functions "
                "that free packets"
            ),
            "1": "50 to 80: also firewalls (nftables, conntrack, NAT) and entries of protocols",
            "2": "150 to 260: also routing, bridges, qdiscs, tunnels, ipsec, sockets",
            "3": "all; the default",
        },
        "A level contains those before it. --category takes one or more of "
        f"{', '.join(categories())}. Tables in pypwru/data have both, with the reason of each row.",
    ),
    "backends": (
        "The default is the first of these that the kernel allows and that suits the run; the log "
        "names it, and with --debug the reasons against those before it:",
        {
            "fentry-multi": "one program on all functions, by a call instead of a trap; Linux 7.2",
            "kprobe-multi": "one program on all functions; Linux 5.18 with CONFIG_FPROBE",
            "fentry": (
                "a program for each function, the cheapest to run and slow to detach before Linux "
                "7.2: chosen by default for 8 functions at most"
            ),
            "kprobe": "from Linux 5.10 on, unless CONFIG_KPROBES is off or the kernel locked down",
            "tracepoint": (
                "raw tracepoints that carry a packet, 20 to 40 places, where functions can't be "
                "traced: on a locked-down kernel, for example"
            ),
        },
        "Functions to which fentry can't attach get kprobes beside it. Lines are the same whatever "
        "the backend; names of tracepoints begin with tp:.",
    ),
}
