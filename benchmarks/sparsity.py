"""Pruning of weights by tfmot on tf_keras beside `keras_iplt.sparsity` on Keras 3.

    python benchmarks/sparsity.py --data DIR             # an hour
    python benchmarks/sparsity.py --data DIR --time      # 15 minutes of two idle cores

DIR holds `mnist.npz`. Each run leaves a file of JSON in the folder `--out`, and is not repeated
while that is there: a sweep that was cut off goes on. Tables are Markdown.

A LeNet-5 without dropout is trained on some of MNIST, pruned by tfmot's API in both libraries, and
by `SparsityCallback` with the same schedule: half of the weights from the beginning on, or 80 % by
and by; masks are made anew at every batch or every hundredth. Each seed gives weights to start
from and an order of the images, the same for all: what differs is arithmetic and pruning.
`SparsityCallback` differs in that what is zero stays so, while the others may change their minds.

Each library has a process of its own, in which it is TensorFlow's only Keras. `--time` measures
nothing but seconds: after each epoch of a pruned training stands one of a plain one in the same
library; the first, in which everything is traced, does not count.
"""

import argparse
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import markdown_tables
import numpy as np

WAYS = {"tfmot": ("wrapper",), "keras_iplt": ("wrapper", "callback")}
FREQUENCIES = (1, 100)
MOMENTUM = 0.9  # of batch norm: with 0.99 a few hundred batches leave too much of the start in it


# -- one library --


def run_file(options, library, way, kind, frequency, seed):
    return options.out / f"{library}-{way}-{kind}-{frequency}-{seed}.json"


def library(name):
    """`(keras, sparsity)`: what prunes has the same names in both."""
    if name == "tfmot":
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        import tensorflow_model_optimization as tfmot
        import tf_keras

        return tf_keras, tfmot.sparsity.keras
    import keras

    from keras_iplt import sparsity

    return keras, sparsity


def network(keras):
    """The LeNet-5 of Caffe with batch norm, of either Keras."""
    layers = keras.layers
    stack = [keras.Input((28, 28, 1))]
    for filters in (20, 50):
        stack += [
            layers.Conv2D(filters, 5),
            layers.BatchNormalization(momentum=MOMENTUM),
            layers.Activation("relu"),
            layers.MaxPooling2D(),
        ]
    stack += [layers.Flatten(), layers.Dense(500, "relu"), layers.Dense(10)]
    return keras.Sequential(stack)


