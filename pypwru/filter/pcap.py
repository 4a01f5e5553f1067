"""libpcap's compiler: pcap-filter text to classic BPF.

libpcap's optimizer is not used: its bugs would be this filter's bugs (see shorten.py).

libpcap is loaded when the first expression is compiled: a run without one doesn't need it.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
import time
from enum import Enum

from pypwru.asm.cbpf import ClassicInstruction, ClassicProgram, validate
from pypwru.errors import FilterError
from pypwru.filter.libpcap import BpfProgram, load_libpcap

SNAPLEN = 262144
"""Bytes, as in tcpdump and pwru; here it is only the value of ``ret`` for a match."""
MAX_CPU_TIME = 5
"""Limit of libpcap's CPU time in s. 500 ports take it 3 s, 2,000 ports minutes."""
POLL_INTERVAL = 0.1  # s
MAX_EXCERPT = 300  # characters of an expression in a message
NETMASK_UNKNOWN = 0xFFFFFFFF  # PCAP_NETMASK_UNKNOWN


class Linktype(Enum):
    """The header that packets begin with; the value is libpcap's DLT_ number."""

    ETHERNET = 1  # DLT_EN10MB
    RAW_IP = 12  # DLT_RAW

    @property
    def label(self) -> str:
        """The name, for messages."""
        return "Ethernet" if self is Linktype.ETHERNET else "raw IP"


_LINK_LAYER_ACCESS = re.compile(
    r"^(?:(?!\b(?:geneve|vxlan)\b).)*?\b(?P<name>link|ether|ppp|slip|fddi|tr|wlan)\s*\[", re.DOTALL
)
"""libpcap's names of the link layer (scanner.l, LINK), followed by an offset. After ``geneve`` or
``vxlan`` they refer to the encapsulated frame, which is allowed."""

DIRECTION_ADVICE = "use --filter-func to choose functions that receive or send"


def compile_pcap(expression: str, linktype: Linktype) -> ClassicProgram:
    """Compile ``expression`` to classic BPF.

    Args:
        expression: pcap-filter(7) text; an empty one matches every packet.
        linktype: the header that the packets begin with.

    Raises:
        FilterError: libpcap rejects the expression (the message quotes it) or takes too long; it is
            not installed; the expression needs data that only a capturing socket has (``inbound``),
            or link layer bytes of a raw IP packet.
    """
    if "\0" in expression:
        raise FilterError(f"filter {expression!r} has a NUL character: remove it")
    if linktype is Linktype.RAW_IP and (found := _LINK_LAYER_ACCESS.search(expression)):
        # libpcap would read bytes of the IP packet instead.
        name = found.group("name")
        raise compile_error(
            expression, f"{name}[...] is in the link layer header, which raw IP lacks"
        )
    instructions = _compile_with_limit(load_libpcap(), expression, linktype)
    try:
        return validate(instructions, _excerpt(expression))
    except FilterError as error:
        if "packet type" in str(error):
            raise FilterError(
                f"can't compile filter '{_excerpt(expression)}': inbound and outbound are not "
                f"available for a traced skb: {DIRECTION_ADVICE}"
            ) from error
        raise


def _compile_with_limit(
    library: ctypes.CDLL, expression: str, linktype: Linktype
) -> list[ClassicInstruction]:
    """Compile ``expression`` in a thread of its own, with a limit of CPU time.

    pcap_compile() can't be interrupted. It may be slow, since it resolves host names and takes time
    quadratic in the length of the expression. Meanwhile this thread handles Ctrl-C.

    Args:
        library: libpcap.
        expression: pcap-filter(7) text.
        linktype: the header that the packets begin with.

    Raises:
        FilterError: libpcap rejects it, or MAX_CPU_TIME is exceeded (the thread goes on as a
            daemon).
    """
    result: list[list[ClassicInstruction] | FilterError] = []

    def run_compiler() -> None:
        try:
            result.append(_compile(library, expression, linktype))
        except FilterError as error:
            result.append(error)

    worker = threading.Thread(target=run_compiler, name="pypwru-libpcap", daemon=True)
    start_time = time.process_time()
    worker.start()
    while worker.is_alive():
        worker.join(POLL_INTERVAL)
        if worker.is_alive() and time.process_time() - start_time > MAX_CPU_TIME:
            raise compile_error(
                expression, f"libpcap did not finish in {MAX_CPU_TIME} s of CPU time"
            )
    if isinstance(result[0], FilterError):
        raise result[0]
    return result[0]


def _compile(library: ctypes.CDLL, expression: str, linktype: Linktype) -> list[ClassicInstruction]:
    handle = library.pcap_open_dead(linktype.value, SNAPLEN)
    if not handle:
        raise FilterError(f"libpcap refused link type {linktype.label}: out of memory?")
    try:
        program = BpfProgram()
        status = library.pcap_compile(
            handle, ctypes.byref(program), os.fsencode(expression), 0, NETMASK_UNKNOWN
        )
        if status != 0:
            message = os.fsdecode(library.pcap_geterr(handle))
            raise compile_error(expression, message)
        try:
            return [
                ClassicInstruction(i.code, i.jt, i.jf, i.k)
                for i in program.bf_insns[: program.bf_len]
            ]
        finally:
            library.pcap_freecode(ctypes.byref(program))
    finally:
        library.pcap_close(handle)


def compile_error(expression: str, message: str) -> FilterError:
    """Return the error for an ``expression`` that can't be compiled.

    Args:
        expression: pcap-filter(7) text.
        message: the reason, as libpcap's pcap_geterr(); the advice to the user depends on it.
    """
    from pypwru.filter.advice import advise

    line = " ".join(message.split())
    advice = advise(expression, line)
    return FilterError(f"can't compile filter '{_excerpt(expression)}': {line}: {advice}")


def _excerpt(expression: str) -> str:
    """Return ``expression`` on one line and shortened; undecodable bytes of argv are escaped."""
    line = " ".join(expression.encode(errors="backslashreplace").decode().split())
    return line if len(line) <= MAX_EXCERPT else f"{line[:MAX_EXCERPT]}..."
