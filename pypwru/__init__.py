"""pypwru: packet, where are you? A pwru-compatible tracer of kernel functions.

The command line is ``pypwru``; scripts trace with::

    from pypwru import trace

    for event in trace("icmp", priority=1, packets=True):
        print(event.func, event.packet.summary())
"""

from __future__ import annotations

from importlib import import_module

# Not imported from typing: until __main__.py has set its handler, Ctrl-C would be a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pypwru.api.event import Event
    from pypwru.api.trace import Trace, trace
    from pypwru.api.trace_options import TraceOptions
    from pypwru.errors import PypwruError, UsageError
    from pypwru.version import __version__ as __version__

__all__ = ["Event", "PypwruError", "Trace", "TraceOptions", "UsageError", "trace"]

# Public name -> the module that defines it, imported on first access: half of pypwru is needed
# by scripts alone.
_LAZY_EXPORTS = {
    "__version__": "pypwru.version",
    "Event": "pypwru.api.event",
    "PypwruError": "pypwru.errors",
    "Trace": "pypwru.api.trace",
    "TraceOptions": "pypwru.api.trace_options",
    "UsageError": "pypwru.errors",
    "trace": "pypwru.api.trace",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY_EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
