"""Incremental pruning of single weights: what is run."""

import argparse
from collections.abc import Sequence
from typing import Any

import keras

import keras_iplt as iplt
from keras_iplt.errors import OptionError

from ..common.command import data_settings
from ..common.grid import Case
from ..common.spread import Runs
from ..common.training import Workbench, at_workbench, percent

__all__ = [
    "METHODS", "READINGS", "TABLE_DATA", "TRAINED", "Found", "built", "cases", "train", "wanted",
]  # fmt: skip

# Name in the paper -> name in the zoo, and what it is made with: rates and factors are not told.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "LeNet-300-100": ("lenet_300_100", {"batch_norm": True, "dropout": 0.2, "l2": 1e-4}),
    "LeNet-5": ("lenet_5", {"batch_norm": True, "dropout": 0.2, "l2": 1e-4}),
    "VGG-Lite": ("vgg_lite", {"dropout": 0.3, "l2": 5e-4}),
}
VGG_LITE = (64, 64, 128, 128, 256, 256, 256, 256)
TRAINED = {"mnist": tuple(NETWORKS), "cifar10": ("VGG-Lite",), "cifar100": ("VGG-Lite",)}
READINGS = ("weights_per_filter", "filters")
METHODS = ("unpruned", *READINGS)
TABLE_DATA = {1: "mnist", 2: "mnist", 3: "cifar10", 4: "cifar100"}


Found = dict[tuple[str, str, str], Runs]  # of data, a network and a method: a result per seed


@at_workbench
def train(
    bench: Workbench, network: str, shape: dict[str, Any], epochs: int,
    pruning: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Trains one network: its accuracy, how it went, what it took, and how small it is then.

    Args:
        network, shape: the name of a network of the zoo, and its options.
        epochs: how many.
        pruning: what `SparsityCallback` is told; None for a network that stays as it is.
    """
    model = bench.build(network, shape)
    # What Adam's `decay` did when the paper was written.
    rate = keras.optimizers.schedules.InverseTimeDecay(1e-3, decay_steps=1, decay_rate=1e-5)
    bench.compile(model, keras.optimizers.Adam(rate))
    callbacks = []
    if pruning is not None:
        own = iplt.SparsityCallback(**pruning, backup_dir=bench.place.backup, verbose=0)
        callbacks.append(own)
    trained = bench.fit(model, epochs, callbacks, validation=bench.data.test)
    zeros, size = iplt.sparsity.measure(model), iplt.sparsity.compressed_size(model)
    return {
        "train": percent(model, bench.data.batches("train", training=False)),
        "test": 100 * trained.history["val_accuracy"][-1], "history": trained.history,
        "weights": zeros.weights, "zeros": 100 * zeros.sparsity,
        "layers": {row.name: 100 * row.sparsity for row in zeros.layers},
        "bytes": size.dense, "csr": size.csr, "gzip": size.gzip,
        "seconds": trained.seconds, "cpu": trained.cpu,
    }  # fmt: skip


def wanted(tables: Sequence[int], only: Sequence[str] | None = None) -> list[tuple[str, str, str]]:
    """What tables need, as (data, network, method).

    Table V needs all that the others are about, or everything if it stands alone.
    """
    shown = {TABLE_DATA[table] for table in tables if table != 5} or set(TRAINED)
    pruned = {TABLE_DATA[table] for table in tables if table in (2, 3, 4)}
    pruned |= shown if 5 in tables else set()
    return [
        (data, network, method)
        for data, networks in TRAINED.items() if data in shown
        for network in networks if not only or network in only
        for method in (METHODS if data in pruned else METHODS[:1])
    ]  # fmt: skip


def cases(options: argparse.Namespace) -> dict[tuple[str, str, str], Case]:
    """What has to be run: (data, network, method) -> case."""
    needed = wanted(options.tables, options.only)
    if not needed:
        raise OptionError(
            f"--only {' '.join(options.only)}: expected a network that one of the tables "
            f"{options.tables} is about"
        )
    found = {}
    for data, network, method in needed:
        name, shape = built(options, network)
        found[data, network, method] = Case(f"{data}/{name}-{method}", train, {
            **data_settings(options, data), "augment": options.augment,
            "size": options.mnist_size if data == "mnist" else options.cifar_size,
            "network": name, "shape": shape, "epochs": options.epochs,
            "pruning": pruning(options, method),
        })  # fmt: skip
    return found


def built(options: argparse.Namespace, network: str) -> tuple[str, dict[str, Any]]:
    """Its name in the zoo, and what it is built with."""
    name, shape = NETWORKS[network]
    given = {key: getattr(options, key) for key in ("dropout", "l2")}
    shape = shape | {key: value for key, value in given.items() if value is not None}
    if network == "VGG-Lite":
        shape["filters"] = [max(1, round(options.vgg_width * count)) for count in VGG_LITE]
    if network == "LeNet-5" and options.lenet_5 == "1998":
        name = "lenet_5_1998"
    return name, shape


def pruning(options: argparse.Namespace, method: str) -> dict[str, Any] | None:
    """What the callback is told."""
    if method == "unpruned":
        return None
    target, steps = options.target, options.epochs // options.k
    if options.share_of == "left":  # Eq. 1, read literally
        target = [min(target, 1 - (1 - options.step) ** step) for step in range(1, steps + 1)]
    return {
        "target": target, "step": options.step, "every": options.k, "pattern": method,
        "ignore": ["head"] if method == "filters" else [],
    }  # fmt: skip
