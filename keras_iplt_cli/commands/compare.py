"""`keras-iplt compare`: one model beside another."""

import argparse

from keras_iplt_cli.files import check_inputs
from keras_iplt_cli.options import Commands, add_command, add_data, add_loading
from keras_iplt_cli.talk import Answer

__all__ = ["add"]


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "compare", run,
        "Shows what pruning saved: filters, parameters, FLOPs and size, in total and by layer.",
        ["keras-iplt compare model.keras small.keras",
         "keras-iplt compare model.keras small.keras --data test.npz"],
    )  # fmt: skip
    add_loading(
        parser,
        ("before", {"help": "a .keras file"}),
        ("after", {"help": "a .keras file: the same model, pruned"}),
    )
    add_data(parser, "examples with labels, on which both are measured")


def run(options: argparse.Namespace) -> Answer:
    check_inputs(options.before, options.after, options.data)
    from keras_iplt_cli.work.looking import compared

    return compared(options)
