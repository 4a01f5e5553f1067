"""What a Config asks to trace, with the types of the kernel in which it is looked for."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pypwru.attach.backend import Search
from pypwru.btf.load import load_module, load_vmlinux, module_names
from pypwru.cache import Cache
from pypwru.config import Config
from pypwru.discovery.others import Tracking
from pypwru.discovery.selection import Selection
from pypwru.kernel.kallsyms import Symbols
from pypwru.kernel.programs import helper_targets


def search(config: Config, cache: Cache) -> Search:
    """Read the types, and note what is wanted.

    Raises:
        BTFError: the types can't be had.
        UsageError, FilterError: there is nothing of such a name, category or pattern.
    """
    selection = Selection(config.filter_func, config.priority, frozenset(config.category))
    btf = load_vmlinux(config.kernel_btf, cache)
    names = module_names() if config.all_kmods else config.kmods
    return Search(
        btf,
        {name: load_module(name, btf) for name in names},
        selection,
        _tracking(config),
        optional=config.filter_trace_tc or config.filter_trace_xdp,
        running=config.kernel_btf is None,
    )


def _tracking(config: Config) -> Tracking:
    def functions(symbols: Symbols) -> Collection[str]:
        called = helper_targets(symbols) if config.filter_track_bpf_helpers else set()
        return called.union(config.filter_non_skb_funcs)

    asked = config.filter_track_bpf_helpers or config.filter_non_skb_funcs
    wanted: Callable[[Symbols], Collection[str]] | None = functions if asked else None
    return Tracking(
        config.filter_track_skb,
        config.tracks_stacks,
        wanted,
        config.output_bpfmap,
        by_verdict=config.asks_nft,
        by_sight=config.captures_first,
    )
