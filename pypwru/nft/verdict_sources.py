"""Sources of netfilter verdicts, nftables and iptables-legacy: which functions to hook for each."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from pypwru.bpf_sources import NFT, NFT_EVAL, XTABLES
from pypwru.discovery.functions import Function
from pypwru.discovery.plan import Groups, Handler
from pypwru.errors import KernelError
from pypwru.kernel.kallsyms import Symbols, display_name
from pypwru.nft import expression_hooks
from pypwru.nft.trace_enable import enable_nft_tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class VerdictSource(NamedTuple):
    """A source of verdicts.

    Args:
        name: for the log.
        modules: kernel modules of its functions, where they are not built in.
        functions: names to hook; the source is available if the first one exists.
        group_functions: maps the functions that exist to handlers.
        unit: C file of these handlers.
        enable: returns a context that enables the source's trace events while it is held.
        fallback: the source to use if ``enable`` fails, and what that one can't report, for the
            log.
    """

    name: str
    modules: tuple[str, ...]
    functions: tuple[str, ...]
    group_functions: Callable[[Sequence[Function]], Groups]
    unit: str
    enable: Callable[[Sequence[Function]], AbstractContextManager[object]] = nullcontext
    fallback: tuple[VerdictSource, str] | None = None

    @property
    def symbols(self) -> set[str]:
        """Names in kallsyms, with and without module, of its functions and its fallback's."""
        modules = ("", *self.modules)
        names = {display_name(name, module) for name in self.functions for module in modules}
        return names | (self.fallback[0].symbols if self.fallback else set())

    def find_functions(self, symbols: Symbols) -> list[Function]:
        """Return its functions that exist; empty if the source is not available.

        Args:
            symbols: of kallsyms; other functions may be missing there.
        """
        existing = [
            _make_function(name, module, symbols)
            for module in ("", *self.modules)
            for name in self.functions
            if symbols.addresses(name, module)
        ]
        return existing if any(function.name == self.functions[0] for function in existing) else []


def _make_function(name: str, module: str, symbols: Symbols) -> Function:
    addresses = symbols.addresses(name, module)
    return Function(name, module, 0, 0, addresses, display_name(name, module), "nft", 0)


def _group_nft_functions(functions: Sequence[Function]) -> Groups:
    do_chain, trace_packet = functions
    return {
        Handler("nft_chain_entry"): (do_chain,),
        Handler("nft_chain_exit", is_return=True, number=do_chain.addresses[0]): (do_chain,),
        Handler("nft_trace_packet"): (trace_packet,),
    }


def _group_xt_functions(functions: Sequence[Function]) -> Groups:
    return {
        Handler("xt_table_entry"): tuple(functions),
        Handler("xt_table_exit", is_return=True): tuple(functions),
    }


def _enable_nft_trace(functions: Sequence[Function]) -> AbstractContextManager[object]:
    """Return a context that has the kernel call __nft_trace_packet() for every rule.

    Raises:
        KernelError: the kernel lacks that function.
    """
    if len(functions) < len(_NFT_FUNCTIONS):
        raise KernelError(f"this kernel has no symbol {_NFT_FUNCTIONS[1]}")
    return enable_nft_tracing()


def _iptables_source(module: str, function: str) -> VerdictSource:
    return VerdictSource(
        f"iptables-legacy ({module})", (module,), (function,), _group_xt_functions, XTABLES
    )


_NFT_FUNCTIONS = (expression_hooks.NFT_DO_CHAIN, "__nft_trace_packet")
_EXPRESSION_SOURCE = VerdictSource(
    "nftables",
    expression_hooks.MODULES,
    expression_hooks.FUNCTIONS,
    expression_hooks.group_functions,
    NFT_EVAL,
)
VERDICT_SOURCES = (
    VerdictSource(
        "nftables",
        ("nf_tables",),
        _NFT_FUNCTIONS,
        _group_nft_functions,
        NFT,
        _enable_nft_trace,
        (_EXPRESSION_SOURCE, "rules without a verdict are not seen"),
    ),
    _iptables_source("ip_tables", "ipt_do_table"),
    _iptables_source("ip6_tables", "ip6t_do_table"),
    _iptables_source("arp_tables", "arpt_do_table"),
    _iptables_source("ebtables", "ebt_do_table"),
)


def verdict_functions() -> frozenset[str]:
    """Return the names, without their modules, of the functions that verdicts are hooked by."""
    displays = frozenset().union(*(source.symbols for source in VERDICT_SOURCES))
    return frozenset(display.partition("[")[0] for display in displays)
