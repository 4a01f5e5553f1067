"""The command line: pflag's conventions and messages."""

from __future__ import annotations

import itertools
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pypwru.config
from pypwru.cli.flags import FLAGS, Group, InfoRequest, parse, usage
from pypwru.config import Backend, Config, MarkFilter, NftOutput, Timestamp
from pypwru.errors import UsageError


def config(*argv: str) -> Config:
    parsed = parse(argv)
    assert isinstance(parsed, Config)
    return parsed


def refusal(*argv: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(argv)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_defaults() -> None:
    assert config() == Config(
        pcap_filter="",
        filter_func="",
        kmods=(),
        all_kmods=False,
        priority=3,
        category=(),
        functions=None,
        list_functions=False,
        features=False,
        function_list=None,
        backend=None,
        filter_kprobe_batch=10,
        kernel_btf=None,
        filter_netns="",
        filter_ifname="",
        filter_mark=MarkFilter(0, 0),
        filter_tunnel_pcap_l2="",
        filter_tunnel_pcap_l3="",
        filter_skb_expr="",
        filter_xdp_expr="",
        filter_nft_verdict=(),
        filter_nft_table=(),
        filter_nft_chain=(),
        filter_nft_handle=0,
        filter_nft_text="",
        drops=False,
        sample_rate=1,
        sample_flow=1,
        rate_limit=0,
        max_hits=0,
        filter_track_skb=False,
        filter_track_skb_by_stackid=False,
        filter_non_skb_funcs=(),
        filter_track_bpf_helpers=False,
        filter_trace_tc=False,
        filter_trace_xdp=False,
        output_file_max_size=100,
        output_file_max_backups=0,
        output_file_max_age=0,
        output_file_compress=False,
        output_json=False,
        output_journey=False,
        output_limit_lines=0,
        output_file=None,
        stats=False,
        stats_interval=0,
        stats_file=None,
        top=False,
        ready_file=None,
        output_text=True,
        output_pcap=None,
        pcap_when=("first",),
        pcap_snaplen=65535,
        pcap_max_size=0,
        pcap_max_files=0,
        output_meta=True,
        output_tuple=True,
        output_tcp_flags=False,
        timestamp=Timestamp.NONE,
        output_netns_names=False,
        netns_names_max_length=16,
        output_skb_cb=False,
        output_caller=False,
        output_tunnel=False,
        output_nft=NftOutput.YES,
        output_ct=False,
        output_stack=False,
        output_skb=False,
        output_skb_shared_info=False,
        output_skb_metadata=(),
        output_xdp_metadata=(),
        output_bpfmap=False,
        set_percpu_buf=4096,
        buffer_size=16 << 20,
        debug=False,
    )


def test_every_flag_is_a_config_field() -> None:
    informational = {request.value for request in InfoRequest}
    fields = {*Config._fields} - {"pcap_filter", "packets"}
    assert {flag.field for flag in FLAGS} - informational == fields
    defaults, hints = config(), typing.get_type_hints(Config, vars(pypwru.config))
    for name in fields:
        kinds = typing.get_args(hints[name]) or (hints[name],)
        if typing.get_origin(hints[name]) is tuple:
            kinds = (tuple,)
        assert type(getattr(defaults, name)) in kinds, name


# The first four were run with pwru.
@pytest.mark.parametrize(
    ("argv", "changed"),
    [
        (
            "icmp --filter-func x and host 1.1.1.1 --output-meta=false",
            {"pcap_filter": "icmp and host 1.1.1.1", "filter_func": "x", "output_meta": False},
        ),
        ("--output-meta false", {"pcap_filter": "false"}),
        ("-- --debug - -h", {"pcap_filter": "--debug - -h"}),
        ("- tcp", {"pcap_filter": "- tcp"}),
        ("--kmods a,b --kmods=c", {"kmods": ("a", "b", "c")}),
        ('--kmods "a,""b",c', {"kmods": ('a,"b', "c")}),
        ("--kmods a, --kmods=", {"kmods": ("a", "")}),
        ("--category rx --category tx", {"category": ("rx", "tx")}),
        ("--output-limit-lines 0x10", {"output_limit_lines": 16}),
        ("--output-limit-lines 010", {"output_limit_lines": 8}),
        ("--output-limit-lines 1_000", {"output_limit_lines": 1000}),
        ("--output-limit-lines 5 --output-limit-lines 6", {"output_limit_lines": 6}),
        ("--filter-func --debug", {"filter_func": "--debug"}),
        ("--filter-func=", {}),
        ("--filter-func=a=b", {"filter_func": "a=b"}),
        ("--backend kprobe-multi", {"backend": Backend.KPROBE_MULTI}),
        ("--backend=", {}),
        ("--timestamp=absolute", {"timestamp": Timestamp.ABSOLUTE}),
        (
            "--output-file /a/b --ready-file c",
            {"output_file": Path("/a/b"), "ready_file": Path("c")},
        ),
        ("--filter-nft-verdict drop,accept", {"filter_nft_verdict": ("drop", "accept")}),
        ("--filter-nft-chain web --filter-nft-chain input", {"filter_nft_chain": ("web", "input")}),
        ("--filter-nft-table filter", {"filter_nft_table": ("filter",)}),
        ("--filter-nft-handle 0x10", {"filter_nft_handle": 16}),
        ("--filter-nft-text a|b", {"filter_nft_text": "a|b"}),
        ("--output-nft", {}),
        ("--output-nft=true", {}),
        ("--output-nft=0", {"output_nft": NftOutput.NO}),
        ("--output-nft=text", {"output_nft": NftOutput.TEXT}),
        ("--output-nft=hook", {"output_nft": NftOutput.HOOK}),
        ("--filter-mark 0xa00/0xf00", {"filter_mark": MarkFilter(0xA00, 0xF00)}),
        ("--filter-mark 0XFFFFFFFF/010", {"filter_mark": MarkFilter(10, 10)}),
        ("--filter-mark 010", {"filter_mark": MarkFilter(10, 0xFFFFFFFF)}),
        ("--filter-mark 0", {"filter_mark": MarkFilter(0, 0xFFFFFFFF)}),
        ("--filter-mark 7/0", {"filter_mark": MarkFilter(0, 0)}),
        ("--netns-names-max-length 9", {"netns_names_max_length": 10}),
        ("--netns-names-max-length 0", {"netns_names_max_length": 10}),
        ("--netns-names-max-length 0xff", {"netns_names_max_length": 255}),
        ("--output-file-max-size 0", {"output_file_max_size": 0}),
        ("--output-file-max-age +0b11", {"output_file_max_age": 3}),
        (
            "--output-skb-metadata skb->mark,skb->hash --output-skb-metadata skb->len",
            {"output_skb_metadata": ("skb->mark", "skb->hash", "skb->len")},
        ),
        ("--set-percpu-buf 64", {"set_percpu_buf": 64}),
        ("--buffer-size 4096", {"buffer_size": 4096}),
        ("--buffer-size 64k", {"buffer_size": 1 << 16}),
        ("--buffer-size 2G", {"buffer_size": 1 << 31}),
        ("-h=false --version=F", {}),
    ],
)
def test_accepts(argv: str, changed: dict[str, object]) -> None:
    assert config(*argv.split()) == config()._replace(**changed)  # type: ignore[arg-type]


def test_filter_joins_arguments() -> None:
    assert config("tcp and", "port 80").pcap_filter == "tcp and port 80"


# Where pwru has the flag and the error, the message is that of pwru at 70b1b60, run; messages of
# errors that pwru doesn't have are ours.
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--nosuch", "unknown flag: --nosuch"),
        ("--nosuch=1", "unknown flag: --nosuch"),
        ("--Debug", "unknown flag: --Debug"),
        ("-x", "unknown shorthand flag: 'x' in -x"),
        ("-hx", "unknown shorthand flag: 'x' in -x"),
        ("-version", "unknown shorthand flag: 'v' in -version"),
        ("-h=", "unknown shorthand flag: '=' in -="),
        ("-'", r"unknown shorthand flag: '\'' in -'"),
        ("--filter-func", "flag needs an argument: --filter-func"),
        ("--=x", "bad flag syntax: --=x"),
        ("---x", "bad flag syntax: ---x"),
        (
            "--output-meta=maybe",
            'invalid argument "maybe" for "--output-meta" flag: '
            'strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (
            "--output-meta=",
            'invalid argument "" for "--output-meta" flag: '
            'strconv.ParseBool: parsing "": invalid syntax',
        ),
        (
            "-h=2",
            'invalid argument "2" for "-h, --help" flag: '
            'strconv.ParseBool: parsing "2": invalid syntax',
        ),
        (
            "--output-limit-lines=-1",
            'invalid argument "-1" for "--output-limit-lines" flag: '
            'strconv.ParseUint: parsing "-1": invalid syntax',
        ),
        (
            "--output-limit-lines=18446744073709551616",
            'invalid argument "18446744073709551616" for "--output-limit-lines" flag: '
            'strconv.ParseUint: parsing "18446744073709551616": value out of range',
        ),
        (
            '--kmods "a',
            r'invalid argument "\"a" for "--kmods" flag: '
            'parse error on line 1, column 3: extraneous or missing " in quoted-field',
        ),
        (
            "--backend foo",
            'invalid argument "foo" for "--backend" flag: '
            "must be one of fentry-multi, kprobe-multi, fentry, kprobe, tracepoint",
        ),
        (
            "--timestamp now",
            'invalid argument "now" for "--timestamp" flag: '
            "must be one of none, current, relative, absolute",
        ),
        ("--priority 4", 'invalid argument "4" for "--priority" flag: must be 0 to 3'),
        (
            "--filter-kprobe-batch 0",
            'invalid argument "0" for "--filter-kprobe-batch" flag: must be at least 1',
        ),
        (
            "--set-percpu-buf=4294967296",
            'invalid argument "4294967296" for "--set-percpu-buf" flag: '
            'strconv.ParseUint: parsing "4294967296": value out of range',
        ),
        (
            "--set-percpu-buf=63",
            'invalid argument "63" for "--set-percpu-buf" flag: must be at least 64',
        ),
        (
            "--netns-names-max-length 300",
            'invalid argument "300" for "--netns-names-max-length" flag: '
            'strconv.ParseUint: parsing "300": value out of range',
        ),
        (
            "--output-file-max-size 9223372036854775808",
            'invalid argument "9223372036854775808" for "--output-file-max-size" flag: '
            'strconv.ParseInt: parsing "9223372036854775808": value out of range',
        ),
        *(
            (
                f"--output-file-max-{what}=-1",
                f'invalid argument "-1" for "--output-file-max-{what}" flag: must be at least 0',
            )
            for what in ("size", "age", "backups")
        ),
        *(
            (
                f"--filter-mark {mark}",
                f'invalid argument "{mark}" for "--filter-mark" flag: invalid {message}',
            )
            for mark, message in (
                ("1/2/3", 'mark value "1/2/3": expected mark[/mask]'),
                ("zz", 'mark value: strconv.ParseUint: parsing "zz": invalid syntax'),
                ("0x/1", 'mark value: strconv.ParseUint: parsing "": invalid syntax'),
                ("1/0xg", 'mask value: strconv.ParseUint: parsing "g": invalid syntax'),
                ("1/", 'mask value: strconv.ParseUint: parsing "": invalid syntax'),
                ("1_0", 'mark value: strconv.ParseUint: parsing "1_0": invalid syntax'),
                (
                    "4294967296",
                    'mark value: strconv.ParseUint: parsing "4294967296": value out of range',
                ),
            )
        ),
        *(
            (
                f"--buffer-size {size}",
                f'invalid argument "{size}" for "--buffer-size" flag: '
                "must be a power of two, 4096 to 2G, such as 64k or 16M",
            )
            for size in ("2k", "5000", "4G", "0")
        ),
        (
            "--buffer-size 16Q",
            'invalid argument "16Q" for "--buffer-size" flag: '
            'strconv.ParseUint: parsing "16Q": invalid syntax',
        ),
    ],
)
def test_refuses(argv: str, message: str) -> None:
    assert refusal(*argv.split()) == message


