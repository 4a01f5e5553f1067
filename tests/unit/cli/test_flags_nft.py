"""Values of --filter-nft-*, and errors of invalid ones."""

from __future__ import annotations

import pytest

from pypwru.cli.flags import parse
from pypwru.config import Config
from pypwru.errors import UsageError
from pypwru.needs import Needs

WORDS = (
    "drop, accept, stolen, queue, repeat, stop, route, continue, break, jump, goto, return, reject"
)


def test_tables_by_name_or_family() -> None:
    config = parse(["--filter-nft-table", "filter,inet nat", "--filter-nft-table=arp filter"])
    assert isinstance(config, Config)
    assert config.filter_nft_table == ("filter", "inet nat", "arp filter")


@pytest.mark.parametrize(
    "chain", ["web", "input#5", "ip filter INPUT", "inet filter input -> web -> ssh"]
)
def test_chains_by_name_or_full_path(chain: str) -> None:
    config = parse(["--filter-nft-chain", chain])
    assert isinstance(config, Config)
    assert config.filter_nft_chain == (chain,)


def test_reject_needs_rule_text() -> None:
    for verdict in ("drop", "reject"):
        config = parse([f"--filter-nft-verdict={verdict}"])
        assert isinstance(config, Config)
        assert Needs.of(config).rule_texts == (verdict == "reject")


def test_regexp_may_have_commas() -> None:
    config = parse(["--filter-nft-text", "dport { 22, 80 }"])
    assert isinstance(config, Config)
    assert config.filter_nft_text == "dport { 22, 80 }"


@pytest.mark.parametrize("flag", ["verdict", "table", "chain", "handle 1", "text x"])
def test_empty_value_filters_nothing(flag: str) -> None:
    name, *value = flag.split()
    config = parse([f"--filter-nft-{name}", *(value or [""])])
    assert isinstance(config, Config)
    assert config.has_nft_filter == bool(value)


@pytest.mark.parametrize(
    ("flag", "value", "reason"),
    [
        ("verdict", "droop", f'no verdict "droop": take {WORDS}; did you mean drop?'),
        ("verdict", "drop,ACCEPT", f'no verdict "ACCEPT": take {WORDS}'),
        ("verdict", "drop,", f'no verdict "": take {WORDS}'),
        (
            "table",
            "inte filter",
            'no table "inte filter": give its name, or family and name, such as '
            "'inet filter'; families are inet, ip, arp, netdev, bridge, ip6",
        ),
        (
            "table",
            "inet ",
            'no table "inet ": give its name, or family and name, such as '
            "'inet filter'; families are inet, ip, arp, netdev, bridge, ip6",
        ),
        (
            "chain",
            "filter input",
            'no chain "filter input": give its name, such as input, or the full text of the '
            "column NFT-CHAIN, such as 'inet filter input' or 'inet filter input -> web'",
        ),
        (
            "chain",
            "inet filter input ->",
            'no chain "inet filter input ->": give its name, such as input, or the full text of '
            "the column NFT-CHAIN, such as 'inet filter input' or 'inet filter input -> web'",
        ),
        (
            "text",
            "dport (22",
            "error parsing regexp: missing closing ): `dport (22`; write a Go (RE2) expression, "
            "such as 'dport (22|443) '",
        ),
        ("handle", "x", 'strconv.ParseUint: parsing "x": invalid syntax'),
    ],
)
def test_invalid_values(flag: str, value: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse([f"--filter-nft-{flag}", value])
    quoted = value.replace('"', '\\"')
    assert str(caught.value) == (
        f'invalid argument "{quoted}" for "--filter-nft-{flag}" flag: {reason}'
    )


@pytest.mark.parametrize("flag", ["verdict=drop", "table=x", "chain=x", "handle=1", "text=x"])
def test_nft_filter_needs_output_nft(flag: str) -> None:
    with pytest.raises(UsageError, match="--output-nft=false"):
        parse([f"--filter-nft-{flag}", "--output-nft=false"])
