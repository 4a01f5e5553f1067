"""Which functions are traced, and how they are hooked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.discovery.tables import categories

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pypwru.chapters.block import Block

CHAPTERS: Mapping[str, tuple[Block, ...]] = {
    "functions": (
        "A function is traced when it takes a packet among its first five arguments, as the "
        "kernel's types (BTF) have it, when the kernel lets it be hooked, and when --priority, "
        "--category, --filter-func, --kmods and --all-kmods all choose it. --list-functions shows "
        "which these are and traces nothing: by priority, category and name, each a line of words "
        "that awk(1) counts:",
        {
            "NAME": "the function; tp:NAME is a tracepoint",
            "MODULE": "that it is of; - for the kernel itself",
            "ARG": "which argument the packet is, 1 the first; ? where nothing tells",
            "CATEGORY, PRIORITY": "as --category and --priority take them",
            "ATTACH": (
                "yes, no, or ? where the kernel can't be asked: without root, or of another kernel"
            ),
            "SIGNATURE": "in C; behind two spaces and # why it can't be attached",
        },
        "With --output-json that is one object: metadata (total, timestamp, kernel, backend), "
        "statistics (by_priority, by_category) and functions (name, param_position, category, "
        "priority, signature, module, attachable, why).",
        "--function-list writes what can be attached to a file, a name on each line. --functions "
        "traces exactly what such a file names, or the object of --list-functions; the module of "
        "br_forward[bridge] is looked into without --kmods. What a kernel doesn't have is named in "
        "the log with why, and when nothing is left that is an error.",
        "Lists need no rights. Without BTF they show the names of pypwru's own tables that the "
        "kernel has, and say so. --kernel-btf shows the functions of another machine's kernel.",
    ),
    "priorities": (
        "--priority chooses by how much a function tells of a packet's fate:",
        {
            "0": (
                "10 to 20 functions through which every packet's fate passes: receive and transmit "
                "entry, delivery, forwarding, output, hooks of netfilter, TCP and UDP, and what "
                "frees packets"
            ),
            "1": "50 to 80: and what firewalls do, nftables, conntrack, NAT, entries of protocols",
            "2": "150 to 260: and routing, bridges, qdiscs, tunnels, ipsec, sockets",
            "3": "all; the default",
        },
        "A level contains those before it. --category takes one or more of "
        f"{', '.join(categories())}. Tables in pypwru/data have both, with the reason of each row.",
    ),
    "backends": (
        "By default the first of these is taken that the kernel allows and that suits what is "
        "asked; the log says which, and with --debug why not the ones before:",
        {
            "fentry-multi": "one program on all functions, by a call instead of a trap; Linux 7.2",
            "kprobe-multi": "one program on all functions; Linux 5.18 with CONFIG_FPROBE",
            "fentry": (
                "a program for each function, the cheapest to run and slow to detach before Linux "
                "7.2: taken by itself for 8 functions at most"
            ),
            "kprobe": "from Linux 5.10 on, unless CONFIG_KPROBES is off or the kernel locked down",
            "tracepoint": (
                "what carries a packet of the kernel's tracepoints, some 20 to 40 places, where "
                "functions can't be hooked: on a locked-down kernel, say"
            ),
        },
        "What fentry can't be had on hangs on kprobes beside it. Lines are the same whatever the "
        "backend; those of tracepoints have tp: in front of the name.",
    ),
}
