"""Pruning single weights inside `model.fit`: Zuo's allocations, Sarkar's setting, tfmot beside it.

    python benchmarks/sparsity.py allocations --data DIR       # an hour of two cores
    python benchmarks/sparsity.py mnist --data DIR             # an hour and a half
    KERAS_BACKEND=jax python benchmarks/sparsity.py mnist --data DIR --only LeNet-300-100
    python benchmarks/sparsity.py tfmot --data DIR             # an hour
    python benchmarks/sparsity.py tfmot --data DIR --time      # 15 minutes of two idle cores

DIR holds `cifar10_20k.npz`, `cifar10_resnet56.keras` and `mnist.npz`. On TensorFlow unless
KERAS_BACKEND says otherwise. Each run leaves a file of JSON in the folder `--out`, and is not
repeated while that is there: a sweep that was cut off goes on. Tables are Markdown.

`allocations` (Zuo et al., Tables III and IV, Fig. 6 and 11): a trained ResNet-56 loses half and
three quarters of its weights, 5 % at a time, the layers sharing it out in three ways; as many
batches of retraining for all of them, the same ones, and for a control that loses nothing. The
images are flipped and shifted, as this network has learned the plain ones by heart: its loss on
them tells nothing. The learning rate is constant. A difference of less than half a point among
4,000 test images is noise. Also the accuracy straight after one cut, without any retraining, and
two plots. `--dry` trains the control only, and tells how much the loss of a phase varies.

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

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # that ResNet-56 was trained with
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


# -- allocations --


def cifar(options):
    """`(x, y, x_test, y_test)`, whole numbers."""
    with np.load(options.data / "cifar10_20k.npz") as file:
        return [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]


def normalized(x):
    return ((x / np.float32(255) - MEAN) / DEVIATION).astype("float32")


def flipped_and_shifted(x, y, images, seed):
    """As many images as asked for, each flipped or not and shifted by up to 4 pixels."""
    random = np.random.default_rng(seed)
    rounds = -(-images // len(x))
    order = np.concatenate([random.permutation(len(x)) for _ in range(rounds)])[:images]
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)))
    corners, flips = random.integers(9, size=(images, 2)), random.integers(2, size=images)
    found = np.empty((images, *x.shape[1:]), x.dtype)
    for i, (one, (top, left), flip) in enumerate(zip(order, corners, flips, strict=True)):
        found[i] = padded[one, top : top + 32, left : left + 32][:, :: -1 if flip else 1]
    return found, y[order]


def resnet(keras, options):
    model = keras.models.load_model(options.data / "cifar10_resnet56.keras", compile=False)
    return compiled(keras, model, keras.optimizers.SGD(options.rate, momentum=0.9))


def retrain(options, data, how, target):
    """One run: what the network can after it, the loss of every batch, the sparsity of layers."""
    import keras

    import keras_iplt as iplt

    class Losses(keras.callbacks.Callback):
        """The loss of each batch, from the mean of all so far."""

        means = []

        def on_train_batch_end(self, batch, logs=None):
            self.means.append(logs["loss"])

    keras.utils.set_random_seed(options.seed)
    model, losses = resnet(keras, options), Losses()
    x, y, x_test, y_test = data
    callbacks = [losses]
    if how is not None:
        pruning = iplt.SparsityCallback(
            target, step=options.step, every=options.every, per="batch", allocation=how, verbose=0
        )
        callbacks.append(pruning)
    losses.means = []
    model.fit(x, y, options.batch, verbose=0, shuffle=False, callbacks=callbacks)
    sums = np.array(losses.means) * np.arange(1, len(losses.means) + 1)
    table = iplt.sparsity.measure(model, convolutions_only=True)
    frozen = getattr(how, "frozen", ())
    return {
        "accuracy": percent(model, x_test, y_test),
        "losses": np.diff(sums, prepend=0).tolist(),
        "sparsity": table.sparsity,
        "layers": [[row.name, row.weights, row.sparsity] for row in table.layers],
        "frozen": [pruning.progress.pool[i].path for i in frozen],
    }


def cut(options, data, how, target):
    """The accuracy without any retraining."""
    import keras

    import keras_iplt as iplt

    model = resnet(keras, options)
    if how is not None:
        iplt.sparsity.prune_weights(model, target, allocation=how)
    table = iplt.sparsity.measure(model, convolutions_only=True)
    return {
        "accuracy": percent(model, *data[2:]),
        "layers": [[row.name, row.weights, row.sparsity] for row in table.layers],
    }


def allocations(options):
    """Zuo's three beside each other."""
    from keras_iplt.sparsity import allocation

    x, y, x_test, y_test = cifar(options)
    images = options.batches * options.batch
    x, y = flipped_and_shifted(x, y, images, options.seed)
    data = normalized(x), y, normalized(x_test), y_test
    settings = {name: getattr(options, name) for name in ("batches", "batch", "rate", "seed")}
    param = {k: getattr(options, k) for k in ("zeta", "eta") if getattr(options, k) is not None}

    def run(name, how, target):
        own = {**settings, "target": target, "how": repr(how)}
        if how is not None:
            own |= {"step": options.step, "every": options.every}
        return remembered(options, f"allocations/{name}-{target:g}", own,
                          lambda: retrain(options, data, how, target))  # fmt: skip

    control = run("control", None, 0)
    phases = np.reshape(
        control["losses"][: options.batches // options.every * options.every], (-1, options.every)
    ).mean(axis=1)
    print(f"Mean loss of {options.every} batches without pruning: {phases.mean():.4f}, standard "
          f"deviation {phases.std(ddof=1):.4f}, largest rise {np.diff(phases).max():.4f}, last "
          f"third {phases[-len(phases) // 3 :].mean():.4f}\n")  # fmt: skip
    if options.dry:
        return
    cuts = {
        (name, target): remembered(
            options, f"allocations/cut-{name}-{target:g}", {"how": repr(how), "target": target},
            lambda how=how, target=target: cut(options, data, how, target),
        )
        for name, how in {
            "fixed": allocation.Fixed(), "depth": allocation.Depth(),
            "depth, normalized": allocation.Depth(normalize=True), "erk": allocation.ERK(),
        }.items()
        for target in (0.3, *options.targets)
    }  # fmt: skip
    whole = remembered(options, "allocations/cut-nothing", {}, lambda: cut(options, data, None, 0))
    before = whole["accuracy"]
    found = {
        (name, target): run(name, make(), target)
        for target in options.targets
        for name, make in {
            "fixed": allocation.Fixed, "param": lambda: allocation.Param(**param),
            "depth": allocation.Depth,
        }.items()
    }  # fmt: skip

    print(f"Retrained with {options.batches} batches of {options.batch}; {before:.2f} % before\n")
    rows = [("none", "0", control["accuracy"], before - control["accuracy"], 0.0, "", "")]
    for (name, target), one in found.items():
        shares = [share for _, _, share in one["layers"]]
        rows.append((name, f"{target:g}", one["accuracy"], before - one["accuracy"],
                     control["accuracy"] - one["accuracy"],
                     f"{100 * min(shares):.0f}–{100 * max(shares):.0f} %",
                     f"{len(one['frozen'])} of {len(shares)}"))  # fmt: skip
    table(["allocation", "sparsity", "accuracy, %", "error more than before",
           "more than without pruning", "of layers", "frozen"], rows)  # fmt: skip
    print("\nAccuracy after one cut, nothing retrained, %\n")
    targets = (0.3, *options.targets)
    table(["allocation", *map(str, targets)],
          [(name, *(cuts[name, target]["accuracy"] for target in targets))
           for name in dict.fromkeys(name for name, _ in cuts)])  # fmt: skip
    for (name, target), one in found.items():
        if one["frozen"]:
            print(f"\n{name}, {target:g}: frozen in this order: {', '.join(one['frozen'])}")
    draw_layers(options, found, cuts)
    draw_losses(options, found, control)


def draw_layers(options, found, cuts):
    """Sparsity against depth."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(options.targets), figsize=(13, 4.5), sharey=True)
    for axis, target in zip(np.atleast_1d(axes), options.targets, strict=True):
        lines = {name: one for (name, at), one in found.items() if at == target}
        lines["depth, normalized (one cut)"] = cuts["depth, normalized", target]
        for (name, one), style in zip(lines.items(), ("-", "--", "-", ":"), strict=True):
            shares = [100 * share for _, _, share in one["layers"]]
            axis.plot(range(1, len(shares) + 1), shares, style, label=name)
        axis.set(title=f"sparsity {target:g}", xlabel="convolution", ylim=(0, 100))
    np.atleast_1d(axes)[0].set_ylabel("sparsity of the layer, %")
    np.atleast_1d(axes)[0].legend()
    save(figure, options.out / "allocations" / "layers.png")


def draw_losses(options, found, control):
    """The mean loss of the phase after each step against sparsity."""
    from matplotlib import pyplot as plt

    most = max(options.targets)
    figure, axis = plt.subplots(figsize=(7, 4.5))
    steps = round(most / options.step) + 1
    shares = [100 * options.step * i for i in range(steps)]
    lines = {name: one for (name, target), one in found.items() if target == most}
    for name, one in {**lines, "no pruning, same batches": control}.items():
        losses = np.reshape(one["losses"][: steps * options.every], (-1, options.every))
        style = "k:" if one is control else "-"
        axis.plot(shares[: len(losses)], losses.mean(axis=1), style, label=name)
    axis.set(xlabel="sparsity, %", ylabel=f"mean training loss of {options.every} batches")
    axis.set_ylim(bottom=0)
    axis.legend()
    save(figure, options.out / "allocations" / "losses.png")


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"\n{path}")


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

    one = commands.add_parser("allocations", help="three ways to share a sparsity out")
    one.set_defaults(do=allocations)
    one.add_argument("--targets", type=float, nargs="+", default=[0.5, 0.75])
    one.add_argument("--step", type=float, default=0.05)
    one.add_argument("--every", type=int, default=15, help="batches between steps")
    one.add_argument("--batches", type=int, default=300, help="of retraining in all")
    one.add_argument("--rate", type=float, default=0.01, help="learning rate")
    one.add_argument("--zeta", type=float, help="of Prune_param")
    one.add_argument("--eta", type=float, help="of Prune_param")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--dry", action="store_true", help="the control only")

    two = commands.add_parser("mnist", help="incremental pruning of LeNets")
    two.set_defaults(do=mnist)
    two.add_argument("--only", nargs="+", choices=LENETS)
    two.add_argument("--seeds", type=int, default=3)
    two.add_argument("--epochs", type=int, default=20)
    two.add_argument("--l2", type=float, default=1e-4)
    two.add_argument("--dropout", type=float, default=0.2)

    three = commands.add_parser("tfmot", help="tfmot and keras_iplt.sparsity side by side")
    three.set_defaults(do=tfmot)
    three.add_argument("--kinds", nargs="+", default=["polynomial", "constant"])
    three.add_argument("--time", action="store_true", help="only what it costs")
    three.add_argument("--images", type=int, default=12_800)
    three.add_argument("--seeds", type=int, default=5)
    three.add_argument("--epochs", type=int, default=4)

    for command in (one, two, three):
        command.add_argument("--data", type=pathlib.Path, required=True, metavar="DIR")
        command.add_argument("--batch", type=int, default=128)
        command.add_argument("--out", type=pathlib.Path,
                             default=pathlib.Path("saved_models/sparsity"))  # fmt: skip
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
