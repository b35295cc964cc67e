"""`keras-iplt demo`: `python -m recipes.demo` by a shorter name."""

from keras_iplt.cli.options import add_command
from keras_iplt.cli.recipe import run_recipe

__all__ = ["add"]


def add(commands):
    add_command(
        commands, "demo", run,
        "Trains a small network densely and with pruning, and shows both side by side.",
        ["keras-iplt demo", "keras-iplt demo --help", "keras-iplt demo --ratio 0.7"],
        passes_on=True, own_output=True,
    )  # fmt: skip


def run(options):
    return run_recipe("demo", options.rest)
