"""What IPLT inside `model.fit` costs and saves: training time and overhead.

    python benchmarks/training.py time                        # 10 minutes of two idle cores
    python benchmarks/training.py overhead                    # 5 minutes

All of it on TensorFlow, whose steps are compiled without XLA (on CPUs the faster way). What is
compared runs by turns in one process, a few batches each, since machines are shared; only ratios
say something. Tables show wall and CPU seconds: what is traced anew runs in one thread, while
training uses all cores, so that it weighs more in wall seconds. On a busy machine CPU seconds are
the steadier ones.

`time`: a fit with `IPLTCallback` on half a VGG-16 with batch norm (32 x 32 images). After every
epoch stand a few batches of the dense net, and a few of a net that was built and compiled anew with
the widths of this epoch and has been traced already: the best the hardware gives for these shapes.
The goals: a total far below 0.73 of a dense fit of as many epochs (the paper: 5319 s of 7254 s),
and at most 1.05 of the sum over the fresh nets where a dense epoch takes 20 s or more. Each step
is broken up into what planning and shrinking take and what tracing takes (how much longer the first
batch of an epoch lasts than the others).

`overhead`: epochs with `IPLTCallback(mode="mask")`, with zeros to hold but before the one rebuild,
beside epochs without; and the seconds spent in its methods. The goal: 2 % of an epoch. Then the
same for tensorflow-model-optimization on the same net, where it is installed (with tf_keras).
"""

import argparse
import importlib.util
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import markdown_tables
import numpy as np

VGG16 = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
CLASSES = 10
HOOKS = ("on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_epoch_end")


# -- clocks --


