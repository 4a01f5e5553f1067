"""Random filters match as pcap-filter(7) defines: the oracle shares no code with libpcap."""

from __future__ import annotations

import random

import pytest

from pypwru.errors import FilterError
from pypwru.filter.compiler import compile_filter
from tests.oracles.filter_machine import Machine
from tests.oracles.filter_packets import whole_frames
from tests.oracles.pcap_grammar import Frame, matches, read, write

FRAMES = [Frame(data) for data in whole_frames()]


@pytest.mark.parametrize("seed", range(8))
def test_random_filters(seed: int) -> None:
    chance = random.Random(seed)
    compared = 0
    for _ in range(60):
        text = write(chance, chance.randrange(1, 9))
        matcher = read(text)
        frames = chance.sample(FRAMES, 40)
        expected = [matches(matcher, frame) for frame in frames]
        try:
            body = compile_filter(text).l2.body(0)
        except FilterError:
            assert not any(matches(matcher, frame) for frame in FRAMES), text
            continue
        found = [Machine(frame.data).matches(body) for frame in frames]
        assert found == expected, text
        compared += len({*expected}) > 1
    assert compared > 20
