"""Generate the completion scripts for bash and zsh from the flag table, with shtab.

shtab completes options, choices and files. Values that depend on the running kernel and the system
are listed by shell functions: pypwru/data/completion.sh lists values, completion.bash and
completion.zsh match them to the word under the cursor. VALUES maps flags to these lists.
"""

from __future__ import annotations

import argparse
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import CAPTURE_WORDS
from pypwru.discovery.tables import EVERYTHING, categories
from pypwru.kernel.nft_words import REJECT, VERDICTS
from pypwru.kinds import PATH
from pypwru.options import FLAGS, Flag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHELLS = ("bash", "zsh")
LISTED = ("names", "functions")
"""Sources (``_pypwru_SOURCE``) that print values which ``_pypwru_list`` stored in a variable."""


class Values(NamedTuple):
    """The candidates for the value of a flag.

    Args:
        words: fixed candidates.
        live: further candidates that the function ``_pypwru_LIVE`` of completion.sh prints when
            the user completes; empty for none.
    """

    words: Sequence[str] = ()
    live: str = ""


# fmt: off
VALUES: Mapping[str, Values] = {
    "filter-func": Values(live="names"),
    "kmods": Values(live="modules"),
    "priority": Values([str(level) for level in range(EVERYTHING + 1)]),
    "category": Values(categories()),
    "filter-netns": Values(live="namespaces"),
    "filter-ifname": Values(live="interfaces"),
    "filter-nft-verdict": Values([*VERDICTS.values(), REJECT]),
    "filter-nft-table": Values(live="tables"),
    "filter-nft-chain": Values(live="chains"),
    "filter-non-skb-funcs": Values(live="symbols"),
    "pcap-when": Values(CAPTURE_WORDS, "functions"),
}
# Keywords of pcap-filter(7), without those that don't apply to an skb.
FILTER = Values((
    "and", "arp", "broadcast", "dst", "ether", "geneve", "greater", "host", "icmp", "icmp6", "igmp",
    "ip", "ip6", "less", "mpls", "multicast", "net", "not", "or", "port", "portrange", "proto",
    "sctp", "src", "tcp", "udp", "vlan",
))
# fmt: on
POSITIONAL = "pcap-filter"
SWITCHED = ("true", "false")


def script(shell: str) -> str:
    """Return the completion script for ``shell``, one of SHELLS."""
    import shtab

    made: str = shtab.complete(_parser(shell), shell, preamble=_preamble(shell))
    if shell == "bash":  # register our function, which calls shtab's, in place of shtab's
        made += "\ncomplete -o bashdefault -F _pypwru pypwru\n"
    return made


def _parser(shell: str) -> argparse.ArgumentParser:
    """Return an argparse parser of the visible flags, as shtab needs it for ``shell``."""
    parser = argparse.ArgumentParser("pypwru", add_help=False, formatter_class=_Unwrapped)
    for flag in FLAGS:
        if not flag.hidden:
            _add(parser, flag, shell)
    if shell == "bash":
        words = parser.add_argument(POSITIONAL, nargs="*")
        words.complete = _function(POSITIONAL)  # type: ignore[attr-defined]
    return parser


class _Unwrapped(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=10_000)  # argparse would break --output-meta at its hyphen


def _add(parser: argparse.ArgumentParser, flag: Flag, shell: str) -> None:
    """Add one flag to ``parser``.

    For zsh the name is in the syntax of _arguments: ``--x=`` takes its value after ``=`` or as the
    next word, ``--x=-`` only after ``=``; the action ``append`` allows a flag to be repeated.
    """
    zsh, takes_word, help_text = shell == "zsh", bool(flag.kind.word), flag.help.replace("%", "%%")
    name = f"--{flag.name}{'' if not zsh else '=' if takes_word else '=-'}"
    short = [f"-{flag.short}"] if flag.short else []
    if not takes_word and not zsh:
        switch = parser.add_argument(*short, name, action="store_true", help=help_text)
        switch.choices = _switched(flag)
        return
    choices = flag.kind.choices if takes_word else _switched(flag)
    action = parser.add_argument(
        *short,
        name,
        action="append" if _is_list(flag) and zsh else "store",
        metavar=flag.value_word or ":value",  # the second colon makes the value optional
        choices=choices or None,
        help=help_text,
    )
    if flag.name in VALUES:
        action.complete = _function(flag.name)  # type: ignore[attr-defined]
    elif flag.kind is PATH:
        action.complete = {"bash": "_pypwru_files", "zsh": "_files"}  # type: ignore[attr-defined]


def _switched(flag: Flag) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*SWITCHED, *flag.kind.choices)))


def _is_list(flag: Flag) -> bool:
    return flag.kind.word == "strings"


def _function(name: str) -> dict[str, str]:
    return dict.fromkeys(SHELLS, f"_pypwru_value_{name.replace('-', '_')}")


def _preamble(shell: str) -> str:
    """Return the shell functions of pypwru/data, and one function for each flag of VALUES."""
    data = resources.files("pypwru.data")
    parts = [
        data.joinpath(f"completion.{name}").read_text(encoding="utf-8") for name in ("sh", shell)
    ]
    lists = {flag.name for flag in FLAGS if _is_list(flag)}
    parts += [
        _offer(name, values, "," if name in lists else "")
        for name, values in {**VALUES, POSITIONAL: FILTER}.items()
    ]
    asking = [f"--{name}" for name, values in VALUES.items() if values.live in LISTED]
    parts.append(f"_pypwru_of_functions=' {' '.join(asking)} '\n")
    if shell == "zsh":  # any number of words: shtab's positional takes one
        parts.append(
            "_shtab_pypwru_options+=('*:word of pcap-filter(7):"
            f"{_function(POSITIONAL)[shell]}')\n_shtab_pypwru_defaults_added=1\n"
        )
    return "\n".join(parts)


def _offer(name: str, values: Values, separator: str) -> str:
    """Return the shell function that completes the value of the flag ``name``.

    Args:
        name: of the flag, or POSITIONAL.
        values: its candidates.
        separator: between the elements of a list; empty if the flag takes a single value.
    """
    sources = [f"printf '%s\\n' {' '.join(values.words)}"] if values.words else []
    sources += [f"_pypwru_{values.live}"] if values.live else []
    before = "_pypwru_list; " if values.live in LISTED else ""
    return (
        f"{_function(name)['bash']}() {{\n"
        f'    {before}_pypwru_offer \'{separator}\' "$({"; ".join(sources)})" "$@"\n'
        "}\n"
    )