def now():
    """Wall and CPU seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def clock_class(keras):
    """A class of callbacks, of Keras 3 or of tf_keras."""

    class Clock(keras.callbacks.Callback):
        """Notes what epochs, their batches and the pauses between them take.

        Args:
            between: called after each epoch; what it takes is not counted (`away`).

        Attributes:
            rows: a dict per epoch. `pause`: before it; `epoch`: all of it; `batch`: one of its
                batches, on average, but for the first; `first`: how much longer that one took.
        """

        def __init__(self, between=lambda: None):
            super().__init__()
            self.rows, self.between, self.away = [], between, np.zeros(2)

        def on_train_begin(self, logs=None):
            self._paused = now()

        def on_epoch_begin(self, epoch, logs=None):
            self._begin, self._batches = now(), []

        def on_train_batch_begin(self, batch, logs=None):
            self._batches.append(now())

        def on_epoch_end(self, epoch, logs=None):
            end = now()
            first, *others = np.diff(self._batches, axis=0)
            batch = np.mean(others, axis=0)
            self.rows.append({
                "pause": self._begin - self._paused,
                "epoch": end - self._begin,
                "batch": batch,
                "first": first - np.median(others, axis=0),
            })  # fmt: skip
            self.between()
            self._paused = now()
            self.away += self._paused - end

    return Clock


# -- networks and data --


def vgg(keras, width=1.0):
    """VGG-16 for 32 x 32 images, with batch norm; for Keras 3 and tf_keras."""
    layers = keras.layers
    x = inputs = keras.Input((32, 32, 3))
    for stage in VGG16:
        for filters in stage:
            x = layers.Conv2D(int(filters * width), 3, padding="same", use_bias=False)(x)
            x = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(x)))


def compiled(keras, model, optimizer=None):
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9) if optimizer is None else optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def noise(images):
    """As many images of noise, and labels."""
    random = np.random.default_rng(0)
    x = random.normal(size=(images, 32, 32, 3)).astype("float32")
    return x, random.integers(CLASSES, size=images)


# -- time --


def measure_time(options):
    """IPLT beside a dense fit and beside fresh nets."""
    import keras

    import keras_iplt as iplt

    x, y = noise(options.images)
    batches = -(-options.images // options.batch)
    few = options.batch * min(options.block + 2, batches)
    Clock = clock_class(keras)

    def network(plans=()):
        """A net built and compiled anew, smaller by some plans, and traced."""
        model = vgg(keras, options.width)
        for plan in plans:
            model = iplt.rewrite(model, plan)
        compiled(keras, model)
        model.fit(x[: 2 * options.batch], y[: 2 * options.batch], options.batch, verbose=0)
        return model

    def an_epoch(model):
        """What an epoch takes, judged by a few batches."""
        clock = Clock()
        model.fit(x[:few], y[:few], options.batch, verbose=0, callbacks=[clock])
        return clock.rows[0]["batch"] * batches

    keras.utils.set_random_seed(0)
    pruning = iplt.IPLTCallback(
        options.target, every=options.every, scope=options.scope, criterion="l2"
    )
    nets = {"dense": network(), "fresh": None, "plans": None}
    best = {"dense": [], "fresh": []}

    def between():
        progress = pruning.progress
        plans = [*progress.plans, *filter(None, [progress.masked])]
        if nets["plans"] != plans:
            nets.update(plans=plans, fresh=network(plans))
        for who in best if len(best["dense"]) % 2 else reversed(best):
            best[who].append(an_epoch(nets[who]))
        row = clock.rows[-1]
        row.update(left=progress.flops, gone=progress.ratio, waits=progress.masked is not None)
        row["shrunk"] = len(progress.plans)
        print(f"epoch {len(clock.rows)}/{options.epochs}", file=sys.stderr, flush=True)

    model = compiled(keras, vgg(keras, options.width))
    clock = Clock(between)
    begin = now()
    model.fit(
        x, y, options.batch, epochs=options.epochs, verbose=0, callbacks=[pruning, clock]
    )  # fmt: skip
    total = now() - begin - clock.away
    report_time(clock.rows, best, total, batches)


def report_time(rows, best, total, batches):
    whole = rows[0]["left"]
    print("Seconds, wall / CPU. An epoch is its batches; the rest stands beside it.\n")
    table(
        ["epoch", "filters gone", "FLOPs left", "plan + shrink", "trace", "IPLT", "fresh net",
         "dense"],
        [
            (str(number), f"{row['gone']:.0%}" + " (zeros)" * row["waits"],
             row["left"] / whole, row["pause"], row["first"], row["batch"] * batches, fresh, dense)
            for number, (row, fresh, dense) in enumerate(
                zip(rows, best["fresh"], best["dense"], strict=True)
            )
        ],
    )  # fmt: skip
    dense, fresh = (np.sum(best[who], axis=0) for who in ("dense", "fresh"))
    first = rows[0]["first"]
    alike = np.median([row["batch"] * batches / one for row, one in
                       zip(rows, best["fresh"], strict=True)], axis=0)  # fmt: skip
    steps = [row for before, row in itertools.pairwise(rows) if row["shrunk"] > before["shrunk"]]
    extra = sum(row["pause"] + row["first"] for row in steps) + first
    print()
    table(
        ["", "wall", "CPU"],
        [
            ("IPLT, whole fit, s", *total),
            ("over dense, whole fit (the paper: 0.73)", *(total / (dense + first))),
            ("over the fresh nets, sum of epochs (goal: 1.05)", *(total / fresh)),
            ("the same without the first trace", *((total - first) / fresh)),
            ("steps and traces over the fresh nets", *(extra / fresh)),
            ("an epoch without its first batch over one of the fresh net, median", *alike),
            ("a dense epoch, median, s", *np.median(best["dense"], axis=0)),
            ("plan + shrink, median of the steps, s", *_median(steps, "pause")),
            ("trace, median of the steps, s", *_median(steps, "first")),
        ],
    )


def _median(rows, key):
    return np.median([row[key] for row in rows], axis=0) if rows else [np.nan] * 2


# -- overhead --


def measure_overhead(options):
    """The callback in mode "mask" beside no callback, then tfmot beside no tfmot."""
    import keras

    import keras_iplt as iplt

    x, y = noise(options.images)
    Clock = clock_class(keras)
    plain = compiled(keras, vgg(keras, options.width))
    plain.fit(x[: options.batch], y[: options.batch], options.batch, verbose=0)
    without, inside, spent = [], [], np.zeros(2)

    def between():
        clock = Clock()
        plain.fit(x, y, options.batch, verbose=0, callbacks=[clock])
        without.append(clock.rows[0]["epoch"])
        inside.append(spent / without[-1])
        spent[:] = 0

    # One step per epoch, the last of which, the rebuild, is not looked at; nor is the first trace.
    steps = options.epochs
    pruning = iplt.IPLTCallback(0.6, step=0.6 / steps, every=1, mode="mask", verbose=0)
    for name in HOOKS:
        setattr(pruning, name, timed(getattr(pruning, name), spent))
    masked, clock = compiled(keras, vgg(keras, options.width)), Clock(between)
    masked.fit(x, y, options.batch, epochs=steps + 1, verbose=0, callbacks=[pruning, clock])
    with_it = [row["epoch"] + row["pause"] for row in clock.rows]
    chosen = slice(1, steps)
    rows = [
        ("keras_iplt, mode mask, a step per epoch", *_ratio(with_it[chosen], without[chosen])),
        ("… of which in its methods", *np.median(inside[chosen], axis=0)),
    ]
    rows += _tfmot(options)
    print("Time per epoch over that of the same fit without, medians\n")
    table(["", "wall", "CPU"], rows)


def timed(function, spent):
    """The function, which adds what it takes to `spent`."""

    def call(*args, **kwargs):
        begin = now()
        function(*args, **kwargs)
        spent[:] += now() - begin

    return call


def _ratio(a, b):
    return np.median(np.array(a) / np.array(b), axis=0)


def _tfmot(options):
    """Rows of the table, from a process in which tf_keras is TensorFlow's Keras."""
    missing = [name for name in ("tensorflow_model_optimization", "tf_keras")
               if importlib.util.find_spec(name) is None]  # fmt: skip
    if missing:
        print(f"not installed, left out: {', '.join(missing)}", file=sys.stderr)
        return []
    process = subprocess.run(
        [sys.executable, __file__, "tfmot", *(f"--{name}={getattr(options, name)}" for name in
         ("images", "batch", "width", "epochs"))],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    if process.returncode:
        print(process.stderr[-2000:], file=sys.stderr)
        return []
    return json.loads(process.stdout.splitlines()[-1])


def measure_tfmot(options):
    """tfmot's pruning of weights on the same net, at two frequencies, beside none."""
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    sparsity = tfmot.sparsity.keras
    x, y = noise(options.images)
    Clock = clock_class(keras)
    nets = {"plain": (vgg(keras, options.width), [])}
    for frequency in (100, 1):
        schedule = sparsity.ConstantSparsity(0.5, begin_step=0, frequency=frequency)
        net = sparsity.prune_low_magnitude(vgg(keras, options.width), schedule)
        nets[f"tfmot, weights, frequency {frequency}"] = net, [sparsity.UpdatePruningStep()]
    for net, _ in nets.values():
        compiled(keras, net)
    found = {name: [] for name in nets}
    for _ in range(options.epochs):
        for name, (net, callbacks) in nets.items():
            clock = Clock()
            net.fit(x, y, options.batch, verbose=0, callbacks=[*callbacks, clock])
            found[name].append(clock.rows[0]["epoch"])
    plain = found.pop("plain")[1:]
    print(json.dumps([(name, *_ratio(it[1:], plain)) for name, it in found.items()]))


# -- tables --


def table(head, rows):
    markdown_tables.table(head, rows, shown)


def shown(value):
    if isinstance(value, str):
        return value
    return " / ".join(f"{one:.3f}" if one < 10 else f"{one:.1f}" for one in np.ravel(value))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    one = commands.add_parser("time", help="training time of IPLT")
    one.set_defaults(do=measure_time, images=8192, width=0.5, epochs=16, batch=128)
    one.add_argument("--target", type=float, default=0.6)
    one.add_argument("--every", type=int, help="k; by default what the callback chooses")
    one.add_argument("--scope", choices=("layer", "global"), default="layer")
    one.add_argument("--block", type=int, default=8, help="batches of the other nets per epoch")

    two = commands.add_parser("overhead", help="what the callback costs in mode mask")
    two.set_defaults(do=measure_overhead, images=2048, width=0.25, epochs=6, batch=16)
    three = commands.add_parser("tfmot")
    three.set_defaults(do=measure_tfmot)

    for command in (one, two, three):
        for name in ("images", "epochs", "batch"):
            command.add_argument(f"--{name}", type=int, default=command.get_default(name))
        command.add_argument("--width", type=float, default=command.get_default("width"))
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
