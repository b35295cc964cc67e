"""`keras-iplt report`: a page about a model, or about what pruning did to it."""

import pathlib
import shlex

from keras_iplt.cli import work
from keras_iplt.cli.options import add_command, add_loading, add_output
from keras_iplt.cli.outputs import check_outputs, read_text
from keras_iplt.cli.talk import Answer

__all__ = ["add"]


def add(commands):
    parser = add_command(
        commands, "report", run,
        "Writes an HTML page about a model, or about two, before and after pruning.",
        ["keras-iplt report model.keras small.keras -o report.html",
         "keras-iplt report model.keras -o report.html --sensitivity found.json"],
    )  # fmt: skip
    add_loading(
        parser,
        ("before", {"help": "a .keras file"}),
        ("after", {"help": "a .keras file: the same model, pruned", "nargs": "?"}),
    )
    add_output(parser, "where the page goes, an .html file")
    for name in ("plan", "sensitivity"):
        parser.add_argument(
            f"--{name}", type=pathlib.Path, metavar="JSON",
            help=f"a {name} to show, as {'prune --plan-out' if name == 'plan' else name} writes it",
        )  # fmt: skip


def run(options):
    inputs = (options.before, options.after, options.plan, options.sensitivity)
    check_outputs((options.output,), inputs, options.force)
    iplt = work.library()
    plan, sensitivity = (
        None if path is None else kind.from_json(read_text(path))
        for path, kind in ((options.plan, iplt.Plan), (options.sensitivity, iplt.Sensitivity))
    )
    before, after = (
        None if path is None else work.loaded(options, path)
        for path in (options.before, options.after)
    )
    iplt.report(
        options.output, before, after=after, plan=plan, sensitivity=sensitivity,
        command=_command(options),
    )  # fmt: skip
    return Answer(f"written to {options.output}", {"output": str(options.output)})


def _command(options):
    """The command that made a page, to write into it."""
    words = ["keras-iplt", "report", options.before, *filter(None, [options.after])]
    words += ["-o", options.output]
    for name in ("plan", "sensitivity"):
        if (path := getattr(options, name)) is not None:
            words += [f"--{name}", path]
    return shlex.join(map(str, words))
