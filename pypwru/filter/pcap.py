"""libpcap's compiler: pcap-filter text to classic BPF.

Not its optimizer: whatever that gets wrong, a filter would get wrong (see shorten.py).

libpcap is loaded when an expression is compiled, not before: a run without one needs none.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
import time
from enum import Enum

from pypwru.errors import FilterError
from pypwru.filter.cbpf import ClassicInstruction, ClassicProgram, validate
from pypwru.filter.libpcap import Program, load

SNAPLEN = 262144
"""What tcpdump and pwru use; it is only the value of ``ret`` for a match."""
PATIENCE = 5
"""Seconds of processor time that libpcap gets: it takes three for 500 ports, minutes for 2,000."""
LOOK_EVERY = 0.1  # seconds
MOST_SHOWN = 300
NETMASK_UNKNOWN = 0xFFFFFFFF  # PCAP_NETMASK_UNKNOWN


class Linktype(Enum):
    """Where the packet that is filtered begins: the value is libpcap's DLT_ number."""

    ETHERNET = 1  # DLT_EN10MB
    RAW_IP = 12  # DLT_RAW

    @property
    def label(self) -> str:
        return "Ethernet" if self is Linktype.ETHERNET else "raw IP"


_LINK_BYTES = re.compile(
    r"^(?:(?!\b(?:geneve|vxlan)\b).)*?\b(?P<name>link|ether|ppp|slip|fddi|tr|wlan)\s*\[", re.DOTALL
)
"""libpcap's names of the link layer (scanner.l, LINK) with an offset behind them; behind ``geneve``
they are about the frame inside."""

DIRECTION_CURE = "use --filter-func to choose functions that receive or send"


def compile_pcap(expression: str, linktype: Linktype) -> ClassicProgram:
    """Compile ``expression`` for packets that begin as ``linktype`` says.

    Args:
        expression: pcap-filter(7) text; empty matches every packet.
        linktype: Ethernet header first, or IP header first.

    Raises:
        FilterError: libpcap's own words and the expression; or libpcap is missing; or the
            expression asks what only a capturing socket knows (``inbound``), or for bytes in front
            of an IP packet.
    """
    if "\0" in expression:
        raise FilterError(f"filter {expression!r} has a NUL character: remove it")
    if linktype is Linktype.RAW_IP and (found := _LINK_BYTES.search(expression)):
        # libpcap takes them for bytes of the IP packet.
        name = found.group("name")
        raise refusal(expression, f"{name}[...] is in the link layer header, which raw IP has not")
    instructions = _within_patience(load(), expression, linktype)
    try:
        return validate(instructions, _shown(expression))
    except FilterError as error:
        if "packet type" in str(error):
            raise FilterError(
                f"can't compile filter '{_shown(expression)}': inbound and outbound are not known "
                f"where an skb is traced: {DIRECTION_CURE}"
            ) from error
        raise


def _within_patience(
    library: ctypes.CDLL, expression: str, linktype: Linktype
) -> list[ClassicInstruction]:
    """What libpcap makes of ``expression``, in a thread of its own.

    It can't be interrupted, and takes time for two reasons: it asks for names of hosts, and it is
    quadratic in the length of the expression. Meanwhile this thread hears Ctrl-C.
    """
    found: list[list[ClassicInstruction] | FilterError] = []

    def work() -> None:
        try:
            found.append(_compile(library, expression, linktype))
        except FilterError as error:
            found.append(error)

    worker = threading.Thread(target=work, name="pypwru-libpcap", daemon=True)
    begun = time.process_time()
    worker.start()
    while worker.is_alive():
        worker.join(LOOK_EVERY)
        if worker.is_alive() and time.process_time() - begun > PATIENCE:
            raise refusal(expression, f"libpcap has worked on it for {PATIENCE} s")
    if isinstance(found[0], FilterError):
        raise found[0]
    return found[0]


def _compile(library: ctypes.CDLL, expression: str, linktype: Linktype) -> list[ClassicInstruction]:
    handle = library.pcap_open_dead(linktype.value, SNAPLEN)
    if not handle:
        raise FilterError(f"libpcap refused link type {linktype.label}: out of memory?")
    try:
        program = Program()
        status = library.pcap_compile(
            handle, ctypes.byref(program), os.fsencode(expression), 0, NETMASK_UNKNOWN
        )
        if status != 0:
            words = os.fsdecode(library.pcap_geterr(handle))
            raise refusal(expression, words)
        try:
            return [
                ClassicInstruction(i.code, i.jt, i.jf, i.k)
                for i in program.bf_insns[: program.bf_len]
            ]
        finally:
            library.pcap_freecode(ctypes.byref(program))
    finally:
        library.pcap_close(handle)


def refusal(expression: str, words: str) -> FilterError:
    """That ``expression`` can't be compiled, in libpcap's ``words``, and the cure."""
    from pypwru.filter.advice import cure

    line = " ".join(words.split())
    advice = cure(expression, line)
    return FilterError(f"can't compile filter '{_shown(expression)}': {line}: {advice}")


def _shown(expression: str) -> str:
    """``expression`` on one line, bytes of the command line that were no text escaped."""
    line = " ".join(expression.encode(errors="backslashreplace").decode().split())
    return line if len(line) <= MOST_SHOWN else f"{line[:MOST_SHOWN]}..."
