"""The command line: `keras-iplt`, or `python -m keras_iplt`.

One module per command, with `add(commands)`, which declares its options, and a function of these
options, which returns an `Answer`. Nothing here imports Keras before there is work to do, so that
`--help` and mistyped options are answered at once.
"""

from keras_iplt.cli.entry import main

__all__ = ["main"]
