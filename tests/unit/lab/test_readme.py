"""The table of tiers in tests/README.md equals the lab's, for the kernels in it."""

from __future__ import annotations

from tests.lab.kernels import EVERY, KERNELS, Tier, runs
from tests.support.paths import TREE


def documented_tiers() -> dict[tuple[str, str], str]:
    """Return cells of the table, by (suite, kernel)."""
    text = (TREE / "tests" / "README.md").read_text().partition("<!-- tiers:")[2]
    lines = text.partition("\n\n")[2].partition("\n\n")[0].splitlines()
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    names = [name for name in head if name in {row.name for row in KERNELS}]
    return {
        (suite, name): cell
        for suite, *cells in rows
        for name, cell in zip(names, cells, strict=False)
    }


def test_table_of_tiers() -> None:
    def expected_cell(suite: str, name: str) -> str:
        if runs(suite, name, Tier.QUICK):
            return "q"
        return "f" if runs(suite, name, Tier.FULL) else ""

    found = documented_tiers()
    assert {suite for suite, _ in found} == EVERY
    assert found == {(suite, name): expected_cell(suite, name) for suite, name in found}
