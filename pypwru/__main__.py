"""``python -m pypwru`` is the same program as ``pypwru``."""

import sys

from pypwru.cli import main

if __name__ == "__main__":
    sys.exit(main())
