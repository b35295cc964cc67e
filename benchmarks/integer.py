"""What int8 after training costs, and what calibration and some layers in float give back.

    python benchmarks/integer.py --data DIR

DIR holds `cifar10_20k.npz`, `cifar10_resnet20.keras` and `mobilenet_v1_0.25.weights.h5`, as for
`accuracy.py`, the latter with the layer that tells ImageNet's 1,000 classes. Ranges are measured on
100 training images and layers ranked on 32 of them. Then 1,000 test images (for MobileNet enlarged
to 96 × 96) tell how often the largest output is that of the Keras model, and for ResNet-20, how
often it is right. Files are timed by turns, on one thread.
"""

import argparse
import pathlib
import tempfile

import keras
import numpy as np
from markdown_tables import table

import keras_iplt as iplt
from keras_iplt.exporting import tflite_runtime, timed

KEPT = (0, 1, 2, 3, 5, 8)


def mobilenet(folder, images):
    model = keras.applications.MobileNet(
        alpha=0.25, input_shape=(96, 96, 3), weights=None, classifier_activation=None
    )
    model.load_weights(folder / "mobilenet_v1_0.25.weights.h5")
    return model, np.array(keras.ops.image.resize(images / np.float32(127.5) - 1, (96, 96)))


def resnet20(folder, images):
    model = keras.models.load_model(folder / "cifar10_resnet20.keras", compile=False)
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return model, (images / np.float32(255) - mean) / deviation


def measure(name, build, folder):
    data = np.load(folder / "cifar10_20k.npz")
    images = np.concatenate([data["x_train"][:100], data["x_test"][:1000]])
    labels = data["y_test"][:1000].reshape(-1)
    model, x = build(folder, images)
    x, test = x[:100], x[100:]
    expected = model.predict(test, verbose=0).argmax(1)
    errors = iplt.quantization_errors(model, x)
    print(f"\n{name}\n{errors}")
    worst = [one.layer for one in errors.operations]
    ways = {"float32": {"precision": "float32"}, "dynamic": {"precision": "dynamic"},
            "int16x8": {"precision": "int16x8"}}  # fmt: skip
    ways |= {f"int8, {k} in float": {"precision": "int8", "keep_float": worst[:k]} for k in KEPT}
    quantized = iplt.quantization.quantize_model(model)
    iplt.quantization.calibrate(quantized, x)
    ways["int8, calibrated"] = {}
    rows, runtimes = [], []
    with tempfile.TemporaryDirectory() as directory:
        for way, options in ways.items():
            path = pathlib.Path(directory, f"{len(rows)}.tflite")
            one = model if options else quantized
            done = iplt.export(one, path, data=x, tolerance=10, **options)
            runtimes.append(tflite_runtime(path.read_bytes()))
            found = np.array([runtimes[-1]([image[None]])[0][0] for image in test]).argmax(1)
            right = f"{(found == labels).mean():.1%}" if name == "ResNet-20" else ""
            agrees = f"{(found == expected).mean():.1%}"
            rows.append([name, way, agrees, right, f"{done.size / 1e3:,.0f}"])
        for row, seconds in zip(rows, timed(runtimes, [x[:1]]), strict=True):
            row.append(f"{1e3 * seconds:.3f}")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, metavar="DIR", required=True)
    folder = parser.parse_args().data
    networks = {"MobileNet 0.25": mobilenet, "ResNet-20": resnet20}
    rows = [row for name, build in networks.items() for row in measure(name, build, folder)]
    print()
    table(["network", "written as", "as in Keras", "right", "kB", "ms"], rows)


if __name__ == "__main__":
    main()
