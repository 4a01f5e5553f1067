"""The loader and the maps against this kernel."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from pypwru.asm.ebpf import ALU64, EXIT_PROGRAM, MOV, R0, Insn, pack
from pypwru.cli.flags import parse
from pypwru.config import Config
from pypwru.discovery.argument_slots import ArgumentSlots
from pypwru.errors import KernelError
from pypwru.fds import closing_fd
from pypwru.kernel import bpf
from pypwru.kernel.bpf import AttachType, MapType, ProgramType
from pypwru.needs import Needs
from pypwru.program import maps
from pypwru.program.load import Loader
from tests.native.tracing import need_tracing

pytestmark = pytest.mark.native

GOOD = pack([Insn(ALU64 | MOV, R0), Insn(EXIT_PROGRAM)])
NO_RESULT = pack([Insn(EXIT_PROGRAM)])


@pytest.fixture(autouse=True)
def _can_trace() -> None:
    need_tracing()


EVERYTHING = (
    "--filter-track-skb --filter-trace-xdp --filter-track-bpf-helpers --output-bpfmap "
    "--output-pcap a.pcap --pcap-when first,drop --max-hits 5"
)


def load(code: bytes) -> tuple[dict[str, int], Loader]:
    """Load ``code`` as the only handler; closed at once."""
    with ExitStack() as stack:
        loader = Loader({"trace_skb": code}, {}, {}, dict.fromkeys(maps.MAPS, 0), stack)
        loader.load("trace_skb", ArgumentSlots(1), (ProgramType.RAW_TRACEPOINT, AttachType.NONE))
        return loader.recursion_misses(), loader


def needs_of(text: str, *, page_fragments: bool = False) -> Needs:
    config = parse(text.split())
    assert isinstance(config, Config)
    return Needs.of(config, page_fragments=page_fragments)


def test_accepted_program_is_loaded() -> None:
    misses, loader = load(GOOD)
    assert misses == {"trace_skb": 0}
    assert list(loader.programs.values()) == ["trace_skb"]


def test_error_has_last_line_of_verifier() -> None:
    with pytest.raises(KernelError) as caught:
        load(NO_RESULT)
    message = str(caught.value)
    assert message.startswith("The kernel's verifier refused trace_skb: R0 !read_ok; ")
    assert "\n" not in message and "--debug" in message
    assert "processed" in caught.value.detail and "R0 !read_ok" in caught.value.detail


def test_empty_program_is_error() -> None:
    """The kernel returns EINVAL or E2BIG and writes no log."""
    with pytest.raises(KernelError) as caught:
        load(b"")
    assert "trace_skb" in str(caught.value) and "\n" not in str(caught.value)


def test_plain_run_has_three_maps() -> None:
    with ExitStack() as stack:
        assert set(maps.create_maps(needs_of("--output-nft=false"), 1 << 16, stack)) == {
            "events",
            "counters",
            "reader",
        }


def test_maps_have_declared_shapes() -> None:
    with ExitStack() as stack:
        needs = needs_of(EVERYTHING, page_fragments=True)
        made = maps.create_maps(needs, 1 << 16, stack)
        assert set(made) == set(maps.MAPS)
        for name, shape in maps.MAPS.items():
            info = dict(
                line.split(":\t")
                for line in Path(f"/proc/self/fdinfo/{made[name]}").read_text().splitlines()
                if ":\t" in line
            )
            assert int(info["map_type"]) == shape.kind
            assert int(info["key_size"]) == shape.key
            assert int(info["value_size"]) == shape.value
            assert int(info["max_entries"]) == (shape.entries or 1 << 16)


@pytest.mark.parametrize("size", [3 * 4096, 65540])
def test_ring_of_wrong_size_is_error(size: int) -> None:
    with (
        ExitStack() as stack,
        pytest.raises(KernelError, match=f"ring buffer of {size} bytes: Invalid argument; .*power"),
    ):
        maps.create_maps(needs_of(""), size, stack)


def test_map_without_capability_is_error() -> None:
    """In a process without capabilities, so that this machine's sysctl doesn't matter."""
    script = (
        "from contextlib import ExitStack\n"
        "from pypwru.errors import KernelError\n"
        "from pypwru.needs import Needs\n"
        "from pypwru.program import maps\n"
        "from pypwru.cli.flags import parse\n"
        "try:\n    maps.create_maps(Needs.of(parse([])), 1 << 16, ExitStack())\n"
        "except KernelError as error:\n    print(error)\n"
    )
    found = subprocess.run(
        ["setpriv", "--bounding-set=-all", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Failed to make a ring buffer of 65536 bytes: Operation not permitted; " in found.stdout
    assert "root" in found.stdout


def test_map_descriptor_is_closed() -> None:
    with closing_fd(bpf.map_create(MapType.ARRAY, "test", 4, 8, 1)) as fd:
        assert bpf.map_lookup(fd, 0, 8) == bytes(8)
    with pytest.raises(OSError):
        bpf.map_lookup(fd, 0, 8)
