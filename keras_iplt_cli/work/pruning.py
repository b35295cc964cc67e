"""The work of `prune`: a model is planned for, made smaller and written."""

import argparse
from typing import Any

import keras

import keras_iplt as iplt
from keras_iplt.support.files import read_text, replacing
from keras_iplt_cli.talk import Answer, say
from keras_iplt_cli.work.models import compiled, examples, figures_of, in_words, loaded

__all__ = ["pruned"]


def pruned(options: argparse.Namespace, given: dict[str, Any]) -> Answer:
    """Writes the smaller model, and compares it with the whole one.

    Args:
        options: of the command.
        given: arguments for `keras_iplt.plan`, if there is no plan to carry out.
    """
    stored = None if options.plan is None else iplt.Plan.from_json(read_text(options.plan))
    found = examples(options)
    say(f"loading {options.model}")
    model = loaded(options, options.model, compile=True)
    if stored is not None:
        plan = stored
    elif found is None:
        plan = iplt.plan(model, **given)
    else:
        plan = iplt.plan(compiled(model, found), data=found.data, **given)
    say("removing filters")
    small = iplt.rewrite(
        model, plan, found.data if found is not None and options.compensate else None
    )
    comparison, figures = iplt.compare(model, small), figures_of([model, small], found)
    _write(options, small, plan)
    content = {"output": str(options.output), **comparison.to_dict()}
    if figures:
        content["figures"] = figures
    words = [str(comparison), *in_words(figures, found), f"written to {options.output}"]
    return Answer("\n\n".join(words), content)


def _write(options: argparse.Namespace, small: keras.Model, plan: iplt.Plan) -> None:
    """The plan goes last: its place is taken once the model is safe."""
    with replacing(options.output) as partial:
        small.save(partial)
    if options.plan_out is not None:
        with replacing(options.plan_out) as partial:
            partial.write_text(plan.to_json(), encoding="utf-8")
