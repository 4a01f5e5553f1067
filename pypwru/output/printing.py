"""The printer of a session: columns, and where their names come from."""

from __future__ import annotations

from pypwru.btf.query import BTF
from pypwru.config import Config
from pypwru.discovery.plan import AttachPlan
from pypwru.errors import BTFError
from pypwru.output.clock import Clock
from pypwru.output.columns import Names, columns
from pypwru.output.sink import Sink
from pypwru.output.text import TextPrinter
from pypwru.resolve.functions import FunctionNames
from pypwru.resolve.interfaces import Interfaces
from pypwru.resolve.processes import Processes
from pypwru.resolve.reasons import ENUM, reasons_of


def text_printer(
    config: Config, sink: Sink, btf: BTF, plan: AttachPlan, names: dict[int, str]
) -> TextPrinter:
    """A printer whose header is already out.

    Args:
        names: the address that a record carries -> name, of everything that was attached.
    """
    with_reason = {function.display for function in plan.functions if function.reason}
    with_reason |= {f"tp:{one.name}" for one in plan.tracepoints if one.reason is not None}
    carriers = [address for address, name in names.items() if name in with_reason]
    try:
        reasons = reasons_of(btf.enum(ENUM))
    except BTFError:  # before Linux 5.17 nothing carries a reason
        reasons = {}
    printer = TextPrinter(
        columns(config),
        Names(
            process=Processes().path,
            interface=Interfaces().name,
            function=FunctionNames(names, reasons, carriers).text,
            clock=Clock(),
        ),
        sink.write_events,
        config.output_limit_lines,
    )
    printer.print_header()
    return printer
