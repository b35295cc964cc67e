"""Networks in 8-bit integers: rounded after training, and trained as integers compute.

    python benchmarks/quantization.py run --data DIR
    python benchmarks/quantization.py run --data DIR --networks mobilenet --seeds 0
    python benchmarks/quantization.py table
    python benchmarks/quantization.py steps
    python benchmarks/quantization.py speed --data DIR

DIR holds what `accuracy.py` wants, whose images and training these are. `mobilenet` is MobileNet
0.25 with weights of ImageNet, trained by 8 epochs of 8,000 images of CIFAR-10 enlarged to 96 × 96;
of `mobilenet_head` only the last layer is trained, and nothing more; `resnet20` and `resnet56` come
trained; `demo` is the network of `keras_iplt_recipes.demo`, trained on handwritten digits for 20
epochs.

Each is written whole, and with half of its FLOPs pruned, refitted and trained for `HALF` batches.
From there it is trained for `MORE` batches more at a tenth of the rate: plainly, and as it computes
in integers. Both have seen the same images, so what differs is the rounding:

- float32, and int8 with ranges measured on 100 training images, of the plain one: by the converter
  of TFLite, and by `keras_iplt.quantization.calibrate`;
- int8 of the one that was trained so, as its file says and as Keras does; and of one that was
  calibrated before.

Accuracies are those of the files, one image at a time. `run` appends a line for each network, part
and seed to `--results` and repeats none. Files are timed by turns, on one thread; so are training
steps of the quantised and of the plain model. `steps` times the latter alone, beside tfmot's where
`tensorflow-model-optimization` and `tf_keras` are installed: MobileNet 0.25 for 96 × 96 pixels.
`speed` says how much faster than float32 the two ResNets are in int8, with half of the FLOPs, and
with widths that processors like.
"""

import argparse
import json
import pathlib
import tempfile
import time

import keras
import numpy as np
from accuracy import BATCH, NETWORKS, SEEN, TESTS, Batches, compiled, images, remembered
from keras import layers
from markdown_tables import table

import keras_iplt as iplt
from keras_iplt.exporting import tflite_runtime, timed
from recipes.common.spread import Spread
from recipes.demo.training import digits, network

HALF, MORE, STEPS = 250, 125, 16
SIZE = 96  # of MobileNet's images
WAYS = ("float32", "int8 after training", "int8 calibrated", "int8 trained",
        "int8 calibrated, trained", "int8 trained, in Keras")  # fmt: skip


def enlarged(x):
    some = [keras.ops.image.resize(x[i : i + 500], (SIZE, SIZE)) for i in range(0, len(x), 500)]
    return np.concatenate([*map(np.array, some)])


def transferred(folder):
    body = keras.applications.MobileNet(
        input_shape=(SIZE, SIZE, 3), alpha=0.25, include_top=False, weights=None
    )
    body.load_weights(folder / "mobilenet_v1_0.25.weights.h5")
    x = layers.GlobalAveragePooling2D()(body.output)
    return keras.Model(body.input, layers.Dense(10)(x))


