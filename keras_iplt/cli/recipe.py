"""`keras-iplt recipe`: the experiments in the package `recipes`."""

import ast
import importlib
import importlib.util
import pathlib

from keras_iplt.cli import work
from keras_iplt.cli.options import add_command
from keras_iplt.cli.talk import Answer
from keras_iplt.errors import OptionError

__all__ = ["add", "recipes", "run_recipe", "split"]


def add(commands):
    parser = add_command(
        commands, "recipe", run, "Runs an experiment from the literature, or lists them.",
        ["keras-iplt recipe", "keras-iplt recipe demo --help", "keras-iplt recipe demo --epochs 8"],
        own_output=True,
    )  # fmt: skip
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="which one; without, they are listed"
    )
    parser.epilog += "\n\nwhat follows NAME is for the recipe."


def split(arguments):
    """What this parser reads, and what is for a recipe."""
    if arguments[:1] == ["recipe"]:
        for index, word in enumerate(arguments[1:], 2):
            if not word.startswith("-"):
                return arguments[:index], arguments[index:]
    return arguments, []


def run(options):
    if options.name is not None:
        return run_recipe(options.name, options.rest)
    found = recipes()
    width = max(map(len, found), default=0)
    return Answer("\n".join(f"{n:<{width}}  {text}" for n, text in found.items()), found)


def run_recipe(name, arguments):
    """Runs `main` of a recipe; it prints what it has to say, and may return what `--json` gives."""
    found = recipes()
    # As papers are called, too: "structure-aware", "pre-training".
    known = next((module for module in found if _bare(module) == _bare(name)), None)
    if known is None:
        raise OptionError(f"no recipe {name!r}; there are: {', '.join(found) or 'none'}")
    result = work.module(f"keras_iplt_recipes.{known}").main(arguments)
    return None if result is None else Answer("", result)


def _bare(name):
    return name.replace("-", "").replace("_", "")


def recipes():
    """name -> first line, for each module of `recipes` with a function `main`. They are read, not
    imported, as they import Keras."""
    package = importlib.util.find_spec("keras_iplt_recipes")
    if package is None:
        raise OptionError(
            "the package keras_iplt_recipes, which comes with keras-iplt, cannot be found"
        )
    found = {}
    for folder in package.submodule_search_locations or ():
        for path in sorted(pathlib.Path(folder).glob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if any(isinstance(n, ast.FunctionDef) and n.name == "main" for n in tree.body):
                found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found
