"""The IPLT paper: what is run for its tables."""

import argparse
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras

import keras_iplt as iplt

from ..common.command import data_settings
from ..common.grid import Case, Grid
from ..common.spread import Runs
from ..common.study import Place
from ..common.training import Workbench, at_workbench, cosine, percent

__all__ = ["HALVED", "LAYERS", "Found", "against_pmt", "cifar", "mnist", "train"]

LAYERS = [  # of VGG-16
    f"block{b}_conv{i}" for b, size in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, size + 1)
]
# What "Pruning filters for efficient ConvNets" takes from it: half of these.
HALVED = ["block1_conv1", *(f"block4_conv{i}" for i in (1, 2, 3)),
          *(f"block5_conv{i}" for i in (1, 2, 3))]  # fmt: skip

Found = dict[tuple[Any, ...], Runs]  # of a method and what it removes: a result per seed


@at_workbench
def train(
    bench: Workbench, network: str, shape: dict[str, Any], method: str, epochs: int, rate: float,
    start: str | None = None, layout: str | None = None, pruning: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Trains one network by one method: how good it is then, what is left of it, what it took.

    Args:
        network, shape: the name of a network of the zoo, and its options.
        method: "baseline", "PMT", "IPLT", "norms", "SFP" or "IPLT, soft".
        epochs, rate: how many, and the learning rate at first.
        start: a model to begin with, a run of this study or a `.keras` file, instead of a new one.
        layout: "full width" for residual streams that stay as wide as they are.
        pruning: what the callback of the method is told.
    """
    model = bench.build(network, shape) if start is None else bench.load(start)
    if layout == "full width":
        model = iplt.baselines.full_width(model)
    whole = iplt.profile(model)
    rates = cosine(rate, epochs, len(bench.data.train))
    bench.compile(model, keras.optimizers.SGD(rates, momentum=0.9))
    with warnings.catch_warnings():
        # The papers rank by l2 whatever it leaves of a layer: the tables show what comes of it.
        warnings.filterwarnings("ignore", "criterion 'l2' takes nearly all")
        trained = bench.fit(model, epochs, callbacks(method, bench.place, pruning))
    found = iplt.compare(whole, model)
    left = found.after
    # Images of a known size, and weights: all is known.
    assert whole.macs is not None and left.macs is not None and found.ppr is not None
    return {
        "accuracy": percent(model, bench.data.test),
        "fpr": 100 * found.fpr, "ppr": 100 * found.ppr,
        "params": left.params, "macs": left.macs, "macs_gone": 100 * (1 - left.macs / whole.macs),
        "seconds": trained.seconds, "cpu": trained.cpu,
        "filters": {layer.name: layer.filters for layer in left.layers if layer.filters},
    }  # fmt: skip


def callbacks(
    method: str, place: Place, pruning: dict[str, Any] | None
) -> list[keras.callbacks.Callback]:
    """What makes `fit` prune by a method."""
    if pruning is None:  # the baseline
        return []
    make: dict[str, Callable[..., Any]] = {
        "PMT": functools.partial(iplt.baselines.pmt, after=0, criterion="l2"),
        "norms": functools.partial(iplt.baselines.one_shot, after=0),
        "IPLT": functools.partial(iplt.IPLTCallback, criterion="l2"),
        "SFP": iplt.baselines.soft,
        "IPLT, soft": iplt.baselines.iplt_soft,
    }
    return [make[method](**pruning, backup_dir=place.backup, verbose=0)]


def mnist(options: argparse.Namespace) -> dict[str, Any]:
    """The data, network and epochs of Table 1."""
    shape = {"filters": options.mnist_filters, "units": options.mnist_units}
    shape["initializer"] = options.initializer
    return {
        **data_settings(options, "mnist"), "size": None, "scaling": "scale", "augment": None,
        "network": "mnist_cnn", "shape": shape, "epochs": options.mnist_epochs,
    }  # fmt: skip


def cifar(options: argparse.Namespace) -> dict[str, Any]:
    """The data of Tables 2 and 3."""
    own = {"size": options.cifar_size, "scaling": options.scaling, "augment": options.augment}
    return {**data_settings(options, "cifar"), **own}


def against_pmt(
    grid: Grid, table: str, setting: dict[str, Any], tuning: int, ratios: Sequence[float],
    counted: dict[str, Any], steps: dict[str, Any], halved: bool = False,
) -> Found:  # fmt: skip
    """Runs the baseline, PMT and IPLT: (method, filters gone in percent) -> a result per seed.

    Args:
        table: the folder of their files.
        setting: the data, the network and its epochs.
        tuning: epochs after pruning once, of what the baseline of the same seed has learned.
        ratios: shares of the filters to remove.
        counted: which filters those are shares of, as the callbacks are told.
        steps: how IPLT goes there, as its callback is told.
        halved: whether to remove what "Pruning filters for efficient ConvNets" does as well.
    """
    dense, baseline = {**setting, "rate": 0.05}, f"{table}/baseline"
    whole = Case(baseline, train, {**dense, "method": "baseline"})
    found: Found = grid.run({("baseline", 0): whole})

    def tuned(name: str, method: str, **pruning: Any) -> Case:
        own = {"method": method, "epochs": tuning, "rate": 0.01, "pruning": pruning}
        return Case(f"{table}/{name}", train, {**setting, **own}, after=baseline)

    cases: dict[tuple[Any, ...], Case] = {}
    if halved:  # of all other layers nothing goes
        others = [name for name in LAYERS if name not in HALVED]
        cases["norms", None] = tuned("norms", "norms", target=0.5, ignore=others)
    for ratio in ratios:
        cases["PMT", round(100 * ratio)] = tuned(f"pmt-{ratio:g}", "PMT", target=ratio, **counted)
    for ratio in ratios:
        own = {"method": "IPLT", "pruning": {"target": ratio, **steps, **counted}}
        cases["IPLT", round(100 * ratio)] = Case(f"{table}/iplt-{ratio:g}", train, {**dense, **own})
    return found | grid.run(cases)
