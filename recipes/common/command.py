"""The command line that all recipes share."""

import argparse
import pathlib
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from keras_iplt.errors import PruningError

from .hardware import PRECISIONS, Hardware

__all__ = ["add_data", "command_parser", "data_settings", "parsed", "positive", "share", "start"]


class RecipeParser(argparse.ArgumentParser):
    """A parser whose options have one value where they are not given, and another with --quick."""

    def __init__(self, **how: Any) -> None:
        super().__init__(allow_abbrev=False, **how)
        self.quick: dict[str, Any] = {"eager": True}

    def option(
        self, flag: str, kind: Any, full: Any, quick: Any, what: str | None, **how: Any
    ) -> None:
        """Adds an option of a kind, its value where it is not given, and what it is.

        In full, and with --quick: None for the same.
        """
        name = self.add_argument(flag, type=kind, default=full, help=what, **how).dest
        if quick is not None:
            self.quick[name] = quick


def command_parser(
    name: str, doc: str | None, prog: str | None, seeds: tuple[int, int], batch: tuple[int, int]
) -> RecipeParser:
    """A parser with the options of all recipes.

    Args:
        name, doc: the name of the recipe and its documentation.
        prog: what the command is called in its help.
        seeds, batch: how many seeds, and examples in a batch: in full, and with --quick.
    """
    parser = RecipeParser(
        prog=prog or f"python -m recipes.{name}", description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(recipe=name)
    parser.add_argument("--quick", action="store_true",
                        help="everything, small, in seconds: see above")  # fmt: skip
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR",
                        help=f"where results go (saved_models/{name}; -quick)")  # fmt: skip
    parser.option("--seeds", positive, *seeds, "how many seeds, from 0")
    parser.option("--batch", positive, *batch, "examples in a batch")
    group = parser.add_argument_group("data sets of TensorFlow Datasets")
    group.add_argument("--data-dir", metavar="DIR", help="where they are prepared")
    group.add_argument("--download", action="store_true", help="download what is not there")
    group = parser.add_argument_group("the machine")
    group.add_argument("--precision", choices=PRECISIONS, default="float32",
                       help="dtypes (float32)")  # fmt: skip
    group.add_argument("--xla", action="store_true", help="compile TensorFlow's steps with XLA")
    group.add_argument("--eager", action="store_true",
                       help="do not compile steps: faster for a handful of batches")  # fmt: skip
    group.add_argument("--devices", type=positive, default=1, metavar="N",
                       help="spread each batch over N devices (MirroredStrategy; DataParallel on "
                       "JAX)")  # fmt: skip
    group.add_argument("--workers", type=positive, default=1, metavar="N",
                       help="runs at a time, by Ray: pip install 'keras-iplt[sweep]'")  # fmt: skip
    return parser


def add_data(
    parser: RecipeParser, prefix: str, what: str, full: Any, quick: tuple[Any, int, int]
) -> None:
    """Options that say what to train on: --data, --take and --take-test.

    With a prefix they are --mnist, --mnist-take and --mnist-take-test, say. Data that are a list in
    full can be several; with --quick they come with numbers of examples.
    """
    add, stem = parser.option, f"--{prefix}-" if prefix else "--"
    data, take, take_test = quick
    add(f"--{prefix or 'data'}", None, full, data, f"{what}: a name, an .npz file or a folder",
        metavar="DATA", nargs="+" if isinstance(full, list) else None)  # fmt: skip
    add(f"{stem}take", positive, None, take, "train on no more than N examples of it", metavar="N")
    add(f"{stem}take-test", positive, None, take_test, "test on no more than N", metavar="N")


def data_settings(options: argparse.Namespace, prefix: str = "") -> dict[str, Any]:
    """What `add_data` with the same prefix asked for, as settings of a run."""
    stem = f"{prefix}_" if prefix else ""
    return {
        "source": getattr(options, prefix or "data"), "take": getattr(options, f"{stem}take"),
        "take_test": getattr(options, f"{stem}take_test"),
    }  # fmt: skip


def parsed(parser: RecipeParser, arguments: Sequence[Any] | None) -> argparse.Namespace:
    """Reads a command, by default that of this process.

    Returns:
        The options, with `hardware` and the `command` itself among them.
    """
    arguments = sys.argv[1:] if arguments is None else [str(word) for word in arguments]
    options = parser.parse_args(arguments)
    if options.quick:
        parser.set_defaults(**parser.quick)
        options = parser.parse_args(arguments)
    if options.out is None:
        options.out = pathlib.Path(f"saved_models/{options.recipe}{'-quick' * options.quick}")
    options.hardware = Hardware(options.precision, options.xla, options.devices, options.eager)
    options.command = shlex.join(["python", "-m", f"recipes.{options.recipe}", *arguments])
    return options


def start(
    parser: RecipeParser, arguments: Sequence[Any] | None,
    reproduce: Callable[[argparse.Namespace], dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """Carries a command out; what goes wrong, and what remains then, is said in one line."""
    options = parsed(parser, arguments)
    try:
        return reproduce(options)
    except PruningError as error:
        raise SystemExit(f"error: {error}") from error
    except OSError as error:
        raise SystemExit(f"error: {options.out}: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(
            f"error: interrupted. What is done is kept in {options.out}: the same command goes on"
        ) from None


def positive(text: str) -> int:
    """A positive whole number."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, received: {text}")
    return number


def share(text: str) -> float:
    """A number between 0 and 1."""
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, received: {text}")
    return number
