"""Who judges packets: nftables and iptables-legacy, each with what is hooked of it."""

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
    """One of them.

    Args:
        name: for the log.
        modules: that its functions are in, where the kernel has them not built in.
        functions: what is hooked of it; it is there when the first one is.
        groups: the handlers, of these functions.
        unit: the C that has them.
        key: what makes it speak, of the functions that are there; held while it is listened to.
        instead: what is hooked where it doesn't speak, and what is not seen then.
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
        """What kallsyms may call its functions."""
        modules = ("", *self.modules)
        own = {display_name(name, module) for name in self.functions for module in modules}
        return own | (self.instead[0].symbols if self.instead else set())

    def found(self, symbols: Symbols) -> list[Function]:
        """Those of its functions that there are; none where it is not there."""
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
    if len(functions) < len(_NFT):
        raise KernelError(f"this kernel was compiled without a function {_NFT[1]}")
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
