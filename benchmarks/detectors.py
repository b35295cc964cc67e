"""Does the speed-up arrive in detectors? SSD, Faster R-CNN and YOLOX-Nano, half of them gone.

    python benchmarks/detectors.py
    python benchmarks/detectors.py --only yolox --yolox yolox_nano.onnx

SSD and Faster R-CNN stand on MobileNet for images of 224 × 224, of 20 classes, YOLOX-Nano takes 416
× 416 and knows 80. Each loses half of its filters, or half of its FLOPs, the same share in every
layer, as widths come or rounded to what the processor computes at once. The .tflite with boxes as
outputs runs beside the whole detector's by turns, on one thread; "masked off rewritten" is the law.
Nothing is trained: how good boxes are is not the question here.

`--yolox` is the file that YOLOX publishes. The model gets its weights, and what it says of random
images is held against what the file says in onnxruntime.
"""

import argparse
import pathlib
import tempfile

import keras
import numpy as np
from keras_iplt_recipes import detection, zoo
from keras_iplt_recipes.detection.matching import VARIANCE
from markdown_tables import table

import keras_iplt as iplt
from keras_iplt.exporting import tflite_runtime, timed

PLANS = {
    "filters": dict(),
    "FLOPs": dict(of="flops"),
    "FLOPs, rounded": dict(of="flops", round_to="auto"),
}
DETECTORS = {
    "ssd": lambda file: detection.ssd(zoo.mobilenet(20, (224, 224, 3), hidden=None), 20),
    "faster_rcnn": lambda file: detection.faster_rcnn(
        zoo.mobilenet(20, (224, 224, 3), hidden=None), 20
    ),
    "yolox": lambda file: detection.yolox(weights=file),
}


def difference(a, b):
    """The largest, relative to the largest value."""
    return float(np.abs(a - b).max() / np.abs(a).max())


def beside_the_file(model, path, images):
    """How far the model is off what an ONNX file says."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (x.name for x in session.get_inputs())
    theirs = [session.run(None, {name: x[None].transpose(0, 3, 1, 2)})[0] for x in images]
    said = model.predict(images, verbose=0)[..., 4:]
    sure = 1 / (1 + np.exp(-said[..., 4:]))
    return difference(
        np.concatenate(theirs), np.concatenate([said[..., :4] * VARIANCE, sure], axis=-1)
    )


def runtime(model, images, directory):
    """The model with boxes as outputs, as .tflite."""
    path = pathlib.Path(directory) / "model.tflite"
    done = iplt.export(detection.with_boxes(model), path, data=images, verbose=0)
    print(f"  off by {done.difference:.1e} as .tflite of {done.size:,} bytes", flush=True)
    return tflite_runtime(path.read_bytes(), 1)


def measure(name, model, images, seconds):
    """A row for each plan."""
    whole = iplt.profile(model)
    print(f"{name}: {whole.params:,} parameters, {whole.flops / 1e6:,.0f} M FLOPs")
    masked = keras.models.clone_model(model)
    with tempfile.TemporaryDirectory() as directory:
        dense = runtime(model, images, directory)
        for way, options in PLANS.items():
            plan = iplt.plan(model, 0.5, scope="layer", verbose=0, **options)
            small = iplt.rewrite(model, plan, verbose=0)
            masked.set_weights(model.get_weights())
            iplt.mask(masked, plan)
            said = [m.predict(images, verbose=0)[..., 4:] for m in (masked, small)]
            flops = iplt.profile(small).flops / whole.flops
            before, after = timed([dense, runtime(small, images, directory)], [images[:1]], seconds)
            yield {
                "detector": name,
                "half of": way,
                "filters gone": plan.fpr,
                "parameters gone": plan.ppr,
                "masked off rewritten": difference(*said),
                "FLOPs left": flops,
                "latency left": after / before,
                "latency / FLOPs": after / before / flops,
                "whole, ms": 1e3 * before,
            }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--yolox", type=pathlib.Path, help="an ONNX file of YOLOX-Nano")
    parser.add_argument("--seconds", type=float, default=3, help="to run each network for")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    rows = []
    for name in options.only:
        model = DETECTORS[name](options.yolox)
        largest = 255 if name == "yolox" else 1
        shape = (4, *model.input_shape[1:])
        images = np.random.default_rng(0).uniform(0, largest, shape).astype("float32")
        if name != "yolox" or not options.yolox:
            iplt.recalibrate(model, images, verbose=0)  # fresh networks hardly react to images
        else:
            off = beside_the_file(model, options.yolox, images)
            print(f"off {options.yolox.name} in onnxruntime by {off:.1e}")
        rows += measure(name, model, images, options.seconds)
    print()
    cells = [row.values() for row in rows]
    table([*rows[0]], cells, lambda x: x if isinstance(x, str) else f"{x:.3g}")


if __name__ == "__main__":
    main()
