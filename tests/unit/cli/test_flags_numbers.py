"""Unusual numbers as the value of every option: a value, or an error of two lines."""

from __future__ import annotations

import pytest

from pypwru.cli import main as command
from pypwru.cli.flags import FLAGS, Flag, parse
from pypwru.config import Config, MarkFilter
from pypwru.errors import UsageError

BOUNDS = [1 << bits for bits in (8, 16, 31, 32, 63, 64)]
NUMBERS = [
    "-1", "-0", "0", "1", "+1", "+", "-", "--", "", " ", " 1", "1 ", "1\n", "\t", "1\0", "\udcff",
    *(str(sign * (bound - less)) for bound in BOUNDS for less in (0, 1) for sign in (1, -1)),
    "9" * 30, "9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000,
    "1e400", "-1e400", "1e3", "nan", "inf", "-inf", "1.5", ".5", "1,2",
    "0x10", "0X1F", "0x", "0xg", "0x1p3", "0o17", "0o8", "017", "08", "0b11", "0b2",
    "1_000", "_1", "1_", "1__0", "0x_1", "0_x1",
    "\u0663", "\uff11\uff12", "\u00b2", "\u00bd", "\u2167", "1\u0663", "0\u0663", "0x\u00b2",
    "\u0130", "\u2212" + "1",
    "1k", "1G", "k", "9" * 30 + "G", "99999999999999999999999k", "-1k", "1/s", "-1/s", "\u0663/s",
    "1/2", "1/", "/", "0x1/0x", "1/2/3", "\u00b2/\u00b2", "0x100000000", "0xffffffff/0x100000000",
]  # fmt: skip
U64 = (1 << 64) - 1


def parsed_value(flag: Flag, number: str) -> object:
    """Return the option's value, None if the command line is refused."""
    try:
        parsed = parse([f"--{flag.name}={number}"])
    except UsageError as error:
        assert error.exit_status == 2
        assert str(error), (flag.name, number)
        return None
    return getattr(parsed, flag.field, None)


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_numbers_of_every_option(flag: Flag) -> None:
    for number in NUMBERS:
        found = parsed_value(flag, number)
        if isinstance(found, int):
            assert 0 <= found <= U64, number
            # Digits that Go takes, and Python reads alike but for a leading zero.
            digits = number.rstrip("kKmMgG/s").replace("_", "")
            assert digits.isascii() and digits, number
        if isinstance(found, MarkFilter):
            assert 0 <= found.value <= found.mask < 1 << 32, number


def test_refused_number_is_two_lines(capfd: pytest.CaptureFixture[str]) -> None:
    """For every number above, however long."""
    refused = 0
    for flag in FLAGS:
        if flag.value_type.type_name not in {
            "uint",
            "uint32",
            "uint8",
            "int",
            "size",
            "mark[/mask]",
        }:
            continue
        for number in NUMBERS:
            words = [f"--{flag.name}={number}"]
            try:
                assert isinstance(parse(words), Config)
            except UsageError:
                assert command.main(words) == 2
                out, err = capfd.readouterr()
                assert out == "" and err.endswith("\n")
                lines = err[:-1].split("\n")
                assert len(lines) == 2 and all(line.isprintable() for line in lines), words
                assert all(len(line) < 5000 for line in lines)
                refused += 1
    assert refused > 500


def test_number_over_its_type_is_refused() -> None:
    limits = {"uint": U64, "uint32": (1 << 32) - 1, "uint8": 255, "int": (1 << 63) - 1}
    for flag in FLAGS:
        if limit := limits.get(flag.value_type.type_name):
            assert parsed_value(flag, str(limit + 1)) is None, flag.name
