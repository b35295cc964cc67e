"""`keras-iplt inspect`: what can be pruned of a model, what not, and what it costs."""

import argparse

from keras_iplt_cli.files import check_inputs
from keras_iplt_cli.options import Commands, add_command, add_loading
from keras_iplt_cli.talk import Answer

__all__ = ["add"]


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "inspect", run,
        "Shows which channels of a model hang together, which cannot be pruned and why, and what "
        "each layer costs.",
        ["keras-iplt inspect model.keras", "keras-iplt inspect model.keras --json | jq .frozen"],
    )  # fmt: skip
    add_loading(parser, ("model", {"help": "a .keras file"}))


def run(options: argparse.Namespace) -> Answer:
    check_inputs(options.model)
    from keras_iplt_cli.work.looking import inspected

    return inspected(options)
