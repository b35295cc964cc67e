"""Pre-training and pruning: what is run."""

import argparse
import contextlib
import itertools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import keras

import keras_iplt as iplt

from ..common.command import data_settings
from ..common.grid import Case, Grid
from ..common.spread import Runs
from ..common.training import Workbench, at_workbench, falling, percent
from ..zoo.vgg import VGG16
from .arithmetic import counted

__all__ = ["WAYS", "Found", "name_of", "pretrained_here", "prune", "run_all", "scaling_of", "train"]

# What keras.applications' weights of ImageNet have been trained with.
SCALING = {"vgg16_hubens": "caffe", "mobilenet": "tf"}
WAYS = ("A", "B")  # of beginning: pre-trained, and from scratch

# Of one network on one data set, by how it began: baselines and what is left of them, by seed.
Found = dict[str, tuple[Runs, Runs]]


@at_workbench
def train(
    bench: Workbench, network: str, shape: dict[str, Any], epochs: int, rate: float,
    drop_every: int, weights: Any = None, start: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Trains a baseline.

    Args:
        network, shape: the name of a network of the zoo, and its options.
        epochs, rate: how many, and the learning rate at first.
        drop_every: epochs until it falls to a tenth.
        weights: what Network-A begins with: a file, or "imagenet".
        start: instead of it, the run of this study that has been trained on other data.
    """
    weights = weights if start is None else bench.place.model(start)
    model = bench.build(network, shape, weights)
    at = range(drop_every, epochs, drop_every)
    rates, lowest = falling(rate, at, len(bench.data.train))
    bench.compile(model, keras.optimizers.Adam(rates))
    trained = bench.fit(model, epochs)
    return {
        "validation": percent(model, bench.data.validation),
        "test": percent(model, bench.data.test),
        "lowest_rate": lowest, "seconds": trained.seconds, **counted(model),
    }  # fmt: skip


@at_workbench
def prune(
    bench: Workbench, start: str, rate: float, ratios: Sequence[float], share: float,
    tolerance: float, retraining: int, layers: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measures how sensitive the layers of a baseline are, then prunes one after the other.

    Args:
        start: the run of this study that trained the baseline.
        rate: the learning rate of retraining.
        ratios: the shares of filters of the sensitivity analysis.
        share: the share of a layer's filters that go at a time.
        tolerance: how much accuracy may be lost.
        retraining: epochs after each time.
        layers: how many layers to prune at most; all by default.
    """
    model, data = bench.load(start), bench.data
    bench.compile(model, keras.optimizers.Adam(rate))
    analysis = iplt.sensitivity(
        model, data.validation, ratios, criterion="l1", metric="accuracy", verbose=0,
        convolutions_only=True, path=bench.place.file(".sensitivity.json"),
    )  # fmt: skip
    with contextlib.redirect_stdout(sys.stderr):  # its lines are progress
        found = iplt.prune_guided(
            model, data.train, data.validation, step=share, tolerance=tolerance,
            epochs=retraining, criterion="l1", metric="accuracy",
            layers=analysis.ranking()[:layers], convolutions_only=True,
            backup_dir=bench.place.backup, shuffle=False,
        )  # fmt: skip
    bench.save(found.model)
    return {
        "validation": 100 * found.value, "test": percent(found.model, data.test),
        "before": 100 * found.baseline,
        "filters_gone": 100 * iplt.compare(model, found.model).fpr,
        "steps": [[s.layer, s.left, s.size, s.value, s.kept] for s in found.steps],
        **counted(found.model),
    }  # fmt: skip


def run_all(options: argparse.Namespace, grid: Grid) -> dict[tuple[str, str], Found]:
    """Stage by stage, each of all networks and data sets.

    Returns:
        (network, data) -> "A" or "B" -> (baselines, pruned), a result per seed in each.
    """
    common = {
        **data_settings(options), "size": options.size, "validation": options.validation,
        "augment": None if options.augment == "none" else options.augment,
    }  # fmt: skip
    course = {"epochs": options.epochs, "rate": options.rate, "drop_every": options.drop_every}
    pruning = {
        "ratios": [round(ratio, 4) for ratio in options.ratios], "share": options.share,
        "tolerance": options.tolerance, "retraining": options.retraining, "layers": options.layers,
    }  # fmt: skip

    def data(network: str, source: str) -> dict[str, Any]:
        return {**common, "source": source, "scaling": scaling_of(network, options)}

    def training(
        name: str, network: str, source: str, after: str | None = None, **begin: Any
    ) -> Case:
        shape = {"network": network, "shape": shape_of(network, options)}
        return Case(name, train, {**data(network, source), **shape, **course, **begin}, after)

    def baseline(network: str, source: str, which: str) -> Case:
        name = name_of(network, source, which)
        if which == "B":
            return training(name, network, source)
        if pretrained_here(options):
            return training(name, network, source, name_of(network, source, "pretrained"))
        return training(name, network, source, weights=options.weights or "imagenet")

    cases = list(itertools.product(options.networks, options.data))
    if pretrained_here(options):
        grid.run({
            case: training(name_of(*case, "pretrained"), case[0], options.pretrain_on)
            for case in cases
        })  # fmt: skip
    both = [(*case, which) for case in cases for which in WAYS]
    baselines = grid.run({key: baseline(*key) for key in both})
    pruned = grid.run({
        key: Case(
            name_of(*key), prune, {**data(*key[:2]), **pruning}, after=name_of(*key), end="-pruned",
            by_seed={"rate": [run["lowest_rate"] for run in baselines[key]]},
        )
        for key in both
    })  # fmt: skip
    return {
        case: {which: (baselines[(*case, which)], pruned[(*case, which)]) for which in WAYS}
        for case in cases
    }


def name_of(network: str, source: str, which: str) -> str:
    """The name of the files of a case."""
    return f"{network}/{pathlib.PurePath(str(source)).stem}/{which}"


def shape_of(network: str, options: argparse.Namespace) -> dict[str, Any]:
    """The options that it is built with."""
    if network == "mobilenet":
        return {"alpha": options.alpha}
    return {"filters": [max(1, round(options.width * count)) for count in VGG16]}


def pretrained_here(options: argparse.Namespace) -> bool:
    """Whether Network-A is trained on other data here; a file of weights takes the place of it."""
    return options.pretrain_on is not None and options.weights is None


def scaling_of(network: str, options: argparse.Namespace) -> str:
    """How images are scaled: as ImageNet's weights expect, where they are used."""
    return "scale" if pretrained_here(options) else SCALING[network]
