"""Compiles for a guest on the host, where a compile takes a quarter of a second and not ten.

    python -m tests.lab.vm.warm_cache KERNEL <COMMANDS

COMMANDS is JSON: cache folder to command lines, each a list of words. A run in the guest finds the
bytecode by its key; a key that differs costs the guest a compile, and changes nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pypwru.bpf_sources import sources
from pypwru.btf.load import load_vmlinux
from pypwru.cache import Cache
from pypwru.cli.flags import parse
from pypwru.config import Backend, Config
from pypwru.errors import PypwruError, UsageError
from pypwru.filter.compiler import compile_filter
from pypwru.filter.criteria import compile_criteria, compile_inner_filters
from pypwru.kernel.netns_filter import NetnsFilter
from pypwru.program.build import build
from pypwru.program.layout import build_layout
from pypwru.program.macros import defines
from pypwru.wire.layout import record_layout
from tests.lab import kernels
from tests.lab.vm import guest


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


def fill(kernel: str, folder: Path, configs: Iterable[Config | None]) -> None:
    """Compile what these runs will load on ``kernel`` into the cache ``folder``."""
    kept, path = Cache(folder), guest.btf(kernel)
    btf = load_vmlinux(path, kept)
    text = build_layout(sources().values(), btf)
    for config in configs:
        if config is None:
            continue
        # Only whether there is a namespace and an interface is compiled in.
        place = NetnsFilter(
            int(bool(config.filter_netns or config.filter_ifname)), config.filter_ifname
        )
        try:
            compiled = compile_criteria(
                config,
                compile_filter(config.pcap_filter),
                compile_inner_filters(config),
                place,
                btf,
            )
            for backends in _choices(kernel, config.backend):
                build(text, defines(config, backends, compiled, record_layout(config)), kept)
        except (PypwruError, ImportError):
            continue  # the guest reports the error


if __name__ == "__main__":
    for name, commands in json.load(sys.stdin).items():
        fill(sys.argv[1], Path(name), map(configured, commands))
