"""Fill the map ``chosen``: addresses of the functions at which packets are captured (--pcap-when).

Handlers look an address up there only for a packet that matches the filters. Some addresses are
known only once everything is attached, and further ones appear while tracing.
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

# Offsets from a function's address at which attach/kprobe.py can put a probe, bytes.
_OFFSETS = (0, 4, 5, 9)
_WORDS = frozenset(CAPTURE_WORDS)
_OTHERS = 0  # key for every address that isn't in the map (bpf/capture.h)


class Chosen:
    """Writer of the map ``chosen``: u64 address -> u64 mask of drop reasons not to capture.

    Args:
        fd: descriptor of the map, owned by the caller.
        words: values of --pcap-when: ``first``, ``last``, ``drop``, ``every`` or function names.
        names: address in a record -> display name; read again by ``poll``, as it may grow.
        reasons: drop reasons of this kernel.
        may_come: whether targets that are attached later may match names that are unmatched yet.
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
        """Names of --pcap-when that no target has so far."""
        if self._drops:
            self._put(_OTHERS, reasons.no_drops)

    def expect(self, plan: AttachPlan) -> None:
        """Enter the addresses of ``plan`` before it is attached, so that no event is missed.

        ``poll`` adds the addresses that become known while attaching.
        """
        for number, tracepoint in enumerate(plan.tracepoints, start=1):
            self._add(number, f"tp:{tracepoint.name}")
        for function in plan.functions:
            for address in function.addresses:
                for offset in _OFFSETS:
                    self._add(address + offset, function.display)

    def poll(self, log: Log) -> None:
        """Enter the targets that were attached since the last call.

        Args:
            log: gets one warning for each name that matches no target, at the first call only.

        Raises:
            UsageError: at the first call, no name matches a target, and nothing else is captured.
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
        """Log the names that match no target, or raise UsageError."""
        from pypwru.suggestions import did_you_mean

        names = {each for name in self._names.values() for each in spellings(name)}
        meant = [f"{name}{did_you_mean(name, names)}" for name in sorted(self.unknown)]
        message = "No traced function has this name of --pcap-when"
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
        """Capture packets at ``address``, except with these reasons.

        Args:
            address: of a target, or _OTHERS.
            harmless: drop reasons not to capture; only those below 64 can be excluded.
        """
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
    """Fill the map ``chosen`` of a run that has one.

    Args:
        config: of the run.
        maps: map name -> descriptor.
        plan: what will be attached.
        names: address in a record -> display name; may grow.
        reasons: drop reasons of this kernel.
        log: gets a warning for each name that matches no target.

    Returns:
        A callable to call once everything is attached, and periodically after that; it raises
        UsageError as ``Chosen.poll``.

    Raises:
        UsageError: --pcap-when names a function that runs after the packet's data was freed.
    """
    if not config.captures_some:
        return lambda: None
    if freed := sorted(config.capture_when & WITHOUT_BYTES):
        raise UsageError(
            f"--pcap-when {freed[0]}: packet data is freed before this function is called; use "
            "last, drop or an earlier function"
        )
    # BPF programs are attached when they are loaded, nftables when its module is.
    may_come = config.filter_trace_tc or config.filter_trace_xdp or _names_nftables(config)
    chosen = Chosen(maps["chosen"], config.capture_when, names, reasons, may_come)
    chosen.expect(plan)
    return partial(chosen.poll, log)


def _names_nftables(config: Config) -> bool:
    """Return whether --pcap-when names a function that is hooked for netfilter verdicts."""
    if not config.asks_nft:
        return False
    from pypwru.attach.judges import JUDGES

    hooked = {each for judge in JUDGES for symbol in judge.symbols for each in spellings(symbol)}
    return not hooked.isdisjoint(config.capture_when)
