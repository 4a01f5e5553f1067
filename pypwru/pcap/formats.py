"""The choice of the capture format by file name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pypwru.config import STDOUT
from pypwru.pcap.packet import BlockBuffer, CaptureFormat, DescribeInterface
from pypwru.version import __version__

FormatFactory = Callable[[BlockBuffer, DescribeInterface], CaptureFormat]
"""Makes the format of one file."""


def format_factory(path: Path, snaplen: int, pcap_filter: str, command: str) -> FormatFactory:
    """Return the factory of formats: classic for a name in ``.pcap``, else pcapng.

    Imports the format here: that of classic pcap needs scapy, which is slow to load.

    Args:
        path: of the file; ``-`` is standard output.
        snaplen: maximum bytes of a captured packet.
        pcap_filter: the filter of the run, for the interface descriptions.
        command: the command line as typed, for the section header.
    """
    if path.suffix == ".pcap":
        from pypwru.pcap.classic import PcapFile

        return lambda blocks, describe: PcapFile(blocks, snaplen)

    from pypwru.pcap.pcapng import PcapNgFile, RunInfo

    system = os.uname()
    run_info = RunInfo(
        hardware=system.machine,
        system=f"{system.sysname} {system.release} {system.version}",
        application=f"pypwru {__version__}",
        command=command,
        filter=pcap_filter,
        snaplen=snaplen,
    )
    # The reader of standard output may be tcpdump, and libpcap stops at a second link type.
    is_piped = path == STDOUT
    return lambda blocks, describe: PcapNgFile(blocks, run_info, describe, always_ethernet=is_piped)
