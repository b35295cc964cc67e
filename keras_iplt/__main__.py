"""`python -m keras_iplt` is the command line, which is a package of its own above the library."""

import sys

from keras_iplt_cli import main

if __name__ == "__main__":
    sys.exit(main())
