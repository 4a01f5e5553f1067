"""The run of --list-functions and --function-list: print the list, write the names."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

from pypwru.config import STDOUT, Config
from pypwru.discovery.function_list import read_names
from pypwru.errors import KernelError
from pypwru.files.sink import open_sink, output_error
from pypwru.filter.compiler import compile_filter
from pypwru.filter.criteria import compile_inner_filters
from pypwru.kernel.netns_filter import resolve_netns
from pypwru.listing.build import build_listing
from pypwru.listing.entry import Listing, json_document
from pypwru.listing.text import names_only, table

if TYPE_CHECKING:
    from pathlib import Path

    from pypwru.log import Log


def run_listing(config: Config, log: Log) -> None:
    """List what ``config`` would trace; attaches nothing but trials, and needs no capability.

    Raises:
        PypwruError: there is nothing to list, or an output can't be written.
        OutputClosed: the reader closed standard output.
    """
    _check_filters(config, log)
    listing = build_listing(config, read_names(config.functions), log)
    if listing.note:
        log.warn("List is incomplete", why=listing.note)
    if config.function_list is not None:
        _write_names(config.function_list, listing)
    if config.list_functions:
        with open_sink(config.output_file) as sink:
            sink.write(_render(config, listing).encode())
    total = len(listing.entries)
    log.info("Listed functions", total=total, unattachable=total - len(listing.attachable))


def _check_filters(config: Config, log: Log) -> None:
    """Raise the PypwruError with which a trace with these filters would fail.

    Checks only what can be checked without capabilities, or of another kernel.
    """
    compile_filter(config.pcap_filter)
    compile_inner_filters(config.filter_tunnel_pcap_l2, config.filter_tunnel_pcap_l3)
    needs_root = bool(config.filter_netns) and os.geteuid() != 0
    if config.kernel_btf is None and not needs_root:
        with ExitStack() as stack:
            resolve_netns(config.filter_netns, config.filter_ifname, stack, log)


def _render(config: Config, listing: Listing) -> str:
    if config.output_json:
        return json.dumps(json_document(listing, datetime.now().astimezone()), indent=2) + "\n"
    return table(listing)


def _write_names(path: Path, listing: Listing) -> None:
    text = names_only(listing)
    if not text:
        raise KernelError(
            f"none of {len(listing.entries)} can be attached ({listing.entries[0].reason}): "
            f"there is no name for --function-list {path}",
            "see --list-functions",
        )
    if path == STDOUT:
        open_sink(None).write(text.encode())
        return
    try:
        path.write_text(text)
    except OSError as error:
        raise output_error("write", str(path), error, "--function-list") from error
