"""Options that several commands share, each defined once."""

import argparse
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

from keras_iplt_cli.lines import escaped
from keras_iplt_cli.talk import Answer

__all__ = [
    "CRITERIA",
    "Commands",
    "Group",
    "Parser",
    "add_command",
    "add_data",
    "add_loading",
    "add_output",
    "add_ranking",
    "amount",
    "count",
    "named_share",
    "not_negative",
    "positive",
    "share",
    "shares",
]

# Known here so that a mistyped one is found out at once.
CRITERIA = (
    *("activation", "apoz", "bn_scale", "energy", "fpgm", "gradient", "l1", "l1_mean"),
    "l2",
    "l2_mean",
    *("lamp", "lasso", "lp", "lp_mean", "random", "taylor", "thinet"),
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors repeat what was typed as text."""

    def error(self, message: str) -> NoReturn:
        super().error(escaped(message, keep=""))


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # which have no public names
Group: TypeAlias = "argparse.ArgumentParser | argparse._ArgumentGroup"


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], Answer | None],
    summary: str,
    examples: Sequence[str],
    own_output: bool = False,
) -> Parser:
    """A parser for a command.

    Args:
        commands: where it belongs.
        name, summary: of the command.
        run: the function that does it.
        examples: for its help, a line each.
        own_output: what it prints is its answer.
    """
    parser = commands.add_parser(
        name,
        help=summary[0].lower() + summary[1:].partition(". ")[0].rstrip("."),
        description=summary,
        epilog="\n  ".join(["examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--debug", action="store_true",
        help="print a traceback with errors, and all that libraries say",
    )  # fmt: skip
    parser.set_defaults(run=run, parser=parser, own_output=own_output)
    return parser


def add_loading(parser: Parser, *models: tuple[str, dict[str, Any]]) -> None:
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


def add_output(parser: Parser, what: str, required: bool = True) -> None:
    """Where the result goes."""
    parser.add_argument(
        "-o", "--output", type=pathlib.Path, metavar="PATH", required=required, help=what
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that exist")


def add_data(parser: Parser, what: str, required: bool = False) -> None:
    """Examples."""
    parser.add_argument(
        "--data", type=pathlib.Path, metavar="FILE.npz", required=required,
        help=f"{what}: an .npz file with x and y, x_test and y_test, x_val and y_val, or images "
        "and labels",
    )  # fmt: skip
    parser.add_argument("--take", type=count, metavar="N", help="only the first N examples")


def add_ranking(parser: Group) -> None:
    """What goes first, and what stays.

    Options not given are not set: the defaults are those of the function that they are for."""
    unset = argparse.SUPPRESS
    parser.add_argument(
        "--criterion", default=unset, choices=CRITERIA, metavar="NAME",
        help=f"how important a filter is: {', '.join(CRITERIA)} (default: energy)",
    )  # fmt: skip
    parser.add_argument(
        "--ignore", action="append", default=unset, metavar="NAME",
        help="a layer that keeps all its filters, or a pattern such as 'conv2*'; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--only", action="append", default=unset, metavar="NAME",
        help="a layer, or a pattern, that loses filters while all others do not; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--convolutions-only",
        action="store_true",
        default=unset,
        help="no dense layers and the like",
    )


def share(text: str) -> float:
    """A share that may go: not all."""
    number = _number(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"expected a number in [0, 1), received: {text!r}")
    return number


def amount(units: str, example: str) -> Callable[[str], str]:
    """What takes a number with one of some units, a regular expression."""

    def read(text: str) -> str:
        if not re.fullmatch(rf"\d[\d_,]*(\.\d*)?\s*({units})", text, re.IGNORECASE):
            raise argparse.ArgumentTypeError(
                f"expected an amount such as {example}, received: {text!r}"
            )
        return text

    return read


def named_share(text: str) -> tuple[str, float]:
    """NAME=RATIO."""
    name, found, ratio = text.rpartition("=")
    if not found or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=RATIO, received: {text!r}")
    return name, share(ratio)


def not_negative(text: str) -> float:
    """A number of zero or more."""
    number = _number(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(
            f"expected a number that is not negative, received: {text!r}"
        )
    return number


def positive(text: str) -> float:
    """A number of more than zero."""
    number = not_negative(text)
    if not number:
        raise argparse.ArgumentTypeError(f"expected a number above 0, received: {text!r}")
    return number


def shares(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    numbers = tuple(_number(part) for part in text.split(","))
    if sorted({n for n in numbers if 0 < n < 1}) != list(numbers):
        raise argparse.ArgumentTypeError(
            f"expected numbers in (0, 1) that rise, received: {text!r}"
        )
    return numbers


def count(text: str) -> int:
    """A positive number."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a positive number, received: {text!r}")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, received: {text!r}") from None
