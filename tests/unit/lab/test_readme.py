"""tests/README.md's table of tiers is the lab's, for the kernels that it has."""

from __future__ import annotations

from tests.lab.kernels import EVERY, KERNELS, Tier, runs
from tests.support.paths import TREE


def tiers() -> dict[tuple[str, str], str]:
    """(suite, kernel) -> its cell."""
    text = (TREE / "tests" / "README.md").read_text().partition("<!-- tiers:")[2]
    lines = text.partition("\n\n")[2].partition("\n\n")[0].splitlines()
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    names = [name for name in head if name in {row.name for row in KERNELS}]
    return {
        (suite, name): cell
        for suite, *cells in rows
        for name, cell in zip(names, cells, strict=False)
    }


def test_the_table_of_tiers_is_the_labs() -> None:
    def cell(suite: str, name: str) -> str:
        if runs(suite, name, Tier.QUICK):
            return "q"
        return "f" if runs(suite, name, Tier.FULL) else ""

    found = tiers()
    assert {suite for suite, _ in found} == EVERY
    assert found == {(suite, name): cell(suite, name) for suite, name in found}
