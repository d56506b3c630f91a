"""Run the command line as `python -m garrison.cli`."""

import sys

from garrison.cli import main

if __name__ == "__main__":
    sys.exit(main())
