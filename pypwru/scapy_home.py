"""Imported before scapy, which then has no home: it neither reads nor makes anything there.

scapy 2.6 and 2.7 unpickle what they find in ~/.cache/scapy when they are imported. The home of a
process of root may be another user's (``sudo -E``, ``su``), whose pickles would run as root.
"""

from __future__ import annotations

import os

_HOMES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
_NOWHERE = "/dev/null/nowhere"  # can't be made

_before = {name: value for name, value in os.environ.items() if name in _HOMES}
os.environ.update(dict.fromkeys(_HOMES, _NOWHERE))
try:
    import scapy.main  # noqa: F401 -- which looks for them, once
finally:
    for _name in _HOMES:
        del os.environ[_name]
    os.environ.update(_before)
