"""The work of `inspect` and `compare`: models are read, and nothing is written."""

import argparse

import keras_iplt as iplt
from keras_iplt_cli.talk import Answer
from keras_iplt_cli.work.models import examples, figures_of, in_words, loaded

__all__ = ["compared", "inspected"]


def inspected(options: argparse.Namespace) -> Answer:
    """What hangs together, what is frozen and why, and costs."""
    graph = iplt.trace(loaded(options, options.model))
    profile = iplt.profile(graph)
    groups = [
        {
            "size": group.size,
            "least": group.least,
            "filters": int(group.filters.sum()),
            "producers": [producer.path for producer in group.producers],
            "layers": list(group.layers),
        }
        for group in graph.groups
    ]
    frozen = [
        {"operation": f.operation, "channels": f.channels, "reason": f.reason} for f in graph.frozen
    ]
    content = {"groups": groups, "frozen": frozen, "profile": profile.to_dict()}
    return Answer(f"{graph}\n\n{profile}", content)


def compared(options: argparse.Namespace) -> Answer:
    """One model beside another."""
    data = examples(options)
    models = [
        loaded(options, path, compile=data is not None) for path in (options.before, options.after)
    ]
    comparison, figures = iplt.compare(*models), figures_of(models, data)
    text = "\n\n".join([str(comparison), *in_words(figures, data)])
    return Answer(text, {**comparison.to_dict(), **({"figures": figures} if figures else {})})
