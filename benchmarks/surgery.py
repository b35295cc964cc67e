"""What tracing, planning, rewriting and shrinking cost: seconds of CPU, and memory.

Four networks of `keras.applications` (1000 classes, default sizes, random weights) lose half of the
filters of every layer but the classifier. Beside them stand two yardsticks, measured in the same
run and by turns, each measurement in a fresh process:

- Torch-Pruning does the same to the same architectures (`peer_torch_pruning.py`);
- `keras.models.clone_model` makes the same model again, whole: the floor for a new model.

    pip install torch==2.13.0 torch-pruning     # in an environment of its own, if you like
    python benchmarks/surgery.py --torch-python ../torch/bin/python

Every process runs in one thread on one core, without a GPU. The network has first done one forward
pass. Seconds are CPU seconds of the whole process; every figure is the median of `--repeats`.

The peer's pruner builds a graph of its own, so "pruner alone" is what its users wait for; it ranks
nothing yet, while our plan is final. On TensorFlow the first variable of every name and shape costs
about a millisecond. A smaller model has new shapes and pays that, a clone does not: "rewrite again"
is a second rewrite in the same process, as a clone meets it.

Memory is how far the jobs raised the peak of resident memory, divided by the bytes of the network's
weights. There are two figures:

- "over the peak": from the highest that the process had reached by then, as for the peer. Memory
  that was freed before and is used again is not counted.
- "over what was in use": from what was resident when the jobs began, after freed memory was given
  back to the system as far as it goes. Linux only.

`KERAS_BACKEND=jax` measures on JAX instead of TensorFlow. Without Torch-Pruning its columns stay
empty.
"""

import argparse
import ctypes
import gc
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import markdown_tables

NETWORKS = ("ResNet50", "VGG16", "MobileNet", "InceptionV3")
HERE = pathlib.Path(__file__).resolve().parent
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


# -- one measurement, in a process of its own --


def network(name):
    """A network that has done one forward pass."""
    import keras
    import numpy as np

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    model = getattr(keras.applications, name)(weights=None)
    model(np.zeros((1, *model.input_shape[1:]), "float32"), training=False)
    return model


def ours(model):
    """The jobs that keras_iplt does, in order."""
    import keras_iplt as iplt

    done = {}

    def trace():
        done["graph"] = iplt.trace(model)

    def plan():
        done["plan"] = iplt.plan(done["graph"], ratio=0.5, criterion="l2", scope="layer")

    def rewrite():
        done["small"] = None
        done["small"] = iplt.rewrite(model, done["plan"])

    return {"trace": trace, "plan": plan, "rewrite": rewrite, "again": rewrite}


def in_place(model):
    """The same, but the model itself becomes smaller."""
    import keras_iplt as iplt

    done = {}

    def trace():
        done["graph"] = iplt.trace(model)

    def plan():
        done["plan"] = iplt.plan(done["graph"], ratio=0.5, criterion="l2", scope="layer")

    def shrink():
        iplt.shrink(model, done["plan"])

    return {"trace": trace, "plan": plan, "shrink": shrink}


def clone(model):
    """What Keras does to make the same model again."""
    import keras

    return {"clone": lambda: keras.models.clone_model(model)}


def measure(jobs_of, name):
    """CPU seconds of each job, and how far they raised the peak of memory, in weights."""
    import numpy as np

    model = network(name)
    weights = sum(math.prod(w.shape) * np.dtype(w.dtype).itemsize for w in model.weights)
    result = {"params": model.count_params(), "weights_mb": weights / 1e6}
    gc.collect()
    highest = peak()
    in_use = restart_peak()
    for job, function in jobs_of(model).items():
        gc.collect()
        start = time.process_time()
        function()
        result[f"{job}_s"] = time.process_time() - start
    result["over_peak"] = max(0, peak() - highest) / weights
    if in_use is not None:
        result["over_in_use"] = (peak() - in_use) / weights
    return result


def peak():
    """Highest resident memory of this process (since it was restarted), in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def restart_peak():
    """Gives freed memory back and makes Linux count the peak anew.

    Returns what is in use now, or None on other systems."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError):
        return None
    return peak()


# -- all of them, by turns --


def run(python, *arguments):
    """The figures that a fresh process prints as JSON on its last line, or None."""
    process = subprocess.run(
        [python, *map(str, arguments)],
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": _search_path()},
        capture_output=True,
        text=True,
    )
    if process.returncode:
        print(f"{' '.join(map(str, arguments))}: {process.stderr.strip()[-2000:]}", file=sys.stderr)
        return None
    return json.loads(process.stdout.splitlines()[-1])


def _search_path():
    """This checkout before everything else."""
    return os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))


