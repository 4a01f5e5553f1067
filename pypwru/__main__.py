"""Entry point of the command ``pypwru`` and of ``python -m pypwru``."""

import signal
import sys

# While the remaining modules are imported there is nothing to clean up: Ctrl-C ends the process
# without a traceback. If the parent ignores SIGINT (``trap '' INT``), it stays ignored.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from pypwru.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
