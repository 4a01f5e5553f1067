"""The printer of a session: its form, and where names come from."""

from __future__ import annotations

from collections.abc import Mapping

from pypwru.btf.query import BTF
from pypwru.config import Config
from pypwru.output.clock import Clock
from pypwru.output.columns import Members, Names, columns
from pypwru.output.json import Json
from pypwru.output.nft_source import NO_NFT, NftSource
from pypwru.output.printer import Printer
from pypwru.output.sink import Sink
from pypwru.output.text import Text
from pypwru.resolve.functions import FunctionNames
from pypwru.resolve.interfaces import Interfaces
from pypwru.resolve.namespaces import Namespaces
from pypwru.resolve.processes import Processes
from pypwru.resolve.reasons import Reasons
from pypwru.resolve.symbols import SymbolNames


def _are_tracepoints(names: Mapping[int, str]) -> bool:
    """By the first: tracepoints come before all others, and are never among functions."""
    return next(iter(names.values()), "").startswith("tp:")


def printer(
    config: Config,
    sink: Sink,
    btf: BTF,
    names: Mapping[int, str],
    skb_members: Members | None = None,
    xdp_members: Members | None = None,
    nft: NftSource = NO_NFT,
) -> Printer:
    """The printer of a run.

    Args:
        btf: the kernel's, for the words of drop reasons.
        names: the address that a record carries -> name, of everything that is attached; it may
            grow meanwhile.
        skb_members, xdp_members: of --output-skb-metadata and --output-xdp-metadata.
        nft: of what nftables says.

    Raises:
        KernelError: callers or stacks are wanted, and the kernel hides its symbols.
    """
    symbols = SymbolNames(read_now=config.output_caller or config.output_stack)
    shown = columns(config)
    functions = FunctionNames(names, Reasons(btf))
    return Printer(
        Json(shown) if config.output_json else Text(shown),
        Names(
            process=Processes().path,
            interface=Interfaces().name,
            namespace=Namespaces().name,
            function=functions.text,
            drops=functions.drops,
            caller=lambda frames: symbols.caller(frames, _are_tracepoints(names)),
            stack=symbols.stack,
            chain=nft.chain,
            rule=nft.rule,
            skb_members=skb_members,
            xdp_members=xdp_members,
            clock=Clock(),
        ),
        sink.write_events,
        config,
    )
