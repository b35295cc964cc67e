"""Pruning in a minute: a small CNN on scikit-learn's handwritten digits, dense and with IPLT.

    python -m recipes.demo [--ratio 0.6] [--epochs 24] [--seed 0]

Trains a network of three convolutions twice, in the same plain fit but for one callback, and
prints both side by side. The smaller model is written to saved_models/demo/. About half a minute
on two cores, no network needed.
"""

import argparse
import json
import pathlib
import time

import keras
import numpy as np
from keras import layers

import keras_iplt as iplt


def digits():
    """1,797 images of 8 × 8 pixels: `(x_train, y_train), (x_test, y_test)`."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SystemExit(
            "the demo needs scikit-learn's digits: pip install 'keras-iplt[demo]'"
        ) from error
    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 16).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1400], order[1400:]
    return (x[train], y[train]), (x[test], y[test])


def network():
    """Convolution, batch norm and ReLU, three times; a residual connection to make it harder."""

    def block(x, filters, **options):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, **options)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    image = keras.Input((8, 8, 1), name="image")
    x = block(image, 32)
    x = layers.MaxPooling2D()(layers.Add()([x, block(x, 32)]))
    x = layers.GlobalAveragePooling2D()(block(x, 64))
    return keras.Model(image, layers.Dense(10, name="digit")(x), name="digits")


def trained(epochs, seed, callbacks):
    """A network trained from the same start on the same batches, and the seconds it took."""
    keras.utils.set_random_seed(seed)
    (x, y), _ = digits()
    model = network()
    model.compile(
        keras.optimizers.Adam(2e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    start = time.perf_counter()
    model.fit(x, y, epochs=epochs, batch_size=64, verbose=0, callbacks=callbacks)
    return model, time.perf_counter() - start


def run(ratio, epochs, seed, folder):
    """Trains twice, densely and with pruning; returns what came of it."""
    print(f"what hangs together:\n{iplt.trace(network())}\n")
    print(f"training for {epochs} epochs, densely …")
    dense, dense_seconds = trained(epochs, seed, [])
    print(f"training for {epochs} epochs, IPLTCallback({ratio}) among the callbacks …")
    steps = keras.callbacks.CSVLogger(folder / "training.csv")
    callback = iplt.IPLTCallback(ratio, scope="layer")
    folder.mkdir(parents=True, exist_ok=True)
    small, small_seconds = trained(epochs, seed, [callback, steps])
    small.save(folder / "digits.keras")
    _, test = digits()
    result = {
        "accuracy_dense": evaluate(dense, test),
        "accuracy_iplt": evaluate(small, test),
        "parameters_dense": dense.count_params(),
        "parameters_iplt": small.count_params(),
        "seconds_dense": round(dense_seconds, 1),
        "seconds_iplt": round(small_seconds, 1),
    }
    (folder / "result.json").write_text(json.dumps(result, indent=2))
    print(f"\n{iplt.compare(dense, small)}")
    print(
        f"\naccuracy on {len(test[1])} test digits: {result['accuracy_dense']:.1%} dense, "
        f"{result['accuracy_iplt']:.1%} with IPLT\n"
        f"seconds of training: {dense_seconds:.1f} dense, {small_seconds:.1f} with IPLT\n"
        f"written to {folder}/: digits.keras, training.csv, result.json"
    )
    return result


def evaluate(model, data):
    return float(model.evaluate(*data, verbose=0, return_dict=True)["accuracy"])


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ratio", type=float, default=0.6, help="share of the filters to remove")
    parser.add_argument("--epochs", type=int, default=24, help="epochs of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("saved_models/demo"))
    options = parser.parse_args(arguments)
    try:
        run(options.ratio, options.epochs, options.seed, options.out)
    except iplt.PruningError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
