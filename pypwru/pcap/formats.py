"""The choice of the capture format by file name."""

from __future__ import annotations

import os
from collections.abc import Callable

from pypwru.config import STDOUT, Config
from pypwru.pcap.packet import BlockBuffer, CaptureFormat, DescribeInterface
from pypwru.version import __version__

FormatFactory = Callable[[BlockBuffer, DescribeInterface], CaptureFormat]
"""Makes the format of one file."""


def format_factory(config: Config, command: str) -> FormatFactory:
    """Return the factory of formats: classic for a name in ``.pcap``, else pcapng.

    Imports the format here: that of classic pcap needs scapy, which is slow to load.

    Args:
        config: of the run; --output-pcap must be set.
        command: the command line as typed, for the section header.
    """
    assert config.output_pcap is not None, "called without --output-pcap"
    if config.output_pcap.suffix == ".pcap":
        from pypwru.pcap.classic import PcapFile

        return lambda blocks, describe: PcapFile(blocks, config.pcap_snaplen)

    from pypwru.pcap.pcapng import PcapNgFile, RunInfo

    system = os.uname()
    run_info = RunInfo(
        hardware=system.machine,
        system=f"{system.sysname} {system.release} {system.version}",
        application=f"pypwru {__version__}",
        command=command,
        filter=config.pcap_filter,
        snaplen=config.pcap_snaplen,
    )
    # The reader of standard output may be tcpdump, and libpcap stops at a second link type.
    is_piped = config.output_pcap == STDOUT
    return lambda blocks, describe: PcapNgFile(blocks, run_info, describe, always_ethernet=is_piped)
