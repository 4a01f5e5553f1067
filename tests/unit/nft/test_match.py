"""Which rules match --filter-nft-*."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.cli.flags import parse
from pypwru.config import Config
from pypwru.needs import Needs
from pypwru.nft.match import NftMatcher
from pypwru.nft.record import EMPTY_NFT
from pypwru.nft.rule_key import RuleTexts
from pypwru.nft.ruleset import RuleText
from pypwru.phases.plan import nft_criteria
from pypwru.wire.record import Record
from tests.support import records
from tests.support.layouts import layout_of
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


class FakeRules:
    """The texts of ``records.RULES``; at time 99 none is left."""

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


def make_matcher(*flags: str) -> tuple[Config, NftMatcher]:
    config = parse(list(flags))
    assert isinstance(config, Config)
    texts = RuleTexts(FakeRules()) if Needs.of(config).rule_texts else None
    return config, NftMatcher(nft_criteria(config), layout_of(config), records.chain_names, texts)


def record(config: Config, part: bytes, kind: int = NFT_RULE, at: int = 5) -> Record:
    parts = {"nft": part} | (
        {"nft_time": records.nft_time(at)} if Needs.of(config).rule_texts else {}
    )
    return event(packet(1, 0, 7, kind), 3, flow(), tail=tail(config, **parts))


def is_match(part: bytes, *flags: str, kind: int = NFT_RULE, at: int = 5) -> bool:
    config, matcher = make_matcher(*flags)
    return matcher.matches(record(config, part, kind, at))


RULE = records.nft(12, DROP, 2, [1])
JUMP_RULE = records.nft(13, JUMP, target=2)
POLICY_ACCEPT = records.nft(0, ACCEPT, type=POLICY)
REJECT_RULE = records.nft(16, DROP, 2, [1])
LEGACY_DROP = records.nft(0, DROP, 0, table=8, family=IP, type=LEGACY)


@pytest.mark.parametrize(
    ("part", "flags", "expected"),
    [
        (RULE, ["--filter-nft-verdict=drop"], True),
        (RULE, ["--filter-nft-verdict=accept,drop"], True),
        (RULE, ["--filter-nft-verdict=accept"], False),
        (JUMP_RULE, ["--filter-nft-verdict=jump"], True),
        (POLICY_ACCEPT, ["--filter-nft-verdict=accept"], True),
        (RULE, ["--filter-nft-table=filter"], True),
        (RULE, ["--filter-nft-table=inet filter"], True),
        (RULE, ["--filter-nft-table=ip filter"], False),
        (RULE, ["--filter-nft-table=ip filter,nat,inet filter"], True),
        (RULE, ["--filter-nft-chain=web"], True),
        (RULE, ["--filter-nft-chain=input"], False),
        (JUMP_RULE, ["--filter-nft-chain=web"], False),
        (RULE, ["--filter-nft-chain=inet filter web"], True),
        (RULE, ["--filter-nft-chain=inet filter input -> web"], True),
        (RULE, ["--filter-nft-chain=inet filter input"], False),
        (RULE, ["--filter-nft-chain=ip filter web"], False),
        (RULE, ["--filter-nft-chain=x,inet filter web"], True),
        (JUMP_RULE, ["--filter-nft-chain=inet filter input"], True),
        (LEGACY_DROP, ["--filter-nft-chain=ip nat INPUT"], True),
        (REJECT_RULE, ["--filter-nft-verdict=reject"], True),
        (REJECT_RULE, ["--filter-nft-verdict=drop"], True),
        (REJECT_RULE, ["--filter-nft-verdict=reject,accept"], True),
        (REJECT_RULE, ["--filter-nft-verdict=reject", "--filter-nft-text=tcp reset$"], True),
        (REJECT_RULE, ["--filter-nft-verdict=reject", "--filter-nft-text=icmp"], False),
        (REJECT_RULE, ["--filter-nft-verdict=accept"], False),
        (records.nft(17, DROP, 2, [1]), ["--filter-nft-verdict=reject"], True),
        (records.nft(18, DROP, 2, [1]), ["--filter-nft-verdict=reject"], False),
        (records.nft(99, DROP, 2, [1]), ["--filter-nft-verdict=reject"], False),
        (RULE, ["--filter-nft-verdict=reject"], False),
        (RULE, ["--filter-nft-verdict=reject,drop"], True),
        (POLICY_ACCEPT, ["--filter-nft-verdict=reject,accept"], True),
        (LEGACY_DROP, ["--filter-nft-verdict=reject"], False),
        (RULE, ["--filter-nft-handle=12"], True),
        (RULE, ["--filter-nft-handle=13"], False),
        (POLICY_ACCEPT, ["--filter-nft-handle=12"], False),
        (RULE, ["--filter-nft-text=dport 8443"], True),
        (RULE, ["--filter-nft-text=^dport"], False),
        (RULE, ["--filter-nft-text=no web"], True),
        (RULE, ["--filter-nft-text=^no web$"], True),
        (RULE, ['--filter-nft-text=comment "no web"$'], True),
        (JUMP_RULE, ["--filter-nft-text=^counter$"], True),
        (POLICY_ACCEPT, ["--filter-nft-text=.*"], False),
        (RULE, ["--filter-nft-verdict=drop", "--filter-nft-chain=web"], True),
        (RULE, ["--filter-nft-verdict=drop", "--filter-nft-chain=input"], False),
        (RULE, ["--filter-nft-verdict=drop", "--filter-nft-text=8443"], True),
        (RULE, ["--filter-nft-verdict=jump", "--filter-nft-text=8443"], False),
        (LEGACY_DROP, ["--filter-nft-verdict=drop"], True),
        (LEGACY_DROP, ["--filter-nft-table=ip nat", "--filter-nft-chain=INPUT"], True),
        (LEGACY_DROP, ["--filter-nft-handle=12"], False),
        (LEGACY_DROP, ["--filter-nft-text=."], False),
        (records.FOREIGN_DROP, ["--filter-nft-verdict=drop"], False),
        (records.FOREIGN_DROP, ["--filter-nft-text=.*"], False),
        (EMPTY_NFT, ["--filter-nft-verdict=drop"], False),
    ],
)
def test_criteria(part: bytes, flags: list[str], expected: bool) -> None:
    for kind in (NFT_RULE, 0):
        assert is_match(part, *flags, kind=kind) is expected


def test_chain_entry_and_exit_do_not_match() -> None:
    for kind in (NFT_CHAIN_ENTRY, NFT_CHAIN_EXIT):
        part = records.nft(0, DROP, type=0)
        assert not is_match(part, "--filter-nft-verdict=drop,accept", kind=kind)
        assert not is_match(part, "--filter-nft-chain=input", kind=kind)


def test_unknown_text_does_not_match() -> None:
    assert is_match(RULE, "--filter-nft-text=.*")
    assert not is_match(RULE, "--filter-nft-text=.*", at=99)
    assert not is_match(records.nft(77), "--filter-nft-text=.*")


def test_text_is_that_of_the_event_time() -> None:
    config, matcher = make_matcher("--filter-nft-text=dport")
    found = [matcher.matches(record(config, RULE, at=at)) for at in (5, 99, 5)]
    assert found == [True, False, True]


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
def test_all_criteria_must_match(
    verdict: int, chain: int, family: int, rule_handle: int,
    verdicts: list[str], tables: list[str], chains: list[str], handle: int,
) -> None:  # fmt: skip
    """Compared with a second implementation of the criteria."""
    part = records.nft(rule_handle, verdict, chain, family=family)
    verdict_text = {0: "drop", 1: "accept", 3: "queue", -3: "jump"}.get(
        verdict if verdict < 0 else verdict % 256, ""
    )
    name = {INET: "inet", IP: "ip", ARP: "arp"}[family]
    criteria = [
        not verdicts or verdict_text in verdicts,
        not tables or bool({"filter", f"{name} filter"} & set(tables)),
        not chains or {1: "input", 2: "web"}[chain] in chains,
        handle in (0, rule_handle),
    ]
    flags = [
        f"--filter-nft-verdict={','.join(verdicts)}",
        f"--filter-nft-table={','.join(tables)}",
        f"--filter-nft-chain={','.join(chains)}",
        f"--filter-nft-handle={handle}",
    ]
    assert is_match(part, *flags) is all(criteria)