def compiled(keras, model, optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def some(options, seed):
    """Some of the training images in an order that the seed decides, and the test images."""
    with np.load(options.data / "mnist.npz") as file:
        x, y, x_test, y_test = (file[k] for k in ("x_train", "y_train", "x_test", "y_test"))
    x, x_test = (part[..., None].astype("float32") / 255 for part in (x, x_test))
    order = np.random.default_rng(seed).permutation(len(x))[: options.images]
    return x[order], y[order], x_test, y_test


def prepared(options, way, kind=None, frequency=None, share=1.0, seed=0):
    """`(model, callbacks)`; the sparsity grows over this share of all batches."""
    keras, sparsity = library(options.library)
    model, callbacks = network(keras), []
    with np.load(options.out / f"start-{seed}.npz") as file:
        model.set_weights([file[name] for name in file])
    schedule = None
    if kind == "polynomial":
        last = int(share * options.epochs * -(-options.images // options.batch))
        schedule = sparsity.PolynomialDecay(0.0, 0.8, 0, last, frequency=frequency)
    elif kind == "constant":
        schedule = sparsity.ConstantSparsity(0.5, 0, frequency=frequency)
    if way == "wrapper":
        model = sparsity.prune_low_magnitude(model, schedule)
        callbacks = [sparsity.UpdatePruningStep()]
    elif way == "callback":
        callbacks = [sparsity.SparsityCallback(schedule, verbose=0)]
    return compiled(keras, model, keras.optimizers.Adam(1e-3)), callbacks


def train(options, way, kind, frequency, seed):
    """One training: accuracy, and the zeros of each kernel."""
    keras, sparsity = library(options.library)
    x, y, x_test, y_test = some(options, seed)
    model, callbacks = prepared(options, way, kind, frequency, 0.75, seed)
    model.fit(x, y, options.batch, epochs=options.epochs, verbose=0, shuffle=False,
              callbacks=callbacks)  # fmt: skip
    if way == "wrapper":
        model = compiled(keras, sparsity.strip_pruning(model), "sgd")
    kernels = [weight for weight in model.get_weights() if weight.ndim > 1]
    return {
        "accuracy": 100 * model.evaluate(x_test, y_test, 500, verbose=0)[1],
        "zeros": [int((kernel == 0).sum()) for kernel in kernels],
        "weights": [kernel.size for kernel in kernels],
    }


def measure(options, way, kind, frequency):
    """What epochs take, wall and CPU seconds: those that prune, and plain ones between."""
    from support.training import clock_class

    Clock = clock_class(library(options.library)[0])
    x, y, *_ = some(options, 0)
    plain, _ = prepared(options, "plain")
    plain.fit(x, y, options.batch, verbose=0)
    without = []

    def between():
        clock = Clock()
        plain.fit(x, y, options.batch, verbose=0, callbacks=[clock])
        without.append(clock.rows[0]["epoch"])

    model, callbacks = prepared(options, way, kind, frequency)
    clock = Clock(between)
    model.fit(x, y, options.batch, epochs=options.epochs, verbose=0, callbacks=[*callbacks, clock])
    pruned = [row["epoch"] + row["pause"] for row in clock.rows]
    return {"pruned": np.array(pruned[1:]).tolist(), "plain": np.array(without[1:]).tolist()}


def run_library(options):
    """All that is to be done in one process."""
    jobs = list(itertools.product(WAYS[options.library], options.kinds, FREQUENCIES))
    if options.time:
        found = [(*job, measure(options, *job)) for job in jobs]
        (options.out / f"time-{options.library}.json").write_text(json.dumps(found))
        return
    settings = {name: getattr(options, name) for name in ("images", "batch", "epochs")}
    for job, seed in itertools.product([("plain", None, None), *jobs], range(options.seeds)):
        path = run_file(options, options.library, *job, seed)
        if path.exists() and json.loads(path.read_text())["settings"] == settings:
            continue
        print(f"{time.strftime('%H:%M:%S')} {path.stem}", file=sys.stderr, flush=True)
        found = train(options, *job, seed)
        path.write_text(json.dumps({"settings": settings, "found": found}))


# -- both --


def side_by_side(options):
    """Runs both libraries, and prints a table."""
    import keras

    options.out.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        np.savez(options.out / f"start-{seed}.npz", *network(keras).get_weights())
    for library in WAYS:
        command = [sys.executable, __file__, *sys.argv[1:], "--library", library]
        subprocess.run(command, check=True)
    (show_seconds if options.time else show_accuracy)(options)


def show_accuracy(options):
    rows = []
    for kind, frequency in (None, None), *itertools.product(options.kinds, FREQUENCIES):
        theirs = None
        for library, ways in WAYS.items():
            for way in ways if kind else ("plain",):
                paths = [run_file(options, library, way, kind, frequency, seed)
                         for seed in range(options.seeds)]  # fmt: skip
                found = [json.loads(path.read_text())["found"] for path in paths]
                zeros = np.array([one["zeros"] for one in found])
                theirs = zeros if theirs is None else theirs
                shares = 100 * zeros[0] / found[0]["weights"]
                rows.append((f"{kind}, every {frequency}" if kind else "none", library, way,
                             spread([one["accuracy"] for one in found]),
                             " ".join(f"{share:.2f}" for share in shares),
                             str(np.abs(zeros - theirs).max())))  # fmt: skip
    print(f"MNIST, {options.images} images, {options.epochs} epochs, {options.seeds} seeds\n")
    table(["schedule", "library", "way", "test accuracy, %", "sparsity of each kernel, %",
           "zeros more or less than tfmot"], rows)  # fmt: skip


def show_seconds(options):
    rows = []
    for library in WAYS:
        path = options.out / f"time-{library}.json"
        for way, kind, frequency, found in json.loads(path.read_text()):
            pruned, plain = np.array(found["pruned"]), np.array(found["plain"])
            seconds = *np.median(pruned / plain, axis=0), *np.median(plain, axis=0)
            rows.append((f"{kind}, every {frequency}", library, way, *seconds))
    rows.sort(key=lambda row: row[0])
    print("Seconds of an epoch over those of a plain one in the same library, medians\n")
    table(["schedule", "library", "way", "wall", "CPU", "plain epoch, wall, s", "CPU, s"], rows)


def spread(values):
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.2f}"


def table(head, rows):
    markdown_tables.table(head, rows, lambda x: x if isinstance(x, str) else f"{x:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("saved_models/sparsity"))
    parser.add_argument("--kinds", nargs="+", choices=("polynomial", "constant"),
                        default=["polynomial", "constant"])  # fmt: skip
    parser.add_argument("--time", action="store_true", help="only what it costs")
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--library", choices=tuple(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    (run_library if options.library else side_by_side)(options)


if __name__ == "__main__":
    main()
