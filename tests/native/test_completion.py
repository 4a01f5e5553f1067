"""TAB completion of this machine's functions, namespaces, interfaces and nftables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.native.tracing import TREE
from tests.support.installed import LOADER, SYSTEM, environment, install, setup
from tests.support.need import need
from tests.support.shells import Shell
from tools.completion import SHELLS

pytestmark = pytest.mark.native

SPACE = "completed"
# A shell that evaluated its matches would run this.
HOSTILE = "$(id>ran)"
RULES = "add table inet completing; add chain inet completing completing-web"


@pytest.fixture(scope="module")
def space() -> Iterator[None]:
    """A namespace with a hostile interface in it, and a table here."""
    need(os.geteuid() == 0, "root")
    for command in (
        ["ip", "netns", "add", SPACE],
        ["ip", "-n", SPACE, "link", "add", HOSTILE, "type", "veth", "peer", "name", "tame0"],
        ["nft", RULES],
    ):
        subprocess.run(command, check=True)
    yield
    subprocess.run(["ip", "netns", "del", SPACE], check=True)
    subprocess.run(["nft", "delete table inet completing"], check=True)


@pytest.fixture(scope="module", params=SHELLS)
def typist(
    request: pytest.FixtureRequest, space: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shell]:
    need(shutil.which(request.param), f"{request.param} (package {request.param})")
    need(request.param != "bash" or LOADER.exists(), f"{LOADER} (package bash-completion)")
    home = tmp_path_factory.mktemp(request.param)
    install(home)
    program = home / "bin" / "pypwru"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={TREE} exec {sys.executable} -m pypwru "$@"\n')
    with Shell(
        request.param, setup(request.param), environment(home, f"{program.parent}:{SYSTEM}"), home
    ) as opened:
        yield opened
    assert not (home / "ran").exists()


def listed(typist: Shell, typed: str) -> set[str]:
    return {word.replace("\\", "") for word in typist.tab(f"pypwru {typed}").listed}


def test_functions_are_those_of_function_list(typist: Shell) -> None:
    command = [sys.executable, "-m", "pypwru", "--function-list", "-"]
    names = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=True).stdout
    assert listed(typist, "--filter-func ") == {
        name.removeprefix("tp:").split("[")[0] for name in names.split()
    }
    assert listed(typist, "--pcap-when ") >= {"first", *names.split()}


def test_namespaces_and_their_interfaces(typist: Shell) -> None:
    inode = os.stat(f"/run/netns/{SPACE}").st_ino
    assert typist.tab("pypwru --filter-netns=comp").line == f"pypwru --filter-netns={SPACE} "
    assert typist.tab(f"pypwru --filter-netns inode:{inode}").line.rstrip().endswith(str(inode))
    inside = {"lo", "tame0", HOSTILE}
    assert listed(typist, f"--filter-netns={SPACE} --filter-ifname ") >= inside
    assert listed(typist, f"--filter-netns {SPACE} --filter-ifname=") >= inside
    assert listed(typist, "--filter-ifname ") == set(os.listdir("/sys/class/net"))
    typist.tab(f"pypwru --filter-netns {SPACE} --filter-ifname $")


def test_modules_with_btf(typist: Shell) -> None:
    modules = set(os.listdir("/sys/kernel/btf")) - {"vmlinux"}
    assert listed(typist, "--kmods ") == (modules if len(modules) > 1 else set())


def test_nft_tables_and_chains(typist: Shell) -> None:
    line = typist.tab("pypwru --filter-nft-chain completing-").line
    assert line.rstrip(" ,") == "pypwru --filter-nft-chain completing-web"
    line = typist.tab(r"pypwru --filter-nft-table=inet\ compl").line
    assert line.rstrip(" ,") == r"pypwru --filter-nft-table=inet\ completing"


@pytest.mark.parametrize("flag", ["filter-func", "filter-non-skb-funcs", "filter-nft-chain"])
def test_completion_takes_under_half_second(typist: Shell, flag: str) -> None:
    typist.tab(f"pypwru --{flag} skb_clon")  # a shell's first: it runs pypwru
    assert min(typist.tab(f"pypwru --{flag} skb_clon").seconds for _ in range(3)) < 0.5
