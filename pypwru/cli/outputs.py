"""The outputs of a run that are opened before anything is attached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.config import STDOUT
from pypwru.files.sink import RotationLimits, Sink, open_output

if TYPE_CHECKING:
    from contextlib import ExitStack

    from pypwru.config import Config
    from pypwru.log import Log
    from pypwru.pcap.writer import PcapSetup
    from pypwru.signals import StopRequest
    from pypwru.statistics.file import StatsFile


def open_event_sink(config: Config, stop: StopRequest, log: Log, stack: ExitStack) -> Sink:
    """Open the output for events.

    Args:
        config: of the run.
        stop: the stop request.
        log: receives what concerns the output while the run goes on.
        stack: takes ownership of the output.

    Raises:
        OutputError: it can't be opened.
        OutputClosed: a stop request came before the reader of a named pipe.
    """
    limits = RotationLimits(
        max_size=config.output_file_max_size,
        max_backups=config.output_file_max_backups,
        max_age=config.output_file_max_age,
        compress=config.output_file_compress,
    )
    is_stdout_taken = config.output_pcap == STDOUT
    return stack.enter_context(
        open_output(config.output_file, limits, stop, log, is_stdout_taken=is_stdout_taken)
    )


def open_stats_file(config: Config) -> StatsFile | None:
    """Open the file of --stats-file, if any; check that --top has a terminal.

    Raises:
        PypwruError: --top has no terminal, or the file can't be written.
    """
    if config.top:
        from pypwru.statistics import top

        top.check_requirements()
    if config.stats_file is None:
        return None
    from pypwru.statistics.file import StatsFile

    return StatsFile(config.stats_file)


def open_pcap_target(
    config: Config, stop: StopRequest, log: Log, stack: ExitStack, command: str
) -> PcapSetup | None:
    """Open the target of --output-pcap; return None without that option."""
    if config.output_pcap is None:
        return None
    from pypwru.pcap.writer import CaptureOptions, open_pcap

    options = CaptureOptions(
        path=config.output_pcap,
        max_size=config.pcap_max_size,
        max_files=config.pcap_max_files,
        snaplen=config.pcap_snaplen,
        pcap_filter=config.pcap_filter,
        command=command,
    )
    return open_pcap(options, stop, log, stack)


def require_distinct_outputs(config: Config, sink: Sink | None, target: PcapSetup | None) -> None:
    """Raise PypwruError if two outputs are the same file."""
    if not (target or config.stats_file or config.ready_file):
        return
    from pypwru.files.distinct import OutputPaths, require_distinct

    paths = OutputPaths(
        lines=config.output_file,
        pcap=config.output_pcap,
        stats=config.stats_file,
        ready=config.ready_file,
    )
    text = sink.fileno() if sink else None
    require_distinct(paths, text, target.target.fileno() if target else None)
