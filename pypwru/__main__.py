"""``pypwru``, and the same program as ``python -m pypwru``."""

import signal
import sys

# While Python loads the rest there is nothing to undo: Ctrl-C ends it without a traceback. Who has
# it ignored (``trap '' INT``) goes on.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from pypwru.cli import main

if __name__ == "__main__":
    sys.exit(main())
