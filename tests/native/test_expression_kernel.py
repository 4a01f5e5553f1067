"""Expressions run by the kernel; gcc, which compiles their meaning in C, is the oracle."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pypwru.btf.members import find_member
from pypwru.btf.query import BTF
from pypwru.errors import FilterError
from pypwru.expr import Expression, compile_filter_expression
from tests.oracles.expression_strategies import (
    CONTENTS,
    POINTERS,
    TEXTS,
    StructWorld,
    expressions,
    struct_worlds,
)
from tests.oracles.expressions import BATCH, Case, Gcc, Kernel, fixes_of, memory_of, object_offsets
from tests.support.need import need

pytestmark = pytest.mark.native
# Valid C that a filter refuses: its value is constant, or there is no room for it.
REFUSALS = (
    "and never",
    "a shift by",
    "a division by 0",
    "at once",
    "must start with",
    "stack",
    "8 bytes",
)
counts = Counter[str]()


@pytest.fixture(autouse=True)
def _root() -> None:
    need(os.geteuid() == 0, "root, for BPF_PROG_TEST_RUN")


def compiled(cases: list[Case], btf: BTF) -> dict[Case, Expression]:
    found: dict[Case, Expression] = {}
    for one in cases:
        try:
            expression = compile_filter_expression(one.text, "skb", btf)
            expression.body(-16)
        except FilterError as problem:
            assert any(words in str(problem) for words in REFUSALS), problem
            counts["refused"] += 1
        else:
            found[one] = expression
    return found


def memories(data: st.DataObject, btf: BTF) -> list[bytes]:
    links = len({at for at, _, _ in fixes_of(btf)})
    contents = data.draw(st.lists(CONTENTS, min_size=8, max_size=8))
    pointers = st.lists(POINTERS, min_size=links, max_size=links)
    texts = data.draw(st.lists(st.sampled_from(TEXTS), min_size=8, max_size=8))
    made = []
    for content, text in zip(contents, texts, strict=True):
        memory = bytearray(memory_of(btf, content, data.draw(pointers)))
        at = find_member(btf, "sk_buff", "text").offset
        memory[at : at + 6] = text
        for start, struct in zip(object_offsets(btf), ("sk_buff", "other", "other"), strict=False):
            memory[start + find_member(btf, struct, "flag").offset] &= 1  # gcc relies on it
        made.append(bytes(memory))
    return made


@settings(
    max_examples=40,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # each try at a smaller case would run gcc
)
@given(struct_worlds(), st.data())
def compare_verdicts(world: StructWorld, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        gcc = Gcc(world.layout, Path(folder))
        drawn = data.draw(st.lists(expressions(world), min_size=16, max_size=BATCH))
        views = compiled(drawn, gcc.btf)
        if not views:
            return
        contents = memories(data, gcc.btf)
        expected_lines = gcc.verdicts(list(views), contents)
        with Kernel(list(views.values()), gcc.btf) as kernel:
            for memory, line in zip(contents, expected_lines, strict=True):
                result = kernel.run(memory)
                for number, (one, expected) in enumerate(zip(views, line, strict=True)):
                    counts["compared"] += 1
                    counts["matches"] += expected
                    assert bool(result >> number & 1) == expected, (
                        f"{one.text}\n{one.c}\n{world.layout.declarations}\n{memory.hex()}"
                    )


def test_verdicts_are_those_of_gcc(capsys: pytest.CaptureFixture[str]) -> None:
    counts.clear()
    compare_verdicts()
    with capsys.disabled():
        print(
            f"\n{counts['compared']:,} verdicts of gcc and the kernel compared, 0 mismatches "
            f"({counts['matches']:,} matches; {counts['refused']} expressions refused)"
        )
    assert counts["compared"] > 2000
    assert 0.1 < counts["matches"] / counts["compared"] < 0.9
