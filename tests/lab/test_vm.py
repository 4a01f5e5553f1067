"""The lab's guests: a real kernel, the command's own streams and status, all removed at the end."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from pypwru.btf.vmlinuz import find_btf
from tests.lab.kernels import REFERENCE, names
from tests.lab.vm import packages
from tests.support.need import need
from tests.support.paths import TREE

BOOT = TREE / "tests" / "lab" / "boot"
pytestmark = pytest.mark.lab
SUITE = "vm"


@pytest.fixture(autouse=True)
def qemu() -> None:
    need(shutil.which("qemu-system-x86_64"), "qemu-system-x86_64 (package qemu-system-x86)")
    need(os.geteuid() == 0, "root: the guest's file system is this machine's, read by QEMU")


def vm(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BOOT, *words], capture_output=True, text=True, check=False)


# Everything that a guest provides, in one boot: each line of the output is one feature.
FEATURES = r"""
uname -r
pwd
command -v python
sha256sum </sys/kernel/btf/vmlinux
ip -brief link show lo up | wc -l
ip link add type veth && ip link add v type vxlan id 1 dstport 4789 && echo autoloaded
nft add table inet t && nft list tables && iptables-nft -A INPUT -j ACCEPT && echo nft_compat
for each in bpf:bpf debug:debugfs tracing:tracefs security:securityfs; do
    grep -m1 -o " /sys/.*${each%:*} ${each#*:} " /proc/mounts
done
ping -q -c 1 127.0.0.1 | grep -o '1 received'
for tool in pwru curl iperf3 tcpdump ethtool bpftool; do "$tool" --version >/dev/null || exit; done
echo changed >README.guest && cat README.guest
echo kept >"$1/kept"
echo problem >/dev/stderr
kill -USR1 $$
"""


@pytest.mark.parametrize("kernel", names(SUITE))
def test_guest_is_whole_machine(kernel: str, tmp_path: Path) -> None:
    btf = Path(vm("--btf", kernel).stdout.strip())
    digest = subprocess.run(["sha256sum"], stdin=btf.open(), capture_output=True, text=True)
    image = next(path for path in packages.kernel(kernel).rglob("vmlinuz*") if path.is_file())
    assert find_btf(image.read_bytes()) == btf.read_bytes()
    (modules,) = (packages.kernel(kernel) / "lib" / "modules").iterdir()
    tree = BOOT.parents[2]

    done = vm(kernel, "--rwdir", str(tmp_path), "--", "sh", "-c", FEATURES, "sh", str(tmp_path))

    assert done.stderr == "problem\n"
    assert done.stdout.splitlines() == [
        modules.name,
        str(tree),
        str(tree / ".venv" / "bin" / "python"),
        digest.stdout.strip(),
        "1",
        "autoloaded",
        "table inet t",
        "nft_compat",
        " /sys/fs/bpf bpf ",
        " /sys/kernel/debug debugfs ",
        " /sys/kernel/tracing tracefs ",
        " /sys/kernel/security securityfs ",
        "1 received",
        "changed",
    ]
    assert done.returncode == 128 + signal.SIGUSR1
    assert (tmp_path / "kept").read_text() == "kept\n"
    assert not (tree / "README.guest").exists()


@pytest.mark.parametrize(
    ("command", "seconds", "reason"),
    [
        ("sleep 1000", "20", "its time was up"),
        ("echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger", "600", "Kernel panic"),
    ],
)
@pytest.mark.parametrize("kernel", [REFERENCE])
def test_guest_without_status_is_124(kernel: str, command: str, seconds: str, reason: str) -> None:
    done = vm(kernel, "--timeout", seconds, "sh", "-c", f"echo before; {command}")

    assert done.returncode == 124
    assert done.stdout == "before\n"
    assert reason in done.stderr


def mounts() -> list[str]:
    """Return all mounts but files of network namespaces, which other tests make and remove
    meanwhile.
    """
    lines = Path("/proc/mounts").read_text().splitlines()
    return [line for line in lines if not line.startswith("nsfs ")]


def children(process: int) -> Sequence[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        pytest.param("INT", 130, marks=pytest.mark.full),
        pytest.param("TERM", 143, marks=pytest.mark.full),
        ("KILL", -9),
    ],
)
@pytest.mark.parametrize("kernel", [REFERENCE])
def test_killed_lab_leaves_no_guest_or_mount(kernel: str, stop: str, status: int) -> None:
    before = mounts()
    with subprocess.Popen([BOOT, kernel, "sh", "-c", "echo up; exec sleep 1000"], stdout=-1) as lab:
        assert lab.stdout
        lab.stdout.readline()
        (machine,) = children(lab.pid)
        watched = os.pidfd_open(int(machine))
        lab.send_signal(signal.Signals[f"SIG{stop}"])
        assert lab.wait(60) == status
        gone, _, _ = select.select([watched], [], [], 60)
        os.close(watched)
    assert gone, "QEMU outlived the lab"
    assert mounts() == before


@pytest.mark.full
@pytest.mark.parametrize("kernel", [REFERENCE])
def test_closed_output_stops_guest(kernel: str) -> None:
    with subprocess.Popen([BOOT, kernel, "yes"], stdout=-1) as lab:
        assert lab.stdout
        lab.stdout.readline()
        lab.stdout.close()
        assert lab.wait(60) == 128 + signal.SIGPIPE


def test_unknown_kernel_is_usage_error() -> None:
    assert vm("4.9", "true").returncode == 2
    assert REFERENCE in vm("--list").stdout