def compare(networks, repeats, torch_python):
    """{(who, network): figures}, medians over all repeats."""
    found = {}
    for turn in range(repeats):
        for name in networks:
            for who, command in {
                "ours": (sys.executable, __file__, "--measure", "ours", "--only", name),
                "in place": (sys.executable, __file__, "--measure", "in place", "--only", name),
                "clone": (sys.executable, __file__, "--measure", "clone", "--only", name),
                "peer": (torch_python, HERE / "peer_torch_pruning.py", name),
            }.items():
                print(f"{turn + 1}/{repeats} {name} {who}", file=sys.stderr)
                figures = run(*command)
                if figures is not None:
                    found.setdefault((who, name), []).append(figures)
    return {key: _medians(rows) for key, rows in found.items()}


def _medians(rows):
    return {
        key: value if isinstance(value, str) else statistics.median(row[key] for row in rows)
        for key, value in rows[0].items()
    }


# -- tables --


def report(networks, found):
    """Four tables in Markdown."""
    rows = [
        (name, *(found.get((who, name), {}) for who in ("ours", "clone", "peer")))
        for name in networks
    ]
    for peer in (peer for _, _, _, peer in rows if peer):
        peer["memory"] = peer["extra_peak_mb"] / peer["weights_mb"]
    print("Reading and planning, CPU seconds (goal: less than the peer)\n")
    table(
        ["network", "trace", "plan", "trace + plan", "peer: graph", "peer: pruner",
         "ratio to graph + pruner", "ratio to pruner alone"],
        [
            (name, our("trace_s"), our("plan_s"), our("trace_s", "plan_s"), its("graph_s"),
             its("pruner_s"), ratio(our("trace_s", "plan_s"), its("graph_s", "pruner_s")),
             ratio(our("trace_s", "plan_s"), its("pruner_s")))
            for name, our, its in ((n, _sum_of(a), _sum_of(c)) for n, a, _, c in rows)
        ],
    )  # fmt: skip
    print("\nMaking the smaller model, CPU seconds (goal: at most 1.5 × clone_model)\n")
    table(
        ["network", "rewrite", "clone_model", "ratio", "rewrite again", "trace + plan + rewrite",
         "peer: pruner + step"],
        [
            (name, our("rewrite_s"), its("clone_s"), ratio(our("rewrite_s"), its("clone_s")),
             our("again_s"), our("trace_s", "plan_s", "rewrite_s"), peer("total_s"))
            for name, our, its, peer in (
                (n, _sum_of(a), _sum_of(b), _sum_of(c)) for n, a, b, c in rows
            )
        ],
    )  # fmt: skip
    print("\nMaking this very model smaller, CPU seconds (goal: at most the peer's)\n")
    table(
        ["network", "shrink", "trace + plan + shrink", "peer: graph + pruner + step", "ratio",
         "peer: pruner + step", "ratio"],
        [
            (name, our("shrink_s"), our("trace_s", "plan_s", "shrink_s"),
             its("graph_s", "total_s"),
             ratio(our("trace_s", "plan_s", "shrink_s"), its("graph_s", "total_s")),
             its("total_s"), ratio(our("trace_s", "plan_s", "shrink_s"), its("total_s")))
            for name, our, its in (
                (name, _sum_of(found.get(("in place", name), {})), _sum_of(peer))
                for name, _, _, peer in rows
            )
        ],
    )  # fmt: skip
    print("\nMemory on top, in weights of the network (goal: at most 1.5)\n")
    table(
        ["network", "weights, MB", "over what was in use: trace to rewrite", "clone_model",
         "over the peak: trace to rewrite", "clone_model", "peer"],
        [
            (name, our("weights_mb"), our("over_in_use"), its("over_in_use"), our("over_peak"),
             its("over_peak"), peer("memory"))
            for name, our, its, peer in (
                (n, _sum_of(a), _sum_of(b), _sum_of(c)) for n, a, b, c in rows
            )
        ],
    )  # fmt: skip


def _sum_of(figures):
    """A function that adds up some of the figures, None where one is missing."""
    return lambda *keys: sum(figures[k] for k in keys) if figures.keys() >= set(keys) else None


def ratio(a, b):
    return None if None in (a, b) or not b else a / b


def table(head, rows):
    markdown_tables.table(head, rows, shown)


def shown(value):
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--torch-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="all figures, too")
    parser.add_argument("--measure", choices=("ours", "in place", "clone"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        jobs = {"ours": ours, "in place": in_place, "clone": clone}[arguments.measure]
        print(json.dumps(measure(jobs, arguments.only[0])))
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # child processes inherit it
    found = compare(arguments.only, arguments.repeats, arguments.torch_python)
    report(arguments.only, found)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({f"{who} {name}": row for (who, name), row in found.items()}, indent=1)
        )


if __name__ == "__main__":
    main()
