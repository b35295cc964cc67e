"""A trained ResNet-20 in 8-bit integers: rounded after training, and trained as integers compute.

    python benchmarks/quantization.py --data DIR

DIR holds `cifar10_20k.npz` and `cifar10_resnet20.keras`, as for `accuracy.py`. The network is
written whole, and with half of its FLOPs pruned, refitted and trained for an epoch: in float32, in
int8 with ranges measured on 100 training images, and in int8 after an epoch of quantisation-aware
training. An epoch is `--images` training images in batches of 64 (SGD, rate 0.002, momentum 0.9,
no augmentation). Accuracies are those of the files on `--test` images. Files are timed by turns, on
one thread; so are training steps of the quantised and of the plain model.
"""

import argparse
import pathlib
import tempfile
import time

import keras
import numpy as np
from integer import resnet20
from markdown_tables import table

import keras_iplt as iplt
from keras_iplt.exporting import tflite_runtime, timed

BATCH, STEPS = 64, 16


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.002, momentum=0.9), loss)
    return model


def fitted(model, x, y):
    """The model after an epoch."""
    compiled(model).fit(x, y, batch_size=BATCH, verbose=0)
    return model


def step_ratio(model, x, y):
    """How much longer a training step of the quantised model takes, by turns."""
    both = [compiled(keras.models.clone_model(model)),
            compiled(iplt.quantization.quantize_model(model))]  # fmt: skip
    taken = [[], []]
    for _ in range(STEPS):
        for one, times in zip(both, taken, strict=True):
            begin = time.perf_counter()
            one.train_on_batch(x[:BATCH], y[:BATCH])
            times.append(time.perf_counter() - begin)
    plain, quantized = (np.median(times[2:]) for times in taken)  # the first ones are compiled
    return quantized / plain


def measure(name, model, train, test):
    """A row for each way to write a network."""
    x, y = train
    quantized = fitted(iplt.quantization.quantize_model(model), x, y)
    in_keras = (quantized.predict(test[0], verbose=0).argmax(1) == test[1]).mean()
    ways = {
        "float32": (model, {}),
        "int8 after training": (model, {"precision": "int8", "tolerance": 10}),
        f"int8 trained (in Keras {in_keras:.1%})": (quantized, {}),
    }
    rows, runtimes = [], []
    with tempfile.TemporaryDirectory() as directory:
        for way, (one, options) in ways.items():
            path = pathlib.Path(directory, f"{len(rows)}.tflite")
            done = iplt.export(one, path, data=x[:100], **options)
            runtimes.append(tflite_runtime(path.read_bytes()))
            found = np.array([runtimes[-1]([image[None]])[0][0] for image in test[0]]).argmax(1)
            right = f"{(found == test[1]).mean():.1%}"
            rows.append([name, way, right, f"{done.size / 1e3:,.0f}"])
    for row, seconds in zip(rows, timed(runtimes, [x[:1]]), strict=True):
        row.append(f"{1e3 * seconds:.3f}")
        row.append(f"{step_ratio(model, x, y):.2f}" if row is rows[-1] else "")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, metavar="DIR", required=True)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--test", type=int, default=1000)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    data, some, several = np.load(options.data / "cifar10_20k.npz"), options.images, options.test
    model, x = resnet20(options.data, data["x_train"][:some])
    test = resnet20(options.data, data["x_test"][:several])[1], data["y_test"][:several].ravel()
    train = x, data["y_train"][:some].ravel()
    rows = measure("whole", model, train, test)
    small = iplt.prune(model, ratio=0.5, of="flops", compensate=x[:512])
    rows += measure("half of the FLOPs", fitted(small, *train), train, test)
    table(["ResNet-20", "written as", "right", "kB", "ms", "a step takes"], rows)


if __name__ == "__main__":
    main()
