"""--filter-netns as a number, and what is none."""

from __future__ import annotations

import pytest

from pypwru.errors import KernelError, UsageError
from pypwru.kernel.place import Place, find_place


@pytest.mark.parametrize("digits", ["4026531840", "0004026531840", "0" * 5000 + "4026531840"])
def test_an_inode(digits: str) -> None:
    assert find_place(f"inode:{digits}", "") == Place(4026531840, 0)


@pytest.mark.parametrize("digits", ["", "x", "-1", "4294967296", "9" * 5000, "1_0", "\u0661"])
def test_no_inode(digits: str) -> None:
    with pytest.raises(UsageError, match="is no inode"):
        find_place(f"inode:{digits}", "")


@pytest.mark.parametrize("name", ["nosuch", "9" * 5000])
def test_no_name(name: str) -> None:
    with pytest.raises(KernelError, match="invalid netns specifier"):
        find_place(name, "")
