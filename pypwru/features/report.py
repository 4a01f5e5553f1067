"""Probe the features, and the backend of a trace without options."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.cache import package_digest
from pypwru.errors import PypwruError
from pypwru.kernel.build_id import addresses_identity
from pypwru.kernel.capabilities import missing_capabilities
from pypwru.kernel.feature import Undetermined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.cache import Cache
    from pypwru.config import Backend
    from pypwru.features.kernel import Kernel
    from pypwru.kernel.feature import Feature

# Packages that determine the answers: a change in them invalidates the cache.
_CODE_FOLDERS = ("attach", "btf", "features", "kernel", "names")
_NEEDS_ROOT = "needs root"
_CURE_REFUSED = "run as root of the host, outside a container; boot with lockdown=none"


class Answer(NamedTuple):
    """The result of a probe.

    Args:
        feature: that was probed.
        is_here: whether the kernel has it; None if unknown.
        remark: one line: why it is not there or unknown, or more about it; empty for nothing.
        cure: what the user can do about its lack; empty unless ``is_here`` is False.
    """

    feature: Feature
    is_here: bool | None
    remark: str = ""
    cure: str = ""


class Report(NamedTuple):
    """The features of the running kernel.

    Args:
        answers: in the order of the table.
        backend: of a trace without options; None if unknown.
        targets: number of functions, or tracepoints, that it would attach to.
        note: why that backend, or why it is unknown.
    """

    answers: tuple[Answer, ...]
    backend: Backend | None
    targets: int
    note: str


def probe_features(features: Sequence[Feature], kernel: Kernel, cache: Cache) -> Report:
    """Probe all ``features``: attaches nothing but trials, and leaves nothing but cached answers.

    Args:
        features: rows of the table.
        kernel: facts of the running kernel.
        cache: keeps, until the next boot, that a fixed feature is there.

    Raises:
        KernelError: procfs can't be read.
    """
    has_rights = not missing_capabilities()
    known = _KnownFeatures(cache, kernel)
    answers = tuple(
        Answer(one, True) if one.name in known.names else _probe(one, kernel, has_rights)
        for one in features
    )
    # A remark is about the present, so an answer with one is not kept.
    known.keep(
        one.feature.name
        for one in answers
        if one.is_here and one.feature.is_fixed and not one.remark
    )
    return Report(answers, *_select_backend(kernel, has_rights))


class _KnownFeatures:
    """Names of the features that an earlier probe of this boot found.

    Args:
        cache: the store.
        kernel: with --kernel-btf nothing is kept.
    """

    def __init__(self, cache: Cache, kernel: Kernel) -> None:
        self._cache = cache
        boot = None if kernel.kernel_btf else addresses_identity()
        self._key = f"features-{package_digest(_CODE_FOLDERS, boot)}" if boot else ""
        self.names = frozenset((self._key and cache.get_json(self._key)) or ())

    def keep(self, names: Any) -> None:
        """Add ``names`` to those that are known."""
        found = self.names.union(names)
        if self._key and found != self.names:
            self._cache.put_json(self._key, sorted(found))


def _probe(feature: Feature, kernel: Kernel, has_rights: bool) -> Answer:
    """Probe one feature.

    Args:
        feature: to probe.
        kernel: facts of the running kernel.
        has_rights: whether this process has the capabilities that tracing needs.
    """
    if feature.needs_root and not has_rights:
        return Answer(feature, None, _NEEDS_ROOT)
    try:
        return Answer(feature, True, feature.probe(kernel))
    except Undetermined as error:
        return Answer(feature, None, str(error))
    except PypwruError as error:
        if isinstance(error.__cause__, PermissionError) and os.geteuid():
            return Answer(feature, None, _NEEDS_ROOT)
        return Answer(feature, False, error.cause, _cure(feature, error))


def _cure(feature: Feature, error: PypwruError) -> str:
    """Return what the user can do about a lack.

    Args:
        feature: that is lacking.
        error: of its probe; its cure, if any, is often only for who chose that feature by a flag.
    """
    if feature.cure:
        return feature.cure
    if isinstance(error.__cause__, PermissionError):
        return _CURE_REFUSED
    return feature.default_cure(os.uname().release) or error.cure


def _select_backend(kernel: Kernel, has_rights: bool) -> tuple[Backend | None, int, str]:
    """Return the last three fields of Report."""
    if not has_rights:
        return None, 0, _NEEDS_ROOT
    try:
        choice = kernel.select_backend()
    except (Undetermined, PypwruError) as error:
        return None, 0, str(error)
    return choice.plan.backend, choice.plan.target_count, choice.why
