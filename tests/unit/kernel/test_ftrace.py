"""available_filter_functions with and without addresses, lockdown, and errors."""

from __future__ import annotations

import errno
import os

import pytest

from pypwru.errors import KernelError
from pypwru.kernel import ftrace, pseudofs
from pypwru.kernel.ftrace import parse_traceable, parse_traceable_addresses
from pypwru.kernel.lockdown import Lockdown, parse_level

SAMPLE = """\
__traceiter_initcall_level
ip_rcv
reg_vif_xmit
reg_vif_xmit
__pim_rcv.constprop.0
__ftrace_invalid_address___64
veth_xmit [veth]
ip_rcv [impostor]
help.isra.0 [nf_conntrack_ftp]
"""


def test_names_by_module() -> None:
    found = parse_traceable(SAMPLE)
    assert ("ip_rcv", "") in found
    assert ("ip_rcv", "impostor") in found
    assert ("veth_xmit", "veth") in found
    assert ("veth_xmit", "") not in found
    assert ("veth_xmit", "vet") not in found
    assert ("__pim_rcv", "") not in found
    assert len(found) == 8
    assert ("help.isra.0", "nf_conntrack_ftp") in set(found)


def test_compiler_variants() -> None:
    assert parse_traceable(SAMPLE).variants == {
        ("__pim_rcv", ""): ("__pim_rcv.constprop.0",),
        ("help", "nf_conntrack_ftp"): ("help.isra.0",),
    }


def test_call_sites_need_addresses() -> None:
    assert parse_traceable(SAMPLE).call_sites([("ip_rcv", "")]) is None


def test_call_sites_with_addresses() -> None:
    lines = SAMPLE.splitlines()
    text = "".join(f"{0xFFFFFFFF81000004 + 64 * at:x} {line}\n" for at, line in enumerate(lines))
    found = parse_traceable_addresses(text)
    assert set(found) == set(parse_traceable(SAMPLE))
    names = [("reg_vif_xmit", ""), ("veth_xmit", "veth"), ("gone", "")]
    assert found.call_sites(names) == {
        ("reg_vif_xmit", ""): (0xFFFFFFFF81000084, 0xFFFFFFFF810000C4),
        ("veth_xmit", "veth"): (0xFFFFFFFF81000184,),
    }


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("[none] integrity confidentiality\n", Lockdown.NONE),
        ("none [integrity] confidentiality\n", Lockdown.INTEGRITY),
        ("none integrity [confidentiality]\n", Lockdown.CONFIDENTIALITY),
        ("none [paranoid]\n", Lockdown.UNKNOWN),
        ("", Lockdown.UNKNOWN),
    ],
)
def test_lockdown_levels(text: str, level: Lockdown) -> None:
    assert parse_level(text) is level


def fake_tracefs(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes | int], lockdown: Lockdown
) -> None:
    def read_file(filesystem: str, name: str, mounted: object) -> bytes:
        content = files.get(name, errno.ENOENT)
        if isinstance(content, int):
            raise OSError(content, os.strerror(content), name)
        return content

    monkeypatch.setattr(pseudofs, "read_file", read_file)
    monkeypatch.setattr(ftrace, "lockdown_level", lambda: lockdown)


def test_list_with_addresses_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    both: dict[str, bytes | int] = {
        "available_filter_functions_addrs": b"ffffffff81000004 ip_rcv\n",
        "available_filter_functions": b"ip_rcv\n",
    }
    fake_tracefs(monkeypatch, both, Lockdown.NONE)
    sites = ftrace.traceable_functions().call_sites([("ip_rcv", "")])
    assert sites == {("ip_rcv", ""): (0xFFFFFFFF81000004,)}
    del both["available_filter_functions_addrs"]
    assert ("ip_rcv", "") in ftrace.traceable_functions()


@pytest.mark.parametrize(
    ("code", "lockdown", "words"),
    [
        (errno.EPERM, Lockdown.INTEGRITY, r"kernel lockdown \(integrity\).*--backend tracepoint"),
        (errno.EPERM, Lockdown.NONE, "run as root"),
        (errno.EACCES, Lockdown.CONFIDENTIALITY, "run as root"),
        (errno.ENOENT, Lockdown.NONE, "CONFIG_DYNAMIC_FTRACE"),
        (errno.ENODEV, Lockdown.NONE, "CONFIG_DYNAMIC_FTRACE"),
        (errno.ENOSYS, Lockdown.NONE, "mount -t tracefs tracefs /sys/kernel/tracing"),
        (errno.EIO, Lockdown.NONE, "Input/output error"),
    ],
)
def test_error_names_cause_and_cure(
    monkeypatch: pytest.MonkeyPatch, code: int, lockdown: Lockdown, words: str
) -> None:
    names = ("available_filter_functions_addrs", "available_filter_functions")
    fake_tracefs(monkeypatch, dict.fromkeys(names, code), lockdown)
    with pytest.raises(KernelError, match=words):
        ftrace.traceable_functions()
