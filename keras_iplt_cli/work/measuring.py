"""The work of `sensitivity`: one layer after the other loses filters, and the model is measured."""

import argparse
import json
import pathlib
from typing import Any

import keras_iplt as iplt
from keras_iplt.support.extras import required
from keras_iplt.support.files import replacing
from keras_iplt_cli.talk import Answer, say
from keras_iplt_cli.work.models import compiled, labelled, loaded

__all__ = ["measured"]


def measured(options: argparse.Namespace, goes_on: bool) -> Answer:
    """The sensitivity of a model's layers, written and drawn if asked for.

    Args:
        options: of the command.
        goes_on: the output is there, and holds a part of an analysis.
    """
    if options.plot is not None:
        required("matplotlib", "plots", "--plot needs")
    found = labelled(options)
    say(f"loading {options.model}")
    model = compiled(loaded(options, options.model, compile=True), found)
    if options.output is not None and options.force:
        options.output.unlink(missing_ok=True)
    elif goes_on:
        say(f"going on with {options.output}")
    try:
        result = iplt.sensitivity(model, found.data, path=options.output, **_given(options))
    except KeyboardInterrupt:
        if options.output is not None:
            say(f"{options.output} holds what was measured: the same command goes on from there")
        raise
    if options.plot is not None:
        _plot(result, options.plot)
    written = [f"written to {path}" for path in (options.output, options.plot) if path is not None]
    return Answer("\n".join([str(result), *written]), json.loads(result.to_json()))


def _given(options: argparse.Namespace) -> dict[str, Any]:
    names = "ratios criterion metric ignore only convolutions_only".split()
    given = {name: getattr(options, name, None) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def _plot(result: iplt.Sensitivity, path: pathlib.Path) -> None:
    figure = iplt.plots.sensitivity(result)
    with replacing(path) as partial:
        figure.savefig(partial)
