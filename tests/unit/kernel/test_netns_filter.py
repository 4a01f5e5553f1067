"""--filter-netns and --filter-ifname, resolved for this process."""

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


def count_netns_fds() -> int:
    """Return the number of open descriptors of this namespace."""
    paths = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return sum(os.path.lexists(path) and os.readlink(path) == f"net:[{OWN}]" for path in paths)


@pytest.mark.parametrize(
    ("netns", "ifname"),
    [("/proc/self/ns/net", ""), (f"inode:{OWN}", ""), ("", "lo"), ("/proc/self/ns/net", "lo")],
)
def test_netns_stays_open(netns: str, ifname: str) -> None:
    stream, before = io.StringIO(), count_netns_fds()
    with ExitStack() as stack:
        assert resolve_netns(netns, ifname, stack, Log(stream)) == NetnsFilter(OWN, ifname)
        assert count_netns_fds() == before + 1
    assert count_netns_fds() == before
    assert stream.getvalue() == ""


def test_no_filter_opens_nothing() -> None:
    before = count_netns_fds()
    with ExitStack() as stack:
        assert resolve_netns("", "", stack, Log(None)) == NetnsFilter(0, "")
        assert count_netns_fds() == before


def test_unused_inode_is_logged() -> None:
    stream = io.StringIO()
    with ExitStack() as stack:
        assert resolve_netns("inode:7", "", stack, Log(stream)) == NetnsFilter(7, "")
    assert "WARN --filter-netns inode:7: no process is in such a network namespace" in (
        stream.getvalue()
    )


def test_unknown_interface_lists_others() -> None:
    with ExitStack() as stack, pytest.raises(KernelError) as raised:
        resolve_netns("", "nosuch", stack, Log(None))
    existing = ", ".join(sorted(name for _, name in socket.if_nameindex()))
    assert str(raised.value).endswith(f"in /proc/self/ns/net; there are {existing}")


@pytest.mark.parametrize("digits", ["{}", "000{}", "0" * 5000 + "{}"])
def test_inode(digits: str) -> None:
    with ExitStack() as stack:
        found = resolve_netns(f"inode:{digits.format(OWN)}", "", stack, Log(None))
        assert found == NetnsFilter(OWN, "")


@pytest.mark.parametrize("digits", ["", "x", "-1", "4294967296", "9" * 5000, "1_0", "\u0661"])
def test_invalid_inode(digits: str) -> None:
    with ExitStack() as stack, pytest.raises(UsageError, match="is no inode"):
        resolve_netns(f"inode:{digits}", "", stack, Log(None))


@pytest.mark.parametrize("name", ["nosuch", "9" * 5000])
def test_invalid_name(name: str) -> None:
    with ExitStack() as stack, pytest.raises(KernelError, match="invalid netns specifier"):
        resolve_netns(name, "", stack, Log(None))
