"""The namespace and the interface that are asked for, of this very process."""

from __future__ import annotations

import io
import os
import socket
from contextlib import ExitStack

import pytest

from pypwru.errors import KernelError, UsageError
from pypwru.kernel.netns_filter import NetnsFilter, resolve_netns
from pypwru.log import Log

OWN = os.stat("/proc/self/ns/net").st_ino


def held() -> int:
    """How many descriptors of this namespace are open."""
    paths = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return sum(os.path.lexists(path) and os.readlink(path) == f"net:[{OWN}]" for path in paths)


@pytest.mark.parametrize(
    ("netns", "ifname"),
    [("/proc/self/ns/net", ""), (f"inode:{OWN}", ""), ("", "lo"), ("/proc/self/ns/net", "lo")],
)
def test_a_namespace_is_held_until_the_end(netns: str, ifname: str) -> None:
    said, before = io.StringIO(), held()
    with ExitStack() as stack:
        assert resolve_netns(netns, ifname, stack, Log(said)) == NetnsFilter(OWN, ifname)
        assert held() == before + 1
    assert held() == before
    assert said.getvalue() == ""


def test_nothing_asked_for_holds_nothing() -> None:
    before = held()
    with ExitStack() as stack:
        assert resolve_netns("", "", stack, Log(None)) == NetnsFilter(0, "")
        assert held() == before


def test_an_inode_that_nobody_holds_is_said() -> None:
    said = io.StringIO()
    with ExitStack() as stack:
        assert resolve_netns("inode:7", "", stack, Log(said)) == NetnsFilter(7, "")
    assert "WARN --filter-netns inode:7: no process is in such a network namespace" in (
        said.getvalue()
    )


def test_an_unknown_interface_names_those_there_are() -> None:
    with ExitStack() as stack, pytest.raises(KernelError) as raised:
        resolve_netns("", "nosuch", stack, Log(None))
    known = ", ".join(sorted(name for _, name in socket.if_nameindex()))
    assert str(raised.value).endswith(f"in /proc/self/ns/net; there are {known}")


@pytest.mark.parametrize("digits", ["{}", "000{}", "0" * 5000 + "{}"])
def test_an_inode(digits: str) -> None:
    with ExitStack() as stack:
        found = resolve_netns(f"inode:{digits.format(OWN)}", "", stack, Log(None))
        assert found == NetnsFilter(OWN, "")


@pytest.mark.parametrize("digits", ["", "x", "-1", "4294967296", "9" * 5000, "1_0", "\u0661"])
def test_no_inode(digits: str) -> None:
    with ExitStack() as stack, pytest.raises(UsageError, match="is no inode"):
        resolve_netns(f"inode:{digits}", "", stack, Log(None))


@pytest.mark.parametrize("name", ["nosuch", "9" * 5000])
def test_no_name(name: str) -> None:
    with ExitStack() as stack, pytest.raises(KernelError, match="invalid netns specifier"):
        resolve_netns(name, "", stack, Log(None))
