"""`keras-iplt demo`: the recipe of that name."""

import argparse

from keras_iplt_recipes import demo

from keras_iplt_cli.options import Commands, add_command
from keras_iplt_cli.talk import Answer

__all__ = ["add"]


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "demo", run,
        "Trains a small network densely and with pruning, and shows both side by side.",
        ["keras-iplt demo", "keras-iplt demo --ratio 0.7"],
        own_output=True,
    )  # fmt: skip
    demo.add_options(parser)


def run(options: argparse.Namespace) -> Answer:
    return Answer("", demo.run(options))
