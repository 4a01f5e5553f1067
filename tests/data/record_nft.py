"""Records nft/VERSION.txt and nft/VERSION.json: how the nft of each Debian lists one ruleset.

``python -m tests.data.record_nft``, as root. Each nft loads the ruleset into a namespace of this
kernel and lists it: as text, and as the JSON with which the text is compared, as far as the tests
need it. An nft is fetched with the libraries, libc among them, that it was built for.

nft/VERSION.hard.txt and nft/VERSION.hard.json are of another ruleset: the listing, and, as
``{"json": ..., "kernel": [[family, attributes], ...] for tables, chains and rules}``, nft's JSON
and the kernel's messages.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.lab.kernels import KERNELS
from tests.lab.vm.packages import Apt
from tests.native.rule_namespaces import EVERYTHING, HARD, RuleNamespace, rule_namespace

HERE = Path(__file__).parent / "nft"
_PACKAGES = (
    "nftables", "libnftables1", "libnftnl11", "libmnl0", "libjansson4", "libxtables12", "libedit2",
    "libbsd0", "libmd0", "libtinfo6", "libgmp10", "libc6",
)  # fmt: skip
_KEPT = ("family", "table", "chain", "name", "handle", "comment")


def fetch(suite: str, folder: Path) -> Sequence[str]:
    """Return the command that runs the nft of ``suite``, unpacked into ``folder``."""
    root = folder / "root"
    Apt(suite).unpack(_PACKAGES, folder, root)
    loader = next(root.glob("**/ld-linux-x86-64.so.2"))
    libraries = {str(each.parent) for each in root.glob("**/*.so.*")}
    return [str(loader), "--library-path", ":".join(libraries), f"{root}/usr/sbin/nft"]


def rows(listing: str) -> Iterator[str]:
    """Yield one line of JSON for each table, chain and rule."""
    for each in json.loads(listing)["nftables"]:
        ((what, row),) = each.items()
        if what in ("table", "chain", "rule"):
            kept = {key: row[key] for key in _KEPT if key in row}
            yield json.dumps({what: kept}, ensure_ascii=False)


def record(nft: Sequence[str], namespace: RuleNamespace) -> None:
    """Record what ``nft`` lists of ``EVERYTHING`` in ``namespace``."""
    _, version, *_ = namespace.run(*nft, "--version").split()
    namespace.run(*nft, "-f", "-", stdin=EVERYTHING)
    text = namespace.run(*nft, "-a", "-s", "-t", "list", "ruleset")
    listed = namespace.run(*nft, "-a", "-j", "list", "ruleset")
    (HERE / f"{version.removeprefix('v')}.txt").write_text(text)
    (HERE / f"{version.removeprefix('v')}.json").write_text(
        "[\n" + ",\n".join(rows(listed)) + "\n]\n"
    )


def record_hard(nft: Sequence[str], namespace: RuleNamespace) -> None:
    """Record what ``nft`` and the kernel list of ``HARD`` in ``namespace``."""
    _, version, *_ = namespace.run(*nft, "--version").split()
    namespace.run(*nft, "-f", "-", stdin=HARD)
    path = HERE / version.removeprefix("v")
    path.with_name(f"{path.name}.hard.txt").write_text(
        namespace.run(*nft, "-a", "-s", "-t", "list", "ruleset")
    )
    listings = {
        "json": namespace.run(*nft, "-j", "-s", "-t", "list", "ruleset"),
        "kernel": [
            [[each.family, each.body.hex()] for each in messages] for messages in namespace.dumps()
        ],
    }
    path.with_name(f"{path.name}.hard.json").write_text(json.dumps(listings, indent=1) + "\n")


def main() -> None:
    HERE.mkdir(exist_ok=True)
    for suite in dict.fromkeys(row.debian[0] for row in KERNELS):
        with (
            tempfile.TemporaryDirectory() as folder,
            rule_namespace() as namespace,
            rule_namespace() as second,
        ):
            nft = fetch(suite, Path(folder))
            record(nft, namespace)
            record_hard(nft, second)


if __name__ == "__main__":
    main()
