"""Does pruning pay in a short training? CPU seconds of a whole fit, per way to carry steps out.

    python benchmarks/short_fits.py
    python benchmarks/short_fits.py --data cifar10.npz --take 2500

Each fit runs in a process of its own, one after the other. On scikit-learn's digits, or on the
images of an .npz file (`x` and `y`, or `x_train` and `y_train`) with a small VGG.
"""

import argparse
import json
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

WAYS = ("dense", "shrink", "mask")


def digits():
    from keras import layers
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    body = [
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(), layers.Flatten(), layers.Dense(128, activation="relu"),
    ]  # fmt: skip
    return (x.reshape(-1, 8, 8, 1) / 16).astype("float32"), y, body


def images(path, take):
    import numpy as np
    from keras import layers

    with np.load(path) as file:
        names = ("x_train", "y_train") if "x_train" in file.files else ("x", "y")
        x, y = (file[name][:take] for name in names)
    body = []
    for width in (16, 16, None, 32, 32, None, 64, 64, 64, None, 64, 64, 64):
        if width is None:
            body.append(layers.MaxPooling2D())
        else:
            conv = layers.Conv2D(width, 3, padding="same", use_bias=False)
            body += [conv, layers.BatchNormalization(), layers.ReLU()]
    return x.astype("float32") / 255, y.ravel(), [*body, layers.GlobalAveragePooling2D()]


def fit(way, seed, data, take):
    """CPU seconds, accuracy on the last fifth of the examples, and parameters left."""
    import keras

    import keras_iplt as iplt

    keras.utils.set_random_seed(seed)
    x, y, body = digits() if data is None else images(data, take)
    head = keras.layers.Dense(int(y.max()) + 1)
    model = keras.Sequential([keras.Input(x.shape[1:]), *body, head])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    ours = []
    if way != "dense":
        ours = [iplt.IPLTCallback(0.6, 0.1, scope="layer", mode=way, verbose=0)]
    train = len(x) * 4 // 5
    before = os.times()
    history = model.fit(
        x[:train], y[:train], validation_data=(x[train:], y[train:]), epochs=14, batch_size=32,
        verbose=0, callbacks=ours,
    ).history  # fmt: skip
    after = os.times()
    seconds = after.user + after.system - before.user - before.system
    return seconds, history["val_accuracy"][-1], model.count_params()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data")
    parser.add_argument("--take", type=int, default=2500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, seed = options.one
        print(json.dumps(fit(way, int(seed), options.data, options.take)))
        return
    given = [] if options.data is None else ["--data", options.data, "--take", str(options.take)]
    for seed in range(options.seeds):
        for way in WAYS:
            command = [sys.executable, __file__, *given, "--one", way, str(seed)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            seconds, accuracy, params = json.loads(done.stdout.splitlines()[-1])
            print(f"seed {seed}  {way:7}  {seconds:6.1f} s  {accuracy:.3f}  {params:,}", flush=True)


if __name__ == "__main__":
    main()
