"""How much detectors lose, and how much a classifier on the same network: Fig. 8.

All three see the same images: the classifier what is in the boxes, cut out.
"""

import argparse
import functools
from typing import Any

import keras

import keras_iplt as iplt

from .. import detection, zoo
from ..common.claims import BETTER, NOISE
from ..common.command import data_settings
from ..common.grid import Case, Grid
from ..common.page import Page
from ..common.published import published
from ..common.spread import Runs, Spread, paired, spread
from ..common.training import Workbench, at_workbench
from ..data import Data
from .runs import FIG_8, SCALING, tested

__all__ = ["figure_8"]

PROPOSALS = 64
STATISTICS = 512  # images that the statistics of batch norms are measured on
METHODS = ("none", "weights", "filters")


class DetectionBench(Workbench):
    """A workbench whose data are images with boxes."""

    @functools.cached_property
    def data(self) -> Data:
        """The data; all training examples are trained on."""
        return self.boxed()

    def boxed(self) -> Data:
        """Images with boxes."""
        options = {"validation": 0, **self.source}
        parts = {"train": options.pop("take", None), "test": options.pop("take_test", None)}
        return detection.load(
            batch_size=self.batch, seed=self.seed,
            take={part: count for part, count in parts.items() if count is not None}, **options,
        )  # fmt: skip


class CutoutBench(DetectionBench):
    """A workbench whose data are what boxes show."""

    @functools.cached_property
    def data(self) -> Data:
        """The data of detectors, cut out."""
        return detection.cutouts(self.boxed())


@at_workbench
def learn(
    bench: Workbench, kind: str, method: str, epochs: int, rate: float, step: float,
    start: str | None = None, network: str = "", weights: str | None = None,
    shape: dict[str, Any] | None = None, strides: tuple[int, ...] = (),
) -> dict[str, Any]:  # fmt: skip
    """Trains a classifier or a detector, while it is pruned or not: how good it is then.

    Args:
        kind: "classifier", "ssd" or "faster_rcnn".
        method: "none", "weights" or "filters": what goes.
        epochs, rate: how long, and how fast.
        step: what goes after each epoch.
        start: the run whose model it begins with; None for a new one, of what follows.
        network, weights, shape: a network of the zoo, what it begins with, and its options.
        strides: those of the maps that detectors look at.
    """
    of = CutoutBench if kind == "classifier" else DetectionBench
    bench = of(bench.place, bench.hardware, bench.seed, bench.batch, bench.source)
    data = bench.data
    if start is None:
        model = zoo.build(network, data.input_shape, len(data.classes), weights, **(shape or {}))
        model = made(kind, model, len(data.classes), tuple(strides))
    else:
        model = bench.load(start)
    bench.compile(model, keras.optimizers.Adam(rate), loss_of(kind))
    whole = iplt.profile(model)
    trained = bench.fit(model, epochs, pruning(method, step, bench))
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        # In few batches moving averages lag behind, most of all where filters went.
        images, _ = data.arrays("train", take=min(data.counts["train"], STATISTICS))
        iplt.recalibrate(model, images)
        bench.save(model)
    if kind == "classifier":
        score = tested(model, bench)[0]
    else:
        score = 100 * detection.evaluated(model, data).at_half
    table, left = iplt.sparsity.measure(model, convolutions_only=True), iplt.profile(model)
    # Images of a known size: all is known.
    assert whole.macs is not None and left.macs is not None
    return {
        "score": score, "sparsity": table.sparsity, "seconds": trained.seconds, "cpu": trained.cpu,
        "macs": left.macs / whole.macs,
    }  # fmt: skip


def loss_of(kind: str) -> Any:
    """What a detector is trained by; None for a classifier."""
    losses = {"ssd": detection.DetectionLoss(), "faster_rcnn": detection.TwoStageLoss(PROPOSALS)}
    return losses.get(kind)


def pruning(method: str, step: float, bench: Workbench) -> list[keras.callbacks.Callback]:
    """What takes half of the weights of convolutions, or of the filters, if anything does."""
    place = bench.place.backup
    if method == "weights":
        how = iplt.sparsity.allocation.Fixed()
        return [
            iplt.SparsityCallback(FIG_8, step, every=1, allocation=how, backup_dir=place, verbose=0)
        ]
    if method == "filters":
        return [
            iplt.IPLTCallback(
                FIG_8, step, every=1, scope="layer", mode="mask", backup_dir=place, verbose=0
            )
        ]
    return []


