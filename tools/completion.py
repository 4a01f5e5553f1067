"""Generate the completion scripts for bash and zsh from the flag table, with shtab.

shtab completes options, choices and files. Values that depend on the running kernel and the system
are listed by shell functions: tools/data/completion.sh lists values, completion.bash and
completion.zsh match them to the word under the cursor. CANDIDATES maps flags to these lists.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pypwru.cli.flag_types import PATH
from pypwru.cli.flags import FLAGS, Flag
from pypwru.config import CAPTURE_KEYWORDS
from pypwru.discovery.function_tables import MAX_PRIORITY, categories
from pypwru.kernel.netfilter import REJECT, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHELLS = ("bash", "zsh")
FUNCTION_SOURCES = ("names", "functions")
"""Sources (``_pypwru_SOURCE``) that print values which ``_pypwru_list`` stored in a variable."""


class Candidates(NamedTuple):
    """The candidates for the value of a flag.

    Args:
        fixed: fixed candidates.
        source: further candidates that the function ``_pypwru_SOURCE`` of completion.sh prints when
            the user completes; empty for none.
    """

    fixed: Sequence[str] = ()
    source: str = ""


# fmt: off
CANDIDATES: Mapping[str, Candidates] = {
    "filter-func": Candidates(source="names"),
    "kmods": Candidates(source="modules"),
    "priority": Candidates([str(level) for level in range(MAX_PRIORITY + 1)]),
    "category": Candidates(categories()),
    "filter-netns": Candidates(source="namespaces"),
    "filter-ifname": Candidates(source="interfaces"),
    "filter-nft-verdict": Candidates([*VERDICTS.values(), REJECT]),
    "filter-nft-table": Candidates(source="tables"),
    "filter-nft-chain": Candidates(source="chains"),
    "filter-non-skb-funcs": Candidates(source="symbols"),
    "pcap-when": Candidates(CAPTURE_KEYWORDS, "functions"),
}
# Keywords of pcap-filter(7), without those that don't apply to an skb.
FILTER_KEYWORDS = Candidates((
    "and", "arp", "broadcast", "dst", "ether", "geneve", "greater", "host", "icmp", "icmp6", "igmp",
    "ip", "ip6", "less", "mpls", "multicast", "net", "not", "or", "port", "portrange", "proto",
    "sctp", "src", "tcp", "udp", "vlan",
))
# fmt: on
POSITIONAL = "pcap-filter"
BOOL_VALUES = ("true", "false")


def completion_script(shell: str) -> str:
    """Return the completion script for ``shell``, one of SHELLS."""
    import shtab

    text: str = shtab.complete(_parser(shell), shell, preamble=_preamble(shell))
    if shell == "bash":  # register our function, which calls shtab's, in place of shtab's
        text += "\ncomplete -o bashdefault -F _pypwru pypwru\n"
    return text


def _parser(shell: str) -> argparse.ArgumentParser:
    """Return an argparse parser of the visible flags, as shtab needs it for ``shell``."""
    parser = argparse.ArgumentParser("pypwru", add_help=False, formatter_class=_Unwrapped)
    for flag in FLAGS:
        if not flag.hidden:
            _add(parser, flag, shell)
    if shell == "bash":
        positional = parser.add_argument(POSITIONAL, nargs="*")
        positional.complete = _function_names(POSITIONAL)  # type: ignore[attr-defined]
    return parser


class _Unwrapped(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=10_000)  # argparse would break --output-meta at its hyphen


def _add(parser: argparse.ArgumentParser, flag: Flag, shell: str) -> None:
    """Add one flag to ``parser``.

    For zsh the name is in the syntax of _arguments: ``--x=`` takes its value after ``=`` or as the
    next word, ``--x=-`` only after ``=``; the action ``append`` allows a flag to be repeated.
    """
    zsh, takes_value, help_text = (
        shell == "zsh",
        bool(flag.value_type.type_name),
        flag.help.replace("%", "%%"),
    )
    name = f"--{flag.name}{'' if not zsh else '=' if takes_value else '=-'}"
    short = [f"-{flag.short}"] if flag.short else []
    if not takes_value and not zsh:
        bool_action = parser.add_argument(*short, name, action="store_true", help=help_text)
        bool_action.choices = _bool_choices(flag)
        return
    choices = flag.value_type.choices if takes_value else _bool_choices(flag)
    action = parser.add_argument(
        *short,
        name,
        action="append" if _is_list(flag) and zsh else "store",
        metavar=flag.placeholder or ":value",  # the second colon makes the value optional
        choices=choices or None,
        help=help_text,
    )
    if flag.name in CANDIDATES:
        action.complete = _function_names(flag.name)  # type: ignore[attr-defined]
    elif flag.value_type is PATH:
        action.complete = {"bash": "_pypwru_files", "zsh": "_files"}  # type: ignore[attr-defined]


def _bool_choices(flag: Flag) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*BOOL_VALUES, *flag.value_type.choices)))


def _is_list(flag: Flag) -> bool:
    return flag.value_type.type_name == "strings"


def _function_names(name: str) -> dict[str, str]:
    return dict.fromkeys(SHELLS, f"_pypwru_value_{name.replace('-', '_')}")


def _preamble(shell: str) -> str:
    """Return the shell functions of tools/data, and one function for each flag of CANDIDATES."""
    data = Path(__file__).with_name("data")
    parts = [
        data.joinpath(f"completion.{name}").read_text(encoding="utf-8") for name in ("sh", shell)
    ]
    list_flags = {flag.name for flag in FLAGS if _is_list(flag)}
    parts += [
        _value_function(name, candidates, "," if name in list_flags else "")
        for name, candidates in {**CANDIDATES, POSITIONAL: FILTER_KEYWORDS}.items()
    ]
    function_flags = [
        f"--{name}"
        for name, candidates in CANDIDATES.items()
        if candidates.source in FUNCTION_SOURCES
    ]
    parts.append(f"_pypwru_of_functions=' {' '.join(function_flags)} '\n")
    if shell == "zsh":  # any number of words: shtab's positional takes one
        parts.append(
            "_shtab_pypwru_options+=('*:word of pcap-filter(7):"
            f"{_function_names(POSITIONAL)[shell]}')\n_shtab_pypwru_defaults_added=1\n"
        )
    return "\n".join(parts)


def _value_function(name: str, candidates: Candidates, separator: str) -> str:
    """Return the shell function that completes the value of the flag ``name``.

    Args:
        name: of the flag, or POSITIONAL.
        candidates: its candidates.
        separator: between the elements of a list; empty if the flag takes a single value.
    """
    sources = [f"printf '%s\\n' {' '.join(candidates.fixed)}"] if candidates.fixed else []
    sources += [f"_pypwru_{candidates.source}"] if candidates.source else []
    preparation = "_pypwru_list; " if candidates.source in FUNCTION_SOURCES else ""
    return (
        f"{_function_names(name)['bash']}() {{\n"
        f'    {preparation}_pypwru_offer \'{separator}\' "$({"; ".join(sources)})" "$@"\n'
        "}\n"
    )
