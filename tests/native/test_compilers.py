"""What each Debian release's compiler makes of bpf/, before the verifier of this kernel.

A newer LLVM can make many ways through a program of what an older one made straight, and the
verifier goes all of them, of a million instructions in all at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pypwru.config import Backend
from tests.lab.vm import chroots
from tests.native.compilers import HERE, OPTIONS, Case, Compilers
from tests.native.tracing import need_tracing
from tests.support.need import is_full_tier

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

# Times what the compiler here makes the verifier go through; a way more for each of n words is 2^n.
MORE = 2


@pytest.fixture(scope="module")
def compilers() -> Iterator[Compilers]:
    need_tracing()
    with ExitStack() as stack:
        yield Compilers(SUITES, CASES, stack)


@pytest.mark.parametrize("suite", OTHERS)
def test_a_release_has_the_compiler_that_its_row_says(suite: str, compilers: Compilers) -> None:
    assert compilers.made(suite)["llvm"] == chroots.LLVM[suite]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("suite", SUITES)
def test_the_verifier_takes_every_program(suite: str, case: Case, compilers: Compilers) -> None:
    verified = compilers.verified(suite, case)
    print(*(f"{suite} {case} {name} {count}" for name, count in verified.items()), sep="\n")
    refused = {name: why for name, why in verified.items() if isinstance(why, str)}

    assert verified
    assert refused == {}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("suite", OTHERS)
def test_no_compiler_makes_many_more_ways(suite: str, case: Case, compilers: Compilers) -> None:
    here, there = compilers.verified(HERE, case), compilers.verified(suite, case)
    more = {
        name: (here[name], count) for name, count in there.items() if _is_more(count, here[name])
    }

    assert there.keys() == here.keys()
    assert more == {}


def _is_more(count: int | str, here: int | str) -> bool:
    return not (isinstance(count, int) and isinstance(here, int) and count <= MORE * here)
