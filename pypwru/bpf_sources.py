"""The C sources: next to the package in a checkout, inside it when installed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pypwru.cache import digest

_PACKAGE = Path(__file__).resolve().parent
BPF_DIR = next(
    (
        folder
        for folder in (_PACKAGE / "bpf", _PACKAGE.parent / "bpf")
        if (folder / "event.h").exists()
    ),
    _PACKAGE / "bpf",
)
FIELDS = "fields.h"
MAIN = "trace.bpf.c"
NFT = "nft/nft.bpf.c"
NFT_EVAL = "nft/nft_eval.bpf.c"
XTABLES = "nft/xtables.bpf.c"
KERNEL_TREE = BPF_DIR / "headers"


@cache
def sources() -> Mapping[str, str]:
    """Return path relative to bpf/ -> text, of every file that a compile may read."""
    paths = sorted(path for path in BPF_DIR.rglob("*") if path.suffix in (".c", ".h"))
    return {str(path.relative_to(BPF_DIR)): path.read_text() for path in paths}


@cache
def source_digest() -> bytes:
    """Return a digest of ``sources``, for cache keys."""
    return digest(*(part.encode() for item in sources().items() for part in item)).encode()
