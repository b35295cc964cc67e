"""`python -m keras_iplt` is the command line."""

import sys

from keras_iplt.cli import main

if __name__ == "__main__":
    sys.exit(main())