def test_stats_file_is_not_stdout() -> None:
    assert "on standard error" in refusal("--stats-file", "-")


def test_last_of_repeated_flags_wins() -> None:
    """Only lists accumulate."""
    for flag in FLAGS:
        if flag.field not in Config._fields or flag.value_type.type_name == "strings":
            continue
        required = [f"--{flag.requires}=a.pcap"] if flag.requires else []
        twice = [*required, f"--{flag.name}={flag.default}", f"--{flag.name}={flag.default}"]
        assert getattr(config(*twice), flag.field) == getattr(config(), flag.field), flag.name
    assert config("--filter-mark=1", "--filter-mark", "0x2/0xf").filter_mark == MarkFilter(2, 15)
    assert (
        config("--filter-mark=3/3", "--filter-mark=0").filter_mark
        == config("--filter-mark=0").filter_mark
    )
    assert config("--kmods=a,b", "--kmods=c").kmods == ("a", "b", "c")


def test_first_error_wins() -> None:
    assert refusal("--priority=9", "--nosuch") == (
        'invalid argument "9" for "--priority" flag: must be 0 to 3'
    )


def test_error_before_help_before_version() -> None:
    assert parse(["--version", "-h", "tcp"]) is InfoRequest.HELP
    assert parse(["--version"]) is InfoRequest.VERSION
    assert refusal("--help", "--nosuch") == "unknown flag: --nosuch"


