"""The files of the folder ``corpus``: how each is loaded, and the texts of its rules."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from tests.lab.truth import texts

Run = Callable[[str, str], str]
"""(command, its standard input) to its output, in the namespace; a failure is an exception."""
FOLDER = Path(__file__).with_name("corpus")
# Suffix of a file to the command that loads it.
_LOADERS = {
    ".nft": "nft -f -",
    ".iptables": "iptables-nft-restore",
    ".ip6tables": "ip6tables-nft-restore",
    ".ebtables": "ebtables-nft-restore",
    ".arptables": "arptables-nft-restore",
}
# Family to the command that saves rules of iptables in it.
_SAVERS = {
    "ip": "iptables-nft-save",
    "ip6": "ip6tables-nft-save",
    "bridge": "ebtables-nft-save",
    "arp": "arptables-nft-save",
}


def files() -> list[Path]:
    """Return the rulesets."""
    return sorted(FOLDER.iterdir())


def features(file: Path) -> list[str]:
    """Return names of the features that the kernel needs for it (kernels.Feature)."""
    return re.findall(r"^# Needs: (\w+)$", file.read_text(), re.M)


def is_owned(file: Path) -> bool:
    """Return whether a table exists only as long as the process that made it."""
    return "flags owner" in file.read_text()


def load(run: Run, file: Path) -> None:
    """Load it beside the existing rules, also where the file begins by a flush."""
    run(_LOADERS[file.suffix], file.read_text().replace("flush ruleset", ""))


def known_texts(run: Run, file: Path) -> tuple[dict[texts.Handle, str], texts.Blocks]:
    """Return the text of each rule that is loaded, as pypwru should print it."""
    bound = texts.blocks(run("nft --debug=netlink list ruleset", ""))
    found = texts.listed(run("nft -a -s list ruleset", ""), file.read_text(), bound)
    objects = json.loads(run("nft -j -a list ruleset", ""))["nftables"]
    for family, saver in _SAVERS.items():
        own = [each for each in objects if each.get("rule", {}).get("family") == family]
        if any("xt" in part for each in own for part in each["rule"]["expr"]):
            found |= texts.saved(run(saver, ""), own)
    return found, bound
