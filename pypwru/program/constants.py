"""Numbers that bytecode is given when it is loaded, so that one compile serves every run.

In C such a number is a constant that no kernel uses, ``MARK << 32 | place``: clang makes it an
``ld_imm64`` whose upper half is MARK, and loading gives that its value. Maps are named the same
way (maps.py).
"""

from __future__ import annotations

MARK = 0x5EED0000
# SELF: what a record says of where it comes from, when the program can't ask: the number of a raw
# tracepoint or BPF program, the address of a function. *_ARGUMENT: of a program that asks for its
# arguments by number. MEMMAP, DIRECT_MAP: where pages are (kernel/pages.py).
# REACH: how far into a packet filters read (filter/reach.py).
# NETFILTER_DROP, CONSUMED: drop reasons (resolve/reasons.py).
CONSTANTS = {
    "SELF": 0x100,
    "WANTED_NETNS": 0x101,
    "WANTED_IFNAME": 0x102,
    "WANTED_MARK": 0x103,
    "WANTED_MASK": 0x104,
    "PACKET_ARGUMENT": 0x105,
    "REASON_ARGUMENT": 0x106,
    "MEMMAP": 0x107,
    "DIRECT_MAP": 0x108,
    "SAMPLE_RATE": 0x109,
    "SAMPLE_SEED": 0x10A,
    "SAMPLE_FLOW": 0x10B,
    "MOST_EVENTS": 0x10C,
    "MOST_HITS": 0x10D,
    "NETFILTER_DROP": 0x10E,
    "WANTED_IFNAME_END": 0x10F,
    "CONSUMED": 0x110,
    "REACH": 0x111,
}


def marked(place: int) -> str:
    """The C constant for ``place``."""
    return f"0x{MARK << 32 | place:x}ULL"


def defines() -> dict[str, str]:
    """What the C calls them."""
    return {name: marked(place) for name, place in CONSTANTS.items()}
