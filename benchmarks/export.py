"""What exporting costs, and what comes out: seconds, bytes, differences and latencies.

Four networks of `keras.applications` (VGG16 for images of 32 × 32 and 10 classes, the others as
they come, all without the softmax) are written in every format and precision, and with half of the
filters of every layer removed once more. Weights are random, batch norms included: as Keras
initialises them, outputs hardly depend on the input, and comparing them would show nothing.

    pip install 'keras-iplt[onnx]'
    python benchmarks/export.py --json export.json

Each export runs in a fresh process without a GPU. TFLite and onnxruntime compute on one thread,
SavedModel and Keras on as many as there are. "export" is wall time, the checks and the timing of
the result included; "int8" measures ranges on 20 random examples. Without tf2onnx or onnxruntime
the rows of ONNX stay empty; so does one that takes longer than `--limit` seconds. What is in the
JSON file already is kept and not measured again.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from markdown_tables import table

NETWORKS = {"VGG16": 32, "MobileNet": 224, "ResNet50": 224, "InceptionV3": 299}
KINDS = ("tflite float32", "tflite float16", "tflite dynamic", "tflite int8", "onnx", "saved_model",
         "keras")  # fmt: skip
HERE = pathlib.Path(__file__).resolve().parent


# -- one export, in a process of its own --


def measure(name, kind, pruned):
    """The figures of one export."""
    import keras
    import numpy as np

    sys.path.append(str(HERE.parent / "tests"))
    from support.law import randomize

    import keras_iplt as iplt

    keras.utils.set_random_seed(0)
    size = NETWORKS[name]
    options = dict(input_shape=(32, 32, 3), classes=10) if size == 32 else {}
    network = getattr(keras.applications, name)
    model = network(weights=None, classifier_activation=None, **options)
    randomize(model)
    if pruned:
        model = iplt.prune(model, ratio=0.5, scope="layer")
    data = np.random.default_rng(0).normal(size=(20, size, size, 3)).astype("float32")
    format, _, precision = kind.partition(" ")
    ending = {"tflite": ".tflite", "onnx": ".onnx", "keras": ".keras", "saved_model": ""}[format]
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, f"model{ending}")
        begin = time.perf_counter()
        done = iplt.export(model, path, precision=precision or "float32", data=data)
        seconds = time.perf_counter() - begin
    return {**done.to_dict(), "seconds": seconds, "params": model.count_params()}


# -- all of them --


def run(arguments, limit):
    """The figures that a fresh process prints as JSON on its last line, or the reason why not."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    paths = str(HERE.parent), environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    try:
        process = subprocess.run(
            [sys.executable, __file__, "--measure", *arguments],
            env=environment, capture_output=True, text=True, timeout=limit,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"error": f"longer than {limit:g} s"}
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [f"exit {process.returncode}"]
        return {"error": lines[-1][:200]}
    return json.loads(process.stdout.splitlines()[-1])


def report(found):
    """A table in Markdown."""
    head = ["network", "written as", "export, s", "MB", "MB after gzip", "outputs differ by"]
    head += ["latency, ms", "half the filters: MB", "differ by", "latency, ms", "of whole"]
    rows = []
    for name in NETWORKS:
        for kind in KINDS:
            whole, half = (found.get(f"{name} {kind}{tag}") for tag in ("", " pruned"))
            if whole is None:
                continue
            cells = [name, kind, *_cells(whole)]
            if half and "error" not in half:
                cells += [_cells(half)[i] for i in (1, 3, 4)]
                if "error" not in whole:
                    cells.append(f"{half['latency'] / whole['latency']:.2f}")
            rows.append(cells + [""] * (len(head) - len(cells)))
    table(head, rows)
    for runtime in sorted({row["runtime"] for row in found.values() if "runtime" in row}):
        print(f"\nRan in {runtime}.", end="")
    print()


def _cells(row):
    if "error" in row:
        return [row["error"].replace("|", "/")]
    return [f"{row['seconds']:.1f}", f"{row['size'] / 1e6:.2f}", f"{row['gzip'] / 1e6:.2f}",
            f"{row['difference']:.1e}", f"{1e3 * row['latency']:.2f}"]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--whole", action="store_true", help="nothing pruned")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="all figures, too")
    parser.add_argument("--limit", type=float, default=180, help="seconds for one export")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, kind, *pruned = arguments.measure
        print(json.dumps(measure(name, kind, bool(pruned))))
        return
    file = arguments.json
    found = json.loads(file.read_text()) if file and file.exists() else {}
    for name in arguments.only:
        for kind in arguments.kinds:
            for tag in ("",) if arguments.whole else ("", "pruned"):
                key = f"{name} {kind} {tag}".strip()
                if key not in found:
                    print(key, file=sys.stderr)
                    found[key] = run([name, kind, *tag.split()], arguments.limit)
                    if file:
                        file.write_text(json.dumps(found, indent=1))
    report(found)


if __name__ == "__main__":
    main()
