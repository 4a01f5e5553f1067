"""Expressions to classic BPF: errors and their messages, and texts of programs."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from pypwru.asm.cbpf import ClassicInstruction, validate
from pypwru.asm.disassembly import disassemble
from pypwru.asm.ebpf import LD_IMM64
from pypwru.errors import FilterError
from pypwru.filter import pcap
from pypwru.filter.compiler import MATCH_ALL, compile_filter
from pypwru.filter.criteria import compile_inner_filters
from pypwru.filter.pcap import Linktype, compile_pcap
from tests.oracles.filters import expressions

RET = ClassicInstruction(0x06, 0, 0, 1)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "foo bar",
            "can't compile filter 'foo bar': can't parse filter expression: syntax error: "
            "see man 7 pcap-filter",
        ),
        (
            "host nosuch.invalid",
            "can't compile filter 'host nosuch.invalid': unknown host 'nosuch.invalid': "
            "give the address, or see that the name resolves",
        ),
        (
            "gateway nosuch",
            "can't compile filter 'gateway nosuch': 'gateway' not supported in this "
            "configuration: write 'ether host MAC and not host ADDRESS' instead",
        ),
        (
            "ifname lo",
            "can't compile filter 'ifname lo': ifname supported only on PF linktype: "
            "choose by address (host, net) or port instead",
        ),
        (
            "tcp and udp",
            "can't compile filter 'tcp and udp': expression rejects all packets: "
            "no packet can satisfy it; see man 7 pcap-filter",
        ),
        (
            "ip broadcast",
            "can't compile filter 'ip broadcast': netmask not known, so 'ip broadcast' not "
            "supported: an skb has no netmask: write 'dst host ADDRESS' or 'ip multicast'",
        ),
        (
            "port 99999",
            "can't compile filter 'port 99999': illegal port number 99999 > 65535: "
            "see man 7 pcap-filter",
        ),
        (
            "ip[0] / 0 = 1",
            "can't compile filter 'ip[0] / 0 = 1': division by zero: see man 7 pcap-filter",
        ),
        (
            "inbound",
            "can't compile filter 'inbound': inbound and outbound are not available for a traced "
            "skb: use --filter-func to choose functions that receive or send",
        ),
        ("tcp\0udp", "filter 'tcp\\x00udp' has a NUL character: remove it"),
        (
            "tcp\n\udcff",
            "can't compile filter 'tcp \\udcff': can't parse filter expression: syntax error: "
            "see man 7 pcap-filter",
        ),
    ],
)
def test_error_is_one_line(expression: str, message: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(expression)
    assert str(caught.value) == message
    assert "\n" not in str(caught.value)


def compile_in_new_python(preparation: str) -> str:
    """Return the output of compiling ``tcp``: the error, or the count of instructions."""
    code = (
        f"{preparation}\n"
        "from pypwru.errors import FilterError\n"
        "from pypwru.filter.compiler import compile_filter\n"
        "try: print(len(compile_filter('tcp').l2.program.instructions), 'instructions')\n"
        "except FilterError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


LONG = " or ".join(f"port {port}" for port in range(2000))
INTERRUPTED = """
import os, signal, sys, threading
from pypwru.filter import pcap
pcap.MAX_CPU_TIME = 600

