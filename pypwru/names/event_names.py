"""The name resolver of a run, and the names of one event that depend on several of its fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pypwru.wire.kinds import DROP_TYPE, FUNCTION, KINDS

if TYPE_CHECKING:
    from pypwru.names.clock import Clock
    from pypwru.nft.render import ChainNames
    from pypwru.wire.fields import FunctionFields

_FUNCTION = FUNCTION.number


class MemberFormatter(Protocol):
    """Formatter of the struct members that an option selects: that of ``pypwru.expr``."""

    def format_text(self, raw_values: Sequence[int]) -> str:
        """Return `` name=value name=value``.

        Args:
            raw_values: u64 of each member, in the order of the option.
        """

    def json_values(self, raw_values: Sequence[int]) -> Mapping[str, object]:
        """Return name -> value.

        Args:
            raw_values: as of ``format_text``.
        """


class NameResolver(NamedTuple):
    """The name resolver: one function per kind of name, from ``pypwru.names`` or stubs in tests.

    Args:
        process: (pid, comm, start_stack) to the path or name of the program; empty if unknown.
        namespace: (inode, cookie) of a network namespace to its name; empty if it has none.
        function: (address, drop reason, kind of event) to the text of column FUNC.
        is_drop: (address, drop reason) to whether the event drops its packet.
        caller: return addresses to the name of the function that called the traced one.
        location: return addresses to the call site of a drop, as ``tcp_v4_rcv+0x9a1``; empty if
            unknown.
        stack: return addresses to names of functions, the traced one first.
        chain: (inode of a network namespace, handles of table and chain) to their names; empty if
            unknown.
        rule: (``struct part_nft``, ktime of the nft event) to text and comment of the rule; None if
            they are unknown.
        skb_members: formatter of --output-skb-metadata; None without that option.
        xdp_members: formatter of --output-xdp-metadata; None without that option.
        clock: converter of ktime to the times that outputs print.
        escape: makes a name from outside (a program, a device, a namespace) safe for the output.
    """

    process: Callable[[int, str, int], str]
    namespace: Callable[[int, int], str]
    function: Callable[[int, int, int], str]
    is_drop: Callable[[int, int], bool]
    caller: Callable[[Sequence[int]], str]
    location: Callable[[Sequence[int]], str]
    stack: Callable[[Sequence[int]], Sequence[str]]
    chain: ChainNames
    rule: Callable[[bytes, int], tuple[str, str] | None]
    skb_members: MemberFormatter | None
    xdp_members: MemberFormatter | None
    clock: Clock
    escape: Callable[[str], str] = str


def event_type(function: FunctionFields, names: NameResolver) -> str:
    """Return the JSON type of an event: ``function_call``, ``drop``, ``nft_rule``, ..."""
    if function.kind == _FUNCTION and names.is_drop(function.address, function.reason):
        return DROP_TYPE
    return KINDS[function.kind].json_type


def name_and_reason(function: FunctionFields, names: NameResolver) -> tuple[str, str]:
    """Return the function's name, and the name of the drop reason; empty if it drops nothing."""
    name, _, rest = names.function(*function).partition("(")
    # The text of some functions has the reason also when it is consumed, not dropped.
    reason = rest.rstrip(")") if event_type(function, names) == DROP_TYPE else ""
    return name.rstrip(), reason
