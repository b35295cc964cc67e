"""From arguments to an exit code: what goes where, and how it ends."""

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

from keras_iplt_cli.errors import CommandError
from keras_iplt_cli.lines import escaped
from keras_iplt_cli.parser import parsed
from keras_iplt_cli.quiet import without_noise
from keras_iplt_cli.talk import print_answer, say, talking

__all__ = ["main"]

_INTERRUPTED, _BROKEN_PIPE = 130, 141  # 128 + the number of the signal, as shells count


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: those of the command line by default.

    Returns:
        The exit code: 0, 1, 130 after Ctrl-C. Options that are wrong raise `SystemExit(2)`.
    """
    options = parsed(sys.argv[1:] if arguments is None else arguments)
    answers = options.own_output and not options.json
    try:
        quiet = contextlib.nullcontext() if options.debug else without_noise()
        with quiet, talking(answers, bars=options.own_output):
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
    except SystemExit as stop:  # of a recipe
        if not isinstance(stop.code, str):
            raise
        return _failed(stop.code.removeprefix("error: "), options.debug)
    except CommandError as error:
        return _failed(str(error), options.debug)
    except (MemoryError, OSError) as error:
        return _failed(f"{type(error).__name__}: {error}", options.debug)
    except Exception as error:
        # An error of the library, which is loaded by now, or a mistake in it.
        from keras_iplt.errors import PruningError

        if isinstance(error, PruningError):
            return _failed(str(error) or type(error).__name__, options.debug)
        return _failed(f"{type(error).__name__}: {error}", debug=True)


def _failed(message: str, debug: bool) -> int:
    if debug:
        print(_traceback(), end="", file=sys.stderr)
    say(f"error: {' '.join(message.split())}")
    return 1


def _traceback() -> str:
    """How the present error came about; what errors say is in a line each, as names are in it."""
    text, error = traceback.format_exc(), sys.exc_info()[1]
    while error is not None:
        text = text.replace(str(error), escaped(str(error), keep=""))
        error = error.__cause__ or error.__context__
    return escaped(text)