def made(kind: str, network: keras.Model, classes: int, strides: tuple[int, ...]) -> keras.Model:
    """The network as it is, or a detector on it."""
    if kind == "ssd":
        return detection.ssd(network, classes, strides, extra=1, extra_filters=128)
    if kind == "faster_rcnn":
        stride = strides[len(strides) // 2]
        return detection.faster_rcnn(network, classes, stride, PROPOSALS)
    return network


def figure_8(options: argparse.Namespace, grid: Grid, page: Page) -> None:
    """Prune_fixed at 50 % of a classifier and of detectors on the same network."""
    kinds = ("classifier", *options.detectors)
    trained = grid.run({kind: case(options, kind, "none", None) for kind in kinds})
    keys = [(kind, method) for kind in kinds for method in METHODS]
    after = grid.run({key: case(options, *key, first(key[0])) for key in keys})
    page.heading("Fig. 8: Prune_fixed at 50 % of detectors")
    page.text(
        f"`{options.backbone}` on {options.detection} of {options.detection_size} pixels, trained "
        f"for {options.train_epochs} epochs; then {options.prune_epochs} more in which "
        f"{options.step:.0%} of the weights of convolutions, or of the filters, go after each "
        f"until half are gone; seeds: {options.seeds}. The classifier learns what is in the boxes; "
        "its score is the accuracy, that of detectors is mAP at an overlap of 0.5. Statistics of "
        "batch norms are measured again after each training, of all of them."
    )
    rows = [row_of(kind, trained[kind], {m: after[kind, m] for m in METHODS}) for kind in kinds]
    page.table("Fig. 8", rows, published("structure_aware")["figure 8"].remarks["all"])
    page.findings(
        f"The claim that detectors are more sensitive: they lose more of their score. {NOISE}",
        (f"{kind}, {method}: {more_lost(after, kind, method)}"
         for kind in options.detectors for method in METHODS[1:]),
    )  # fmt: skip


def row_of(kind: str, trained: Runs, after: dict[str, Runs]) -> dict[str, Any]:
    """What became of a model."""
    row = {
        "model": kind, "trained, %": spread(trained, "score"),
        "no pruning, same batches, %": spread(after["none"], "score"),
    }  # fmt: skip
    for method in METHODS[1:]:
        row[f"half of the {method} gone, %"] = spread(after[method], "score")
        row[f"{method}: lost of it, %"] = lost(after, method)
    row["multiply-adds left without these filters, %"] = Spread.of(
        100 * run["macs"] for run in after["filters"]
    )
    return row


def lost(after: dict[str, Runs], method: str) -> Spread:
    """How much less the score is than without pruning, in percent of that."""
    return paired(
        after[method], after["none"],
        lambda run, other: 100 * (1 - run["score"] / max(other["score"], 1e-9)),
    )  # fmt: skip


def more_lost(after: dict[Any, Runs], kind: str, method: str) -> str:
    """How much more a detector loses than the classifier."""
    own, other = (lost({m: after[one, m] for m in METHODS}, method) for one in (kind, "classifier"))
    return own.minus(other).judged(BETTER)


def case(options: argparse.Namespace, kind: str, method: str, start: str | None) -> Case:
    """A training from the beginning, or of what another one left."""
    name = options.backbone
    told = {
        **data_settings(options, "detection"), "size": options.detection_size,
        "scaling": options.scaling or SCALING.get(name, "scale"), "kind": kind, "method": method,
        "rate": options.detection_rate, "step": options.step,
        "epochs": options.train_epochs if start is None else options.prune_epochs,
    }  # fmt: skip
    if start is not None:
        return Case(f"fig8/{kind}-{method}", learn, told, after=start)
    told |= {"network": name, "strides": options.strides, "shape": shape_of(options),
             "weights": options.backbone_weights}  # fmt: skip
    return Case(first(kind), learn, told)


def first(kind: str) -> str:
    """The name of the case that others begin with."""
    return f"fig8/{kind}-trained"


def shape_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options of the network."""
    if options.backbone == "cifar_resnet" and options.depth is not None:
        return {"depth": options.depth}
    if options.backbone == "mobilenet":
        return {"alpha": options.alpha, "hidden": None}
    return {}
