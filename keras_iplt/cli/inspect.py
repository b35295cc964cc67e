"""`keras-iplt inspect`: what can be pruned of a model, what not, and what it costs."""

from keras_iplt.cli import work
from keras_iplt.cli.options import add_command, add_loading
from keras_iplt.cli.talk import Answer

__all__ = ["add"]


def add(commands):
    parser = add_command(
        commands, "inspect", run,
        "Shows which channels of a model hang together, which cannot be pruned and why, and what "
        "each layer costs.",
        ["keras-iplt inspect model.keras", "keras-iplt inspect model.keras --json | jq .frozen"],
    )  # fmt: skip
    add_loading(parser, ("model", {"help": "a .keras file"}))


def run(options):
    iplt = work.library()
    graph = iplt.trace(work.loaded(options, options.model))
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
