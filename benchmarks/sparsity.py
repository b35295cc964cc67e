"""Pruning single weights inside `model.fit`: Sarkar's setting, and tfmot beside it.

    python benchmarks/sparsity.py mnist --data DIR             # an hour and a half
    KERAS_BACKEND=jax python benchmarks/sparsity.py mnist --data DIR --only LeNet-300-100
    python benchmarks/sparsity.py tfmot --data DIR             # an hour
    python benchmarks/sparsity.py tfmot --data DIR --time      # 15 minutes of two idle cores

DIR holds `mnist.npz`. On TensorFlow unless KERAS_BACKEND says otherwise. Each run leaves a file of
JSON in the folder `--out`, and is not repeated while that is there: a sweep that was cut off goes
on. Tables are Markdown.

`mnist` (Sarkar et al., Tables I and II): LeNet-300-100 and LeNet-5 on all of MNIST, 20 epochs, 10 %
of the weights gone after every second, to 90 %. By the first reading of the paper each filter loses
its smallest weights; by the second the filters with the smallest norms are emptied, here of all
layers but the last, since an emptied unit of that is a class that is never found. The paper tells
neither the batch nor the coefficient of L2 nor the rate of dropout nor which LeNet-5: see the
options, and `lenet_5`. Its figures are higher than what anybody reports of test images, and so they
stand beside both.

`tfmot`: see `peer_tfmot.py`.
"""

import argparse
import json
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np

PUBLISHED = {  # Sarkar et al.
    ("LeNet-300-100", "dense"): 99.60,
    ("LeNet-300-100", "pruned"): 99.94,
    ("LeNet-5", "dense"): 99.76,
    ("LeNet-5", "pruned"): 99.45,
}


# -- runs --


def remembered(options, name, settings, run):
    """What a run found, from its file if it was run before."""
    path = options.out / f"{name}.json"
    if path.exists():
        old = json.loads(path.read_text())
        if old["settings"] == json.loads(json.dumps(settings)):
            return old["found"]
    print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
    begin = time.perf_counter()
    found = {**run(), "seconds": round(time.perf_counter() - begin, 1)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"settings": settings, "found": found}))
    return found


def compiled(keras, model, optimizer):
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=keras.backend.backend() == "jax",
    )
    return model


def percent(model, x, y):
    """Accuracy."""
    return 100 * model.evaluate(x, y, batch_size=500, verbose=0)[1]


# -- MNIST --


