"""`keras-iplt recipe`: the experiments in the package keras_iplt_recipes."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras_iplt_cli.errors import CommandError
from keras_iplt_cli.options import Commands, add_command
from keras_iplt_cli.talk import Answer

__all__ = ["RECIPES", "Recipe", "add", "split"]


class Recipe(NamedTuple):
    """An experiment.

    Attributes:
        summary: a line about it, the first one of its module.
        run: what carries it out, of its arguments and of what the command is called. It imports
            the module, as that imports Keras.
    """

    summary: str
    run: Callable[[Sequence[str], str], Any]


def _demo(arguments: Sequence[str], prog: str) -> Any:
    from keras_iplt_recipes.demo import main

    return main(arguments, prog)


def _incremental_weights(arguments: Sequence[str], prog: str) -> Any:
    from keras_iplt_recipes.incremental_weights import main

    return main(arguments, prog)


def _iplt(arguments: Sequence[str], prog: str) -> Any:
    from keras_iplt_recipes.iplt import main

    return main(arguments, prog)


def _pretraining(arguments: Sequence[str], prog: str) -> Any:
    from keras_iplt_recipes.pretraining import main

    return main(arguments, prog)


def _rethinking(arguments: Sequence[str], prog: str) -> Any:
    from keras_iplt_recipes.rethinking import main

    return main(arguments, prog)


def _structure_aware(arguments: Sequence[str], prog: str) -> Any:
    from keras_iplt_recipes.structure_aware import main

    return main(arguments, prog)


RECIPES = {
    "demo": Recipe(
        "Pruning in two minutes: a small CNN on scikit-learn's handwritten digits, dense and with "
        "IPLT.",
        _demo,
    ),
    "incremental_weights": Recipe(
        "Sarkar et al., incremental pruning of single weights: Tables I to V, Fig. 7 and 8.",
        _incremental_weights,
    ),
    "iplt": Recipe("Li et al., incremental pruning based on less training: Tables 1 to 3.", _iplt),
    "pretraining": Recipe(
        "Hubens et al., the impact of pre-training on pruning: Tables 1 to 4, Fig. 1 and 3 to 6.",
        _pretraining,
    ),
    "rethinking": Recipe(
        'Liu et al., "Rethinking the value of network pruning": pruned networks, from scratch '
        "again.",
        _rethinking,
    ),
    "structure_aware": Recipe(
        "Zuo et al., how sparse each layer should be: Tables I to IV, Fig. 3 to 7 and 9 to 11.",
        _structure_aware,
    ),
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
        return Answer(_listed(), {name: recipe.summary for name, recipe in RECIPES.items()})
    # As papers are called, too: "structure-aware", "pre-training".
    known = next((name for name in RECIPES if _bare(name) == _bare(options.name)), None)
    if known is None:
        raise CommandError(f"no recipe {options.name!r}; there are: {', '.join(RECIPES)}")
    result = RECIPES[known].run(options.rest, f"keras-iplt recipe {known}")
    return None if result is None else Answer("", result)


def _listed() -> str:
    width = max(map(len, RECIPES))
    return "\n".join(f"{name:<{width}}  {recipe.summary}" for name, recipe in RECIPES.items())


def _bare(name: str) -> str:
    return name.replace("-", "").replace("_", "")
