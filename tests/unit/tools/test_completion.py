"""TAB in a real bash and a real zsh: what they offer for a command line of pypwru."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypwru.cli.flags import FLAGS
from pypwru.discovery.function_tables import categories
from tests.support.installed import LOADER, SYSTEM, environment, install, setup
from tests.support.need import need
from tests.support.shells import Completion, Shell
from tools.completion import CANDIDATES, SHELLS


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    need(shutil.which(request.param), f"{request.param} (package {request.param})")
    need(request.param != "bash" or LOADER.exists(), f"{LOADER} (package bash-completion)")
    return str(request.param)


@pytest.fixture(scope="module")
def home(shell: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(shell)
    install(folder)
    return folder


@pytest.fixture(scope="module")
def typist(shell: str, home: Path) -> Iterator[Shell]:
    with Shell(shell, setup(shell), environment(home, f"{home}/bin:{SYSTEM}"), home) as opened:
        yield opened


def items(seen: Completion) -> set[str]:
    """The last items of what was listed: bash shows whole words, zsh what comes next."""
    return {re.sub(r"^.*,|\\", "", word) for word in seen.listed}


WHOLE = {
    # what is typed -> the line that it becomes, less what stands ready behind it
    "--filter-nft-han": "--filter-nft-handle",
    "--backend tr": "--backend tracepoint",
    "--backend=tr": "--backend=tracepoint",
    "-- tcp and portr": "-- tcp and portrange",
    "icmp and host 192.0.2.1 --backend=tr": "icmp and host 192.0.2.1 --backend=tracepoint",
    "--drops --priority=0 --backend tr": "--drops --priority=0 --backend tracepoint",
    "--category nf": "--category nft",
    "--category drop,nf": "--category drop,nft",
    "--category=drop,nf": "--category=drop,nft",
    "--category 'drop,nf": "--category 'drop,nft",
    "--filter-nft-verdict=jump,dr": "--filter-nft-verdict=jump,drop",
    "--output-meta=f": "--output-meta=false",
    "--output-nft=h": "--output-nft=hook",
    "--filter-func ip_l": "--filter-func ip_local_out",
    "--filter-func=ip_l": "--filter-func=ip_local_out",
    "--pcap-when drop,ip_l": "--pcap-when drop,ip_local_out",
    "--filter-func nft": "--filter-func nft_do_chain",
    "--filter-func kf": "--filter-func kfree_skb",
    "--pcap-when first,tp:k": "--pcap-when first,tp:kfree_skb",
    "--pcap-when=tp:k": "--pcap-when=tp:kfree_skb",
    "--pcap-when nft_": r"--pcap-when nft_do_chain\[nf_tables\]",
    "--functions li": "--functions list.json",
    "--functions=li": "--functions=list.json",
    "--stats-file my": r"--stats-file my\ list",
    "--functions ~/li": "--functions ~/list.json",
    "--filter-ifname l": "--filter-ifname lo",
    "--filter-non-skb-funcs fib_table_looku": "--filter-non-skb-funcs fib_table_lookup",
}


@pytest.mark.parametrize("typed", WHOLE)
def test_what_can_only_be_one_thing_is_typed(typist: Shell, typed: str) -> None:
    line = typist.tab(f"pypwru {typed}").line
    assert line.rstrip(" ,='") == f"pypwru {WHOLE[typed]}"


LISTED = {
    "--output-tu": {"--output-tunnel", "--output-tuple"},
    "--backend k": {"kprobe", "kprobe-multi"},
    "--backend=k": {"kprobe", "kprobe-multi"},
    "--timestamp ": {"none", "current", "relative", "absolute"},
    "--timestamp=": {"none", "current", "relative", "absolute"},
    "--priority ": {"0", "1", "2", "3"},
    "--output-nft=": {"true", "false", "text", "hook"},
    "--drops=": {"true", "false"},
    "--category ": set(categories()),
    "--category=": set(categories()),
    "--category nft,": set(categories()) - {"nft"},
    "--category nft,drop,n": {"nat", "netdev", "netfilter"},
    "--filter-func ip_": {"ip_rcv", "ip_output", "ip_local_out"},
    "--pcap-when first,": {
        *("last", "drop", "every", "ip_rcv", "ip_output", "ip_local_out"),
        *("nft_do_chain[nf_tables]", "tcp_v4_rcv", "tp:kfree_skb"),
    },
    "tcp and ip": {"ip", "ip6"},
}


@pytest.mark.parametrize("typed", LISTED)
def test_what_can_be_several_things_is_listed(typist: Shell, typed: str) -> None:
    listed = items(typist.tab(f"pypwru {typed}"))
    if typed == "--output-tu":  # zsh says what each is for
        listed = {word for word in listed if word.startswith("--output")}
    assert listed == LISTED[typed]


NOTHING = ["--backend x", "--backend=x", "--category nft,x", "--filter-netns /no", "--sample-rate "]


@pytest.mark.parametrize("typed", [*NOTHING, "--filter-func=nosuch", "--functions nosuch"])
def test_what_can_be_nothing_stays(typist: Shell, typed: str) -> None:
    seen = typist.tab(f"pypwru {typed}")
    assert (seen.line, seen.listed) == (f"pypwru {typed}", set())


def test_so_does_what_could_be_too_much(typist: Shell) -> None:
    seen = typist.tab("pypwru --filter-non-skb-funcs ")
    assert (seen.line, seen.listed) == ("pypwru --filter-non-skb-funcs ", set())


def test_pypwru_is_asked_once_a_shell_and_without_modules_once_a_day(
    shell: str, home: Path
) -> None:
    asked, kept = home / "asked", home / ".cache"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    asked.write_text("")
    for _ in range(2):
        with Shell(shell, setup(shell), environment(home, f"{home}/bin:{SYSTEM}"), home) as typist:
            for options in ("", "--kmods=xfs ", "--kmods xfs --all-kmods --kernel-btf /tmp/x "):
                for _ in range(2):
                    assert "ip_rcv" in typist.tab(f"pypwru {options}--filter-func ip_").listed
                    assert "drop" in items(typist.tab(f"pypwru {options}--pcap-when=first,"))
    of_modules = [
        "--kmods=xfs --function-list -",
        "--kmods=xfs --all-kmods --kernel-btf=/tmp/x --function-list -",
    ]
    assert asked.read_text().splitlines() == ["--function-list -", *of_modules, *of_modules]
    (file,) = kept.iterdir()
    os.utime(file, (0, 0))
    with Shell(shell, setup(shell), environment(home, f"{home}/bin:{SYSTEM}"), home) as typist:
        assert "ip_rcv" in typist.tab("pypwru --filter-func ip_").listed
    assert asked.read_text().splitlines()[-1] == "--function-list -"


def test_a_shell_in_which_nothing_can_be_had_says_nothing(shell: str, home: Path) -> None:
    """No pypwru, no rights: the values are absent, and so are messages of why."""
    with Shell(shell, setup(shell), environment(home, SYSTEM), home) as typist:
        for flag in CANDIDATES:
            typed = f"pypwru --filter-netns no/such --{flag} /nosuch"
            seen = typist.tab(typed)
            assert (seen.line, seen.listed) == (typed, set())


def test_bash_completes_where_it_does_not_split_words(home: Path) -> None:
    need(shutil.which("bash") and LOADER.exists(), "bash and bash-completion")
    begun = f"{setup('bash')}; COMP_WORDBREAKS=${{COMP_WORDBREAKS//[=:]/}}"
    with Shell("bash", begun, environment(home, f"{home}/bin:{SYSTEM}"), home) as typist:
        assert typist.tab("pypwru --backend=tr").line == "pypwru --backend=tracepoint "
        assert typist.tab("pypwru --category=nft,dr").line == "pypwru --category=nft,drop "


def test_behind_sudo_as_well(typist: Shell) -> None:
    assert typist.tab("sudo pypwru --backend=tr").line == "sudo pypwru --backend=tracepoint "


def test_values_are_of_flags_that_take_some() -> None:
    valued = {
        flag.name for flag in FLAGS if flag.value_type.type_name and not flag.value_type.choices
    }
    assert CANDIDATES.keys() <= valued
