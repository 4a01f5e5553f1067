"""The run of --features: probe the kernel, and print what it has."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import TYPE_CHECKING

from pypwru.btf.load import require_running_kernel_btf
from pypwru.cache import Cache
from pypwru.features.document import json_document
from pypwru.features.kernel import Kernel
from pypwru.features.report import probe_features
from pypwru.features.rows import FEATURES
from pypwru.features.text import table
from pypwru.files.sink import open_sink

if TYPE_CHECKING:
    from pathlib import Path

    from pypwru.log import Log


def run_features(
    output_file: Path | None, kernel_btf: Path | None, log: Log, *, is_json: bool
) -> None:
    """Print the features of the running kernel; attaches nothing but trials, needs no capability.

    Args:
        output_file: to append to; None for standard output.
        kernel_btf: file of --kernel-btf, which must be of the running kernel; None without.
        log: gets a line if the cache can't be used.
        is_json: print a JSON object instead of the table.

    Raises:
        BTFError: ``kernel_btf`` can't be read, or is another kernel's.
        KernelError: procfs can't be read.
        OutputError: the output can't be written.
        OutputClosed: the reader closed standard output.
    """
    cache = Cache(log=log)
    if kernel_btf is not None:
        require_running_kernel_btf(kernel_btf, cache)
    report = probe_features(FEATURES, Kernel(cache, kernel_btf), cache)
    if is_json:
        document = json_document(report, os.uname().release, datetime.now().astimezone())
        text = json.dumps(document, indent=2) + "\n"
    else:
        text = table(report)
    with open_sink(output_file) as sink:
        sink.write(text.encode())
