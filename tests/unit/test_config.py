"""Config is frozen, and its rules hold however it is made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pypwru.config import RULES, Config
from pypwru.errors import UsageError
from pypwru.options import parse


def base() -> Config:
    parsed = parse([])
    assert isinstance(parsed, Config)
    return parsed


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        base().debug = True  # type: ignore[misc]


def test_ready_file_would_empty_the_output() -> None:
    with pytest.raises(UsageError, match="name the same file") as caught:
        parse(["--ready-file=/tmp/x", "--output-file", "/tmp/x"])
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError):
        dataclasses.replace(base(), ready_file=Path("x"), output_file=Path("x"))
    parse(["--ready-file=/tmp/x", "--output-file=/tmp/y"])


def test_no_rule_breaks_the_defaults() -> None:
    assert not any(broken(base()) for broken, _ in RULES)
