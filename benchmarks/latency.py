"""Does the speed-up arrive that the FLOPs promise? Plans for 50 %, and what TFLite makes of them.

Four networks of `keras.applications` (VGG16 for images of 32 × 32 with two dense layers, the others
as they come, random weights) lose half of their FLOPs or half of their latency, the same share
from every layer, in four ways: widths as they come, or rounded to what the processor computes at
once (`round_to="auto"`); by FLOPs, or by the measured table.

    python benchmarks/latency.py --json latency.json

The whole network and the smaller one run by turns in TFLite's interpreter, on one thread unless
`--threads` says otherwise, so that their ratio holds on a busy machine. Which filters go does not
matter here; they are drawn at random. The machine should have a core to itself.
"""

import argparse
import json
import pathlib
import tempfile
import time

import keras
import numpy as np
from markdown_tables import table

import keras_iplt as iplt
from keras_iplt.exporting import tflite_runtime, timed
from keras_iplt.exporting.formats import write

NETWORKS = ("VGG16", "MobileNet", "ResNet50", "InceptionV3")
WAYS = {
    "FLOPs": lambda table: dict(of="flops"),
    "FLOPs, rounded": lambda table: dict(of="flops", round_to=table),
    "latency": lambda table: dict(of=table),
    "latency, rounded": lambda table: dict(of=table, round_to=table),
}


def network(name):
    keras.utils.set_random_seed(0)
    if name != "VGG16":
        return getattr(keras.applications, name)(weights=None)
    base = keras.applications.VGG16(False, None, input_shape=(32, 32, 3), pooling="avg")
    x = keras.layers.Dense(512, activation="relu")(base.output)
    return keras.Model(base.input, keras.layers.Dense(10)(x), name="vgg16")


def runtime(model, threads):
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "model.tflite"
        write(model, path, "tflite", "float32", 1, None)
        return tflite_runtime(path.read_bytes(), threads)


def measure(name, options):
    """A row per way."""
    model = network(name)
    begin = time.perf_counter()
    table = iplt.latency_table(model, options.threads, verbose=0)
    took = time.perf_counter() - begin
    print(f"\n{name}: table in {took:.0f} s\n{table}", flush=True)
    whole = runtime(model, options.threads)
    x = np.random.default_rng(0).uniform(size=(1, *model.input.shape[1:])).astype("float32")
    for way, options_of in WAYS.items():
        plan = iplt.plan(model, 0.5, criterion="random", scope="layer", **options_of(table))
        small = iplt.rewrite(model, plan)
        flops = iplt.profile(small).flops / iplt.profile(model).flops
        before, after = timed([whole, runtime(small, options.threads)], [x], options.seconds)
        yield {
            "network": name,
            "plan": way,
            "FLOPs": flops,
            "promised": table.cost(plan.graph, plan.gone) / table.cost(plan.graph),
            "latency": after / before,
            "latency / FLOPs": after / before / flops,
            "whole, ms": 1e3 * before,
            "table, s": took,
        }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3, help="to run each network for")
    parser.add_argument("--json", type=pathlib.Path, help="a file for the figures")
    options = parser.parse_args()
    rows = [row for name in options.only for row in measure(name, options)]
    print()
    cells = [row.values() for row in rows]
    table([*rows[0]], cells, lambda x: x if isinstance(x, str) else f"{x:.3g}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
