"""Clustered weights: what they cost in accuracy, and what they save in compressed files.

    python benchmarks/clustering.py --data DIR

DIR holds `cifar10_20k.npz` and `cifar10_resnet20.keras`, as for `accuracy.py`. ResNet-20 is
clustered as it is, or after half of its weights have been set to zero; then trained for `--batches`
batches of 128 images by Adam, or not at all; then stripped and tested on 2,000 images. Bytes are
those of the weight file after gzip.

    python benchmarks/clustering.py --data DIR --integers

trains it as integers instead, for `--batches` batches of 64 images, whole and with half of its
weights zero and 16 values in each kernel, or each channel of one: by the default scheme and by
those that keep zeros and clusters. Accuracies are those of the trained model, bytes those of the
.tflite file.
"""

import argparse
import pathlib
import tempfile

import keras
import numpy as np
from markdown_tables import table

import keras_iplt as iplt
from keras_iplt import clustering, quantization, sparsity
from keras_iplt.quantization import combine


def images(folder):
    """Those to train on and those to test with, and the labels of both."""
    data = np.load(folder / "cifar10_20k.npz")
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    x, test = (
        (data[name] / np.float32(255) - mean) / deviation
        for name in ("x_train", "x_test")
    )  # fmt: skip
    y, labels = (data[name].reshape(-1) for name in ("y_train", "y_test"))
    flips = np.random.default_rng(0).random(len(x)) < 0.5
    x[flips] = x[flips, :, ::-1]
    return x, y, test[:2000], labels[:2000]


def train(model, x, y, batches, size):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-4), loss, jit_compile=False)
    model.fit(x[: size * batches], y[: size * batches], batch_size=size, verbose=0)


def share_right(model, test, labels):
    return (model.predict(test, batch_size=250, verbose=0).argmax(1) == labels).mean()


def measure(folder, clusters, zeros, batches):
    keras.utils.set_random_seed(0)
    x, y, test, labels = images(folder)
    model = keras.models.load_model(folder / "cifar10_resnet20.keras", compile=False)
    if zeros:
        sparsity.prune_weights(model, zeros)
    if clusters:
        model = clustering.cluster_weights(model, clusters, preserve_sparsity=bool(zeros))
    if batches:
        train(model, x, y, batches, 128)
    model = clustering.strip_clustering(model)
    right = share_right(model, test, labels)
    return right, sparsity.measure(model).sparsity, sparsity.compressed_size(model)


SCHEMES = {
    "default": quantization.default_8bit.Default8BitQuantizeScheme,
    "zeros": combine.Default8BitPrunePreserveQuantizeScheme,
    "zeros and clusters": combine.Default8BitClusterPreserveQuantizeScheme,
}


def measure_integers(folder, clusters, of, kept, batches):
    keras.utils.set_random_seed(0)
    x, y, test, labels = images(folder)
    model = keras.models.load_model(folder / "cifar10_resnet20.keras", compile=False)
    if clusters:
        sparsity.prune_weights(model, 0.5)
        model = clustering.cluster_weights(
            model, clusters, preserve_sparsity=True, cluster_per_channel=of == "channel"
        )
        model = clustering.strip_clustering(model)
    annotated = quantization.quantize_annotate_model(model)
    model = quantization.quantize_apply(annotated, SCHEMES[kept]())
    train(model, x, y, batches, 64)
    plain = quantization.strip_quantization(model)
    convolutions = [one for one in plain.layers if isinstance(one, keras.layers.Conv2D)]
    most = max(
        len(np.unique(channel))
        for one in convolutions
        for channel in np.moveaxis(one.get_weights()[0], -1, 0)
    )
    with tempfile.TemporaryDirectory() as place:
        done = iplt.export(model, pathlib.Path(place) / "model.tflite", data=test[:64], verbose=0)
    right = share_right(model, test, labels)
    return right, sparsity.measure(plain).sparsity, most, done.gzip


def integers(folder, batches):
    rows = []
    several = [(16, "kernel", kept) for kept in SCHEMES]
    for clusters, of, kept in (
        (None, "", "default"),
        *several,
        (16, "channel", "zeros and clusters"),
    ):
        right, zeros, most, size = measure_integers(folder, clusters, of, kept, batches)
        cells = clusters or "", of, kept, f"{zeros:.0%}", most, f"{right:.2%}", f"{size / 1e3:,.0f}"
        rows.append([*map(str, cells)])
        print(rows[-1], flush=True)
    heads = "clusters", "in each", "kept", "zeros", "values in a channel", "right", "kB after gzip"
    table([*heads], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, metavar="DIR", required=True)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--integers", action="store_true")
    arguments = parser.parse_args()
    if arguments.integers:
        integers(arguments.data, arguments.batches)
        return
    rows = []
    for clusters, zeros in ((None, 0), (16, 0), (32, 0), (None, 0.5), (16, 0.5)):
        for batches in (0, arguments.batches):
            right, found, size = measure(arguments.data, clusters, zeros, batches)
            cells = clusters or "", f"{found:.0%}", batches, f"{right:.2%}"
            rows.append([*map(str, cells), f"{size.gzip / 1e3:,.0f}"])
            print(rows[-1], size.file, flush=True)
    table(["clusters", "zeros", "batches", "right", "kB after gzip"], rows)


if __name__ == "__main__":
    main()