def mnist_data(options):
    """`(x, y, x_test, y_test)`, from 0 to 1."""
    with np.load(options.data / "mnist.npz") as file:
        parts = [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    return [p[..., None].astype("float32") / 255 if p.ndim == 3 else p for p in parts]


def lenet_300_100(keras, l2, dropout):
    layers = keras.layers
    stack = [keras.Input((28, 28, 1)), layers.Flatten()]
    for units in (300, 100):
        stack += [
            layers.Dense(units, kernel_regularizer=keras.regularizers.L2(l2)),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Dropout(dropout),
        ]
    head = layers.Dense(10, kernel_regularizer=keras.regularizers.L2(l2), name="head")
    return keras.Sequential([*stack, head])


def lenet_5(keras, l2, dropout, filters=(20, 50), units=(500,), momentum=0.99):
    """The LeNet-5 of Caffe, 20 and 50 filters and 500 units, as in the papers Sarkar compares
    with. In short trainings batch norm needs a lower momentum, to forget where it began."""
    layers = keras.layers
    stack = [keras.Input((28, 28, 1))]
    for count in filters:
        stack += [
            layers.Conv2D(count, 5, kernel_regularizer=keras.regularizers.L2(l2)),
            layers.BatchNormalization(momentum=momentum),
            layers.Activation("relu"),
            layers.MaxPooling2D(),
            layers.Dropout(dropout),
        ]
    stack.append(layers.Flatten())
    stack += [layers.Dense(n, "relu", kernel_regularizer=keras.regularizers.L2(l2)) for n in units]
    head = layers.Dense(10, kernel_regularizer=keras.regularizers.L2(l2), name="head")
    return keras.Sequential([*stack, head])


def lenet_5_of_1998(keras, l2, dropout):
    """LeCun's own, 6 and 16 filters, 120 and 84 units: an eighth of the work."""
    return lenet_5(keras, l2, dropout, filters=(6, 16), units=(120, 84))


LENETS = {
    "LeNet-300-100": lenet_300_100, "LeNet-5": lenet_5, "LeNet-5 of 1998": lenet_5_of_1998,
}  # fmt: skip


def mnist(options):
    """Sarkar's setting: dense, and pruned by both readings."""
    data = mnist_data(options)
    patterns = ("dense", "weights_per_filter", "filters")
    names = ("epochs", "batch", "l2", "dropout")
    rows = []
    for net in options.only or LENETS:
        for pattern in patterns:
            runs = []
            for seed in range(options.seeds):
                settings = {name: getattr(options, name) for name in names}
                settings |= {"net": net, "pattern": pattern, "seed": seed}
                runs.append(remembered(options, f"mnist/{net}-{pattern}-{seed}", settings,
                                       lambda s=settings: sarkar(data, **s)))  # fmt: skip
            kind = "dense" if pattern == "dense" else "pruned"
            train, test = ([run[which] for run in runs] for which in ("train", "test"))
            rows.append((net, pattern, f"{100 * runs[0]['sparsity']:.1f} %", spread(train),
                         spread(test), PUBLISHED[net.removesuffix(" of 1998"), kind]))  # fmt: skip
    print(f"MNIST, {options.epochs} epochs, batch {options.batch}, L2 {options.l2:g}, dropout "
          f"{options.dropout:g}; mean ± standard deviation of {options.seeds} seeds\n")  # fmt: skip
    table(["network", "pattern", "of all kernels", "train, %", "test, %", "the paper"], rows)


def sarkar(data, net, pattern, seed, epochs, batch, l2, dropout):
    """One training: accuracy on all training images, without dropout, and on the test images."""
    import keras

    import keras_iplt as iplt

    x, y, x_test, y_test = data
    keras.utils.set_random_seed(seed)
    rate = keras.optimizers.schedules.InverseTimeDecay(1e-3, decay_steps=1, decay_rate=1e-5)
    model = compiled(keras, LENETS[net](keras, l2, dropout), keras.optimizers.Adam(rate))
    callbacks = []
    if pattern != "dense":
        ignore = ["head"] if pattern == "filters" else []
        callbacks.append(
            iplt.SparsityCallback(0.9, step=0.1, every=2, pattern=pattern, ignore=ignore, verbose=0)
        )
    history = model.fit(x, y, batch, epochs=epochs, verbose=0, callbacks=callbacks)
    sparsity = iplt.sparsity.measure(model)
    return {
        "train": percent(model, x, y),
        "test": percent(model, x_test, y_test),
        "sparsity": sparsity.sparsity,
        "layers": [[row.name, row.weights, row.sparsity] for row in sparsity.layers],
        "while training": history.history["accuracy"],
    }


# -- tfmot --


def tfmot(options):
    """The same training in two libraries."""
    import peer_tfmot

    peer_tfmot.side_by_side(options)


# -- tables --


def spread(values):
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.2f}"


def table(head, rows):
    """Prints a Markdown table."""
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for row in rows:
        print("| " + " | ".join(x if isinstance(x, str) else f"{x:.2f}" for x in row) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    one = commands.add_parser("mnist", help="incremental pruning of LeNets")
    one.set_defaults(do=mnist)
    one.add_argument("--only", nargs="+", choices=LENETS)
    one.add_argument("--seeds", type=int, default=3)
    one.add_argument("--epochs", type=int, default=20)
    one.add_argument("--l2", type=float, default=1e-4)
    one.add_argument("--dropout", type=float, default=0.2)

    two = commands.add_parser("tfmot", help="tfmot and keras_iplt.sparsity side by side")
    two.set_defaults(do=tfmot)
    two.add_argument("--kinds", nargs="+", default=["polynomial", "constant"])
    two.add_argument("--time", action="store_true", help="only what it costs")
    two.add_argument("--images", type=int, default=12_800)
    two.add_argument("--seeds", type=int, default=5)
    two.add_argument("--epochs", type=int, default=4)

    for command in (one, two):
        command.add_argument("--data", type=pathlib.Path, required=True, metavar="DIR")
        command.add_argument("--batch", type=int, default=128)
        command.add_argument("--out", type=pathlib.Path,
                             default=pathlib.Path("saved_models/sparsity"))  # fmt: skip
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
