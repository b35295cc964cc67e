"""From arguments to an exit code: what goes where, and how it ends."""

import argparse
import contextlib
import os
import sys
import traceback

from keras_iplt.cli import compare, demo, export, inspect, prune, recipe, report, sensitivity
from keras_iplt.cli.talk import print_answer, say, work_on_stderr
from keras_iplt.errors import PruningError

__all__ = ["main"]

_COMMANDS = (demo, inspect, prune, sensitivity, compare, export, report, recipe)
_INTERRUPTED, _BROKEN_PIPE = 130, 141  # 128 + the number of the signal, as shells count

_EXAMPLES = """\
examples:
  keras-iplt demo
  keras-iplt inspect model.keras
  keras-iplt prune model.keras -o small.keras --ratio 0.5
  keras-iplt export small.keras -o small.tflite

Models are .keras files, and no code in them is run. Results go to standard output, everything
else to standard error. Exit codes: 0 if all went well, 1 if not, 2 for options that are wrong,
130 after Ctrl-C."""


def main(arguments=None):
    """Runs one command.

    Args:
        arguments: a list of strings; those of the command line by default.

    Returns:
        The exit code: 0, 1, 130 after Ctrl-C. Options that are wrong raise `SystemExit(2)`.
    """
    options = _parsed(sys.argv[1:] if arguments is None else list(arguments))
    # Before anything imports TensorFlow, which tells at length which CPU it has found.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        own = options.own_output and not options.json
        with contextlib.nullcontext() if own else work_on_stderr():
            answer = options.run(options)
        print_answer(answer, options.json)
        return 0
    except KeyboardInterrupt:
        say("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # Who reads has read enough. Python would complain once more when it flushes at the end.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (PruningError, MemoryError, OSError) as error:
        return _failed(error, options.debug)
    except SystemExit as stop:  # of a recipe
        if not isinstance(stop.code, str):
            raise
        return _failed(stop.code.removeprefix("error: "), options.debug)


def _failed(error, debug):
    if debug:
        traceback.print_exc()
    text = " ".join(str(error).split())
    known = isinstance(error, (PruningError, str))
    say(f"error: {text if known and text else f'{type(error).__name__}: {text}'}")
    return 1


def _parsed(arguments):
    parser = argparse.ArgumentParser(
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
    options.rest = unknown + theirs
    if unknown and not options.passes_on:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


class _Version(argparse.Action):
    def __call__(self, parser, *_):
        print(f"keras-iplt {sys.modules['keras_iplt'].__version__}")
        parser.exit()
