"""`python -m empath.testing.simulation`: see `command.py`."""

import sys

from empath.testing.simulation.command import main

if __name__ == "__main__":
    sys.exit(main())
