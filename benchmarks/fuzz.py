"""The law on thousands of random graphs: masked equals rewritten, at random uneven plans.

    python benchmarks/fuzz.py --graphs 5000 --seed 0

draws graphs as `tests/support/random_graphs.py` does, prunes each by a random plan and compares
all its tensors. Graph number i is the same in every run of one seed. At the end stands what was
tried:

    graphs      how many were drawn, and how many of them had nothing to prune
    groups      groups of coupled channels, and filters in them and frozen
    removed     share of the prunable filters that went, and how graphs spread over these shares
    difference  the largest of any tensor of any graph, relative to its largest number
    rounding    differences above the tolerance that vanish in float64: not counted as failures

A failure prints its recipe; the command leaves with 1 if there was one. To see one again:

    python benchmarks/fuzz.py --recipe '[[[0, 4, 3]], [["convolve", 0, 4, 1]], 0, 7]'
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import sys
import time
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

import keras
import numpy as np
from support.law import check_law, double_precision, random_inputs, random_plan
from support.random_graphs import build, load, sample

from keras_iplt.graph.trace import trace

PROGRESS = 100  # graphs between two lines


def check(recipe):
    """What came of one graph, as a dict; None where there is nothing to prune."""
    model = build(recipe)
    graph = trace(model)
    if not graph.groups:
        return None
    plan = random_plan(graph, recipe.seed)
    worst, plan, _ = check_law(model, recipe.seed, plan)
    return {
        "groups": len(graph.groups),
        "filters": sum(int(group.filters.sum()) for group in graph.groups),
        "frozen": sum(one.channels for one in graph.frozen),
        "channels": sum(len(gone) for gone in plan.removed),
        "fpr": plan.fpr,
        "difference": worst,
    }


def outcome(recipe):
    """`(result, problem)`: "rounding", "keras", or the text of a failure, else None.

    "keras": it cannot run the graph itself, as it takes a shape to be another than it is."""
    try:
        return check(recipe), None
    except Exception as error:
        found = "".join(traceback.format_exception(error))
    if "masked and rewritten differ" in found and keras.backend.backend() != "jax":
        with contextlib.suppress(Exception), double_precision():
            return check(recipe), "rounding"
    return None, found if runs(recipe) else "keras"


def runs(recipe):
    """Whether the unpruned model can be computed at all."""
    model = build(recipe)
    inputs = random_inputs(model)
    try:
        model(inputs if len(inputs) > 1 else inputs[0])
    except Exception:  # whatever a graph that Keras cannot run raises
        return False
    return True


def replay(text):
    recipe = load(json.loads(text))
    print(recipe)
    model = build(recipe)
    model.summary(expand_nested=True)
    print(trace(model))
    _, problem = outcome(recipe)
    print(problem or "masked equals rewritten")
    return int(problem not in (None, "rounding", "keras"))


def run(count, seed):
    start, results, empty = time.perf_counter(), [], 0
    rounding, broken, failures = [], [], []
    for number in range(count):
        recipe = sample(random.Random(f"{seed} {number}"))
        result, problem = outcome(recipe)
        if problem == "rounding":
            rounding.append(number)
        elif problem == "keras":
            broken.append(number)
        elif problem is not None:
            failures.append(number)
            print(f"\ngraph {number} fails: {problem}\n{json.dumps(recipe)}\n", flush=True)
        elif result is None:
            empty += 1
        else:
            results.append(result)
        if number % PROGRESS == PROGRESS - 1:
            keras.utils.clear_session()  # or names and memory grow for ever
            seconds = time.perf_counter() - start
            print(f"{number + 1} graphs, {seconds:.0f} s, {len(failures)} failures", flush=True)
    print(f"not run     {len(broken)} graphs that Keras itself cannot run {broken or ''}")
    report(results, count, empty, rounding, failures, time.perf_counter() - start)
    return int(bool(failures) or not results)


def report(results, count, empty, rounding, failures, seconds):
    def column(name):
        return np.array([result[name] for result in results] or [0])

    print(f"graphs      {count}, of which {empty} have nothing to prune")
    print(
        f"groups      {column('groups').sum()}, {column('groups').mean():.1f} per graph; "
        f"{column('filters').sum()} filters to prune and {column('frozen').sum()} frozen"
    )
    edges = [0, 1e-9, 0.1, 0.2, 0.3, 0.4, 0.5, 1]
    spread, _ = np.histogram(column("fpr"), edges)
    labels = ["none", "to 10 %", "20 %", "30 %", "40 %", "50 %", "above"]
    print(
        f"removed     {column('channels').sum()} channels, {column('fpr').mean():.1%} of the "
        "filters; graphs: "
        + ", ".join(f"{label} {n}" for label, n in zip(labels, spread, strict=True))
    )
    print(f"difference  {column('difference').max():.1e}")
    print(f"rounding    {len(rounding)} graphs {rounding or ''}")
    print(f"seconds     {seconds:.0f}, {seconds / count:.2f} per graph")
    print(f"failures    {len(failures)} {failures or ''}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--graphs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", help="check this one recipe, as printed for a failure")
    chosen = parser.parse_args()
    return replay(chosen.recipe) if chosen.recipe else run(chosen.graphs, chosen.seed)


if __name__ == "__main__":
    sys.exit(main())
