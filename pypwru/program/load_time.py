"""Load-time constants: values that are patched into bytecode, so that one compile serves all runs.

In C such a constant is the placeholder ``PLACEHOLDER << 32 | number``. clang compiles it to an
``ld_imm64`` whose upper 32 bits are PLACEHOLDER, and ``load.relocate`` replaces it by the value.
Map references work the same way (maps.py).
"""

from __future__ import annotations

PLACEHOLDER = 0x5EED0000
# SELF: identifies the target in a record if the program can't read its own address: the number of a
# raw tracepoint or BPF program, or the address of a function.
# *_ARG_INDEX: index of the argument, 0 the first, for bpf_get_func_arg().
# MEMMAP, DIRECT_MAP: base addresses (program/page_bases.py).
# FILTER_REACH: number of first bytes of a packet that filters may read (filter/reach.py).
# REASON_*: drop reasons (names/drop_reasons.py).
CONSTANTS = {
    "SELF": 0x100,
    "MATCH_NETNS": 0x101,
    "MATCH_IFNAME": 0x102,
    "MATCH_MARK": 0x103,
    "MATCH_MARK_MASK": 0x104,
    "SKB_ARG_INDEX": 0x105,
    "REASON_ARG_INDEX": 0x106,
    "MEMMAP": 0x107,
    "DIRECT_MAP": 0x108,
    "SAMPLE_RATE": 0x109,
    "SAMPLE_SEED": 0x10A,
    "SAMPLE_FLOW": 0x10B,
    "MAX_EVENTS": 0x10C,
    "MAX_HITS": 0x10D,
    "REASON_NETFILTER_DROP": 0x10E,
    "MATCH_IFNAME_END": 0x10F,
    "REASON_CONSUMED": 0x110,
    "FILTER_REACH": 0x111,
}


def placeholder(number: int) -> str:
    """Return the C literal of the placeholder with number ``number``."""
    return f"0x{PLACEHOLDER << 32 | number:x}ULL"


def defines() -> dict[str, str]:
    """Return macro name -> placeholder literal, for the C."""
    return {name: placeholder(number) for name, number in CONSTANTS.items()}
