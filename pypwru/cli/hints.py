"""Hints for usage errors: the equivalent of flags of tcpdump, tshark and old versions of pwru."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.cli.flags import FLAGS
from pypwru.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Letter of a tcpdump or tshark flag -> its equivalent; {} is the flag's value.
_SHORT_EQUIVALENTS: Mapping[str, str] = {
    "c": "--output-limit-lines {}",
    "i": "--filter-ifname {}",
    "j": "--output-json",
    "o": "--output-file {}",
    "s": "--pcap-snaplen {}",
    "t": "--timestamp absolute",
    "w": "--output-pcap {}",
    "B": "--buffer-size {}",
    "C": "--pcap-max-size {}",
    "D": "ip link, which lists interfaces",
    "V": "--version",
    "W": "--pcap-max-files {}",
}
# Letter of a tcpdump or tshark flag -> why pypwru needs no equivalent.
_UNNEEDED_FLAGS: Mapping[str, str] = {
    "e": "lines have no link-layer header",
    "l": "lines are never buffered",
    "n": "addresses and ports are numbers anyway",
    "p": "nothing is ever put into promiscuous mode",
    "q": "lines are short anyway; --output-meta=false makes them shorter",
    "v": "--debug logs more, and --output-* print more columns",
}
# Flags of pwru before 1.0, and other likely guesses -> their equivalent.
_LONG_EQUIVALENTS: Mapping[str, str] = {
    "filter-dst-ip": "the filter 'dst host {}'",
    "filter-dst-port": "the filter 'dst port {}'",
    "filter-port": "the filter 'port {}'",
    "filter-proto": "the filter '{}'",
    "filter-src-ip": "the filter 'src host {}'",
    "filter-src-port": "the filter 'src port {}'",
    "interface": "--filter-ifname {}",
    "netns": "--filter-netns {}",
    "output-absolute-timestamp": "--timestamp absolute",
    "output-relative-timestamp": "--timestamp relative",
    "output-type": "--output-{}",
    "per-cpu-buffer": "--buffer-size {}",
    "json": "--output-json",
    "limit": "--output-limit-lines {}",
    "count": "--output-limit-lines {}",
    "write": "--output-pcap {}",
    "module": "--kmods {}",
    "modules": "--kmods {}",
}


def hint_for_short_flag(letter: str, value: str) -> str:
    """Return a hint for the unknown flag ``-letter``, or ''.

    Args:
        letter: of the flag.
        value: the word after it, which may be its value; empty for none.
    """
    typed = f"-{letter} {value}".rstrip()
    if letter in _UNNEEDED_FLAGS:
        return f"-{letter}: leave it out, {_UNNEEDED_FLAGS[letter]}"
    return _format_hint(typed, _SHORT_EQUIVALENTS.get(letter, ""), value)


def hint_for_flag(name: str, value: str) -> str:
    """Return a hint for the unknown flag ``--name``, or ''.

    Args:
        name: of the flag.
        value: as of ``hint_for_short_flag``.
    """
    if name in _LONG_EQUIVALENTS:
        return _format_hint(f"--{name} {value}".rstrip(), _LONG_EQUIVALENTS[name], value)
    suggestion = nearest(name, [flag.name for flag in FLAGS if not flag.hidden])
    return f"did you mean --{suggestion}?" if suggestion else ""


def hint_for_choice(flag: str, text: str, choices: Iterable[str]) -> str:
    """Return a hint for an invalid value of a flag with a fixed set of values, or ''.

    Args:
        flag: with its dashes.
        text: the value as typed.
        choices: the valid values.
    """
    suggestion = nearest(text, choices)
    return f"did you mean {flag}={suggestion}?" if suggestion else ""


def _format_hint(typed: str, equivalent: str, value: str) -> str:
    return f"{typed}: take {equivalent.format(value or '...')}" if equivalent else ""
