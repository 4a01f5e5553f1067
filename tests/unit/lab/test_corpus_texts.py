"""The oracle of rule texts: it parses nft's listings, and finds a wrong text."""

from __future__ import annotations

from typing import Any

from tests.lab.truth import rulefiles
from tests.lab.truth.records import Record
from tests.lab.truth.texts import blocks, compared, listed, monitored, name_chains, saved, shown

_FILE = """table inet t {
	chain input {
		tcp dport 22 counter accept comment "two
		drop # handle 9
lines"
		udp dport 53 goto { accept; counter drop; }
	}
}
"""
# The output of nft 1.0.6, as a listing and with --debug.
_LISTED = """table inet t { # handle 1 progname nft
	chain input { # handle 1
		type filter hook input priority filter; policy accept;
		tcp dport 22 counter accept comment "two
		drop # handle 9
lines" # handle 2
		udp dport 53 goto {
			accept
			counter drop
		} comment "dns" # handle 6
	}
}
"""
_DEBUGGED = """inet t input 2
  [ immediate reg 0 accept ]

inet t input 6 2
  [ immediate reg 0 goto -> __chain7 ]

inet t __chain7 4
  [ immediate reg 0 accept ]

inet t __chain7 5 4
  [ immediate reg 0 drop ]
"""
_TEXTS = {
    ("inet", "t", 2): r'tcp dport 22 counter accept comment "two\n\t\tdrop # handle 9\nlines"',
    ("inet", "t", 6): 'udp dport 53 goto { accept; counter drop; } comment "dns"',
    ("inet", "t", 4): "accept",
    ("inet", "t", 5): "counter drop",
}


def event(handle: int, text: str | None) -> dict[str, Any]:
    return {"nft": {"family": "inet", "table": "t", "rule_handle": handle, "text": text}}


def test_listed_rules_have_their_text() -> None:
    assert listed(_LISTED, _FILE, blocks(_DEBUGGED)) == _TEXTS


def test_monitored_rules_have_their_text() -> None:
    lines = _LISTED.splitlines()
    first, second = "\n".join(lines[3:6])[2:], "\n".join(lines[6:10])[2:]
    begin = "trace id 5aa9d03f inet t input"
    output = (
        f"{begin} rule {first} (verdict accept)\n{begin} rule {second} (verdict goto __chain7)\n"
    )
    output += f"{begin} policy accept\n"
    assert dict(monitored(output, _FILE)) == {key: _TEXTS[key] for key in list(_TEXTS)[:2]}


def test_bound_chain_is_named_by_its_rule() -> None:
    record = Record("inet t input", "handle 6 goto __chain7", "", 1)
    inner = Record("inet t __chain7", "handle 5 drop", "", 1)
    end = Record("inet t __chain7", "return", "", 1)
    assert [each[:2] for each in name_chains([record, inner, end], blocks(_DEBUGGED))] == [
        ("inet t input", "handle 6 goto input#6"),
        ("inet t input#6", "handle 5 drop"),
        ("inet t input#6", "return"),
    ]


def test_long_sets_are_abbreviated() -> None:
    ports = ", ".join(str(port) for port in range(1000, 1100))
    assert shown(f'tcp dport {{ {ports} }} drop comment "a {{ b }}"') == (
        'tcp dport { 100 elements } drop comment "a { b }"'
    )
    assert shown("tcp dport { 1, 2 } drop") == "tcp dport { 1, 2 } drop"


def test_iptables_rules_match_by_order() -> None:
    rule: dict[str, Any] = {"family": "ip", "table": "filter", "chain": "INPUT"}
    objects: list[dict[str, Any]] = [
        {"chain": {}},
        {"rule": {**rule, "handle": 4, "expr": [{"accept": None}]}},
        {"rule": {**rule, "handle": 5, "expr": [{"xt": None}]}},
    ]
    lines = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\n-A INPUT -j LOG\nCOMMIT\n"
    assert saved(lines, objects) == {("ip", "filter", 5): "-A INPUT -j LOG"}


def test_wrong_text_is_a_mismatch() -> None:
    correct = event(4, "accept")
    found = compared([correct, event(5, "accept"), event(5, None), event(9, "x")], _TEXTS)
    assert (found.compared, found.rules, found.unknown, len(found.mismatches)) == (4, 3, 1, 2)
    assert not compared([correct, correct], _TEXTS).mismatches


def test_corpus_has_many_styles() -> None:
    files = rulefiles.files()
    assert len(files) >= 40
    assert all(file.read_text().startswith("# Style: ") for file in files)
