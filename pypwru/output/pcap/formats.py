"""Which format a file has, by its name, and what it says of the run."""

from __future__ import annotations

import os
from collections.abc import Callable

from pypwru import __version__
from pypwru.config import STDOUT, Config
from pypwru.output.pcap.entry import Blocks, Describe, Format

MakeFormat = Callable[[Blocks, Describe], Format]
"""Called for each file."""


def make_format(config: Config, command: str) -> MakeFormat:
    """What makes the formats of a run. It imports scapy, which takes its time.

    Args:
        command: the command line, as typed.
    """
    assert config.output_pcap is not None, "somebody asked for one"
    if config.output_pcap.suffix == ".pcap":
        from pypwru.output.pcap.classic import Classic

        return lambda blocks, describe: Classic(blocks, config.pcap_snaplen)

    from pypwru.output.pcap.pcapng import About, PcapNg

    system = os.uname()
    about = About(
        hardware=system.machine,
        system=f"{system.sysname} {system.release} {system.version}",
        application=f"pypwru {__version__}",
        command=command,
        filter=config.pcap_filter,
        snaplen=config.pcap_snaplen,
    )
    # tcpdump may read it, and libpcap goes no further than to a second link type.
    is_piped = config.output_pcap == STDOUT
    return lambda blocks, describe: PcapNg(blocks, about, describe, always_ethernet=is_piped)
