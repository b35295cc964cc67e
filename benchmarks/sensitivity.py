"""Sensitivity analysis beside the loop that one would write: same figures, less time.

MobileNetV1 0.75 with weights trained on ImageNet looks at images of CIFAR-10, enlarged. What it
recognised before anything is removed counts as right, so that accuracy is agreement with itself.
The loop prunes a copy for each layer and ratio and evaluates it.

    python benchmarks/sensitivity.py --weights mobilenet_v1_0.75_224.weights.h5 \\
        --data cifar10_20k.npz --size 128 --images 128 --ratios 0.25 0.5 0.75

`--data` is an .npz file with images `x_test`. Both run in one process, one after the other, by
`--rounds` turns; the first trace of the loop is not counted for it.
"""

import argparse
import time

import keras
import numpy as np

import keras_iplt as iplt


def network(options):
    model = keras.applications.MobileNet((options.size, options.size, 3), 0.75, weights=None)
    model.load_weights(options.weights)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def images(options, model):
    with np.load(options.data) as content:
        x = content["x_test"][: options.images]
    x = keras.ops.image.resize(x.astype("float32"), (options.size, options.size))
    x = keras.ops.convert_to_numpy(x) / 127.5 - 1
    return x, model.predict(x, verbose=0).argmax(axis=1)


def by_hand(model, data, layers, ratios):
    """What the loop finds: loss and accuracy, arrays `(layers, ratios)`."""
    found = np.zeros((2, len(layers), len(ratios)))
    for i, layer in enumerate(layers):
        for j, ratio in enumerate(ratios):
            small = iplt.prune(model, 0, per_layer={layer: ratio})
            values = small.evaluate(*data, verbose=0, return_dict=True)
            found[:, i, j] = values["loss"], values["accuracy"]
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.25, 0.5, 0.75])
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    model = network(options)
    data = images(options, model)
    iplt.prune(model, 0.5).evaluate(*data, verbose=0)  # warms up
    seconds = []
    for _ in range(options.rounds):
        begin = time.perf_counter(), time.process_time()
        found = iplt.sensitivity(model, data, options.ratios, verbose=0)
        middle = time.perf_counter(), time.process_time()
        loop = by_hand(model, data, found.layers, options.ratios)
        end = time.perf_counter(), time.process_time()
        seconds.append([*np.subtract(middle, begin), *np.subtract(end, middle)])
    ours = np.array([found.values["loss"], found.values["accuracy"]])
    wall, cpu, loop_wall, loop_cpu = np.median(seconds, axis=0)
    print(found)
    print(
        f"\n{len(found.layers)} layers, {len(options.ratios)} ratios, {options.images} images of "
        f"{options.size} × {options.size}\n"
        f"sensitivity: {wall:.1f} s ({cpu:.1f} s of CPU); the loop: {loop_wall:.1f} s "
        f"({loop_cpu:.1f} s of CPU)\n"
        f"the loop takes {loop_wall / wall:.1f} times as long ({loop_cpu / cpu:.1f} of CPU)\n"
        f"largest difference: loss {np.abs(ours - loop)[0].max():.1e}, "
        f"accuracy {np.abs(ours - loop)[1].max():.1e}"
    )


if __name__ == "__main__":
    main()
