"""Every model of `keras.applications` in 8-bit integers, and its file beside it.

    python benchmarks/quantized_applications.py --only MobileNet ResNet50 Xception
    python benchmarks/quantized_applications.py             # all of them, over an hour

Each model is built with ten classes on small images, in a process of its own, with random weights
and batch norms that do something. It is quantised, calibrated on eight random images and exported:
`keras_iplt.export` runs the file beside the quantised model. A row of the table:

    in integers   operations, and how many stay in float; the reasons stand below the table
    steps         how far outputs are apart, but for one in a thousand, in steps of the output
    kB            of the file, and of that in float32
    seconds       of CPU time for all of it

The command leaves with 1 if a model could not be written.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

import one_by_one
from applications import HERE, SIZE, SIZES, names
from markdown_tables import table

STEPS_ALLOWED = 8.01  # by export, and what its tolerance is here


def measure(name):
    """The row of one model, in a process of its own."""
    import keras
    import numpy as np

    sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]
    from support.law import randomize

    import keras_iplt as iplt
    from keras_iplt import quantization

    start = time.process_time()
    size = SIZES.get(name, SIZE)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
    )
    randomize(model)
    x = np.random.default_rng(0).uniform(0, 255, (8, size, size, 3)).astype("float32")
    layout = quantization.layout(model)
    quantized = quantization.quantize_model(model)
    quantization.calibrate(quantized, x, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        whole = iplt.export(model, pathlib.Path(folder, "whole.tflite"), data=x, tolerance=10)
        done = iplt.export(quantized, pathlib.Path(folder, "integer.tflite"), data=x)
    reasons = {}
    for place in layout.left:
        reasons[place.reason] = reasons.get(place.reason, 0) + 1
    in_integers = sum("int8" in place.words and not place.reason for place in layout.places)
    return {
        "size": size,
        "integers": in_integers + sum("with" in place.words for place in layout.places),
        "left": len(layout.left),
        "reasons": reasons,
        "steps": done.difference / done.tolerance * STEPS_ALLOWED,
        "kB": [done.size / 1e3, whole.size / 1e3],
        "seconds": time.process_time() - start,
    }


# -- all of them --


def report(rows):
    """A table in Markdown, then what stays in float and why."""
    lines = []
    for name, row in rows.items():
        if "error" in row:
            lines.append([name, row["error"].replace("|", "/"), *[""] * 5])
            continue
        sizes = " of ".join(f"{size:,.0f}" for size in row["kB"])
        lines.append([name, row["size"], row["integers"], row["left"], f"{row['steps']:.1f}", sizes,
                      f"{row['seconds']:.0f}"])  # fmt: skip
    table(["model", "image", "in integers", "in float", "steps", "kB", "seconds"], lines)
    print("\nIn float:\n")
    found = {}
    for name, row in rows.items():
        for reason, count in row.get("reasons", {}).items():
            found.setdefault(reason, []).append(f"{name} {count}")
    for reason, models in found.items():
        print(f"- {reason}: {', '.join(models)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these models")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="keeps what was found")
    parser.add_argument("--measure", metavar="NAME", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return 0
    os.environ.update(one_by_one.QUIET)
    wanted = one_by_one.wanted(parser, arguments.only, names())
    rows = one_by_one.kept(wanted, lambda name: one_by_one.run(__file__, name), arguments.json)
    report(rows)
    return int(any("error" in row for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
