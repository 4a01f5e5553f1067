"""Which rules meet --filter-nft-*."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.cli.flags import parse
from pypwru.config import Config
from pypwru.nft.match import NftMatcher
from pypwru.nft.record import EMPTY_NFT
from pypwru.nft.rule_key import RuleTexts
from pypwru.nft.ruleset import RuleText
from pypwru.wire.layout import record_layout
from pypwru.wire.record import Record
from tests.support import records
from tests.support.records import (
    ACCEPT,
    ARP,
    DROP,
    INET,
    IP,
    JUMP,
    LEGACY,
    NFT_CHAIN_ENTRY,
    NFT_CHAIN_EXIT,
    NFT_RULE,
    POLICY,
    event,
    flow,
    packet,
    tail,
)  # fmt: skip


class Texts:
    """Those of ``records.RULES``; at 99 no more."""

    revision = 0

    def rule(
        self, netns: int, table: int, chain: int, rule: int, at: int | None = None
    ) -> RuleText | None:
        found = records.RULES.get(rule) if at != 99 else None
        return RuleText(*found) if found else None

    def is_current(self, netns: int, at: int) -> bool:
        return True

    def wait_current(self, times: Mapping[int, int], timeout: float) -> bool:
        return True

    def is_listing_pending(self, netns: int, at: int) -> bool:
        return False

    def relist(self, timeout: float) -> bool:
        return True

    def wait_listed(self, timeout: float) -> bool:
        return True


def asked(*flags: str) -> tuple[Config, NftMatcher]:
    config = parse(list(flags))
    assert isinstance(config, Config)
    texts = RuleTexts(Texts()) if config.needs_rule_text else None
    return config, NftMatcher(config, record_layout(config), records.chain_names, texts)


def record(config: Config, part: bytes, kind: int = NFT_RULE, at: int = 5) -> Record:
    parts = {"nft": part} | ({"nft_time": records.nft_time(at)} if config.needs_rule_text else {})
    return event(packet(1, 0, 7, kind), 3, flow(), tail=tail(config, **parts))


def meets(part: bytes, *flags: str, kind: int = NFT_RULE, at: int = 5) -> bool:
    config, rule = asked(*flags)
    return rule.matches(record(config, part, kind, at))


RULE = records.nft(12, DROP, 2, [1])
JUMPS = records.nft(13, JUMP, target=2)
DECIDES = records.nft(0, ACCEPT, type=POLICY)
REJECTS = records.nft(16, DROP, 2, [1])
LEGACY_DROP = records.nft(0, DROP, 0, table=8, family=IP, type=LEGACY)


@pytest.mark.parametrize(
    ("part", "flags", "met"),
    [
        (RULE, ["--filter-nft-verdict=drop"], True),
        (RULE, ["--filter-nft-verdict=accept,drop"], True),
        (RULE, ["--filter-nft-verdict=accept"], False),
        (JUMPS, ["--filter-nft-verdict=jump"], True),
        (DECIDES, ["--filter-nft-verdict=accept"], True),
        (RULE, ["--filter-nft-table=filter"], True),
        (RULE, ["--filter-nft-table=inet filter"], True),
        (RULE, ["--filter-nft-table=ip filter"], False),
        (RULE, ["--filter-nft-table=ip filter,nat,inet filter"], True),
        (RULE, ["--filter-nft-chain=web"], True),
        (RULE, ["--filter-nft-chain=input"], False),
        (JUMPS, ["--filter-nft-chain=web"], False),
        (RULE, ["--filter-nft-chain=inet filter web"], True),
        (RULE, ["--filter-nft-chain=inet filter input -> web"], True),
        (RULE, ["--filter-nft-chain=inet filter input"], False),
        (RULE, ["--filter-nft-chain=ip filter web"], False),
        (RULE, ["--filter-nft-chain=x,inet filter web"], True),
        (JUMPS, ["--filter-nft-chain=inet filter input"], True),
        (LEGACY_DROP, ["--filter-nft-chain=ip nat INPUT"], True),
        (REJECTS, ["--filter-nft-verdict=reject"], True),
        (REJECTS, ["--filter-nft-verdict=drop"], True),
        (REJECTS, ["--filter-nft-verdict=reject,accept"], True),
        (REJECTS, ["--filter-nft-verdict=reject", "--filter-nft-text=tcp reset$"], True),
        (REJECTS, ["--filter-nft-verdict=reject", "--filter-nft-text=icmp"], False),
        (REJECTS, ["--filter-nft-verdict=accept"], False),
        (records.nft(17, DROP, 2, [1]), ["--filter-nft-verdict=reject"], True),
        (records.nft(18, DROP, 2, [1]), ["--filter-nft-verdict=reject"], False),
        (records.nft(99, DROP, 2, [1]), ["--filter-nft-verdict=reject"], False),
        (RULE, ["--filter-nft-verdict=reject"], False),
        (RULE, ["--filter-nft-verdict=reject,drop"], True),
        (DECIDES, ["--filter-nft-verdict=reject,accept"], True),
        (LEGACY_DROP, ["--filter-nft-verdict=reject"], False),
        (RULE, ["--filter-nft-handle=12"], True),
        (RULE, ["--filter-nft-handle=13"], False),
        (DECIDES, ["--filter-nft-handle=12"], False),
        (RULE, ["--filter-nft-text=dport 8443"], True),
        (RULE, ["--filter-nft-text=^dport"], False),
        (RULE, ["--filter-nft-text=no web"], True),
        (RULE, ["--filter-nft-text=^no web$"], True),
        (RULE, ['--filter-nft-text=comment "no web"$'], True),
        (JUMPS, ["--filter-nft-text=^counter$"], True),
        (DECIDES, ["--filter-nft-text=.*"], False),
        (RULE, ["--filter-nft-verdict=drop", "--filter-nft-chain=web"], True),
        (RULE, ["--filter-nft-verdict=drop", "--filter-nft-chain=input"], False),
        (RULE, ["--filter-nft-verdict=drop", "--filter-nft-text=8443"], True),
        (RULE, ["--filter-nft-verdict=jump", "--filter-nft-text=8443"], False),
        (LEGACY_DROP, ["--filter-nft-verdict=drop"], True),
        (LEGACY_DROP, ["--filter-nft-table=ip nat", "--filter-nft-chain=INPUT"], True),
        (LEGACY_DROP, ["--filter-nft-handle=12"], False),
        (LEGACY_DROP, ["--filter-nft-text=."], False),
        (records.ANOTHERS, ["--filter-nft-verdict=drop"], False),
        (records.ANOTHERS, ["--filter-nft-text=.*"], False),
        (EMPTY_NFT, ["--filter-nft-verdict=drop"], False),
    ],
)
def test_conditions(part: bytes, flags: list[str], met: bool) -> None:
    for kind in (NFT_RULE, 0):
        assert meets(part, *flags, kind=kind) is met


def test_entry_and_exit_of_a_chain_are_no_rule() -> None:
    for kind in (NFT_CHAIN_ENTRY, NFT_CHAIN_EXIT):
        part = records.nft(0, DROP, type=0)
        assert not meets(part, "--filter-nft-verdict=drop,accept", kind=kind)
        assert not meets(part, "--filter-nft-chain=input", kind=kind)


def test_an_unknown_text_is_never_found() -> None:
    assert meets(RULE, "--filter-nft-text=.*")
    assert not meets(RULE, "--filter-nft-text=.*", at=99)
    assert not meets(records.nft(77), "--filter-nft-text=.*")


def test_the_time_decides_which_text_it_is() -> None:
    config, rule = asked("--filter-nft-text=dport")
    found = [rule.matches(record(config, RULE, at=at)) for at in (5, 99, 5)]
    assert found == [True, False, True]


@pytest.mark.parametrize(
    ("part", "kind", "judges"),
    [
        (EMPTY_NFT, 0, None),
        (records.ANOTHERS, 0, False),
        (RULE, 0, True),
        (RULE, NFT_RULE, True),
        (JUMPS, NFT_RULE, False),
        (records.nft(12, 2), NFT_RULE, False),
        (DECIDES, NFT_RULE, True),
        (records.nft(0, -1, type=2), NFT_RULE, False),
        (records.nft(0, DROP, type=0), NFT_CHAIN_ENTRY, False),
        (records.nft(0, ACCEPT, type=0), NFT_CHAIN_EXIT, False),
        (LEGACY_DROP, NFT_RULE, True),
    ],
)
def test_what_a_packet_carries_from_then_on(part: bytes, kind: int, judges: bool | None) -> None:
    config, rule = asked("--filter-nft-handle=1")
    assert rule.sets_verdict(record(config, part, kind)) is judges


@given(
    st.sampled_from([DROP, ACCEPT, JUMP, -1, -5, 3, 3 | 7 << 16]),
    st.sampled_from([1, 2]),
    st.sampled_from([INET, IP, ARP]),
    st.integers(1, 3),
    st.lists(st.sampled_from(["drop", "accept", "jump", "queue"]), max_size=2),
    st.lists(st.sampled_from(["filter", "inet filter", "ip nat", "nat"]), max_size=2),
    st.lists(st.sampled_from(["input", "web"]), max_size=2),
    st.integers(0, 2),
)
def test_all_that_is_asked_must_hold(
    verdict: int, chain: int, family: int, rule: int,
    verdicts: list[str], tables: list[str], chains: list[str], handle: int,
) -> None:  # fmt: skip
    """Against the same, said in another way."""
    part = records.nft(rule, verdict, chain, family=family)
    word = {0: "drop", 1: "accept", 3: "queue", -3: "jump"}.get(
        verdict if verdict < 0 else verdict % 256, ""
    )
    name = {INET: "inet", IP: "ip", ARP: "arp"}[family]
    wanted = [
        not verdicts or word in verdicts,
        not tables or bool({"filter", f"{name} filter"} & set(tables)),
        not chains or {1: "input", 2: "web"}[chain] in chains,
        handle in (0, rule),
    ]
    flags = [
        f"--filter-nft-verdict={','.join(verdicts)}",
        f"--filter-nft-table={','.join(tables)}",
        f"--filter-nft-chain={','.join(chains)}",
        f"--filter-nft-handle={handle}",
    ]
    assert meets(part, *flags) is all(wanted)
