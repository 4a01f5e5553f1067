"""Where packets are told whose bytes are asked for at certain sights, put into a map of addresses.

Handlers look there only of a packet that matched. The names are known once all is attached, and
more come while tracing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pypwru.config import CAPTURE_WORDS, DROP, Config
from pypwru.discovery.lifetime import DROPPING, WITHOUT_BYTES
from pypwru.errors import UsageError
from pypwru.kernel import bpf
from pypwru.resolve.functions import spellings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from pypwru.discovery.plan import AttachPlan
    from pypwru.log import Log
    from pypwru.resolve.reasons import Reasons

# From a function to where a probe in it can be: attach/kprobe.py.
_OFFSETS = (0, 4, 5, 9)
_WORDS = frozenset(CAPTURE_WORDS)
_OTHERS = 0  # stands for every address that isn't in the map (bpf/seen.h)


class Chosen:
    """Fills the map ``chosen``.

    Args:
        fd: its descriptor.
        words: of --pcap-when.
        names: the address that a record carries -> name; may grow.
        reasons: of drops.
        may_come: whether what is traced later may have a name that nothing has yet.
    """

    def __init__(
        self,
        fd: int,
        words: Collection[str],
        names: Mapping[int, str],
        reasons: Reasons,
        may_come: bool = False,
    ) -> None:
        self._fd = fd
        self._others = frozenset(words) & _WORDS
        self._named = frozenset(words) - _WORDS
        self._may_come = may_come
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

        Raises:
            UsageError: nothing has any of the names, and nothing else is asked for.
        """
        if len(self._names) == self._known:
            return
        is_first, self._known = self._known < 0, len(self._names)
        for address, name in list(self._names.items()):
            self.unknown -= spellings(name)
            self._add(address, name)
        if is_first and self.unknown:
            self._miss(log)

    def _miss(self, log: Log) -> None:
        """Say which names nothing has."""
        from pypwru.suggestions import did_you_mean

        names = {each for name in self._names.values() for each in spellings(name)}
        meant = [f"{name}{did_you_mean(name, names)}" for name in sorted(self.unknown)]
        message = "Nothing that is traced has this name of --pcap-when"
        if self._named == self.unknown and not self._others and not self._may_come:
            raise UsageError(f"{message}: {', '.join(meant)}")
        for name in meant:
            log.warn(message, name=name)

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

    Raises:
        UsageError: a packet has no bytes any more in one of them.
    """
    if not config.captures_some:
        return lambda: None
    if freed := sorted(config.capture_when & WITHOUT_BYTES):
        raise UsageError(
            f"--pcap-when {freed[0]}: a packet's bytes are freed before that is called; take last, "
            "drop or an earlier function"
        )
    # Programs are traced as they are loaded, nftables as its module is.
    may_come = config.filter_trace_tc or config.filter_trace_xdp or _names_nftables(config)
    chosen = Chosen(maps["chosen"], config.capture_when, names, reasons, may_come)
    chosen.expect(plan)
    return partial(chosen.poll, log)


def _names_nftables(config: Config) -> bool:
    """Whether a name is of what verdicts are asked of."""
    if not config.asks_nft:
        return False
    from pypwru.attach.judges import JUDGES

    hooked = {each for judge in JUDGES for symbol in judge.symbols for each in spellings(symbol)}
    return not hooked.isdisjoint(config.capture_when)
