"""Elements of a chapter of the man page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Block: TypeAlias = str | Mapping[str, str] | tuple[str, ...]
"""A paragraph, a table of terms and their meanings, or (a tuple of lines) an example."""
