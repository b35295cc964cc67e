"""A trained ResNet-20 in 8-bit integers: rounded after training, and trained as integers compute.

    python benchmarks/quantization.py --data DIR

DIR holds `cifar10_20k.npz` and `cifar10_resnet20.keras`, as for `accuracy.py`. The network is
written whole, and with half of its FLOPs pruned, refitted and trained for an epoch: in float32, in
int8 with ranges measured on 100 training images, and in int8 after an epoch of quantisation-aware
training. An epoch is `--images` training images in batches of 64 (SGD, rate 0.002, momentum 0.9,
no augmentation). Accuracies are those of the files on `--test` images. Files are timed by turns, on
one thread; a training step is that of the quantised model over that of the plain one, which takes
the same epoch in the same process, without the first batches of either.
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

BATCH = 64


def fitted(model, x, y):
    """The model after an epoch, and the seconds that a step takes."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.002, momentum=0.9), loss)
    model.fit(x[: 2 * BATCH], y[: 2 * BATCH], batch_size=BATCH, verbose=0)
    begin = time.perf_counter()
    model.fit(x, y, batch_size=BATCH, verbose=0)
    return model, (time.perf_counter() - begin) / -(-len(x) // BATCH)


def measure(name, model, train, test):
    """A row for each way to write a network."""
    x, y = train
    _, step = fitted(keras.models.clone_model(model), x, y)
    quantized, longer = fitted(iplt.quantization.quantize_model(model), x, y)
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
        row.append(f"{longer / step:.2f}" if row is rows[-1] else "")
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
    rows += measure("half of the FLOPs", fitted(small, *train)[0], train, test)
    table(["ResNet-20", "written as", "right", "kB", "ms", "a step takes"], rows)


if __name__ == "__main__":
    main()
