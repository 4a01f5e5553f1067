"""Config is frozen, and its rules are checked however it is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from pypwru.cli.flags import parse
from pypwru.config import RULES, Config
from pypwru.errors import UsageError
from pypwru.needs import Needs


def default_config() -> Config:
    parsed = parse([])
    assert isinstance(parsed, Config)
    return parsed


def test_config_is_frozen() -> None:
    with pytest.raises(AttributeError):
        default_config().debug = True  # type: ignore[misc]


def test_ready_file_is_not_the_output() -> None:
    with pytest.raises(UsageError, match="name the same file") as caught:
        parse(["--ready-file=/tmp/x", "--output-file", "/tmp/x"])
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError):
        default_config()._replace(ready_file=Path("x"), output_file=Path("x"))
    parse(["--ready-file=/tmp/x", "--output-file=/tmp/y"])


@pytest.mark.parametrize(
    ("refused", "message", "corrected"),
    [
        (
            "--filter-ifname eth0 --filter-netns inode:4026531840",
            "inode netns specifier cannot be used with --filter-ifname: inode:4026531840 can't be "
            "entered to look for eth0; name the namespace, or give its path",
            "--filter-ifname eth0 --filter-netns /proc/1/ns/net",
        ),
        (
            "--output-skb-metadata skb->a,skb->b,skb->c,skb->d --output-skb-metadata skb->e",
            "too many skb metadata exprs, max 4: take some out of --output-skb-metadata",
            "--output-skb-metadata skb->a,skb->b --output-skb-metadata skb->c,skb->d",
        ),
        (
            "--output-xdp-metadata a,b,c,d,e",
            "too many xdp metadata exprs, max 4: take some out of --output-xdp-metadata",
            "--output-xdp-metadata a,b,c,d --output-skb-metadata a,b,c,d",
        ),
        (
            "--output-bpfmap --filter-track-skb-by-stackid",
            "--output-bpfmap has no function to trace: add --filter-track-bpf-helpers, or name "
            "functions of BPF maps with --filter-non-skb-funcs",
            "--output-bpfmap --filter-non-skb-funcs array_map_lookup_elem",
        ),
        (
            "--output-skb --output-skb-shared-info --set-percpu-buf 0x200_000 --buffer-size 8M",
            "--set-percpu-buf 2097152 makes a record of 4194304 bytes, more than a quarter of the "
            "ring buffer (8388608 bytes): raise --buffer-size, or lower it",
            "--output-skb --output-skb-shared-info --set-percpu-buf 0x100_000 --buffer-size 8M",
        ),
        (
            "--output-skb --buffer-size 8k",
            "--set-percpu-buf 4096 makes a record of 4096 bytes, more than a quarter of the ring "
            "buffer (8192 bytes): raise --buffer-size, or lower it",
            "--output-skb --buffer-size 16k",
        ),
        (
            "--output-pcap trace.log",
            "--output-pcap trace.log has no known suffix: end it in .pcapng, or in .pcap for the "
            "classic format, or take - for pcapng on standard output",
            "--output-pcap trace.pcap",
        ),
        (
            "--output-pcap a.pcapng --output-file a.pcapng",
            "--output-pcap a.pcapng is also the file of --output-file or --ready-file: give them "
            "different names",
            "--output-pcap a.pcapng --output-file a.log",
        ),
        (
            "--list-functions --function-list -",
            "--list-functions and --function-list - write the same output: give them different "
            "names, or leave one out",
            "--list-functions --function-list a.txt",
        ),
        (
            "--output-text=false",
            "--output-text=false leaves nothing to write: add --output-pcap or --stats, or take it "
            "out",
            "--output-text=false --output-pcap -",
        ),
        (
            "--pcap-when first",
            "--pcap-when has no effect without --output-pcap: add that, or leave it out",
            "--pcap-when drop,ip_rcv,br_forward[bridge],tp:kfree_skb --output-pcap a.pcapng",
        ),
        (
            "--pcap-snaplen 96 --stats",
            "--pcap-snaplen has no effect without --output-pcap: add that, or leave it out",
            "--pcap-snaplen 96 --output-pcap -",
        ),
        (
            "--pcap-max-files 2 --pcap-max-size 5",
            "--pcap-max-size has no effect without --output-pcap: add that, or leave it out",
            "--output-pcap a.pcap --pcap-max-files 2 --pcap-max-size 5",
        ),
        *(
            (
                f"--output-pcap - --pcap-when {typed}",
                f'invalid argument "{typed}" for "--pcap-when" flag: no function "{typed}"; did '
                f"you mean {corrected_word}?",
                f"--output-pcap - --pcap-when {corrected_word}",
            )
            for typed, corrected_word in (("frist", "first"), ("drops", "drop"), ("evry", "every"))
        ),
        (
            "--pcap-when= --output-pcap a.pcapng",
            "--pcap-when is empty: take first, last, drop, every or names of functions",
            "--pcap-when every --output-pcap a.pcapng",
        ),
        (
            "--output-pcap - --pcap-max-size 5",
            "--pcap-max-size 5 needs a file: name one with --output-pcap",
            "--output-pcap a.pcapng --pcap-max-size 5",
        ),
        (
            "--output-pcap a.pcap --pcap-max-files 5",
            "--pcap-max-files 5 needs a size at which a new file is begun: add --pcap-max-size",
            "--output-pcap a.pcap --pcap-max-files 5 --pcap-max-size 1",
        ),
    ],
)
def test_rules(refused: str, message: str, corrected: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(refused.split())
    assert str(caught.value) == message
    parse(corrected.split())


@pytest.mark.parametrize(
    "flags",
    [
        # As with pwru, these have no effect without an output file, dumps or XDP programs.
        "--output-file-max-size 1 --output-file-max-age 2 --output-file-max-backups 3",
        "--output-file-compress",
        "--set-percpu-buf 4294967295",
        "--filter-xdp-expr xdp->rxq->queue_index==1 --output-xdp-metadata xdp->rxq->queue_index",
        "--output-tcp-flags --output-tuple=false",
        "--filter-ifname eth0",
        "--filter-netns inode:1",
        "--help=false --output-bpfmap --filter-track-bpf-helpers",
    ],
)
def test_flags_without_effect_are_accepted(flags: str) -> None:
    assert isinstance(parse(flags.split()), Config)


def test_defaults_obey_all_rules() -> None:
    assert not any(is_broken(default_config()) for is_broken, _ in RULES)


@pytest.mark.parametrize(
    ("flags", "packets", "when"),
    [
        ("", False, set()),
        ("", True, {"every"}),
        ("--output-pcap -", False, {"first"}),
        ("--output-pcap - --pcap-when drop --pcap-when ip_rcv", False, {"drop", "ip_rcv"}),
    ],
)
def test_capture_points(flags: str, packets: bool, when: set[str]) -> None:
    config = parse(flags.split())
    assert isinstance(config, Config)
    config = config._replace(packets=packets)
    assert config.capture_when == when
    assert Needs.of(config).packet_data is bool(when)
