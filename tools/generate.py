"""``make generate``: write all files that are made from others; a unit test fails if one is stale.

``python -m tools.generate`` prints the name of each file that it changed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tools.completion import completion_script
from tools.docs_tables import render
from tools.event_fields import schema
from tools.flag_fields import config_fields, trace_options
from tools.manpage import man_page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TREE = Path(__file__).resolve().parents[1]


def _page(name: str) -> str:
    return render((TREE / name).read_text(encoding="utf-8"))


_PAGES = ("docs/options.md", "docs/output.md", "docs/differences-from-pwru.md")
FILES: Mapping[str, Callable[[], str]] = {
    "pypwru/config_fields.py": config_fields,
    "pypwru/api/trace_options.py": trace_options,
    "pypwru/data/event.schema.json": schema,
    "man/pypwru.1": man_page,
    "completions/pypwru.bash": partial(completion_script, "bash"),
    "completions/_pypwru": partial(completion_script, "zsh"),
    **{name: partial(_page, name) for name in _PAGES},
}
"""File of the tree -> its text."""


def main() -> None:
    """Write what has changed."""
    for name, make in FILES.items():
        path, text = TREE / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(name)


if __name__ == "__main__":
    main()
