"""Only packets about which a certain rule of nftables spoke, with their whole path.

That a packet is one of them is seen late: what was seen of it before is held until such a rule
speaks, and thrown away with the packet.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from pypwru.discovery.lifetime import LAST_SIGHTS
from pypwru.events.lives import KIND, LATE, is_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pypwru.events.record import Slices

_PACKETS = 1 << 16  # at a time
_SIGHTS = 1 << 17  # held of them
_OLD = 10_000_000_000  # ns after which the next sight of an address is another packet's
_ENDED = 64  # packets; what is still said of one is said at once, by the CPU that ended it


class _Packet:
    """What is known of one.

    Args:
        seen: when it was last; ns.
    """

    __slots__ = ("is_judged", "is_shown", "seen", "sights")

    def __init__(self, seen: int) -> None:
        self.seen = seen
        self.is_judged = False  # it carries a verdict from now on
        self.is_shown = False
        self.sights: list[Slices] = []  # that are held


class Judged:
    """A stage between the ring and what shows records.

    The end of a packet isn't always traced, nor the birth of the next at its address. But a packet
    that was judged carries its verdict as long as it lives: one that carries none is another.

    Args:
        meets: whether a record tells of a rule that was asked for, now or before.
        judges: whether a record tells of a verdict that its packet carries from then on; None: of
            one that carries nothing.
        names: the address that a record carries -> name, of everything that is traced; may grow.
    """

    def __init__(
        self,
        meets: Callable[[Slices], bool],
        judges: Callable[[Slices], bool | None],
        names: Mapping[int, str],
    ) -> None:
        self.overflowed = 0
        """Sights thrown away for lack of room, of packets about which nobody had spoken yet."""
        self._meets = meets
        self._judges = judges
        self._names = names
        self._packets: OrderedDict[bytes, _Packet] = OrderedDict()  # the one seen last is last
        self._sights = 0  # held of these
        self._ended: OrderedDict[bytes, _Packet] = OrderedDict()

    def take(self, batch: Sequence[Slices]) -> list[Slices]:
        """Take a batch; gives what of it, and of what is held, is asked for, and all ends."""
        found: list[Slices] = []
        for record in batch:
            self._see(record, found)
        return found

    def _see(self, record: Slices, found: list[Slices]) -> None:
        skb = record[0][:8]
        if is_end(record):
            self._end(skb)
            found.append(record)
            return
        if record[0][KIND] in LATE and skb not in self._packets and skb in self._ended:
            self._add(self._ended[skb], record, found)
            return
        judged = self._judges(record)
        packet = self._known(skb, record[2], judged)
        packet.is_judged |= bool(judged)
        self._sights += self._add(packet, record, found)
        address = int.from_bytes(record[1][:8], "little")
        if self._names.get(address) in LAST_SIGHTS:
            self._end(skb)
        while self._sights > _SIGHTS or len(self._packets) > _PACKETS:
            self.overflowed += self._forget(next(iter(self._packets)))

    def _end(self, skb: bytes) -> None:
        """A packet's last sight was seen, and perhaps its end, too."""
        packet = self._packets.get(skb)
        if packet is None:
            return
        self._forget(skb)
        self._ended[skb] = packet
        if len(self._ended) > _ENDED:
            self._ended.popitem(last=False)

    def _add(self, packet: _Packet, record: Slices, found: list[Slices]) -> int:
        """Another sight of a packet; returns how many more are held."""
        before = len(packet.sights)
        packet.sights.append(record)
        packet.is_shown = packet.is_shown or self._meets(record)
        if packet.is_shown:
            found += packet.sights
            packet.sights = []
        return len(packet.sights) - before

    def _known(self, skb: bytes, ktime: int, judged: bool | None) -> _Packet:
        """The packet at an address."""
        packet = self._packets.get(skb)
        if packet is not None:
            is_old = ktime - packet.seen >= _OLD
            if not is_old and not (packet.is_judged and judged is None):
                packet.seen = ktime
                self._packets.move_to_end(skb)
                return packet
            self._forget(skb)
        packet = self._packets[skb] = _Packet(ktime)
        return packet

    def _forget(self, skb: bytes) -> int:
        """A packet is no more; returns how many sights were held of it."""
        held = len(self._packets.pop(skb).sights)
        self._sights -= held
        return held
