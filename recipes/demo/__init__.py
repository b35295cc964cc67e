"""Pruning in two minutes: a small CNN on scikit-learn's handwritten digits, dense and with IPLT.

    python -m recipes.demo [--ratio 0.6] [--epochs 24] [--seed 0] [--out saved_models/demo]

Trains a network of three convolutions twice, in the same plain fit but for one callback, exports
both, and shows them side by side. Both models, their .tflite files and a report are written to
saved_models/demo/. About a minute on two cores, no network needed. So small a network trains no
faster when it is pruned: most of the seconds go into TensorFlow's compiling it, dense and small.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from ..common.command import failing_in_a_line, positive

__all__ = ["add_options", "main", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the demo to a parser."""
    parser.add_argument("--ratio", type=float, default=0.6, help="share of the filters to remove")
    parser.add_argument("--epochs", type=positive, default=24, help="epochs of training")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("saved_models/demo"), metavar="DIR",
        help="where results go (default: %(default)s)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Does what options say."""
    with failing_in_a_line(options.out, goes_on=False):
        from .training import compared

        return compared(options.ratio, options.epochs, options.seed, options.out)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> dict[str, Any]:
    """Does what a command says; help is given, and mistakes are found, without Keras."""
    parser = argparse.ArgumentParser(
        prog or "python -m recipes.demo", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_options(parser)
    return run(parser.parse_args(arguments))
