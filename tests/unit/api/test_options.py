"""Options of the Python API: all flags but those of the command line, parsed like them."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest

from pypwru.api.options import COMMAND_LINE_ONLY, flags_to_keywords, make_config
from pypwru.api.trace_options import TraceOptions
from pypwru.cli.flags import FLAGS, parse
from pypwru.config import Backend, Config, MarkFilter, NftOutput
from pypwru.errors import UsageError

ALWAYS = ("--output-json", "--output-tcp-flags")


def options(**values: object) -> Config:
    return make_config("", False, values)


def refusal(**values: object) -> str:
    with pytest.raises(UsageError) as caught:
        options(**values)
    return str(caught.value)


def typed(*argv: str) -> Config:
    config = parse([*ALWAYS, *argv])
    assert isinstance(config, Config)
    return config


def test_flags_are_options_or_have_a_reason() -> None:
    offered = set(TraceOptions.__annotations__)
    assert not offered & set(COMMAND_LINE_ONLY)
    assert offered | set(COMMAND_LINE_ONLY) == {flag.field for flag in FLAGS}
    assert all(COMMAND_LINE_ONLY.values())


def test_options_are_in_order_of_flags() -> None:
    fields = [flag.field for flag in FLAGS if flag.field not in COMMAND_LINE_ONLY]
    assert sorted(TraceOptions.__annotations__, key=fields.index) == fields


def test_defaults_equal_command_line() -> None:
    assert options() == typed()


def test_filter_and_packets() -> None:
    assert make_config("tcp port 443", True, {}) == typed("tcp port 443")._replace(packets=True)


@pytest.mark.parametrize(
    ("name", "value", "argv"),
    [
        ("priority", 1, "--priority=1"),
        ("priority", "0x1", "--priority=1"),
        ("filter_track_skb", True, "--filter-track-skb"),
        ("filter_track_skb", False, "--filter-track-skb=false"),
        ("filter_track_skb", 1, "--filter-track-skb"),
        ("filter_func", "ip_.*", "--filter-func=ip_.*"),
        ("kmods", ["a", "b"], "--kmods=a,b"),
        ("kmods", ("a",), "--kmods=a"),
        ("kmods", "a,b", "--kmods=a,b"),
        ("kmods", [], "--kmods="),
        ("category", (word for word in ("drop", "nat")), "--category=drop,nat"),
        ("output_skb_metadata", ['skb->cb[0]," "'], '--output-skb-metadata="skb->cb[0],"" """'),
        ("filter_nft_table", ["inet filter"], "--filter-nft-table=inet filter"),
        ("backend", Backend.TRACEPOINT, "--backend=tracepoint"),
        ("backend", "tracepoint", "--backend=tracepoint"),
        ("backend", None, "--backend="),
        ("kernel_btf", Path("/a/b"), "--kernel-btf=/a/b"),
        ("kernel_btf", "/a/b", "--kernel-btf=/a/b"),
        ("kernel_btf", None, "--kernel-btf="),
        ("filter_mark", 0xA00, "--filter-mark=0xa00"),
        ("filter_mark", (0xA00, 0xF00), "--filter-mark=0xa00/0xf00"),
        ("filter_mark", MarkFilter(2, 3), "--filter-mark=2/3"),
        ("filter_mark", "0xa00/0xf00", "--filter-mark=0xa00/0xf00"),
        ("output_nft", False, "--output-nft=false"),
        ("output_nft", True, "--output-nft"),
        ("output_nft", NftOutput.HOOK, "--output-nft=hook"),
        ("output_nft", "text", "--output-nft=text"),
        ("buffer_size", 1 << 20, "--buffer-size=1M"),
        ("buffer_size", "64k", "--buffer-size=64k"),
        ("output_limit_lines", 5, "--output-limit-lines=5"),
    ],
)
def test_values(name: str, value: object, argv: str) -> None:
    assert options(**{name: value}) == typed(argv)


@pytest.mark.parametrize(
    ("name", "value", "argv"),
    [
        ("priority", 9, "--priority=9"),
        ("priority", -1, "--priority=-1"),
        ("priority", "many", "--priority=many"),
        ("backend", "magic", "--backend=magic"),
        ("output_nft", "loud", "--output-nft=loud"),
        ("filter_track_skb", 2, "--filter-track-skb=2"),
        ("filter_nft_text", "(", "--filter-nft-text=("),
        ("filter_nft_verdict", ["no"], '--filter-nft-verdict="no"'),
        ("filter_mark", (1, 1 << 40), "--filter-mark=1/1099511627776"),
        ("buffer_size", 5000, "--buffer-size=5000"),
        ("kmods", ["a\nb"], '--kmods="a\nb"'),
        ("pcap_snaplen", 0, "--pcap-snaplen=0"),
    ],
)
def test_errors_equal_command_line(name: str, value: object, argv: str) -> None:
    with pytest.raises(UsageError) as caught:
        typed(argv)
    flag = f'"--{name.replace("_", "-")}" flag'
    assert flag in str(caught.value)
    assert refusal(**{name: value}) == str(caught.value).replace(flag, f'"{name}" option')


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("priority", True, "True for \"priority\" option: a bool is no uint"),
        ("priority", 1.5, "1.5 for \"priority\" option: a float is no uint"),
        ("filter_func", ["a"], "['a'] for \"filter_func\" option: a list is no string"),
        ("filter_func", b"a", "b'a' for \"filter_func\" option: a bytes is no string"),
        ("all_kmods", [], "[] for \"all_kmods\" option: a list is no bool"),
    ],
)  # fmt: skip
def test_wrong_types_are_refused(name: str, value: object, message: str) -> None:
    assert refusal(**{name: value}) == f"invalid argument {message}"


def test_unknown_options() -> None:
    assert refusal(prioritty=1) == "unknown option: prioritty"
    assert refusal(packets_=1) == "unknown option: packets_"
    message = refusal(ready_file="x")
    assert message.startswith("ready_file is for the command line alone: ")


def test_rules_name_options() -> None:
    assert refusal(output_bpfmap=True) == (
        "output_bpfmap has no function to trace: add filter_track_bpf_helpers, or name "
        "functions of BPF maps with filter_non_skb_funcs"
    )
    assert refusal(output_nft=False, filter_nft_handle=3).startswith(
        "filter_nft_* need the nftables"
    )
    assert flags_to_keywords("a -- b --c-d=e") == "a -- b c_d=e"


def test_annotations_are_few() -> None:
    """The annotations are a small set, for readers of the documentation."""
    allowed = {
        "str", "bool", "int", "Words", "File | None", "Backend | str | None",
        "int | str | tuple[int, int]", "NftOutput | bool | str", "int | str",
    }  # fmt: skip
    found = {each.__forward_arg__ for each in TraceOptions.__annotations__.values()}
    assert found <= allowed
    assert typing.is_typeddict(TraceOptions) and not TraceOptions.__required_keys__
