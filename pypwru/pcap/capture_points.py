"""Fill the map ``capture_points``: addresses of functions that capture packets (--pcap-when).

Handlers look an address up there only for a packet that matches the filters. Some addresses are
known only once everything is attached, and further ones appear while tracing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pypwru.config import CAPTURE_KEYWORDS, DROP
from pypwru.discovery.skb_lifetime import DATA_ALREADY_FREED, DROP_TARGETS
from pypwru.errors import UsageError
from pypwru.kernel import bpf
from pypwru.names.functions import name_aliases

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from pypwru.discovery.plan import AttachPlan
    from pypwru.discovery.targets import Targets
    from pypwru.log import Log
    from pypwru.names.drop_reasons import DropReasons

# Offsets from a function's address at which attach/kprobe.py can put a probe, bytes.
_OFFSETS = (0, 4, 5, 9)
_CAPTURE_KEYWORDS = frozenset(CAPTURE_KEYWORDS)
_ANY_ADDRESS = 0  # key for every address that isn't in the map (bpf/capture/capture.h)


class CapturePoints:
    """Writer of the map ``capture_points``: u64 address -> u64 mask of reasons not to capture.

    Args:
        fd: descriptor of the map, owned by the caller.
        capture_when: values of --pcap-when: ``first``, ``last``, ``drop``, ``every`` or function
            names.
        targets: of the run; entered, and those that are added.
        reasons: drop reasons of this kernel.
        may_match_later: whether targets that are attached later may match names that are unmatched
            yet.
    """

    def __init__(
        self,
        fd: int,
        capture_when: Collection[str],
        targets: Targets,
        reasons: DropReasons,
        may_match_later: bool = False,
    ) -> None:
        self._fd = fd
        self._keywords = frozenset(capture_when) & _CAPTURE_KEYWORDS
        self._functions = frozenset(capture_when) - _CAPTURE_KEYWORDS
        self._may_match_later = may_match_later
        self._captures_drops = DROP in capture_when
        self._targets = targets
        self._reasons = reasons
        self.unmatched = set(self._functions)
        """Names of --pcap-when that no target has so far."""
        if self._captures_drops:
            self._set_mask(_ANY_ADDRESS, reasons.non_drops)
        self._enter(targets)
        targets.on_add(self._enter)

    def preload(self, plan: AttachPlan) -> None:
        """Enter the addresses of ``plan`` before it is attached, so that no event is missed."""
        for number, tracepoint in enumerate(plan.tracepoints, start=1):
            self._add(number, f"tp:{tracepoint.name}")
        for function in plan.functions:
            for address in function.addresses:
                for offset in _OFFSETS:
                    self._add(address + offset, function.display)

    def report_unmatched(self, log: Log) -> None:
        """Report the names that match no target, once all is attached.

        Args:
            log: gets one warning for each.

        Raises:
            UsageError: no name matches a target, and nothing else is captured.
        """
        if not self.unmatched:
            return
        from pypwru.suggestions import did_you_mean

        aliases = {alias for name in self._targets.values() for alias in name_aliases(name)}
        described = [f"{name}{did_you_mean(name, aliases)}" for name in sorted(self.unmatched)]
        message = "No traced function has this name of --pcap-when"
        if self._functions == self.unmatched and not self._keywords and not self._may_match_later:
            raise UsageError(f"{message}: {', '.join(described)}")
        for name in described:
            log.warn(message, name=name)

    def _enter(self, targets: Mapping[int, str]) -> None:
        for address, name in targets.items():
            self.unmatched -= name_aliases(name)
            self._add(address, name)

    def _add(self, address: int, name: str) -> None:
        if self._functions & name_aliases(name):
            self._set_mask(address, ())
        elif self._captures_drops and name in DROP_TARGETS:
            self._set_mask(address, self._reasons.non_drops_on_free)

    def _set_mask(self, address: int, skipped_reasons: Iterable[int]) -> None:
        """Capture packets at ``address``, except with these reasons.

        Args:
            address: of a target, or _OTHERS.
            skipped_reasons: drop reasons not to capture; only those below 64 can be excluded.
        """
        mask = sum(1 << reason for reason in set(skipped_reasons) if reason < 64)
        bpf.map_update(self._fd, address.to_bytes(8, "little"), mask.to_bytes(8, "little"))


def open_capture_points(
    fd: int,
    capture_when: Collection[str],
    plan: AttachPlan,
    targets: Targets,
    reasons: DropReasons,
    log: Log,
    *,
    traces_programs: bool,
    traces_nft: bool,
) -> Callable[[], None]:
    """Fill the map ``capture_points`` of a run that has one.

    Args:
        fd: descriptor of the map, owned by the caller.
        capture_when: values of --pcap-when, ``drop`` or function names among them.
        plan: what will be attached.
        targets: of the run.
        reasons: drop reasons of this kernel.
        log: gets a warning for each name that matches no target.
        traces_programs: whether BPF programs are traced, which may be loaded later.
        traces_nft: whether nft events and verdicts are traced, whose functions may be loaded later.

    Returns:
        A callable to call once everything is attached; it raises UsageError as
        ``CapturePoints.report_unmatched``.

    Raises:
        UsageError: --pcap-when names a function that runs after the packet's data was freed.
    """
    if freed := sorted(DATA_ALREADY_FREED.intersection(capture_when)):
        raise UsageError(
            f"--pcap-when {freed[0]}: packet data is freed before this function is called",
            "use last, drop or an earlier function",
        )
    # BPF programs are attached when they are loaded, nftables when its module is.
    may_match_later = traces_programs or (traces_nft and _has_verdict_function(capture_when))
    capture_points = CapturePoints(fd, capture_when, targets, reasons, may_match_later)
    capture_points.preload(plan)
    return partial(capture_points.report_unmatched, log)


def _has_verdict_function(capture_when: Collection[str]) -> bool:
    """Return whether --pcap-when names a function that is hooked for netfilter verdicts."""
    from pypwru.nft.verdict_sources import VERDICT_SOURCES

    hooked = {
        alias
        for source in VERDICT_SOURCES
        for symbol in source.symbols
        for alias in name_aliases(symbol)
    }
    return not hooked.isdisjoint(capture_when)
