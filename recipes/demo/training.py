"""The demo: the network, both trainings, and what is shown of them."""

import importlib.util
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

import keras_iplt as iplt
from keras_iplt.exporting import tflite_runtime, timed

from ..common.study import say
from ..common.training import Lines
from ..data.in_memory import read_digits

__all__ = ["compared", "compiled", "digits", "evaluate", "trained"]

Examples = tuple[np.ndarray, np.ndarray]  # images and their labels
Column = dict[str, Any]  # what is shown of one of the two: see `ROWS`

NAMES = ("dense", "iplt")
ROWS = [  # of the table: key, what it says, how it is written
    ("accuracy", "accuracy on test digits", "{:.1%}"),
    ("parameters", "parameters", "{:,}"),
    ("flops", "FLOPs per image", "{:,}"),
    ("seconds", "seconds of training", "{:.1f}"),
    ("tflite_bytes", "bytes as .tflite", "{:,}"),
    ("latency_ms", "ms per image in TFLite", "{:.4f}"),
]


def digits() -> tuple[Examples, Examples]:
    """1,797 images of 8 × 8 pixels: `(x_train, y_train), (x_test, y_test)`."""
    x, y = read_digits().parts["train"]
    x = x[..., None]
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1400], order[1400:]
    return (x[train], y[train]), (x[test], y[test])


def network() -> keras.Model:
    """Convolution, batch norm and ReLU, three times; a residual connection to make it harder."""

    def block(x: Any, filters: int, number: int) -> Any:
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
        return layers.ReLU(name=f"relu{number}")(x)

    image = keras.Input((8, 8, 1), name="image")
    x = block(image, 32, 1)
    x = layers.MaxPooling2D(name="pool")(layers.Add(name="add")([x, block(x, 32, 2)]))
    x = layers.GlobalAveragePooling2D(name="mean")(block(x, 64, 3))
    return keras.Model(image, layers.Dense(10, name="digit")(x), name="digits")


def compiled(seed: int) -> keras.Model:
    """A network as it starts: the same for the same seed."""
    keras.utils.set_random_seed(seed)
    model = network()
    model.compile(
        keras.optimizers.Adam(2e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def trained(
    name: str, epochs: int, seed: int, callbacks: list[keras.callbacks.Callback]
) -> tuple[keras.Model, dict[str, list[float]], float]:
    """A network trained from the same start on the same batches, its history and the seconds."""
    (x, y), _ = digits()
    model = compiled(seed)
    start = time.perf_counter()
    callbacks = [*callbacks, Lines(name, epochs, lines=4)]
    history = model.fit(x, y, epochs=epochs, batch_size=64, verbose=0, callbacks=callbacks)
    return model, history.history, time.perf_counter() - start


def compared(ratio: float, epochs: int, seed: int, folder: pathlib.Path) -> dict[str, Any]:
    """Trains twice, densely and with pruning; returns what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    say(f"what hangs together:\n{iplt.trace(network())}\n")
    callback = iplt.IPLTCallback(ratio, scope="layer")
    compiled(seed).fit(*(a[:64] for a in digits()[0]), verbose=0)  # what starts only once
    say(f"training for {epochs} epochs, densely …")
    dense, _, dense_seconds = trained("dense", epochs, seed, [])
    say(f"training for {epochs} epochs, IPLTCallback({ratio}) among the callbacks …")
    steps = keras.callbacks.CSVLogger(folder / "training.csv")
    small, history, small_seconds = trained("iplt", epochs, seed, [callback, steps])
    models, seconds = (dense, small), (dense_seconds, small_seconds)
    _, test = digits()
    comparison = iplt.compare(*models, names=NAMES)
    columns = [
        {
            "accuracy": evaluate(model, test),
            "parameters": profile.params,
            "flops": profile.flops,
            "seconds": round(took, 1),
        }
        for model, profile, took in zip(
            models, (comparison.before, comparison.after), seconds, strict=True
        )
    ]
    for name, model in zip(NAMES, models, strict=True):
        iplt.export(model, folder / f"{name}.keras")
    exports = exported(models, columns, folder)
    files = ["dense.keras", "iplt.keras", "training.csv", "result.json"]
    files += [pathlib.Path(done.path).name for done in exports]
    files += reported(models, exports, history, columns, folder)
    result = {
        f"{key}_{name}": column[key]
        for key, *_ in ROWS
        for name, column in zip(NAMES, columns, strict=True)
        if key in column
    }
    result |= {"fpr": comparison.fpr, "ppr": comparison.ppr, "backend": keras.backend.backend()}
    (folder / "result.json").write_text(json.dumps(result, indent=2))
    print(f"\n{comparison}\n\n{table(columns)}\n\nwritten to {folder}/: {', '.join(files)}")
    return result


def evaluate(model: keras.Model, data: Examples) -> float:
    """The share of images that a model knows."""
    return float(model.evaluate(*data, verbose=0, return_dict=True)["accuracy"])


def exported(
    models: Sequence[keras.Model], columns: Sequence[Column], folder: pathlib.Path
) -> list[iplt.Export]:
    """Writes .tflite files where that can be done, and notes their size and speed."""
    if keras.backend.backend() != "tensorflow":
        say("no .tflite files: Keras runs on another backend, and TensorFlow converts")
        return []
    say("exporting both as .tflite …")
    done = [iplt.export(m, folder / f"{n}.tflite") for n, m in zip(NAMES, models, strict=True)]
    # By turns: what slows the machine down for a while slows both down.
    image = np.zeros((1, 8, 8, 1), "float32")
    seconds = timed([tflite_runtime(export.path) for export in done], [image])
    for column, export, taken in zip(columns, done, seconds, strict=True):
        column["tflite_bytes"], column["latency_ms"] = export.size, round(1e3 * taken, 5)
    return done


def reported(
    models: Sequence[keras.Model], exports: Sequence[iplt.Export], history: dict[str, list[float]],
    columns: Sequence[Column], folder: pathlib.Path,
) -> list[str]:  # fmt: skip
    """Writes the report if matplotlib, which draws its pictures, is there; the names of files."""
    if importlib.util.find_spec("matplotlib") is None:
        say("no report: it needs matplotlib, pip install 'keras-iplt[plots]'")
        return []
    say("writing the report …")
    accuracies = tuple(column["accuracy"] for column in columns)
    dense, small = models
    iplt.report(
        folder / "report.html", dense, small, exports=exports, history=history,
        accuracy={"test accuracy": accuracies}, command="python -m recipes.demo",
        title="Handwritten digits, dense and with IPLT",
    )  # fmt: skip
    return ["report.html"]


def table(columns: Sequence[Column]) -> str:
    """Both side by side; the last column says how much of the first is left."""
    rows = [("", *NAMES, "iplt : dense")]
    for key, title, form in ROWS:
        if all(key in column for column in columns):
            one, other = (column[key] for column in columns)
            rows.append((title, form.format(one), form.format(other), f"{other / one:.2f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    names, *numbers = widths
    return "\n".join(
        "  ".join([name.ljust(names), *map(str.rjust, cells, numbers)]) for name, *cells in rows
    )
