"""Import scapy without a home directory, so that it neither reads nor creates files there.

Must be imported before any other module of scapy. scapy 2.6 and 2.7 unpickle files in
~/.cache/scapy when they are imported. A root process may have another user's home directory
(``sudo -E``, ``su``), and that user's pickles would run as root.
"""

from __future__ import annotations

import os

_HOMES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
_NOWHERE = "/dev/null/nowhere"  # can't be created

_before = {name: value for name, value in os.environ.items() if name in _HOMES}
os.environ.update(dict.fromkeys(_HOMES, _NOWHERE))
try:
    import scapy.main  # noqa: F401 -- reads these variables once, on import
finally:
    for _name in _HOMES:
        del os.environ[_name]
    os.environ.update(_before)