class Task:
    """A trained network, its images, and how it trains on."""

    def __init__(self, name, folder, seed):
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        self.name, self.seed, self.shift, self.rate = name, seed, 0, None
        if name == "demo":
            (self.x, self.y), self.test = digits()
            self.model = self.fitted(network(), 20 * len(self.x) // BATCH)
            return
        known = NETWORKS[name.removesuffix("_head")]
        self.rate, self.shift = known.rate, known.shift
        self.x, self.y, *self.test = images(folder / known.file, *known.normal, known.images, TESTS)
        if name.startswith("mobilenet"):
            self.x, self.test[0] = enlarged(self.x), enlarged(self.test[0])
            self.shift *= SIZE // 32
            self.model = transferred(folder)
        if name == "mobilenet":
            self.fitted(self.model, known.epochs * len(self.x) // BATCH)
        elif name == "mobilenet_head":
            self.fit_head()
        else:
            self.model = known.build(folder)

    def fit_head(self):
        """Trains the last layer on what comes out of the others, which never changes."""
        *_, before, last = self.model.layers
        body = keras.Model(self.model.input, before.output)
        found = body.predict(self.x, batch_size=250, verbose=0)
        head = keras.Sequential([keras.Input(found.shape[1:]), last])
        compiled(head, None, 0).fit(found, self.y, batch_size=BATCH, epochs=20, verbose=0)

    def fitted(self, model, batches, slower=1):
        """The model after so many batches."""
        rate = self.rate and self.rate / slower
        data = Batches(self.x, self.y, self.seed, self.shift, batches)
        compiled(model, rate, batches)
        if rate is None:
            model.optimizer.learning_rate = 2e-3 / slower
        model.fit(data, verbose=0)
        return model

    def parts(self):
        """The network whole and, once that is trained, with half of its FLOPs."""
        yield "whole", self.model
        if self.name == "mobilenet_head":
            return
        small = iplt.prune(self.model, ratio=0.5, of="flops", compensate=self.x[:SEEN])
        yield "half", self.fitted(small, HALF)


def step_ratio(model, task):
    """How much longer a training step of the quantised model takes, by turns."""
    both = [compiled(keras.models.clone_model(model), 0.001, STEPS),
            compiled(iplt.quantization.quantize_model(model), 0.001, STEPS)]  # fmt: skip
    plain, quantized = step_times(both, task.x[:BATCH], task.y[:BATCH])
    return quantized / plain


def step_times(models, x, y):
    """Median seconds of a training step of each, by turns."""
    taken = [[] for _ in models]
    for _ in range(STEPS):
        for one, times in zip(models, taken, strict=True):
            begin = time.perf_counter()
            one.train_on_batch(x, y)
            times.append(time.perf_counter() - begin)
    return [np.median(times[2:]) for times in taken]  # the first ones are compiled


def calibrated(model, task):
    """The model quantised and calibrated."""
    quantized = iplt.quantization.quantize_model(model)
    iplt.quantization.calibrate(quantized, task.x[:100], verbose=0)
    return quantized


def right(outputs, labels):
    return 100 * float((np.array(outputs).argmax(-1) == labels).mean())


def measured(task, model):
    """By the way in which it is written, what came of a network."""
    x, labels = task.test
    if task.name == "mobilenet_head":
        plain, trained = model, []
    else:
        begun = keras.models.clone_model(model)
        begun.set_weights(model.get_weights())
        plain = task.fitted(begun, MORE, slower=10)
        starts = iplt.quantization.quantize_model(model), calibrated(model, task)
        trained = [task.fitted(one, MORE, slower=10) for one in starts]
    by_converter = {"precision": "int8", "tolerance": 10}
    written = [(plain, {}), (plain, by_converter), (calibrated(plain, task), {})]
    written += [(one, {}) for one in trained]
    found, runtimes = {"accuracy": {}, "kB": {}, "ms": {}}, []
    with tempfile.TemporaryDirectory() as directory:
        for way, (one, options) in zip(WAYS, written, strict=False):
            path = pathlib.Path(directory, f"{len(runtimes)}.tflite")
            done = iplt.export(one, path, data=task.x[:100], verbose=0, **options)
            runtimes.append(tflite_runtime(path.read_bytes()))
            outputs = [runtimes[-1]([image[None]])[0][0] for image in x]
            found["accuracy"][way] = right(outputs, labels)
            found["kB"][way] = done.size / 1e3
    for one in trained[:1]:
        found["accuracy"][WAYS[-1]] = right(one.predict(x, verbose=0), labels)
    seconds = timed(runtimes, [task.x[:1]])
    found["ms"] = {way: 1e3 * one for way, one in zip(WAYS, seconds, strict=False)}
    return {**found, "step": step_ratio(model, task)}


def wanted(options):
    for name in options.networks:
        for seed in options.seeds:
            yield name, seed, [
                {"network": name, "seed": seed, "part": part, "more": MORE, "half": HALF,
                 "version": iplt.__version__}
                for part in ("whole", "half")[: 1 if name == "mobilenet_head" else 2]]  # fmt: skip


def run(options):
    for name, seed, rows in wanted(options):
        if all(remembered(options.results, row) for row in rows):
            continue
        task = Task(name, options.data, seed)
        for row, (_, model) in zip(rows, task.parts(), strict=True):
            if remembered(options.results, row) is None:
                found = row | measured(task, model)
                with options.results.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                print(*row.values(), found["accuracy"], sep="  ", flush=True)


def show(options):
    """A table: means over seeds and their deviations, times over the seeds' medians."""
    lines = []
    for name in options.networks:
        for part in ("whole", "half"):
            settings = [one for _, _, rows in wanted(options) for one in rows]
            settings = [one for one in settings if (one["network"], one["part"]) == (name, part)]
            rows = [row for one in settings if (row := remembered(options.results, one))]
            for way in rows[0]["accuracy"] if rows else ():
                cells = [f"{Spread.of([row['accuracy'][way] for row in rows])} ({len(rows)})"]
                for what, shape in (("kB", ",.0f"), ("ms", ".3f")):
                    values = [row[what][way] for row in rows if way in row[what]]
                    cells.append(format(np.median(values), shape) if values else "")
                steps = np.median([row["step"] for row in rows])
                cells.append(f"{steps:.2f}" if way == WAYS[3] else "")
                lines.append([name, part, way, *cells])
    table(["network", "part", "written as", "right, %", "kB", "ms", "a step takes"], lines)


def steps(options):
    """How much longer training steps take as integers compute, here and with tfmot."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    x = np.random.default_rng(0).normal(size=(BATCH, SIZE, SIZE, 3)).astype("float32")
    y = np.arange(BATCH) % 10
    models = []
    for library, quantize in (
        (keras, iplt.quantization.quantize_model),
        (tf_keras, tfmot.quantization.keras.quantize_model),
    ):
        plain = library.applications.MobileNet(
            input_shape=(SIZE, SIZE, 3), alpha=0.25, weights=None, classes=10
        )
        for model in (plain, quantize(plain)):
            model.compile(library.optimizers.SGD(0.001), "sparse_categorical_crossentropy")
            models.append(model)
    taken = step_times(models, x, y)
    table(["", "plain, s", "as integers compute, s", "ratio"],
          [[name, f"{a:.3f}", f"{b:.3f}", f"{b / a:.2f}"] for name, (a, b) in
           (("keras_iplt", taken[:2]), ("tfmot", taken[2:]))])  # fmt: skip


def speed(options):
    """How much faster than float32 files are, by turns."""
    rows = []
    for name in ("resnet20", "resnet56"):
        model = NETWORKS[name].build(options.data)
        x = np.random.default_rng(0).normal(size=(64, 32, 32, 3)).astype("float32")
        half = iplt.prune(model, ratio=0.5, of="flops")
        wide = iplt.prune(model, ratio=0.5, of="flops", round_to="auto")
        runtimes = []
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory, "model.tflite")
            ways = [(model, "float32"), *((one, "int8") for one in (model, half, wide))]
            for one, precision in ways:
                iplt.export(one, path, precision=precision, data=x, tolerance=10, verbose=0)
                runtimes.append(tflite_runtime(path.read_bytes()))
        whole, *others = timed(runtimes, [x[:1]])
        rows.append([name, f"{1e3 * whole:.3f}", *(f"{whole / one:.2f}" for one in others)])
    table(["network", "float32, ms", "int8", "half, int8", "half, round_to, int8"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("run", "table", "steps", "speed"))
    parser.add_argument("--data", type=pathlib.Path, help="the folder DIR; needed to run")
    parser.add_argument("--results", type=pathlib.Path, default="quantization.jsonl")
    names = ["demo", "resnet20", "mobilenet_head", "mobilenet", "resnet56"]
    parser.add_argument("--networks", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    if options.what in ("run", "speed") and options.data is None:
        parser.error(f"{options.what} expects --data DIR")
    {"run": run, "table": show, "steps": steps, "speed": speed}[options.what](options)


if __name__ == "__main__":
    main()
