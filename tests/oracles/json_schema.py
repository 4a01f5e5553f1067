"""Validators of lines of --output-json: the schema in the package, and jq."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator

from pypwru.output.fields import KEYS
from tests.support.need import need

SCHEMA = json.loads(resources.files("pypwru.data").joinpath("event.schema.json").read_text())
_VALIDATOR = Draft202012Validator(SCHEMA)


def validated(line: bytes) -> dict[str, Any]:
    """Return ``line`` as an object, once the schema allows it and its keys are in pwru's order."""
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    found = json.loads(line)
    _VALIDATOR.validate(found)
    assert isinstance(found, dict)
    order = [KEYS.index(key) for key in found]
    assert order == sorted(order)
    return found


def jq(lines: bytes) -> list[dict[str, Any]]:
    """Return the objects that jq reads."""
    need(shutil.which("jq"), "jq")
    done = subprocess.run(["jq", "-c", "."], input=lines, capture_output=True, check=True)
    return [json.loads(each) for each in done.stdout.splitlines()]
