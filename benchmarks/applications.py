"""Every model of `keras.applications`, half of each layer's filters removed, and the law checked.

    python benchmarks/applications.py                       # all of them, about half an hour
    python benchmarks/applications.py --only VGG16 MobileNetV2 --json found.json

Each model is built with ten classes on small images, in a process of its own. Its weights are
random, with batch norms that do something, since fresh networks hardly react to their input. It
is traced, half of the filters of each group go by their L2 norm (`scope="layer"`), and the masked
model is compared with the rewritten one, as `tests/law.py` does, on outputs and on every tensor in
between. A row of the table:

    groups      groups of coupled channels
    prunable    filters in them
    frozen      filters that cannot go; the reasons stand below the table
    parameters  share of the parameters that goes, in percent
    MACs        share of the multiply-adds that goes, in percent
    difference  largest of any tensor, relative to the tensor's largest number
    spoilt      the same, after one kernel of the rewritten model was rolled by one channel: what
                the check would have seen of a mistake (with `--control`)
    trace       CPU seconds
    memory      peak of the process in GB, two copies of the model and all tensors included

The command leaves with 1 if a difference is above 1e-4: float32 rounds, and deep models add up.
"""

import argparse
import gc
import json
import math
import os
import pathlib
import resource
import sys
import time

import one_by_one

HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = 1e-4
MOST_BYTES = 4e9  # of tensors in between: beyond that only outputs are compared
SIZES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}  # the smallest they take
SIZE = 64  # of the others


# -- one model, in a process of its own --


def measure(name, control=False):
    """The row of one model."""
    import keras

    sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]
    from support.law import randomize

    import keras_iplt as iplt
    from keras_iplt.graph.costs import macs, parameters, share_removed

    size = SIZES.get(name, SIZE)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
    )
    randomize(model)
    gc.collect()
    start = time.process_time()
    graph = iplt.trace(model)
    seconds = time.process_time() - start
    plan = iplt.plan(graph, ratio=0.5, criterion="l2", scope="layer")
    row = {
        "size": size,
        "groups": len(graph.groups),
        "prunable": sum(int(group.filters.sum()) for group in graph.groups),
        "frozen": sum(frozen.channels for frozen in graph.frozen),
        "reasons": reasons(graph),
        "parameters": share_removed(parameters, graph)(plan.gone),
        "macs": share_removed(macs, graph)(plan.gone),
        "trace_s": seconds,
    }
    row["everything"] = bytes_between(model) < MOST_BYTES
    row["difference"] = difference(model, plan, row["everything"])
    if control:
        row["spoilt"] = difference(model, plan, row["everything"], spoil=roll_one_kernel)
    row["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _unit() / 1e9
    return row


def difference(model, plan, everything, spoil=None):
    """Largest relative difference of masked and rewritten."""
    from support import law

    between = law._pairs
    if not everything:
        law._pairs = lambda *_: []  # outputs only
    try:
        return law.check_law(model, plan=plan, tolerance=math.inf, spoil=spoil)[0]
    finally:
        law._pairs = between


def roll_one_kernel(small):
    """Moves the filters of a kernel in the middle of a model by one."""
    import keras
    import numpy as np

    kernels = [w for w in small.weights if w.name == "kernel"]
    kernel = kernels[len(kernels) // 2]
    kernel.assign(np.roll(keras.ops.convert_to_numpy(kernel), 1, axis=-1))


def reasons(graph):
    """{reason: filters}, without the operation that each reason names at its end."""
    found = {}
    for frozen in graph.frozen:
        reason = frozen.reason.partition(" (")[0]
        found[reason] = found.get(reason, 0) + frozen.channels
    return found


def bytes_between(model, batch=2):
    """What the tensors of a model and of a smaller twin take."""
    numbers = sum(
        math.prod(n or 1 for n in tensor.shape)
        for operation in model.operations
        for tensor in operation._inbound_nodes[0].outputs
    )
    return 2 * 4 * batch * numbers


def _unit():
    return 1 if sys.platform == "darwin" else 1024


# -- all of them --


def names():
    """Every constructor of `keras.applications`."""
    import keras

    return sorted(
        (name for name, value in vars(keras.applications).items()
         if name[:1].isupper() and callable(value)),
        key=str.lower,
    )  # fmt: skip


COLUMNS = ("groups", "prunable", "frozen", "parameters", "macs", "difference", "spoilt", "trace_s",
           "memory")  # fmt: skip


def report(rows):
    """A table in Markdown, then what is frozen and why."""
    columns = [c for c in COLUMNS if c != "spoilt" or any("spoilt" in r for r in rows.values())]
    heads = {"parameters": "parameters −%", "macs": "MACs −%", "trace_s": "trace, s",
             "memory": "memory, GB"}  # fmt: skip
    print("| model | image | " + " | ".join(heads.get(c, c) for c in columns) + " |")
    print("|---" * (len(columns) + 2) + "|")
    for name, row in rows.items():
        if "error" in row:
            print(f"| {name} | {row['error'].replace('|', '/')} |" + " |" * len(columns))
        else:
            cells = [shown(column, row) for column in columns]
            print(f"| {name} | {row['size']} | " + " | ".join(cells) + " |")
    one_by_one.frozen(rows)
    partial = [name for name, row in rows.items() if not row.get("everything", True)]
    if partial:
        print(f"\nOutputs only: {', '.join(partial)}")


def shown(column, row):
    value = row.get(column)
    if value is None:
        return ""
    if column in ("parameters", "macs"):
        return f"{100 * value:.1f}"
    if column in ("difference", "spoilt"):
        return f"{value:.1e}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these models")
    parser.add_argument("--control", action="store_true", help="show that a mistake is seen")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="all figures, too")
    parser.add_argument("--measure", metavar="NAME", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.control)))
        return 0
    os.environ.update(one_by_one.QUIET)
    wanted = one_by_one.wanted(parser, arguments.only, names())
    options = ["--control"] if arguments.control else []
    rows = {}
    for name in wanted:
        rows[name] = one_by_one.run(__file__, name, options)
        summary = {k: v for k, v in rows[name].items() if k in ("error", "difference", "trace_s")}
        print(name, summary, file=sys.stderr)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1))
    report(rows)
    return int(any(row.get("difference", math.inf) > TOLERANCE for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
