"""What a chapter of the manual is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Block: TypeAlias = str | Mapping[str, str] | tuple[str, ...]
"""A paragraph, a table of terms, or (a tuple of lines) an example."""
