"""Sources of netfilter verdicts, nftables and iptables-legacy: which functions to hook for each."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from pypwru.attach import nft_eval
from pypwru.discovery.functions import Function
from pypwru.discovery.plan import Groups, Handler
from pypwru.errors import KernelError
from pypwru.kernel.kallsyms import Symbols, display_name
from pypwru.kernel.nft_key import nft_key
from pypwru.program.source import NFT, NFT_EVAL, XTABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Judge(NamedTuple):
    """A source of verdicts.

    Args:
        name: for the log.
        modules: kernel modules of its functions, where they are not built in.
        functions: names to hook; the source is available if the first one exists.
        groups: maps the functions that exist to handlers.
        unit: C file of these handlers.
        key: returns a context that enables the source's trace events while it is held.
        instead: the source to use if ``key`` fails, and what that one can't report, for the log.
    """

    name: str
    modules: tuple[str, ...]
    functions: tuple[str, ...]
    groups: Callable[[Sequence[Function]], Groups]
    unit: str
    key: Callable[[Sequence[Function]], AbstractContextManager[object]] = nullcontext
    instead: tuple[Judge, str] | None = None

    @property
    def symbols(self) -> set[str]:
        """Names in kallsyms, with and without module, of its functions and its fallback's."""
        modules = ("", *self.modules)
        own = {display_name(name, module) for name in self.functions for module in modules}
        return own | (self.instead[0].symbols if self.instead else set())

    def found(self, symbols: Symbols) -> list[Function]:
        """Return its functions that exist; empty if the source is not available.

        Args:
            symbols: of kallsyms; other functions may be missing there.
        """
        there = [
            _function(name, module, symbols)
            for module in ("", *self.modules)
            for name in self.functions
            if symbols.addresses(name, module)
        ]
        return there if any(each.name == self.functions[0] for each in there) else []


def _function(name: str, module: str, symbols: Symbols) -> Function:
    addresses = symbols.addresses(name, module)
    return Function(name, module, 0, 0, addresses, display_name(name, module), "nft", 0)


def _nft_groups(functions: Sequence[Function]) -> Groups:
    evaluates, tells = functions
    return {
        Handler("nft_in"): (evaluates,),
        Handler("nft_out", returns=True, number=evaluates.addresses[0]): (evaluates,),
        Handler("nft_trace"): (tells,),
    }


def _xt_groups(functions: Sequence[Function]) -> Groups:
    return {Handler("xt_in"): tuple(functions), Handler("xt_out", returns=True): tuple(functions)}


def _key(functions: Sequence[Function]) -> AbstractContextManager[object]:
    """Return a context that has the kernel call __nft_trace_packet() for every rule.

    Raises:
        KernelError: the kernel lacks that function.
    """
    if len(functions) < len(_NFT):
        raise KernelError(f"this kernel has no symbol {_NFT[1]}")
    return nft_key()


def _legacy(module: str, function: str) -> Judge:
    return Judge(f"iptables-legacy ({module})", (module,), (function,), _xt_groups, XTABLES)


_NFT = (nft_eval.EVALUATES, "__nft_trace_packet")
_BY_EXPRESSIONS = Judge("nftables", nft_eval.MODULES, nft_eval.FUNCTIONS, nft_eval.groups, NFT_EVAL)
JUDGES = (
    Judge(
        "nftables",
        ("nf_tables",),
        _NFT,
        _nft_groups,
        NFT,
        _key,
        (_BY_EXPRESSIONS, "rules without a verdict are not seen"),
    ),
    _legacy("ip_tables", "ipt_do_table"),
    _legacy("ip6_tables", "ip6t_do_table"),
    _legacy("arp_tables", "arpt_do_table"),
    _legacy("ebtables", "ebt_do_table"),
)


def verdict_functions() -> frozenset[str]:
    """Return the names, without their modules, of the functions that verdicts are hooked by."""
    displays = frozenset().union(*(judge.symbols for judge in JUDGES))
    return frozenset(display.partition("[")[0] for display in displays)
