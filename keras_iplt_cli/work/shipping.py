"""The work of `export` and `report`: what is given to others."""

import argparse
import shlex

import keras_iplt as iplt
from keras_iplt.support.files import read_text
from keras_iplt_cli.talk import Answer, say
from keras_iplt_cli.work.models import examples, figures_of, in_words, loaded

__all__ = ["exported", "reported"]


def exported(options: argparse.Namespace) -> Answer:
    """Writes a model for use elsewhere."""
    found = examples(options)
    say(f"loading {options.model}")
    model = loaded(options, options.model)
    say("converting, and checking what comes out")
    done = iplt.export(
        model, options.output, format=options.format, precision=options.precision,
        data=None if found is None else found.data, tolerance=options.tolerance,
        keep_float=_kept(options.keep_float or []), io_dtype=options.io_dtype,
    )  # fmt: skip
    return Answer(str(done), done.to_dict())


def _kept(given: list[str]) -> int | list[str]:
    """A number of operations, or names of layers."""
    return int(given[0]) if len(given) == 1 and given[0].isdecimal() else given


def reported(options: argparse.Namespace) -> Answer:
    """Writes a page."""
    plan, found = options.plan, options.sensitivity
    given = None if plan is None else iplt.Plan.from_json(read_text(plan))
    found = None if found is None else iplt.Sensitivity.from_json(read_text(found))
    data, models = examples(options), []
    for path in filter(None, (options.before, options.after)):
        say(f"loading {path}")
        models.append(loaded(options, path, compile=data is not None))
    before, *after = models
    figures = figures_of(models, data)
    iplt.report(
        options.output, before, after=after[0] if after else None, plan=given, sensitivity=found,
        accuracy={name: (*values, None)[:2] for name, values in figures.items()} or None,
        command=_command(options),
    )  # fmt: skip
    content = {"output": str(options.output), **({"figures": figures} if figures else {})}
    return Answer("\n".join([*in_words(figures, data), f"written to {options.output}"]), content)


def _command(options: argparse.Namespace) -> str:
    """The command that made a page, to write into it."""
    words = ["keras-iplt", "report", options.before, *filter(None, [options.after])]
    words += ["-o", options.output]
    for name in ("plan", "sensitivity", "data"):
        if (path := getattr(options, name)) is not None:
            words += [f"--{name}", path]
    return shlex.join(map(str, words))
