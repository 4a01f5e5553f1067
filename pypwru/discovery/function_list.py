"""Read a list of functions to trace exclusively: --functions.

Plain text: one name a line, as ``--function-list`` writes it; ``#`` starts a comment. JSON: the
output of ``--list-functions --output-json``, its array ``functions``, or an array of names. A name
is ``name`` of a function, ``name[module]`` of one in a module, ``tp:name`` of a raw tracepoint; a
function without a module is looked up in vmlinux first.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pypwru.config import STDOUT
from pypwru.discovery.selection import is_tracepoint
from pypwru.errors import ListError
from pypwru.kernel.kallsyms import display_name

if TYPE_CHECKING:
    from pathlib import Path

NameList = tuple[str, ...]

_NAME = re.compile(r"(?:tp:\w+|[\w.]+(?:\[[\w-]+\])?)", re.ASCII)
_MAX_EXCERPT = 60  # characters of an invalid entry in a message
_CURE = "use a file written by --function-list, or by --list-functions --output-json"
_MAX_BYTES = 1 << 26  # bytes; JSON of every function of a kernel takes a third


def read_names(path: Path | None) -> NameList | None:
    """Return the names in a file; None without a file.

    Args:
        path: of --functions; ``-`` is standard input.

    Raises:
        ListError: it can't be read, or is not a list of names.
    """
    if path is None:
        return None
    try:
        return parse_names(_read_content(path).decode())
    except OSError as error:
        raise ListError(f"can't read --functions {path}: {error.strerror}", _CURE) from error
    except UnicodeDecodeError as error:
        raise ListError(f"--functions {path}: it is not UTF-8 text", _CURE) from error
    except ValueError as error:
        raise ListError(f"--functions {path}: {error}", _CURE) from error


def _read_content(path: Path) -> bytes:
    """Return the content of a file, which may be a device without end.

    Raises:
        ValueError: it is longer than _LONGEST.
    """
    is_input = path == STDOUT
    with open(0 if is_input else path, "rb", closefd=not is_input) as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it is longer than {_MAX_BYTES >> 20} MiB")
    return content


def parse_names(text: str) -> NameList:
    """Return the names in a plain or JSON list, each once, in the order of the list.

    Raises:
        ValueError: an entry is not a name, or there is none.
    """
    found = _parse_json(text) if text.lstrip()[:1] in ("{", "[") else _parse_lines(text)
    if not found:
        raise ValueError("it names no function")
    return tuple(dict.fromkeys(found))


def _parse_lines(text: str) -> list[str]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        name = line.partition("#")[0].strip()
        if name:
            found.append(_check_name(name, f"line {number}"))
    return found


def _parse_json(text: str) -> list[str]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it starts like JSON but is not valid ({error})") from error
    entries = document.get("functions") if isinstance(document, dict) else document
    if not isinstance(entries, list):
        raise ValueError('it has no array "functions"')
    return [_parse_json_entry(entry, f"entry {number}") for number, entry in enumerate(entries, 1)]


def _parse_json_entry(entry: object, location: str) -> str:
    name, module = entry, None
    if isinstance(entry, dict):
        name, module = entry.get("name"), entry.get("module")
    if not isinstance(name, str) or not (module is None or isinstance(module, str)):
        raise ValueError(f"{location} has no name: {json.dumps(entry)[:_MAX_EXCERPT]}")
    display = name if is_tracepoint(name) or "[" in name else display_name(name, module or "")
    return _check_name(display, location)


def _check_name(name: str, location: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{location} is not a function name: {name[:_MAX_EXCERPT]!r}")
    return name


def module_of(name: str) -> str:
    """Return the module of a display name; '' without one."""
    return name.partition("[")[2].removesuffix("]").replace("-", "_")
