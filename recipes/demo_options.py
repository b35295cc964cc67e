"""What the demo can be told, apart from the demo itself: help is given without Keras."""

import argparse
import pathlib

__all__ = ["add_options"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the demo to a parser."""
    parser.add_argument("--ratio", type=float, default=0.6, help="share of the filters to remove")
    parser.add_argument("--epochs", type=_positive, default=24, help="epochs of training")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("saved_models/demo"), metavar="DIR",
        help="where results go (default: %(default)s)",
    )  # fmt: skip


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a positive number, received: {text}")
    return int(text)
