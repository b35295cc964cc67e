"""`keras-iplt compare`: one model beside another."""

from keras_iplt.cli import work
from keras_iplt.cli.options import add_command, add_loading
from keras_iplt.cli.talk import Answer

__all__ = ["add"]


def add(commands):
    parser = add_command(
        commands, "compare", run,
        "Shows what pruning saved: filters, parameters, FLOPs and size, in total and by layer.",
        ["keras-iplt compare model.keras small.keras"],
    )  # fmt: skip
    add_loading(
        parser,
        ("before", {"help": "a .keras file"}),
        ("after", {"help": "a .keras file: the same model, pruned"}),
    )


def run(options):
    iplt = work.library()
    models = [work.loaded(options, path) for path in (options.before, options.after)]
    comparison = iplt.compare(*models)
    return Answer(str(comparison), comparison.to_dict())
