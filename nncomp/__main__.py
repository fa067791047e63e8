"""``python -m nncomp``."""

import sys

from nncomp.cli import main

if __name__ == "__main__":
    sys.exit(main())
