"""The command line that all recipes share."""

import argparse
import contextlib
import dataclasses
import pathlib
import shlex
import sys

import keras_iplt as iplt

from ..common.training import PRECISIONS, Hardware

__all__ = [
    "add_data",
    "command_parser",
    "answering",
    "common_settings",
    "parsed",
    "positive",
    "share",
]


def command_parser(name, doc, prog=None):
    """A parser with the options of all recipes.

    Args:
        name: of the recipe; results go to saved_models/<name>/ unless told.
        doc: its documentation.
        prog: what the command is called in its help.
    """
    parser = argparse.ArgumentParser(
        prog or f"python -m recipes.{name}", description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.set_defaults(recipe=name)
    parser.add_argument("--quick", action="store_true",
                        help="everything, small, in seconds: see above")  # fmt: skip
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR",
                        help=f"where results go (saved_models/{name}; -quick)")  # fmt: skip
    parser.add_argument("--seeds", type=positive, help="how many seeds, from 0")
    parser.add_argument("--batch", type=positive, help="examples in a batch")
    group = parser.add_argument_group("data sets of TensorFlow Datasets")
    group.add_argument("--data-dir", metavar="DIR", help="where they are prepared")
    group.add_argument("--download", action="store_true", help="download what is not there")
    group = parser.add_argument_group("the machine")
    group.add_argument("--precision", choices=PRECISIONS, help="dtypes (float32)")
    group.add_argument("--xla", action="store_true", help="compile TensorFlow's steps with XLA")
    group.add_argument("--eager", action="store_true", default=None,
                       help="do not compile steps: faster for a handful of batches")  # fmt: skip
    group.add_argument("--devices", type=positive, default=1, metavar="N",
                       help="spread each batch over N devices (MirroredStrategy; DataParallel on "
                       "JAX)")  # fmt: skip
    group.add_argument("--workers", type=positive, default=1, metavar="N",
                       help="runs at a time, by Ray: pip install 'keras-iplt[sweep]'")  # fmt: skip
    return parser


def add_data(parser, prefix="", what="the data", several=False):
    """Options that say what to train on: --data, --take and --take-test, or --mnist, --mnist-take
    and --mnist-take-test; one data set, or several."""
    add = parser.add_argument
    stem = f"--{prefix}-" if prefix else "--"
    add(f"--{prefix or 'data'}", metavar="DATA", nargs="+" if several else None,
        help=f"{what}: a name, an .npz file or a folder")  # fmt: skip
    add(f"{stem}take", type=positive, metavar="N", help="train on no more than N examples of it")
    add(f"{stem}take-test", type=positive, metavar="N", help="test on no more than N")


def parsed(parser, arguments, full, quick):
    """Reads a command; what it does not say comes from one of two presets.

    Args:
        parser: a `command_parser` with what else the recipe takes.
        arguments: as `main` is given them.
        full, quick: option -> value, without and with --quick.

    Returns:
        The options, with `hardware` and the `command` itself among them.
    """
    arguments = sys.argv[1:] if arguments is None else [str(word) for word in arguments]
    options = parser.parse_args(arguments)
    preset = {"precision": "float32", "eager": options.quick, **full}
    preset |= quick if options.quick else {}
    for key, value in preset.items():
        if getattr(options, key, None) is None:
            setattr(options, key, value)
    if options.out is None:
        options.out = pathlib.Path(f"saved_models/{options.recipe}{'-quick' * options.quick}")
    options.hardware = Hardware(options.precision, options.xla, options.devices, options.eager)
    options.command = shlex.join(["python", "-m", f"recipes.{options.recipe}", *arguments])
    return options


def common_settings(options):
    """What every run is told: settings that make it another run, and where things are."""
    settings = {
        "batch": options.batch, "hardware": dataclasses.asdict(options.hardware)
    }  # fmt: skip
    return settings, {"data_dir": options.data_dir, "download": options.download}


@contextlib.contextmanager
def answering(options):
    """Says in a line what went wrong, and what remains when it is interrupted."""
    try:
        yield
    except iplt.PruningError as error:
        raise SystemExit(f"error: {error}") from error
    except OSError as error:
        raise SystemExit(f"error: {options.out}: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(
            f"error: interrupted. What is done is kept in {options.out}: the same command goes on"
        ) from None


def positive(text):
    """A positive whole number."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, received: {text}")
    return number


def share(text):
    """A number between 0 and 1."""
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, received: {text}")
    return number
