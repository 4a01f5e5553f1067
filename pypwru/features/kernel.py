"""The running kernel, as the probes of features need it; each fact is read at its first use."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from pypwru.attach.select import (
    NO_KPROBES,
    BackendPlan,
    KernelFacts,
    find_kprobe_backend,
    select_backend,
)
from pypwru.btf.load import load_vmlinux
from pypwru.discovery.auxiliary_probes import Tracking
from pypwru.discovery.request import TraceRequest
from pypwru.discovery.selection import Selection
from pypwru.errors import KernelError, NoBTF
from pypwru.kernel.feature import Undetermined
from pypwru.kernel.kallsyms import Symbols, read_symbols
from pypwru.nft.verdict_sources import VERDICT_SOURCES, verdict_functions

if TYPE_CHECKING:
    from pathlib import Path

    from pypwru.btf.query import BTF
    from pypwru.cache import Cache
    from pypwru.config import Backend


class Kernel:
    """Facts of the running kernel; also the trial target of backends.

    Args:
        cache: of types and functions, as a trace keeps them.
        kernel_btf: file of --kernel-btf; None for the running kernel's BTF.
    """

    def __init__(self, cache: Cache, kernel_btf: Path | None = None) -> None:
        self._cache = cache
        self.kernel_btf = kernel_btf

    @cached_property
    def btf(self) -> BTF:
        """The types of vmlinux.

        Raises:
            Undetermined: there are none.
            BTFError: they can't be read; if the read is deferred, the first query raises it.
        """
        try:
            return self.load_btf()
        except NoBTF as error:
            raise Undetermined("there is no BTF of the kernel") from error

    def load_btf(self) -> BTF:
        """Load the types of vmlinux.

        Raises:
            BTFError: as of ``load_vmlinux``.
        """
        return load_vmlinux(self.kernel_btf, self._cache)

    @cached_property
    def _request(self) -> TraceRequest:
        """The request of a trace without options."""
        return TraceRequest(
            self.btf,
            {},
            Selection(),
            Tracking(),
            may_be_empty=True,
            is_running_kernel=self.kernel_btf is None,
        )

    @cached_property
    def _facts(self) -> KernelFacts:
        return KernelFacts(self._request, self._cache, verdict_functions)

    @property
    def trial_addresses(self) -> tuple[int, ...]:
        """As of TrialTarget."""
        return self._facts.trial_addresses

    @property
    def trial_type(self) -> int:
        """As of TrialTarget."""
        return self._facts.trial_type

    @property
    def has_tracepoint_types(self) -> bool:
        """As of TrialTarget."""
        return self._facts.has_tracepoint_types

    @cached_property
    def verdict_symbols(self) -> Symbols:
        """The functions of all verdict sources that exist, loaded modules included.

        Raises:
            KernelError: as of ``read_symbols``.
        """
        return read_symbols(frozenset().union(*(source.symbols for source in VERDICT_SOURCES)))

    @cached_property
    def _kprobe_backend(self) -> Backend | None:
        return find_kprobe_backend(self, needed=False)

    def require_kprobes(self) -> None:
        """Raise KernelError if no backend has kprobes, by which verdicts are traced."""
        if self._kprobe_backend is None:
            raise KernelError(NO_KPROBES, "see the backends")

    def select_backend(self) -> BackendPlan:
        """Return what a trace without options would attach.

        Raises:
            KernelError: as of ``attach.select.select_backend``.
        """
        return select_backend(None, self._request, self._cache, verdict_functions)
