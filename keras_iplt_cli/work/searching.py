"""The work of `smallest`: one share after the other is tried, and the smallest model written."""

import argparse
import dataclasses
from typing import Any

import keras_iplt as iplt
from keras_iplt.support.files import replacing
from keras_iplt_cli.talk import Answer, say
from keras_iplt_cli.work.models import compiled, labelled, loaded

__all__ = ["found"]


def found(options: argparse.Namespace, given: dict[str, Any]) -> Answer:
    """Writes the smallest model that is good enough, and tells what was tried.

    Args:
        options: of the command.
        given: arguments for `keras_iplt.smallest`.
    """
    data = labelled(options)
    say(f"loading {options.model}")
    model = compiled(loaded(options, options.model, compile=True), data)
    compensate = data.x if options.compensate else None
    result = iplt.smallest(model, data.data, compensate=compensate, **given)
    with replacing(options.output) as partial:
        result.model.save(partial)
    content = {
        "output": str(options.output),
        **{name: getattr(result, name) for name in ("of", "metric", "within", "complete")},
        "best": dataclasses.asdict(result.best),
        "tried": [dataclasses.asdict(one) for one in result.tried],
    }
    return Answer(f"{result}\n\nwritten to {options.output}", content)
