"""--list-functions and --functions on this machine's own kernel, as processes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.native.test_discovery import VMLINUX, BpftoolTypes
from tests.native.tracing import environment, tracing
from tests.support.need import need
from tests.unit.discovery.test_functions import Kernel

UNPRIVILEGED = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
# As where the kernel was built without CONFIG_DEBUG_INFO_BTF.
NO_BTF = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "-")

pytestmark = pytest.mark.native


@pytest.fixture(autouse=True)
def root() -> None:
    need(os.geteuid() == 0, "root")
    need(VMLINUX.exists(), "a kernel with BTF")


def pypwru(
    *flags: str, before: Sequence[str] = (), words: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-m", "pypwru", *flags],
        input=words,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(),
    )


def listed(*flags: str, before: Sequence[str] = ()) -> dict[str, dict[str, object]]:
    ended = pypwru("--list-functions", "--output-json", *flags, before=before)
    assert ended.returncode == 0, ended.stderr
    return {entry["name"]: entry for entry in json.loads(ended.stdout)["functions"]}


def test_tracepoints_are_those_of_bpftool() -> None:
    bpftool_types = BpftoolTypes()
    names = {
        typedef["name"].replace("btf_trace_", "tp:", 1)
        for typedef in bpftool_types.of_kind("TYPEDEF")
        if typedef["name"].startswith("btf_trace_")
        and bpftool_types.skb_positions(bpftool_types.types[typedef["type_id"]]["type_id"])
    }
    found = listed("--backend", "tracepoint")
    assert found.keys() == names
    assert {entry["attachable"] for entry in found.values()} == {True}
    assert str(found["tp:kfree_skb"]["signature"]).startswith(
        "void kfree_skb(struct sk_buff *skb, void *location"
    )


def test_list_needs_no_rights() -> None:
    found = listed(before=UNPRIVILEGED)
    assert found["ip_rcv"]["param_position"] == 1
    assert found["ip_output"]["param_position"] == 3
    assert {entry["attachable"] for entry in found.values()} == {None, False}
    ended = pypwru("--list-functions", "--priority", "0", before=UNPRIVILEGED)
    assert ended.returncode == 0
    assert {line.split()[5] for line in ended.stdout.splitlines()[1:]} == {"?"}
    assert "is unknown without CAP_BPF" in ended.stderr


def test_list_without_btf_has_names() -> None:
    found = listed("--priority", "0", before=NO_BTF)
    assert {"ip_rcv_core", "consume_skb"} <= found.keys()
    assert {entry["param_position"] for entry in found.values()} == {None}
    ended = pypwru("--list-functions", "--priority", "0", before=NO_BTF)
    assert {line.split()[2] for line in ended.stdout.splitlines()[1:]} == {"?"}
    assert "without checking their arguments" in ended.stderr


def test_btf_of_other_kernel_is_noticed(tmp_path: Path) -> None:
    kernel = Kernel()
    kernel.function("ip_of_another", kernel.skb)
    other = tmp_path / "btf"
    other.write_bytes(kernel.encoder.bytes())
    ended = pypwru("--list-functions", "--output-json", "--kernel-btf", str(other))
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert [entry["name"] for entry in document["functions"]] == ["ip_of_another"]
    assert document["functions"][0]["attachable"] is None
    assert document["metadata"]["kernel"] is None
    assert "is of another kernel" in ended.stderr
    refused = pypwru("--list-functions", "--all-kmods", "--kernel-btf", str(other))
    assert refused.returncode == 1
    assert "leave out --kmods and --all-kmods" in refused.stderr
    own = pypwru("--list-functions", "--output-json", "--kernel-btf", str(VMLINUX))
    assert json.loads(own.stdout)["metadata"]["kernel"] == os.uname().release


def test_btf_without_functions_is_error(tmp_path: Path) -> None:
    other = tmp_path / "btf"
    other.write_bytes(Kernel().encoder.bytes())
    ended = pypwru("--list-functions", "--kernel-btf", str(other))
    assert ended.returncode == 1
    assert "types but no functions" in ended.stderr.splitlines()[-1]


def test_written_list_is_traced(tmp_path: Path) -> None:
    file = tmp_path / "names"
    flags = ("--backend", "tracepoint")
    ended = pypwru("--function-list", str(file), "--priority", "0", *flags)
    assert (ended.returncode, ended.stdout) == (0, "")
    names = file.read_text().splitlines()
    assert "tp:netif_receive_skb" in names and len(names) < 15
    file.write_text("\n".join([*names, "ip_rcv", "tp:nosuch"]))
    with tracing("--functions", str(file), "--output-json", "icmp") as run:
        subprocess.run(["ping", "-q", "-c", "1", "127.0.0.1"], check=True)
    functions = {json.loads(line)["func"].partition("(")[0] for line in run.stdout.splitlines()}
    assert {"tp:netif_receive_skb", "tp:net_dev_queue"} <= functions <= set(names)
    assert run.done["attached"] == len(names)
    assert "Not traced functions=tp:nosuch" in run.stderr
    assert "Not traced functions=ip_rcv " in run.stderr


def test_list_is_piped() -> None:
    names = pypwru("--function-list", "-", "--priority", "0", "--backend", "tracepoint").stdout
    ended = pypwru("--list-functions", "--functions", "-", words=names)
    assert ended.returncode == 0
    assert [line.split()[0] for line in ended.stdout.splitlines()[1:]] == sorted(
        names.splitlines(), key=lambda name: (name not in ("tp:consume_skb", "tp:kfree_skb"), name)
    )


def test_list_of_tracepoints_selects_backend() -> None:
    ended = pypwru("--list-functions", "--functions", "-", words="tp:kfree_skb\n")
    assert ended.returncode == 0
    assert "Chose backend backend=tracepoint" in ended.stderr


def test_closed_pipe_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        ended = subprocess.run(
            [sys.executable, "-m", "pypwru", "--list-functions"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
            env=environment(),
        )
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr and "pypwru:" not in ended.stderr


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (("--functions", "/nonexistent"), 1, "can't read --functions /nonexistent: No such file"),
        (("--functions", "/"), 1, "can't read --functions /: Is a directory"),
        (("--functions", "/dev/null"), 1, "it names no function"),
        (("--function-list", "/nonexistent/x"), 1, "choose another --function-list"),
        (("--list-functions", "--filter-func", "no_such_fn"), 1, "Cannot find a matching"),
        (("--list-functions", "--category", "nosuch"), 2, "there is no such category"),
        (("--list-functions", "--kmods", "nosuch"), 1, "no BTF of kernel module 'nosuch'"),
        (("--list-functions", "--function-list", "-"), 2, "write the same output"),
    ],
)
def test_errors_are_one_line(flags: Sequence[str], status: int, words: str) -> None:
    ended = pypwru(*flags)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert words in ended.stderr.splitlines()[-1]


def test_list_takes_under_a_second() -> None:
    pypwru("--list-functions")  # fills the cache
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    pypwru("--list-functions")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Seconds of a CPU: what else this machine does at the time counts less.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (["tcp prot 443"], 1, "syntax error"),
        (["--filter-tunnel-pcap-l3", "host nosuch."], 1, "--filter-tunnel-pcap-l3"),
        (["--filter-ifname", "nosuch0"], 1, "no such network interface"),
        (["--filter-netns", "/nosuch"], 1, "Failed to retrieve netns /nosuch"),
        (["--filter-netns", "inode:x"], 2, "is no inode"),
        (["--filter-skb-expr", "skb->lenn > 5"], 1, "did you mean len?"),
        (["--output-skb-metadata", "skb->markk"], 1, "did you mean mark?"),
    ],
)
def test_errors_of_trace_options_are_errors_of_list(
    words: list[str], status: int, why: str
) -> None:
    ended = pypwru("--list-functions", "--backend=tracepoint", *words)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert why in ended.stderr.splitlines()[-1]
