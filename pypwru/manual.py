"""The man page and the completions, made from the flag table: ``python -m pypwru.manual WHAT``.

WHAT is ``man``, ``bash`` or ``zsh``; the text goes to standard output. ``make man completions``
keeps it in ``man/`` and ``completions/``, and a test fails when that is stale. The argparse parser
made here exists for argparse-manpage and shtab alone: ``options.parse`` reads command lines.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pypwru import __version__
from pypwru.kinds import PATH
from pypwru.options import FLAGS, Flag, Group

_UNWRAPPED = 10_000  # roff fills lines; argparse would break --output-meta at its hyphen

SUMMARY = "trace packets through the functions of the Linux kernel"
DESCRIPTION = """\
Attach to every kernel function that takes a packet (struct sk_buff), and print a line whenever one
of them sees a packet that matches the filter: which packet, on which CPU, in which process, network
namespace and interface, with its addresses, and why it was dropped where it was. Command line and
output are those of pwru. Needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN.
"""

# Bodies in man(7).
SECTIONS = (
    (
        "filter",
        r"""Words that are no option make one expression of
.BR pcap\-filter (7).
Without any, every packet matches. Options may stand before, between and behind the words;
.B \-\-
ends the options.
.PP
An expression about the link layer
.RB ( "ether host" ", " arp ", " vlan )
is decided as soon as the packet has an Ethernet header, and before that does not match.
.B len
is the length that the kernel holds at that moment (skb\->len): without the link header where it is
taken off or not yet put on.
A tag that the kernel keeps beside the packet (skb\->vlan_tci) counts for
.BR vlan .
.B protochain
follows 64 headers at most.""",
    ),
    (
        "output",
        r""".TP
SKB
address of the packet's struct sk_buff
.TP
CPU
where it was seen
.TP
PROCESS
the current program and its pid; in softirq, a bystander
.TP
NETNS
inode of the packet's network namespace
.TP
MARK/x
its mark, hexadecimal
.TP
IFACE
its device and ifindex
.TP
PROTO
its EtherType
.TP
MTU
that of its route, or of its device
.TP
LEN
its length
.TP
TUPLE
its addresses, ports and protocol
.TP
FUNC
the function, and the drop reason in parentheses
.PP
.B \-\-timestamp
adds TIMESTAMP: nanoseconds of the kernel's clock
.RB ( current ),
or since the packet's previous line
.RB ( relative ).
With
.B absolute
the column TIME before it is the local time of the event.""",
    ),
    (
        "exit status",
        r"""0 after
.BR \-\-output\-limit\-lines ,
an interrupt, or when the reader of the output is gone; 1 for an error; 2 for a wrong command
line.""",
    ),
    (
        "see also",
        r""".BR pcap\-filter (7),
.BR tcpdump (8),
.BR bpftool (8)""",
    ),
)


def argument_parser() -> argparse.ArgumentParser:
    """The flags as argparse knows them, in their groups."""
    parser = argparse.ArgumentParser(
        "pypwru",
        usage="pypwru [options] [pcap-filter]",
        description=DESCRIPTION,
        add_help=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=_UNWRAPPED),
    )
    parser.add_argument("pcap-filter", nargs="*", help="words of an expression of pcap-filter(7)")
    for group in Group:
        chapter = parser.add_argument_group(group.value)
        for flag in FLAGS:
            if flag.group is group and not flag.hidden:
                _add(chapter, flag)
    return parser


def _add(chapter: argparse._ArgumentGroup, flag: Flag) -> None:
    names = ([f"-{flag.short}"] if flag.short else []) + [f"--{flag.name}"]
    note = "" if flag.default in {"", "0", "false"} else f" (default {flag.default})"
    if flag.default == "true":
        note = f" (default; --{flag.name}=false for not)"
    described = (flag.help + note).replace("%", "%%")
    if not flag.kind.word:
        chapter.add_argument(*names, action="store_true", help=described)
        return
    action = chapter.add_argument(
        *names, metavar=flag.value_word, choices=flag.kind.choices or None, help=described
    )
    if flag.kind is PATH:
        import shtab

        action.complete = shtab.FILE  # type: ignore[attr-defined]


def man_page() -> str:
    """pypwru(1), the same bytes every day."""
    from argparse_manpage.manpage import Manpage  # type: ignore[import-untyped]

    page = Manpage(argument_parser())
    page.date = ""  # it would make the page differ by when it was made
    page.source = f"pypwru {__version__}"
    page.manual = "User Commands"
    page.description = SUMMARY
    for heading, body in SECTIONS:
        page.add_section(heading, "=", body)
    return str(page)


def completion(shell: str) -> str:
    """The completion script for ``bash`` or ``zsh``."""
    import shtab

    script: str = shtab.complete(argument_parser(), shell)
    return script


def main(argv: Sequence[str]) -> int:
    """Print what ``argv`` names; 2 when it names nothing that there is."""
    if len(argv) != 1 or argv[0] not in {"man", "bash", "zsh"}:
        print("usage: python -m pypwru.manual man|bash|zsh", file=sys.stderr)
        return 2
    sys.stdout.write(man_page() if argv[0] == "man" else completion(argv[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
