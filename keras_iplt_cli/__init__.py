"""The command line: `keras-iplt`, or `python -m keras_iplt`.

`commands` holds a module per command: `add(commands)` declares its options, `run(options)` looks at
what can be judged at once and imports the work, from `work`. Only that, and `loading`, import
Keras: help, and what is wrong with a command, are answered without it.
"""

from keras_iplt_cli.entry import main

__all__ = ["main"]
