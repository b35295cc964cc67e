"""The arguments of all commands."""

import argparse
from collections.abc import Sequence
from typing import Any

from keras_iplt_cli.commands import (
    compare,
    demo,
    export,
    inspect,
    prune,
    recipe,
    report,
    sensitivity,
    smallest,
)
from keras_iplt_cli.options import Parser

__all__ = ["parsed"]

_COMMANDS = (demo, inspect, prune, smallest, sensitivity, compare, export, report, recipe)

_EXAMPLES = """\
examples:
  keras-iplt demo
  keras-iplt inspect model.keras
  keras-iplt prune model.keras -o small.keras --ratio 0.5
  keras-iplt export small.keras -o small.tflite

Models are .keras files, and no code in them is run. Results go to standard output, everything
else to standard error. Exit codes: 0 if all went well, 1 if not, 2 for options that are wrong,
130 after Ctrl-C."""


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """What a command is told.

    Its options, the function `run` of these, the `parser` that they are from, and in `rest` the
    arguments of a recipe."""
    parser = Parser(
        "keras-iplt",
        description="Makes Keras models smaller by removing filters: looks at them, prunes them, "
        "compares them, ships them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands)
    ours, theirs = recipe.split(arguments)
    options, unknown = parser.parse_known_args(ours)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.rest = theirs
    return options


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version  # which takes as long as all the rest

        print(f"keras-iplt {version('keras-iplt')}")
        parser.exit()