def test_usage_has_pflag_layout() -> None:
    lines = usage("./pypwru").splitlines()
    assert lines[:3] == [
        "Usage: ./pypwru [options] [pcap-filter]",
        '    Available pcap-filter: see "man 7 pcap-filter"',
        "    Available options:",
    ]
    shown = [line for line in lines[3:] if line.startswith(" ")]
    names = [line[6:].split()[0] for line in shown]
    assert sorted(names) == sorted(f"--{flag.name}" for flag in FLAGS if not flag.hidden)
    assert [line[:6] for line in shown].count("  -h, ") == 1
    # Help begins in one column, three spaces behind the longest flag and its value.
    longest = max(
        len(f"      --{flag.name} {flag.value_type.type_name}".rstrip()) for flag in FLAGS
    )
    assert all(line[longest : longest + 3] == "   " and line[longest + 3] != " " for line in shown)
    # In the manual's groups, each behind an empty line.
    heads = [number for number, line in enumerate(lines) if line.endswith(":") and number > 2]
    assert [lines[number] for number in heads] == [f"{group.value}:" for group in Group]
    assert all(not lines[number - 1] for number in heads)
    text = "\n".join(lines)
    assert 'absolute (default "none")' in text
    assert "(default true)" in text
    assert "(default 16M)" in text
    assert "--ready-file" not in text


@given(
    st.lists(
        st.one_of(
            st.sampled_from(["tcp", "and", "port 80", "-", ""]).map(lambda word: ([word], None)),
            st.integers(0, 3).map(lambda n: ([f"--priority={n}"], ("priority", n))),
            st.integers(0, 3).map(lambda n: (["--priority", str(n)], ("priority", n))),
            st.booleans().map(lambda on: ([f"--debug={on}"], ("debug", on))),
            st.text("ab-=,", max_size=4).map(lambda t: (["--filter-func", t], ("filter_func", t))),
        )
    )
)
def test_flags_and_filter_mix(parts: list[tuple[list[str], tuple[str, object] | None]]) -> None:
    argv = list(itertools.chain.from_iterable(words for words, _ in parts))
    expected = dict(change for _, change in parts if change)
    expected["pcap_filter"] = " ".join(words[0] for words, change in parts if not change)
    assert config(*argv) == config()._replace(**expected)  # type: ignore[arg-type]


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_argv_is_config_or_one_line_error(argv: list[str]) -> None:
    try:
        parse(argv)
    except UsageError as error:
        assert str(error)
        assert "\n" not in str(error) or any("\n" in word for word in argv)
