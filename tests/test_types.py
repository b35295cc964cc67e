"""What a type checker says of calls from a user's side."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import keras_iplt

pytestmark = pytest.mark.slow

HOUSE = pathlib.Path(keras_iplt.__file__).parent

RIGHT = """
import keras
import numpy as np

import keras_iplt as iplt

model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
x, y = np.ones((8, 4)), np.ones((8, 2))

graph: iplt.Graph = iplt.trace(model, approximate=True)
sizes: list[int] = [group.size for group in graph.groups]
reasons: list[str] = [frozen.reason for frozen in graph.frozen]
frozen: iplt.Frozen = graph.frozen[0]

plan: iplt.Plan = iplt.plan(model, 0.5, per_layer={"dense": 0.2}, ignore=["dense_1"])
plan = iplt.plan(graph, ratio=0.5, criterion=iplt.criteria.L1(mean=True), scope="layer")
plan = iplt.plan(model, 0.5, criterion=lambda weights: np.abs(weights).max(axis=1))
shares: float = plan.fpr + plan.ppr
text: str = iplt.Plan.from_json(plan.to_json()).to_json()
kept: list[bool] = [indices is None for indices in plan.kept(model.layers[0].kernel)]

iplt.mask(model, plan)
iplt.shrink(model, plan, also=[keras.Model()])
small = iplt.rewrite(model, plan, compensate=x)
small = iplt.prune(model, ratio=0.5, of="params")

model.fit(x, y, callbacks=[iplt.IPLTCallback(target=0.7, step=0.1, every=None, mode="mask")])
model.fit(x, y, callbacks=[iplt.SparsityCallback(target={3: 0.5}, allocation="erk")])

before: iplt.Profile = iplt.profile(model, input_shape=(4,))
flops: int | None = before.flops
saved: float | None = iplt.compare(before, iplt.profile(small)).ppr
found: iplt.Sensitivity = iplt.sensitivity(model, (x, y), ratios=(0.25, 0.5), verbose=0)
ratios: dict[str, float] = found.per_layer(drop=0.02)
table: iplt.LatencyTable = iplt.latency_table(model, threads=2)
plan = iplt.plan(model, 0.5, of=table, round_to=table)
few: iplt.Plan = iplt.plan(model, params=20_000, round_to=8)
small = iplt.prune(model, size="200KB int8", scope="layer")
iplt.IPLTCallback(latency="5ms", step=0.2)
least: iplt.Smallest = iplt.smallest(model, (x, y), 0.01, train=model.fit, minutes=5, compensate=x)
shares = least.best.share + least.least
done: iplt.Guided = iplt.prune_guided(model, (x, y), (x, y), epochs=1, batch_size=8)
file: iplt.Export = iplt.export(small, "small.tflite", precision="int8", data=x)
size: int = file.size + file.gzip

zeros: float = iplt.sparsity.prune_weights(model, 0.5, layers="dense").sparsity
iplt.plots.tradeoff({"l1": [(1e6, 0.9, 0.01)]}).savefig("tradeoff.svg")
path: str = iplt.report("run.html", model, plan=plan, accuracy={"before": 0.9, "after": 0.8})


class Spread(iplt.criteria.Criterion):
    def score(self, filters: iplt.criteria.Filters) -> np.ndarray:
        return filters.weights.std(axis=1)


iplt.criteria.scores(graph, Spread(reduce="max")).argmin()


@iplt.register_rule(keras.layers.Layer, resize=lambda layer, after: {"units": 3})
def rule(flow, layer, x):
    return flow.place(flow.create(layer, layer.units), axis=-1)


try:
    iplt.plan(model)
except iplt.errors.OptionError as error:
    print(error)
"""

# A wrong call in each line.
WRONG = """
iplt.plan(3, ratio="half")
iplt.plan(model, ratoi=0.5)
iplt.plan(model, 0.5, criterion=2)
iplt.plan(model, 0.5, min_channels="1")
iplt.plan(model, 0.5).ratio
iplt.plan(model, 0.5).fpr.real.upper()
iplt.Plan.from_json(3)
iplt.mask(model)
iplt.mask(model, 0.5)
iplt.rewrite(model, "plan.json")
iplt.rewrite(model, plan, compensated=x)
iplt.shrink(plan)
iplt.prune(model, ratio=None)
iplt.trace(model, approximate="x")
iplt.trace(model, x, y)
graph.layers
graph.groups[0].channels
graph.groups[0].size.upper()
graph.frozen[0].why
iplt.profile(model).flop
iplt.profile(model).flops + 1
iplt.compare(model)
iplt.compare(model, small).percent
iplt.sensitivity(model)
iplt.sensitivity(model, (x, y), ratios=0.5)
found.per_layer(0.1).upper()
iplt.export(model)
iplt.export(model, 3)
iplt.export(model, "model.tflite", precision=8)
file.bytes
iplt.latency_table(model, threads="4")
iplt.prune_guided(model, (x, y))
iplt.prune_guided(model, (x, y), (x, y), epochs="5")
iplt.plan(model, params=[3])
iplt.prune(model, sise="200KB")
iplt.IPLTCallback(flops=None, latency=[5])
iplt.smallest(model)
iplt.smallest(model, (x, y), minutes="5")
least.best.ratio
iplt.criteria.get(3)
iplt.criteria.L2(mean="yes")
iplt.criteria.Lp(power=3)
iplt.criteria.scores("l2")
iplt.sparsity.prune_weights(model, "half")
iplt.sparsity.measure(model).share
iplt.plots.tradeoff([1, 2])
iplt.plots.groups(model).show_it()
iplt.report(model)
iplt.report("run.html", model, command=3)
iplt.register_rule("Dense")
iplt.IPLTCallback(stepp=0.1)
iplt.IPLTCallback(every="5")
iplt.SparsityCallback(verbose="no")
iplt.SparsityCallback(also=model)
iplt.prunee(model)
"""


# What each is run by, and what it says of a line.
CHECKERS = {
    # Keras has no types of its own.
    "mypy": (["--ignore-missing-imports", "--cache-dir=cache"], r"^page\.py:(\d+): error: "),
    "pyright": (["--pythonpath", sys.executable], r"page\.py:(\d+):\d+ - error: "),
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_wrong_calls_are_found_before_they_run(tmp_path, checker):
    """Each of them, at its line; and nothing in calls that are right."""
    command = shutil.which(checker)
    if command is None:
        pytest.skip(f"{checker} is not installed: pip install {checker}")
    page = tmp_path / "page.py"
    page.write_text(RIGHT + WRONG)
    first = RIGHT.count("\n") + 1
    options, said = CHECKERS[checker]
    done = subprocess.run(
        [command, *options, page.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(HOUSE.parent), "MYPYPATH": ""},
        capture_output=True,
        text=True,
    )
    errors = re.findall(said, done.stdout, re.MULTILINE)
    lines = (RIGHT + WRONG).splitlines()
    unexpected = {int(line) for line in errors if int(line) <= first}
    assert not unexpected, done.stdout
    missed = [lines[i - 1] for i in range(first + 1, len(lines) + 1) if str(i) not in errors]
    assert not missed, "\n".join(["no error in:", *missed, done.stdout, done.stderr])
