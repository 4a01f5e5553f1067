"""What bash and zsh complete, made from the flag table by shtab: ``script``.

shtab knows options, choices and files. What a value can be at the moment, on this kernel, is asked
by shell functions: pypwru/data/completion.sh has those that list values, completion.bash and
completion.zsh those that fit them to what is typed. VALUES says which flag takes which.
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
"""What prints values that ``_pypwru_list`` has found, in a variable."""


class Values(NamedTuple):
    """What may stand behind a flag.

    Args:
        words: always.
        live: at the moment: what ``_pypwru_LIVE`` of completion.sh prints.
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
# pcap-filter(7): what an expression begins and goes on with; without what can't be asked of an skb.
FILTER = Values((
    "and", "arp", "broadcast", "dst", "ether", "geneve", "greater", "host", "icmp", "icmp6", "igmp",
    "ip", "ip6", "less", "mpls", "multicast", "net", "not", "or", "port", "portrange", "proto",
    "sctp", "src", "tcp", "udp", "vlan",
))
# fmt: on
POSITIONAL = "pcap-filter"
SWITCHED = ("true", "false")


def script(shell: str) -> str:
    """The completion script for ``shell``, one of SHELLS."""
    import shtab

    made: str = shtab.complete(_parser(shell), shell, preamble=_preamble(shell))
    if shell == "bash":  # the last word on pypwru: our function, which calls shtab's
        made += "\ncomplete -o bashdefault -F _pypwru pypwru\n"
    return made


def _parser(shell: str) -> argparse.ArgumentParser:
    """The flags, spelled so that shtab makes of them what ``shell`` has to know."""
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
    """One flag; for zsh as _arguments spells it: ``--x=`` takes a value behind = or as the next
    word, ``--x=-`` only behind =, and what may come again is appended."""
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
        metavar=flag.value_word or ":value",  # a second colon: it may be left out
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
    """The shell functions, and one for each flag of VALUES that puts them together."""
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
    """The shell function that completes the value of flag ``name``."""
    sources = [f"printf '%s\\n' {' '.join(values.words)}"] if values.words else []
    sources += [f"_pypwru_{values.live}"] if values.live else []
    before = "_pypwru_list; " if values.live in LISTED else ""
    return (
        f"{_function(name)['bash']}() {{\n"
        f'    {before}_pypwru_offer \'{separator}\' "$({"; ".join(sources)})" "$@"\n'
        "}\n"
    )
