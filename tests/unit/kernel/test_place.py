"""The namespace and the interface that are asked for, of this very process."""

from __future__ import annotations

import io
import os
import socket
from contextlib import ExitStack

import pytest

from pypwru.errors import KernelError
from pypwru.kernel.place import Place, find_place
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
        assert find_place(netns, ifname, stack, Log(said)) == Place(OWN, ifname)
        assert held() == before + 1
    assert held() == before
    assert said.getvalue() == ""


def test_nothing_asked_for_holds_nothing() -> None:
    before = held()
    with ExitStack() as stack:
        assert find_place("", "", stack, Log(None)) == Place(0, "")
        assert held() == before


def test_an_inode_that_nobody_holds_is_said() -> None:
    said = io.StringIO()
    with ExitStack() as stack:
        assert find_place("inode:7", "", stack, Log(said)) == Place(7, "")
    assert "WARN --filter-netns inode:7: no process is in such a network namespace" in (
        said.getvalue()
    )


def test_an_unknown_interface_names_those_there_are() -> None:
    with ExitStack() as stack, pytest.raises(KernelError) as raised:
        find_place("", "nosuch", stack, Log(None))
    known = ", ".join(sorted(name for _, name in socket.if_nameindex()))
    assert str(raised.value).endswith(f"in /proc/self/ns/net; there are {known}")
