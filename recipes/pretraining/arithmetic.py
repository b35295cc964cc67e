"""Pre-training and pruning: what the filters that the paper prints amount to."""

import pathlib
import tempfile
from typing import Any

import keras

import keras_iplt as iplt

from .. import zoo
from ..common.page import Page
from ..common.published import published

__all__ = [
    "FILTERS", "NETWORK_COSTS", "arithmetic", "counted", "pruned_layers", "published_network",
]  # fmt: skip

PUBLISHED = published("pretraining")
FILTERS, NETWORK_COSTS = PUBLISHED["tables 1, 3"], PUBLISHED["tables 2, 4"]
# Classes, and the side of the images.
SHAPES = {"cifar10": (10, 32), "cifar100": (100, 32), "svhn_cropped": (10, 32),
          "caltech101": (101, 224)}  # fmt: skip


def published_network(
    network: str, which: str = "baseline", classes: int = 10, side: int = 32
) -> keras.Model:
    """A network of the paper by its printed filters: "A" or "B" as pruned, or its baseline."""
    model = zoo.build(network, (side, side, 3), classes)
    if which == "baseline":
        return model
    filters = FILTERS.row(network, which)["filters"]
    left = dict(zip(pruned_layers(model), filters, strict=True))
    gone = {name: range(n, model.get_layer(name).filters) for name, n in left.items()}
    return iplt.rewrite(model, iplt.plan_channels(model, gone))


def pruned_layers(model: keras.Model) -> list[str]:
    """The names of the convolutions that lose filters: all but depthwise ones."""
    return [layer.name for layer in model.layers if type(layer) is keras.layers.Conv2D]


def arithmetic(page: Page) -> None:
    """What the paper prints of its networks, and what follows from the filters that it prints."""
    page.heading("Arithmetic: what the paper's own filters amount to")
    rows = []
    for (network, source, which), theirs in NETWORK_COSTS.rows.items():
        if which != "baseline" and source != "cifar10":  # whose filters alone are printed
            continue
        ours = counted(published_network(network, which, *SHAPES[source]))
        rows.append({
            "network": network, "data": source,
            "which": which if which == "baseline" else f"{which}, pruned",
            "parameters, M (published)": theirs["parameters, M"],
            "(by its filters)": f"{ours['params']:.3f}",
            "FLOPs, M (published)": theirs["FLOPs, M"],
            "(by its filters) ": f"{ours['flops']:.3f}",
            "MB (published)": theirs["size, MB"], "(file of weights)": f"{ours['size']:.2f}",
        })  # fmt: skip
    page.table("Tables 1 to 4, arithmetic", rows, FILTERS.remarks["all"])


def counted(model: keras.Model) -> dict[str, Any]:
    """What a network costs, in the paper's units.

    Parameters and FLOPs in millions, the file of its weights, as Keras writes it, in megabytes of
    2^20.
    """
    profile = iplt.profile(model)
    assert profile.flops is not None  # the sizes of images are known
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.weights.h5"
        # Without the optimizer, which Keras writes into the file of a compiled model.
        keras.Model(model.inputs, model.outputs).save_weights(path)
        size = path.stat().st_size / 2**20
    return {
        "params": profile.params / 1e6, "flops": profile.flops / 1e6, "size": size,
        "by_layer": {row.name: row.params for row in profile.layers},
        "filters": {name: model.get_layer(name).filters for name in pruned_layers(model)},
    }  # fmt: skip
