"""``python -m tokensieve`` is ``tokensieve``: for launchers, and where the script is not on the path."""

import sys

from tokensieve.cli import main

if __name__ == "__main__":
    sys.exit(main())
