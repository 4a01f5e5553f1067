"""TAB in a real bash and a real zsh: completions of a command line of pypwru."""

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
def terminal(shell: str, home: Path) -> Iterator[Shell]:
    with Shell(shell, setup(shell), environment(home, f"{home}/bin:{SYSTEM}"), home) as opened:
        yield opened


def items(result: Completion) -> set[str]:
    """Return the last items of the list: bash lists whole words, zsh the next part."""
    return {re.sub(r"^.*,|\\", "", word) for word in result.listed}


COMPLETED = {
    # what is typed -> the completed line, without a suffix such as a space or comma
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


@pytest.mark.parametrize("typed", COMPLETED)
def test_single_candidate_is_inserted(terminal: Shell, typed: str) -> None:
    line = terminal.tab(f"pypwru {typed}").line
    assert line.rstrip(" ,='") == f"pypwru {COMPLETED[typed]}"


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
def test_several_candidates_are_listed(terminal: Shell, typed: str) -> None:
    listed = items(terminal.tab(f"pypwru {typed}"))
    if typed == "--output-tu":  # zsh describes each
        listed = {word for word in listed if word.startswith("--output")}
    assert listed == LISTED[typed]


NOTHING = ["--backend x", "--backend=x", "--category nft,x", "--filter-netns /no", "--sample-rate "]


@pytest.mark.parametrize("typed", [*NOTHING, "--filter-func=nosuch", "--functions nosuch"])
def test_no_candidate_changes_nothing(terminal: Shell, typed: str) -> None:
    result = terminal.tab(f"pypwru {typed}")
    assert (result.line, result.listed) == (f"pypwru {typed}", set())


def test_too_many_candidates_are_not_listed(terminal: Shell) -> None:
    result = terminal.tab("pypwru --filter-non-skb-funcs ")
    assert (result.line, result.listed) == ("pypwru --filter-non-skb-funcs ", set())


def test_function_list_is_cached(shell: str, home: Path) -> None:
    calls, cache = home / "calls", home / ".cache"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    calls.write_text("")
    for _ in range(2):
        with Shell(
            shell, setup(shell), environment(home, f"{home}/bin:{SYSTEM}"), home
        ) as terminal:
            for options in ("", "--kmods=xfs ", "--kmods xfs --all-kmods --kernel-btf /tmp/x "):
                for _ in range(2):
                    assert "ip_rcv" in terminal.tab(f"pypwru {options}--filter-func ip_").listed
                    assert "drop" in items(terminal.tab(f"pypwru {options}--pcap-when=first,"))
    of_modules = [
        "--kmods=xfs --function-list -",
        "--kmods=xfs --all-kmods --kernel-btf=/tmp/x --function-list -",
    ]
    assert calls.read_text().splitlines() == ["--function-list -", *of_modules, *of_modules]
    (file,) = cache.iterdir()
    os.utime(file, (0, 0))
    with Shell(shell, setup(shell), environment(home, f"{home}/bin:{SYSTEM}"), home) as terminal:
        assert "ip_rcv" in terminal.tab("pypwru --filter-func ip_").listed
    assert calls.read_text().splitlines()[-1] == "--function-list -"


def test_missing_pypwru_is_silent(shell: str, home: Path) -> None:
    """Without pypwru or rights there are no values, and no messages."""
    with Shell(shell, setup(shell), environment(home, SYSTEM), home) as terminal:
        for flag in CANDIDATES:
            typed = f"pypwru --filter-netns no/such --{flag} /nosuch"
            result = terminal.tab(typed)
            assert (result.line, result.listed) == (typed, set())


def test_bash_without_word_breaks(home: Path) -> None:
    need(shutil.which("bash") and LOADER.exists(), "bash and bash-completion")
    startup = f"{setup('bash')}; COMP_WORDBREAKS=${{COMP_WORDBREAKS//[=:]/}}"
    with Shell("bash", startup, environment(home, f"{home}/bin:{SYSTEM}"), home) as terminal:
        assert terminal.tab("pypwru --backend=tr").line == "pypwru --backend=tracepoint "
        assert terminal.tab("pypwru --category=nft,dr").line == "pypwru --category=nft,drop "


def test_completion_after_sudo(terminal: Shell) -> None:
    assert terminal.tab("sudo pypwru --backend=tr").line == "sudo pypwru --backend=tracepoint "


def test_candidates_are_of_flags_with_values() -> None:
    valued = {
        flag.name for flag in FLAGS if flag.value_type.type_name and not flag.value_type.choices
    }
    assert CANDIDATES.keys() <= valued
