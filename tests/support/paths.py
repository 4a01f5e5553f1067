"""The path of this checkout, and of the recorded data of its tests."""

from __future__ import annotations

from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
DATA = TREE / "tests" / "data"
