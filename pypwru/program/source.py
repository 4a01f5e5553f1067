"""Where the C is: beside the package in a checkout, inside it when installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
FOLDER = next(
    (
        folder
        for folder in (_PACKAGE / "bpf", _PACKAGE.parent / "bpf")
        if (folder / "event.h").exists()
    ),
    _PACKAGE / "bpf",
)
MAIN = "trace.bpf.c"
NFT = "nft.bpf.c"
NFT_EVAL = "nft_eval.bpf.c"
XTABLES = "xtables.bpf.c"
KERNEL_TREE = FOLDER / "headers"


def sources() -> dict[str, str]:
    """Every file that a compile reads, name -> text."""
    paths = sorted(path for path in FOLDER.rglob("*") if path.suffix in (".c", ".h"))
    return {str(path.relative_to(FOLDER)): path.read_text() for path in paths}
