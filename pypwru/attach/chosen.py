"""Where packets are told whose bytes are asked for at certain sights, put into a map of addresses.

Handlers look there only of a packet that matched. The names are known once all is attached, and
more come while tracing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pypwru.config import DROP, EVERY, FIRST, LAST, Config
from pypwru.discovery.lifetime import DROPPING
from pypwru.kernel import bpf
from pypwru.resolve.functions import spellings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from pypwru.discovery.plan import AttachPlan
    from pypwru.log import Log
    from pypwru.resolve.reasons import Reasons

# From a function to where a probe in it can be: attach/kprobe.py.
_OFFSETS = (0, 4, 5, 9)
_OTHERS = 0  # stands for every address that isn't in the map (bpf/seen.h)


class Chosen:
    """Fills the map ``chosen``.

    Args:
        fd: its descriptor.
        words: of --pcap-when.
        names: the address that a record carries -> name; may grow.
        reasons: of drops.
    """

    def __init__(
        self, fd: int, words: Collection[str], names: Mapping[int, str], reasons: Reasons
    ) -> None:
        self._fd = fd
        self._named = frozenset(words) - {FIRST, LAST, EVERY, DROP}
        self._drops = DROP in words
        self._names = names
        self._reasons = reasons
        self._known = -1
        self.unknown = set(self._named)
        """Names that nothing has so far."""
        if self._drops:
            self._put(_OTHERS, reasons.no_drops)

    def expect(self, plan: AttachPlan) -> None:
        """Of what will be attached, so that nothing is missed before ``poll`` knows it all."""
        for number, tracepoint in enumerate(plan.tracepoints, start=1):
            self._add(number, f"tp:{tracepoint.name}")
        for function in plan.functions:
            for address in function.addresses:
                for offset in _OFFSETS:
                    self._add(address + offset, function.display)

    def poll(self, log: Log) -> None:
        """Look for what has come since.

        Args:
            log: told once of names that nothing has.
        """
        if len(self._names) == self._known:
            return
        is_first, self._known = self._known < 0, len(self._names)
        for address, name in list(self._names.items()):
            self.unknown -= spellings(name)
            self._add(address, name)
        for name in sorted(self.unknown) if is_first else ():
            log.warn("Nothing that is traced has this name of --pcap-when", name=name)

    def _add(self, address: int, name: str) -> None:
        if self._named & spellings(name):
            self._put(address, ())
        elif self._drops and name in DROPPING:
            self._put(address, self._reasons.done)

    def _put(self, address: int, harmless: Iterable[int]) -> None:
        """Packets are told at this address but with these reasons."""
        mask = sum(1 << reason for reason in set(harmless) if reason < 64)
        bpf.map_update(self._fd, address.to_bytes(8, "little"), mask.to_bytes(8, "little"))


def chosen_where_asked(
    config: Config,
    maps: Mapping[str, int],
    plan: AttachPlan,
    names: Mapping[int, str],
    reasons: Reasons,
    log: Log,
) -> Callable[[], None]:
    """The map of a run filled, where it has one; what is to be called once all is attached, and
    from time to time after that.

    Args:
        maps: name -> descriptor.
        plan: of what will be attached.
        names, reasons: as of Chosen.
        log: told of names that nothing has.
    """
    if not config.captures_some:
        return lambda: None
    chosen = Chosen(maps["chosen"], config.capture_when, names, reasons)
    chosen.expect(plan)
    return partial(chosen.poll, log)
