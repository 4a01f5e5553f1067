"""Compiles for a guest on the host, where a compile takes half a second and not thirty.

    python -m tests.lab.vm.warm_cache KERNEL <COMMANDS

COMMANDS is JSON: cache folder to command lines, each a list of words. A run in the guest finds the
bytecode by its key; a key that differs costs the guest a compile, and changes nothing else.
"""

from __future__ import annotations

import functools
import json
import lzma
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pypwru.bpf_sources import FIELDS, MAIN, NFT, XTABLES, sources
from pypwru.btf import elf
from pypwru.btf.load import load_vmlinux
from pypwru.btf.query import BTF
from pypwru.cache import Cache
from pypwru.cli.flags import parse
from pypwru.config import Backend, Config
from pypwru.errors import PypwruError, UsageError
from pypwru.kernel.netns_filter import NetnsFilter
from pypwru.needs import Needs
from pypwru.nft.types import MODULE, NftTypes
from pypwru.nft.xt_types import XtTypes
from pypwru.program.build import build
from pypwru.program.conntrack_types import ConntrackTypes
from pypwru.program.layout import build_layout
from pypwru.program.macros import defines
from pypwru.wire.layout import record_layout
from tests.lab import kernels
from tests.lab.vm import guest, packages
from tests.support.criteria import criteria_of

_LEGACY = (
    "ip_tables",
    "ipt_do_table",
)  # as of VERDICT_SOURCES: its siblings have the same handlers


def _choices(kernel: str, backend_flag: Backend | None) -> list[set[Backend]]:
    """Return the sets of backends that a run may select, each with the backend of the other
    probes.
    """
    row = kernels.kernel(kernel)
    rest = {Backend(row.kprobes)}
    if backend_flag:
        return [{backend_flag}, {backend_flag} | rest]
    first = {Backend(row.automatic_for_few)} | rest
    return [first] if first == rest else [first, rest]


def configured(words: Sequence[str]) -> Config | None:
    """Return the run's config; None when its arguments are invalid or it isn't a run."""
    try:
        found = parse(words)
    except UsageError:
        return None
    return found if isinstance(found, Config) else None


def unpack_btf(kernel: str, folder: Path) -> None:
    """Write the BTF of the modules with verdict sources into ``folder``, as in /sys/kernel/btf.

    A guest has there what is in the module's file. Modules before Linux 5.11 have none.
    """
    for file in packages.kernel(kernel).rglob("*.ko*"):
        name = file.name.partition(".")[0]
        if name in (MODULE, _LEGACY[0]):
            content = file.read_bytes()
            unpacked = lzma.decompress(content) if file.suffix == ".xz" else content
            if found := elf.find_section(unpacked, ".BTF"):
                (folder / name).write_bytes(found)


def _units(
    btf: BTF, modules: Path, has_conntrack: bool
) -> list[tuple[str, str, Mapping[str, str]]]:
    """Return file, layout and macros of all handlers; all but those of MAIN trace verdicts."""
    also = [ConntrackTypes(btf)] if has_conntrack else []  # vmlinux of Debian's kernels has them
    nft, legacy = NftTypes(btf, modules), XtTypes(btf, *_LEGACY, modules)
    fields = sources()[FIELDS]
    return [
        (MAIN, build_layout(fields, btf, *also), {}),
        (NFT, build_layout(fields, btf, nft, *also), {}),
        (XTABLES, build_layout(fields, btf, legacy, *also), legacy.macros),
    ]


def fill(kernel: str, folder: Path, configs: Iterable[Config | None], modules: Path) -> None:
    """Compile what these runs will load on ``kernel`` into the cache ``folder``.

    Args:
        modules: as filled by ``unpack_btf``.
    """
    kept, path = Cache(folder), guest.btf(kernel)
    btf = load_vmlinux(path, kept)
    units = functools.cache(functools.partial(_units, btf, modules))
    for config in configs:
        if config is None:
            continue
        # Only whether there is a namespace and an interface is compiled in.
        place = NetnsFilter(
            int(bool(config.filter_netns or config.filter_ifname)), config.filter_ifname
        )
        try:
            compiled = criteria_of(config, place, btf)
            for backends in _choices(kernel, config.backend):
                needs = Needs.of(config, page_fragments=compiled.needs_fragments)
                macros = defines(needs, backends, compiled, record_layout(needs))
                for unit, layout, more in units(config.output_ct):
                    if unit == MAIN or config.traces_nft:
                        build(layout, {**macros, **more}, kept, unit)
        except (PypwruError, ImportError):
            continue  # the guest reports the error


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as btf_folder:
        unpack_btf(sys.argv[1], Path(btf_folder))
        for name, commands in json.load(sys.stdin).items():
            fill(sys.argv[1], Path(name), map(configured, commands), Path(btf_folder))
