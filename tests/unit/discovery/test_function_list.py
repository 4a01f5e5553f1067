"""--functions: formats of a list of names, and the modules of the names."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from pypwru.btf.query import BTF
from pypwru.config import Backend
from pypwru.discovery.function_list import parse_names, read_names
from pypwru.discovery.functions import discover_functions
from pypwru.discovery.listed_functions import LookupScope, explain_missing, resolve_names
from pypwru.discovery.no_match import no_function_error
from pypwru.discovery.plan import plan_functions
from pypwru.discovery.selection import Selection
from pypwru.discovery.tracepoints import discover_tracepoints
from pypwru.errors import BTFError, ListError
from tests.unit.discovery.test_functions import Kernel


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ip_rcv\n", ["ip_rcv"]),
        ("# mine\n\n  ip_rcv  # entry\nudp_rcv", ["ip_rcv", "udp_rcv"]),
        ("ip_rcv\nip_rcv\n", ["ip_rcv"]),
        ("br_forward[bridge]\ntp:kfree_skb\n", ["br_forward[bridge]", "tp:kfree_skb"]),
        ('["ip_rcv", "br_forward[bridge]"]', ["ip_rcv", "br_forward[bridge]"]),
        ('[{"name": "ip_rcv"}]', ["ip_rcv"]),
        ('{"functions": [{"name": "ip_rcv", "module": null}]}', ["ip_rcv"]),
        ('{"functions": [{"name": "br_forward", "module": "bridge"}]}', ["br_forward[bridge]"]),
        ('[{"name": "tp:kfree_skb", "module": "ovs"}]', ["tp:kfree_skb"]),
    ],
)
def test_formats_of_a_list(text: str, names: list[str]) -> None:
    assert list(parse_names(text)) == names


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it names no function"),
        ("# nothing\n", "it names no function"),
        ("[]", "it names no function"),
        ("ip_rcv\nNAME  MODULE  ARG\n", "line 2 is not a function name: 'NAME  MODULE  ARG'"),
        ("ip_.*", "line 1 is not a function name"),
        ("br_forward[]", "line 1 is not a function name"),
        ("{", "it starts like JSON but is not valid"),
        ("[" * 100_000, "it starts like JSON but is not valid"),
        ('{"names": []}', 'it has no array "functions"'),
        ('{"functions": {"ip_rcv": 1}}', 'it has no array "functions"'),
        ('["ip_rcv", 7]', "entry 2 has no name: 7"),
        ('[{"module": "bridge"}]', "entry 1 has no name"),
        ('[{"name": "x", "module": 3}]', "entry 1 has no name"),
        ('["a b"]', "entry 1 is not a function name"),
    ],
)
def test_malformed_list_is_named(text: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text(text)
    with pytest.raises(ListError) as caught:
        read_names(file)
    assert f"--functions {file}: {problem}" in str(caught.value)
    assert "--function-list" in str(caught.value)


def test_unreadable_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(ListError, match="No such file"):
        read_names(tmp_path / "none")
    with pytest.raises(ListError, match="Is a directory"):
        read_names(tmp_path)
    (tmp_path / "octets").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ListError, match="it is not UTF-8 text"):
        read_names(tmp_path / "octets")
    assert read_names(None) is None


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_endless_device_is_refused(device: str) -> None:
    with pytest.raises(ListError, match=f"--functions {device}: it is longer than 64 MiB"):
        read_names(Path(device))


def test_standard_input_is_read_to_eof() -> None:
    """Through a pipe it comes in several reads."""
    reading, writing = os.pipe()
    stdin = os.dup(0)
    os.dup2(reading, 0)
    try:
        names = [f"function_{number}" for number in range(20_000)]
        feed = os.fdopen(writing, "w")

        def write() -> None:
            with feed:
                feed.write("\n".join(names))

        feeder = threading.Thread(target=write)
        feeder.start()
        assert read_names(Path("-")) == tuple(names)
        feeder.join()
        assert os.fstat(0), "it is still open"
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
        os.close(reading)


def kernel() -> Kernel:
    found = Kernel()
    found.function("ip_rcv", found.skb)
    found.function("ip_local_deliver", found.skb)
    found.function("vprintk", found.int)
    found.tracepoint("kfree_skb", found.skb)
    return found


class Modules:
    """Loaded modules; records which are read."""

    def __init__(self, base: Kernel) -> None:
        self.types = {name: base.module(f"{name}_fn", "shared") for name in ("alpha", "beta")}
        self.read: list[str] = []

    def load(self, name: str) -> BTF:
        self.read.append(name)
        if name not in self.types:
            raise BTFError("not loaded")
        return self.types[name]


@pytest.mark.parametrize(
    ("names", "displays", "read"),
    [
        (["ip_rcv", "tp:kfree_skb"], ["ip_rcv", "tp:kfree_skb"], []),
        (["alpha_fn[alpha]"], ["alpha_fn[alpha]"], ["alpha"]),
        (["beta_fn"], ["beta_fn[beta]"], ["alpha", "beta"]),
        (["shared"], ["shared[alpha]", "shared[beta]"], ["alpha", "beta"]),
        (["none", "x[gone]"], ["none", "x[gone]"], ["gone", "alpha", "beta"]),
    ],
)
def test_names_are_resolved_to_modules(
    names: list[str], displays: list[str], read: list[str]
) -> None:
    base = kernel()
    modules = Modules(base)
    found = resolve_names(tuple(names), base.btf(), {}, modules.load, ["alpha", "beta"])
    assert sorted(found.displays) == displays
    assert modules.read == read
    used = {display.partition("[")[2].rstrip("]") for display in displays} - {"", "gone"}
    assert set(found.modules) == used


def test_only_listed_functions_are_found() -> None:
    base = kernel()
    selection = Selection(only=frozenset(("ip_rcv", "alpha_fn[alpha]", "tp:kfree_skb", "shared")))
    modules = {"alpha": Modules(base).types["alpha"]}
    found = discover_functions(base.btf(), modules, None, None, selection)
    assert [one.display for one in found.functions] == ["ip_rcv", "alpha_fn[alpha]"]
    assert [one.display for one in discover_tracepoints(base.btf(), selection)] == ["tp:kfree_skb"]
    narrowed = Selection("ip_local.*", only=selection.only)
    assert discover_functions(base.btf(), modules, None, None, narrowed).functions == ()


def test_every_missing_name_has_a_reason() -> None:
    base = kernel()
    missing = ["nosuch", "vprintk", "x[gone]", "ip_rcv", "tp:kfree_skb", "tp:nosuch", "other"]
    by_functions = explain_missing(
        missing, LookupScope(base.btf(), {}, is_tracepoint_backend=False)
    )
    assert {name: reason for reason, names in by_functions.items() for name in names} == {
        "nosuch": "it is not in this kernel's BTF",
        "other": "it is not in this kernel's BTF",
        "vprintk": "it takes no sk_buff: trace it with --filter-non-skb-funcs",
        "x[gone]": "no BTF of module gone: it isn't loaded, or this kernel has no BTF of modules",
        "ip_rcv": "excluded by --filter-func, --priority or --category",
        "tp:kfree_skb": "a tracepoint, which --backend tracepoint traces",
        "tp:nosuch": "this kernel has no such tracepoint with an sk_buff argument",
    }
    by_tracepoints = explain_missing(
        ["ip_rcv"], LookupScope(base.btf(), {}, is_tracepoint_backend=True)
    )
    assert list(by_tracepoints) == ["a function, and --backend tracepoint traces none"]


def test_untraceable_list_is_explained() -> None:
    base = kernel()
    selection = Selection(only=frozenset(("nosuch", "vprintk")))
    discovery = discover_functions(base.btf(), {}, None, None, selection)
    assert plan_functions(Backend.KPROBE, discovery).target_count == 0
    error = str(no_function_error(selection, base.btf(), {}, discovery))
    assert "none of the 2 names in --functions can be traced" in error
    assert "nosuch: it is not in this kernel's BTF" in error
    assert "vprintk: it takes no sk_buff" in error


def test_listing_document_is_a_list() -> None:
    functions = [{"name": "ip_rcv", "module": None, "attachable": False}]
    assert parse_names(json.dumps({"metadata": {}, "functions": functions})) == ("ip_rcv",)