def interrupt():
    while not any(thread.name == "pypwru-libpcap" for thread in threading.enumerate()):
        pass
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try: pcap.compile_pcap(sys.argv[1], pcap.Linktype.ETHERNET)
except KeyboardInterrupt: print("interrupted")
"""


def test_ctrl_c_interrupts_libpcap() -> None:
    """libpcap would need minutes."""
    command = [sys.executable, "-c", INTERRUPTED, LONG]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


def test_slow_compilation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcap, "MAX_CPU_TIME", 0.05)
    with pytest.raises(FilterError) as caught:
        compile_filter(" or ".join(f"port {port}" for port in range(300)))  # a second
    message = str(caught.value)
    assert message.startswith("can't compile filter 'port 0 or port 1 or ")
    assert message.endswith(
        "...': libpcap did not finish in 0.05 s of CPU time: "
        "write portrange and net in place of many ports and hosts"
    )
    assert len(message) < 500


def test_missing_libpcap_is_named() -> None:
    hidden = "from pypwru.filter import libpcap; libpcap.SONAMES = ('libpcap.so.hidden',)"
    printed = compile_in_new_python(hidden)
    assert "libpcap.so.hidden" in printed
    assert "install libpcap0.8" in printed
    assert printed.count("\n") == 1


def test_filter_needs_no_scapy() -> None:
    assert compile_in_new_python("import sys; sys.modules['scapy'] = None").endswith(
        "instructions\n"
    )


def test_scapy_is_not_imported() -> None:
    code = (
        "import sys\n"
        "from pypwru.filter.compiler import MATCH_ALL, compile_filter\n"
        "assert not any(name.startswith('scapy') for name in sys.modules)\n"
        "compile_filter('tcp')\n"
        "print('scapy.all' in sys.modules, 'scapy.packet' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_blank_filter_matches_all(blank: str) -> None:
    assert compile_filter(blank) is MATCH_ALL
    assert MATCH_ALL.l2.constant_result is MATCH_ALL.l3.constant_result is True
    assert not MATCH_ALL.uses_len
    assert not MATCH_ALL.uses_tag


@pytest.mark.parametrize(
    "expression",
    [
        "arp", "ether host 02:00:00:00:00:01", "vlan", "llc", "ether[0] & 1 != 0 and icmp",
        "icmp or link [12:2] = 0x0806", "len > ether[14]", "wlan[0] = 1",
        "(ether[0] = 1 or icmp) and geneve",
    ],
)  # fmt: skip
def test_link_layer_filters_reject_raw_ip(expression: str) -> None:
    found = compile_filter(expression)
    assert found.l3.constant_result is False
    assert found.l2.constant_result is None


def test_inner_l3_filter_has_no_link_layer() -> None:
    with pytest.raises(FilterError) as caught:
        compile_inner_filters("", "tcp or ether[0] = 1")
    assert str(caught.value) == (
        "--filter-tunnel-pcap-l3: can't compile filter 'tcp or ether[0] = 1': ether[...] is in the "
        "link layer header, which raw IP lacks: write ip[...] or ip6[...]"
    )


def test_link_layer_inside_geneve() -> None:
    assert compile_filter("geneve and ether[0] & 1 = 0").l3.constant_result is None


@pytest.mark.parametrize(
    ("expression", "uses_len", "uses_tag"),
    [("tcp", False, False), ("greater 100", True, False), ("vlan and less 100", True, True)],
)
def test_inputs_of_a_filter(expression: str, uses_len: bool, uses_tag: bool) -> None:
    found = compile_filter(expression)
    assert (found.uses_len, found.uses_tag) == (uses_len, uses_tag)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ([], "does not end with ret"),
        ([ClassicInstruction(0x00, 0, 0, 1)], "jump leaves the program"),
        ([ClassicInstruction(0x1F, 0, 0, 1), RET], "opcode 0x1f is unknown"),
        ([ClassicInstruction(0x0E, 0, 0, 1), RET], "opcode 0xe is unknown"),
        ([ClassicInstruction(0x15, 0, 9, 1), RET], "jump leaves the program"),
        ([ClassicInstruction(0x05, 0, 0, 0xFFFFFFFE), RET], "jump leaves the program"),
        ([ClassicInstruction(0x60, 0, 0, 16), RET], "scratch word 16 does not exist"),
        ([ClassicInstruction(0x02, 0, 0, 99), RET], "scratch word 99 does not exist"),
        ([ClassicInstruction(0x34, 0, 0, 0), RET], "division by zero"),
        ([ClassicInstruction(0x94, 0, 0, 0), RET], "division by zero"),
        ([ClassicInstruction(0x28, 0, 0, 0xFFFFF000 + 8), RET], "interface index"),
        ([ClassicInstruction(0x20, 0, 0, 0xFFFFF000 + 60), RET], "VLAN protocol"),
    ],
)
def test_invalid_programs_are_refused(code: list[ClassicInstruction], message: str) -> None:
    with pytest.raises(FilterError, match=message):
        validate(code)


def test_program_text_is_that_of_tcpdump() -> None:
    """The oracle is ``bpf_image`` of libpcap."""
    from scapy.libs import winpcapy
    from scapy.libs.structures import bpf_insn

    image = winpcapy._lib.bpf_image
    image.restype = ctypes.c_char_p
    for expression in expressions():
        program = compile_pcap(expression, Linktype.ETHERNET)
        expected = [
            image(ctypes.byref(bpf_insn(i.code, i.jt, i.jf, i.k)), position).decode()
            for position, i in enumerate(program.instructions)
        ]
        assert [" ".join(line.split()) for line in str(program).splitlines()] == [
            " ".join(line.split()) for line in expected
        ]


def test_every_instruction_is_disassembled() -> None:
    for expression in expressions():
        body = compile_filter(expression).l2.body(0)
        text = disassemble(body)
        second_slots = sum(insn.code == LD_IMM64 for insn in body)
        assert len(text.splitlines()) == len(body) - second_slots
        assert "?" not in text
        assert "unknown" not in text
