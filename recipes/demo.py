"""Pruning in a minute: a small CNN on scikit-learn's handwritten digits, before and after.

    python -m recipes.demo [--ratio 0.6] [--epochs 15] [--seed 0]

Trains a network of three convolutions, removes a share of its filters, trains what is left for a
few epochs, and prints both side by side. The smaller model is written to saved_models/demo/.
About half a minute on two cores, no network needed.
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


def compile_for_digits(model, rate):
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def run(ratio, epochs, seed, folder):
    """Trains, prunes, trains on; returns what came of it."""
    keras.utils.set_random_seed(seed)
    (x, y), test = digits()
    model = network()
    compile_for_digits(model, 2e-3)
    print(f"training {model.count_params():,} parameters for {epochs} epochs …")
    start = time.perf_counter()
    model.fit(x, y, epochs=epochs, batch_size=64, verbose=0)
    trained = time.perf_counter() - start

    graph = iplt.trace(model)
    print(f"\nwhat hangs together:\n{graph}\n")
    plan = iplt.plan(graph, ratio, scope="layer")
    small = iplt.rewrite(model, plan)
    masked = keras.models.clone_model(model)
    masked.set_weights(model.get_weights())
    iplt.mask(masked, plan)
    gap = np.abs(masked.predict(x[:64], verbose=0) - small.predict(x[:64], verbose=0)).max()
    at_once = evaluate(small, test)

    compile_for_digits(small, 1e-3)
    small.fit(x, y, epochs=max(1, epochs // 2), batch_size=64, verbose=0)
    folder.mkdir(parents=True, exist_ok=True)
    small.save(folder / "digits.keras")
    (folder / "plan.json").write_text(plan.to_json())
    result = {
        "accuracy": evaluate(model, test),
        "accuracy_pruned": at_once,
        "accuracy_trained_on": evaluate(small, test),
        "masked_equals_rewritten_within": float(gap),
        "seconds_of_training": round(trained, 1),
    }
    (folder / "result.json").write_text(json.dumps(result, indent=2))
    print(iplt.compare(model, small))
    print(
        f"\naccuracy on {len(test[1])} test digits: {result['accuracy']:.1%} before, "
        f"{at_once:.1%} just pruned, {result['accuracy_trained_on']:.1%} after training on\n"
        f"masked and rewritten outputs differ by at most {gap:.1e}\n"
        f"written to {folder}/: digits.keras, plan.json, result.json"
    )
    return result


def evaluate(model, data):
    return float(model.evaluate(*data, verbose=0, return_dict=True)["accuracy"])


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ratio", type=float, default=0.6, help="share of the filters to remove")
    parser.add_argument("--epochs", type=int, default=15, help="epochs before pruning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("saved_models/demo"))
    options = parser.parse_args(arguments)
    try:
        run(options.ratio, options.epochs, options.seed, options.out)
    except iplt.PruningError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
