"""Clustered weights: what they cost in accuracy, and what they save in compressed files.

    python benchmarks/clustering.py --data DIR

DIR holds `cifar10_20k.npz` and `cifar10_resnet20.keras`, as for `accuracy.py`. ResNet-20 is
clustered as it is, or after half of its weights have been set to zero; then trained for `--batches`
batches of 128 images by Adam, or not at all; then stripped and tested on 2,000 images. Bytes are
those of the weight file after gzip.
"""

import argparse
import pathlib

import keras
import numpy as np
from markdown_tables import table

from keras_iplt import clustering, sparsity


def measure(folder, clusters, zeros, batches):
    keras.utils.set_random_seed(0)
    data = np.load(folder / "cifar10_20k.npz")
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    x, test = (
        (data[name] / np.float32(255) - mean) / deviation
        for name in ("x_train", "x_test")
    )  # fmt: skip
    y, labels = (data[name].reshape(-1) for name in ("y_train", "y_test"))
    model = keras.models.load_model(folder / "cifar10_resnet20.keras", compile=False)
    if zeros:
        sparsity.prune_weights(model, zeros)
    if clusters:
        model = clustering.cluster_weights(model, clusters, preserve_sparsity=bool(zeros))
    if batches:
        flips = np.random.default_rng(0).random(len(x)) < 0.5
        x[flips] = x[flips, :, ::-1]
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-4), loss, jit_compile=False)
        count = 128 * batches
        model.fit(x[:count], y[:count], batch_size=128, verbose=0)
    model = clustering.strip_clustering(model)
    right = (
        model.predict(test[:2000], batch_size=250, verbose=0).argmax(1) == labels[:2000]
    ).mean()
    return right, sparsity.measure(model).sparsity, sparsity.compressed_size(model)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, metavar="DIR", required=True)
    parser.add_argument("--batches", type=int, default=60)
    arguments = parser.parse_args()
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
