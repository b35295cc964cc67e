"""Options that several commands share, each defined once."""

import argparse
import pathlib

__all__ = [
    "add_command",
    "add_data",
    "add_loading",
    "add_output",
    "add_ranking",
    "named_share",
    "shares",
]


def add_command(commands, name, run, summary, examples, passes_on=False, own_output=False):
    """A parser for a command.

    Args:
        commands: where it belongs.
        name, summary: of the command.
        run: the function that does it, of the options, returning an `Answer`.
        examples: for its help, a line each.
        passes_on: its arguments are for another parser, which has a `--help` of its own.
        own_output: what it prints is its answer.
    """
    parser = commands.add_parser(
        name,
        help=summary[0].lower() + summary[1:].partition(". ")[0].rstrip("."),
        description=summary,
        epilog="\n  ".join(["examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=not passes_on,
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--debug", action="store_true", help="print a traceback with errors")
    parser.set_defaults(run=run, parser=parser, passes_on=passes_on, own_output=own_output)
    return parser


def add_loading(parser, *models):
    """The models that a command reads, and how."""
    for name, options in models:
        parser.add_argument(name, type=pathlib.Path, metavar=name.upper(), **options)
    parser.add_argument(
        "--import", dest="modules", action="append", default=[], metavar="MODULE",
        help="import a module of yours that registers custom layers; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--unsafe", action="store_true",
        help="run code from the model file (Lambda layers); only if you trust where it comes from",
    )  # fmt: skip


def add_output(parser, what, required=True):
    """Where the result goes."""
    parser.add_argument(
        "-o", "--output", type=pathlib.Path, metavar="PATH", required=required, help=what
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that exist")


def add_data(parser, what, required=False):
    """Examples."""
    parser.add_argument(
        "--data", type=pathlib.Path, metavar="FILE.npz", required=required,
        help=f"{what}: an .npz file with x and y, x_test and y_test, x_val and y_val, or images "
        "and labels",
    )  # fmt: skip
    parser.add_argument("--take", type=_count, metavar="N", help="only the first N examples")


def add_ranking(parser):
    """What goes first, and what stays. Options not given are not set: the defaults are those of
    the function that they are for."""
    unset = argparse.SUPPRESS
    parser.add_argument(
        "--criterion", default=unset, help="how important a filter is: l1, l2, fpgm, taylor, …"
    )
    parser.add_argument(
        "--ignore", action="append", default=unset, metavar="NAME",
        help="a layer that keeps all its filters; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--convolutions-only",
        action="store_true",
        default=unset,
        help="no dense layers and the like",
    )


def named_share(text):
    """NAME=RATIO."""
    name, found, share = text.rpartition("=")
    if not found or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=RATIO, received: {text!r}")
    return name, _number(share)


def shares(text):
    """Numbers with commas between them."""
    return tuple(_number(part) for part in text.split(","))


def _number(text):
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, received: {text!r}") from None


def _count(text):
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a positive number, received: {text!r}")
    return int(text)
