"""``python -m tokensieve.cli`` is ``tokensieve``."""

import sys

from tokensieve.cli import main

if __name__ == "__main__":
    sys.exit(main())
