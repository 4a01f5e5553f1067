"""Count events: by function, by drop and by nftables rule.

Slices of records are counted, a batch at a time. A slice is resolved to a name at its first event:
the process, module or rule may be gone when a report is made.
"""

from __future__ import annotations

import operator
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pypwru.bounded_memo import BoundedMemo
from pypwru.names.event_names import NameResolver, event_type, name_and_reason
from pypwru.nft import record as nft_record
from pypwru.nft import render
from pypwru.nft.record import POLICY, append_text
from pypwru.packets.outcome import NestedDrop
from pypwru.wire import fields
from pypwru.wire.drop_flag import frees_no_packet
from pypwru.wire.fields import FUNCTION, KIND_SLICE, Part
from pypwru.wire.kinds import DROP_TYPE, NFT_RULE, encode_kind
from pypwru.wire.record import RawRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pypwru.wire.layout import RecordLayout

_KIND_GETTER = operator.itemgetter(KIND_SLICE)
_FUNC_SIZE = FUNCTION.size
_RULE_KIND = encode_kind(NFT_RULE.name)
_MAX_CACHED = 1 << 14  # slices in a dictionary; a full one is emptied


class Drop(NamedTuple):
    """Reason and code location of drops.

    Args:
        reason: the enumerator; None if the kernel has none.
        location: ``caller+0xOFFSET``; "" if unknown.
    """

    reason: str | None
    location: str


class RuleVerdict(NamedTuple):
    """An nftables rule or policy with a verdict.

    Args:
        netns: inode of the network namespace.
        family, table, chain: ``inet``, and names.
        handle: of the rule; None for a policy or the end of a chain.
        policy: the verdict is of the chain's policy.
        verdict: ``accept``, ``drop``, ...
        text: of the rule; None if unknown, or without a rule.
    """

    netns: int
    family: str
    table: str
    chain: str
    handle: int | None
    policy: bool
    verdict: str
    text: str | None


class EventCounts:
    """Counts events.

    Args:
        layout: the layout of records.
        names: resolver of names.
    """

    def __init__(self, layout: RecordLayout, names: NameResolver) -> None:
        self.events = 0
        self.functions: Counter[str] = Counter()
        self.drops: Counter[Drop] = Counter()
        """Dropped packets, each counted at the outermost function that dropped it."""
        self.drop_events: Counter[Drop] = Counter()
        """Drop events, including those of nested functions."""
        self._nested_drops: dict[bytes, NestedDrop] = {}  # address of the sk_buff -> its last drop
        self.rules: Counter[RuleVerdict] = Counter()
        self._names = names
        self._has_kind_in_text = layout.has_program_events
        self._tail_slices = {
            name: slice(at.offset, at.offset + at.size) for name, at in layout.parts.items()
        }
        self._kind_by_func: dict[
            bytes, bytes
        ] = {}  # func part -> kind, if texts depend on the kind
        self._text_by_func = BoundedMemo(self._resolve_function, _MAX_CACHED)
        self._is_drop_by_func = BoundedMemo(self._is_drop, _MAX_CACHED)
        self._drop_by_part = BoundedMemo(self._resolve_drop, _MAX_CACHED)
        self._rule_by_part = BoundedMemo(self._decode_rule, _MAX_CACHED)

    def add(self, batch: Sequence[RawRecord]) -> None:
        """Count a batch of events, at least one, without free records."""
        self.events += len(batch)
        packets, functions, _, _, tails = zip(*batch, strict=True)
        kinds = list(map(_KIND_GETTER, packets))
        if self._has_kind_in_text:
            functions = tuple(map(operator.add, functions, kinds))
        counts = Counter(functions)
        for function, hits in counts.items():
            self.functions[self._text_by_func[function]] += hits
            if self._has_kind_in_text:
                self._kind_by_func[function[:_FUNC_SIZE]] = function[_FUNC_SIZE:]
        drops = {function for function in counts if self._is_drop_by_func[function]}
        if drops:
            self._add_drops(
                record
                for record, function in zip(batch, functions, strict=True)
                if function in drops and not frees_no_packet(record[3])
            )
        if _RULE_KIND in kinds:
            self._add_rules(kinds, tails)

    def text(self, function: bytes) -> str:
        """Return the text of a func part that an event had."""
        return self._text_by_func[function + self._kind_by_func.get(function, b"")]

    def _add_drops(self, records: Iterable[RawRecord]) -> None:
        """Count drop events, and drops.

        Events of functions that a drop function calls are of the same drop.
        """
        caller, nested_drops = self._tail_slices["caller"], self._nested_drops
        for record in records:
            packet, func, _, _, tail = record
            drop = self._drop_by_part[func + tail[caller]]
            self.drop_events[drop] += 1
            nested_drop = nested_drops.get(packet[:8])
            if nested_drop is None or not nested_drop.add_if_same(record):
                if len(nested_drops) >= _MAX_CACHED:
                    nested_drops.clear()
                nested_drops[packet[:8]] = NestedDrop(record)
                self.drops[drop] += 1

    def _add_rules(self, kinds: Sequence[bytes], tails: Sequence[bytes]) -> None:
        nft_slice, time_slice = self._tail_slices["nft"], self._tail_slices["nft_time"]
        for kind, tail in zip(kinds, tails, strict=True):
            if kind == _RULE_KIND:
                self.rules[
                    self._resolve_rule(tail[nft_slice], int.from_bytes(tail[time_slice], "little"))
                ] += 1

    def _resolve_function(self, part: bytes) -> str:
        return self._names.function(*fields.decode_function(part))

    def _is_drop(self, part: bytes) -> bool:
        return event_type(fields.decode_function(part), self._names) == DROP_TYPE

    def _resolve_drop(self, part: bytes) -> Drop:
        _, reason = name_and_reason(fields.decode_function(part[:_FUNC_SIZE]), self._names)
        frames = fields.DECODERS[Part.CALLER](part[_FUNC_SIZE:])
        return Drop(reason or None, self._names.location(frames))

    def _resolve_rule(self, part: bytes, time: int) -> RuleVerdict:
        # Depends on the time of the event: a replaced rule had the same handle.
        text_and_comment = self._names.rule(part, time)
        return self._rule_by_part[
            append_text(part + _RULE_KIND, *text_and_comment)
            if text_and_comment
            else part + _RULE_KIND
        ]

    def _decode_rule(self, part: bytes) -> RuleVerdict:
        event = render.decode(nft_record.decode_nft(part), self._names.chain)
        assert event, "an EVENT_NFT_RULE record has a part_nft"
        rule = event.rule
        return RuleVerdict(
            event.nft.netns,
            event.family,
            event.table,
            event.path[-1] or "",
            rule or None,
            event.nft.type == POLICY,
            event.verdict,
            event.nft.text if rule else None,
        )
