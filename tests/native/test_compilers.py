"""bpf/ compiled by each Debian release's compiler, checked by this kernel's verifier.

A newer LLVM can make many paths through a program of code that an older one made straight, and the
verifier walks all of them, a million instructions at most.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pypwru.bpf_sources import sources
from pypwru.config import Backend
from tests.lab.vm import chroots
from tests.native.compilers import HERE, Case, Compilers, compile_units
from tests.native.tracing import need_tracing
from tests.support.c_comments import without_comments
from tests.support.need import is_full_tier
from tests.support.option_sets import OPTIONS
from tests.support.paths import TREE

pytestmark = pytest.mark.native

if is_full_tier():
    OTHERS = tuple(chroots.LLVM)
    CASES = [Case(options, backend) for options in OPTIONS for backend in Backend]
else:
    OTHERS = chroots.NEWEST
    CASES = [
        Case("plain", Backend.TRACEPOINT),
        Case("plain", Backend.KPROBE),
        Case("everything", Backend.KPROBE),
    ]

SUITES = (HERE, *OTHERS)

# Factor over this machine's compiler; a path more for each of n words is 2^n.
MAX_FACTOR = 2


@pytest.fixture(scope="module")
def compilers() -> Iterator[Compilers]:
    need_tracing()
    with ExitStack() as stack:
        yield Compilers(SUITES, CASES, stack)


@pytest.mark.parametrize("suite", OTHERS)
def test_release_has_llvm_of_its_row(suite: str, compilers: Compilers) -> None:
    assert compilers.made(suite)["llvm"] == chroots.LLVM[suite]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("suite", SUITES)
def test_verifier_accepts_every_program(suite: str, case: Case, compilers: Compilers) -> None:
    verified = compilers.verified(suite, case)
    print(*(f"{suite} {case} {name} {count}" for name, count in verified.items()), sep="\n")
    refused = {name: why for name, why in verified.items() if isinstance(why, str)}

    assert verified
    assert refused == {}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("suite", OTHERS)
def test_compilers_make_similar_path_counts(suite: str, case: Case, compilers: Compilers) -> None:
    here, there = compilers.verified(HERE, case), compilers.verified(suite, case)
    more = {
        name: (here[name], count) for name, count in there.items() if _exceeds(count, here[name])
    }

    assert there.keys() == here.keys()
    assert more == {}


def test_comments_change_no_byte(tmp_path: Path) -> None:
    """Neither clang's input nor what pypwru reads of the C itself depends on them."""
    case = Case("everything", Backend.KPROBE)
    compiled = []
    for strip in (str, without_comments):
        tree = tmp_path / strip.__name__
        shutil.copytree(TREE / "pypwru", tree / "pypwru")
        shutil.copytree(TREE / "bpf", tree / "bpf")
        for name, text in sources().items():
            (tree / "bpf" / name).write_text(strip(text))
        compiled.append(compile_units(case, tree))
    assert compiled[0] == compiled[1] != []


def _exceeds(count: int | str, here: int | str) -> bool:
    return not (isinstance(count, int) and isinstance(here, int) and count <= MAX_FACTOR * here)
