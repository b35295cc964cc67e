"""`keras-iplt recipe`: the experiments in the package keras_iplt_recipes."""

import argparse
from collections.abc import Sequence
from types import ModuleType

from keras_iplt_recipes import (
    demo,
    incremental_weights,
    iplt,
    language,
    pretraining,
    rethinking,
    structure_aware,
)

from keras_iplt_cli.errors import CommandError
from keras_iplt_cli.options import Commands, add_command
from keras_iplt_cli.talk import Answer

__all__ = ["RECIPES", "add", "split"]

# What they run, and with it Keras, is imported when it is run.
RECIPES: dict[str, ModuleType] = {
    "demo": demo,
    "incremental_weights": incremental_weights,
    "iplt": iplt,
    "language": language,
    "pretraining": pretraining,
    "rethinking": rethinking,
    "structure_aware": structure_aware,
}


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "recipe", run, "Runs an experiment from the literature, or lists them.",
        ["keras-iplt recipe", "keras-iplt recipe demo --help", "keras-iplt recipe demo --epochs 8"],
        own_output=True,
    )  # fmt: skip
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="which one; without, they are listed"
    )
    listed = "\n  ".join(_listed().splitlines())
    parser.epilog = (
        f"recipes:\n  {listed}\n\n{parser.epilog}\n\nwhat follows NAME is for the recipe."
    )


def split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """What this parser reads, and what is for a recipe."""
    if arguments[:1] == ["recipe"]:
        for index, word in enumerate(arguments[1:], 2):
            if not word.startswith("-"):
                return arguments[:index], arguments[index:]
    return arguments, []


def run(options: argparse.Namespace) -> Answer | None:
    if options.name is None:
        return Answer(_listed(), _summaries())
    # As papers are called, too: "structure-aware", "pre-training".
    known = next((name for name in RECIPES if _bare(name) == _bare(options.name)), None)
    if known is None:
        raise CommandError(f"no recipe {options.name!r}; there are: {', '.join(RECIPES)}")
    result = RECIPES[known].main(options.rest, f"keras-iplt recipe {known}")
    return None if result is None else Answer("", result)


def _listed() -> str:
    width = max(map(len, RECIPES))
    return "\n".join(f"{name:<{width}}  {summary}" for name, summary in _summaries().items())


def _summaries() -> dict[str, str]:
    """The first lines of their documentation."""
    return {name: (one.__doc__ or "").partition("\n")[0] for name, one in RECIPES.items()}


def _bare(name: str) -> str:
    return name.replace("-", "").replace("_", "")
