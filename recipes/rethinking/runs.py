"""Pruned networks from scratch: the runs, each after those that it begins with."""

import argparse
from collections.abc import Mapping
from typing import Any

import keras

import keras_iplt as iplt

from ..common.command import data_settings
from ..common.grid import Case, Grid
from ..common.spread import Runs
from ..common.study import Place
from ..common.training import RunFunction, Workbench, at_workbench, milestones, percent
from .names import METHODS, takes
from .networks import anew, costs, masked_anew, pruned, shape, with_whole_streams
from .scales import follow, with_scales

__all__ = ["Found", "large", "run_all", "scratch", "tuned"]

# What is trained before pruning, and what a pruned network is compared with.
LARGE = {**dict.fromkeys(METHODS, "plain"), "sfp": "sfp", "slimming": "slimming", "sss": "sss"}
UNPRUNED = {**LARGE, "sfp": "plain", "sss": "plain"}
LOOKED_AT = 1024  # images that ThiNet and channel pruning see: neither takes labels
RENEWED = 1000  # seeds of new values begin here

Found = dict[tuple[str, str], dict[str, Runs]]  # of a network and a method: see `run_all`


@at_workbench
def large(
    bench: Workbench, network: str, width: float, kind: str, epochs: int, rate: float,
    penalty: float = 0.0, ratio: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Trains a large network.

    Args:
        network, width: the name and the share of the filters, see `shape`.
        kind: "plain", "slimming" or "sss" for a penalty on scales, of channels or of blocks, or
            "sfp", after which it is pruned.
        epochs, rate: how many, and the learning rate at first.
        penalty, ratio: the factor of the penalty, and the share of the filters for "sfp".
    """
    model, callbacks = bench.build(*shape(network, width)), []
    if kind == "slimming":
        model = anew(model, penalty)
    if kind == "sss":
        model = with_scales(model, penalty)
    if ratio is not None:
        model = with_whole_streams(model)
        callbacks = [iplt.baselines.soft(ratio, backup_dir=bench.place.backup, verbose=0)]
    rates = milestones(rate, epochs, len(bench.data.train))
    return trained(bench, model, epochs, rates, callbacks)


@at_workbench
def tuned(
    bench: Workbench, start: str, method: str, ratio: float, allocation: str, epochs: int,
    rate: float,
) -> dict[str, Any]:  # fmt: skip
    """Prunes the large network that another run left, and fine-tunes what is left of it."""
    images = None
    if method in ("thinet", "channel"):
        images = bench.data.arrays("train", min(LOOKED_AT, bench.data.counts["train"]))[0]
    left = pruned(bench.load(start), method, ratio, allocation, images)
    model = anew(left)  # without the penalty of network slimming, which has done its work
    model.set_weights(left.get_weights())
    return trained(bench, model, epochs, rate, held(bench.place, method))


@at_workbench
def scratch(bench: Workbench, start: str, method: str, epochs: int, rate: float) -> dict[str, Any]:
    """Trains the architecture that a run of `tuned` left, from new values."""
    keras.utils.set_random_seed(RENEWED + bench.seed)
    model = bench.load(start)
    model = masked_anew(model) if method == "weights" else anew(model)
    rates = milestones(rate, epochs, len(bench.data.train))
    return trained(bench, model, epochs, rates, held(bench.place, method))


def held(place: Place, method: str) -> list[keras.callbacks.Callback]:
    """What keeps zeros zero while a network is trained."""
    if method != "weights":
        return []
    none = iplt.schedules.OneShot(0.0, epoch=0)  # no other weights go
    return [
        iplt.SparsityCallback(
            none, convolutions_only=True, keep_zeros=True, backup_dir=place.backup, verbose=0
        )
    ]


def trained(
    bench: Workbench, model: keras.Model, epochs: int, rates: Any,
    callbacks: list[keras.callbacks.Callback],
) -> dict[str, Any]:  # fmt: skip
    """Trains and saves; how good the model is then, and what it costs."""
    bench.compile(model, keras.optimizers.SGD(rates, momentum=0.9))
    follow(model)
    course = bench.fit(model, epochs, callbacks)
    return {
        "accuracy": percent(model, bench.data.test), "epochs": epochs, "seconds": course.seconds,
        **costs(model),
    }  # fmt: skip


def run_all(options: argparse.Namespace, grid: Grid) -> Found:
    """(network, method) -> name -> a result per seed: "unpruned", "tuned", "e" and "b"."""
    own = {"size": options.size, "scaling": options.scaling, "augment": options.augment}
    setting = {**data_settings(options), **own}
    course = {"epochs": options.epochs, "rate": options.rate}
    told = {"sss": "sss_penalty"}  # which blocks go follows from their penalty
    ratios = {name: getattr(options, told.get(name, f"{name}_ratio")) for name in METHODS}
    by_kind: dict[str, dict[str, float]] = {
        "plain": {}, "slimming": {"penalty": options.penalty}, "sfp": {"ratio": ratios["sfp"]},
        "sss": {"penalty": options.sss_penalty},
    }  # fmt: skip

    def of_large(network: str, kind: str) -> Case:
        name = "-".join([f"large-{kind}", *(f"{value:g}" for value in by_kind[kind].values())])
        told = {"network": network, "width": options.width, "kind": kind, **by_kind[kind]}
        return Case(f"{network}/{name}", large, {**setting, **course, **told})

    def of_small(
        network: str, method: str, kind: str, function: RunFunction, after: Case,
        by_seed: Mapping[str, Any] | None = None, **told: Any,
    ) -> Case:  # fmt: skip
        name = f"{network}/{method}-{ratios[method]:g}-{kind}"
        told = {**setting, **course, "method": method, **told}
        return Case(name, function, told, after.name, by_seed or {})

    wanted = [
        (network, method)
        for network in options.networks for method in options.methods if takes(method, network)
    ]  # fmt: skip
    whole = {
        (network, kind): of_large(network, kind)
        for network, method in wanted for kind in (UNPRUNED[method], LARGE[method])
    }  # fmt: skip
    left = {
        (network, method): of_small(
            network, method, "tuned", tuned, whole[network, LARGE[method]],
            ratio=ratios[method], allocation=options.allocation, epochs=options.tuning,
            rate=options.rate * 0.01,
        )
        for network, method in wanted
    }  # fmt: skip
    unpruned, small = grid.run(whole), grid.run(left)

    def longer(network: str, method: str) -> list[int]:
        """Epochs of Scratch-B, seed by seed."""
        pairs = zip(unpruned[network, UNPRUNED[method]], small[network, method], strict=True)
        return [budget(options.epochs, one["macs"], other["macs"]) for one, other in pairs]

    e = grid.run({case: of_small(*case, "scratch-e", scratch, left[case]) for case in wanted})
    b = grid.run({
        case: of_small(*case, "scratch-b", scratch, left[case], {"epochs": longer(*case)})
        for case in wanted
    })  # fmt: skip
    return {
        (network, method): {
            "unpruned": unpruned[network, UNPRUNED[method]], "tuned": small[network, method],
            "e": e[network, method], "b": b[network, method],
        }
        for network, method in wanted
    }  # fmt: skip


def budget(epochs: int, before: int, after: int) -> int:
    """Epochs of Scratch-B: the small network computes as much as the large one did."""
    return max(1, round(epochs * before / after))
