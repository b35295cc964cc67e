"""Pre-training and pruning: what was obtained, beside what is published."""

import argparse
import itertools
from typing import Any

import keras

import keras_iplt as iplt

from ..common.grid import Grid, seeded
from ..common.page import Page
from ..common.spread import paired, spread
from ..common.study import Study
from ..common.training import check_data
from .arithmetic import FILTERS, NETWORK_COSTS, arithmetic, pruned_layers
from .runs import WAYS, Found, name_of, pretrained_here, run_all

__all__ = ["reproduce"]


def reproduce(options: argparse.Namespace) -> dict[str, Any]:
    """Does the arithmetic, runs what is wanted, and writes the page."""
    others = [options.pretrain_on] if pretrained_here(options) else []
    check_data([*options.data, *others], options.data_dir, options.download)
    grid = Grid(options)
    page = Page("The impact of pre-training on pruning", grid.study, options.command)
    arithmetic(page)
    page.heading("Obtained")
    for case, results in run_all(options, grid).items():
        show(options, grid.study, page, *case, results)
    return page.write()


def show(
    options: argparse.Namespace, study: Study, page: Page, network: str, source: str, results: Found
) -> None:
    """The rows of Tables 2 and 4, those of Tables 1 and 3, and the figures."""
    rows = []
    for which, number in itertools.product(WAYS, (0, 1)):
        title, runs = ("baseline", "pruned")[number], results[which][number]
        theirs = NETWORK_COSTS.row(network, source, (title, which)[number])
        rows.append({
            "network": f"{which}, {title}", "parameters, M (published)": theirs["parameters, M"],
            "(obtained)": spread(runs, "params", 3), "FLOPs, M (published)": theirs["FLOPs, M"],
            "(obtained) ": spread(runs, "flops"), "MB (published)": theirs["size, MB"],
            "(obtained)  ": spread(runs, "size"),
            "filters gone, %": spread(runs, "filters_gone", 1) if title == "pruned" else None,
            "validation, %": spread(runs, "validation"), "test, %": spread(runs, "test"),
        })  # fmt: skip
    page.table(
        f"{network} on {source}", rows,
        f"{options.epochs} epochs, a tenth of the rate after every {options.drop_every}; "
        f"augmentation: {options.augment}; {options.share:g} of a layer's filters at a time, "
        f"{options.retraining} epochs of "
        f"retraining each time, {100 * options.tolerance:g} points of tolerance; seeds: "
        f"{options.seeds}. The paper prints no accuracies.",
    )  # fmt: skip
    per_layer(page, network, source, results)
    page.text(pruned_further(results))
    for which in WAYS:
        figures(study, page, seeded(name_of(network, source, which), 0))


def per_layer(page: Page, network: str, source: str, results: Found) -> None:
    """Filters and parameters left in each layer, of the first seed; the paper's filters, if any."""
    (base, *_), (one, *_), (other, *_) = results["A"][0], results["A"][1], results["B"][1]
    before, *after = (run["filters"] for run in (base, one, other))
    weights = [run["by_layer"] for run in (base, one, other)]
    printed = NETWORK_COSTS.row(network, source, "baseline")["parameters, M"]
    whole = source == "cifar10" and base["params"] > 0.99 * printed
    theirs = [
        FILTERS.row(network, which)["filters"] if whole else [None] * len(before) for which in WAYS
    ]
    page.table(
        f"{network} on {source}: filters of each layer (seed 0)",
        [
            {
                "layer": name, "before": before[name], "A (published)": a, "A": after[0][name],
                "B (published)": b, "B": after[1][name],
                **{f"parameters, {which}": own[name]
                   for which, own in zip(("before", *WAYS), weights, strict=True)},
            } for name, a, b in zip(before, *theirs, strict=True)
        ],
    )  # fmt: skip


def pruned_further(results: Found) -> str:
    """Whether Network-A can be pruned further, as the paper claims."""
    gone = {
        which: paired(*results[which], lambda one, left: 100 * (1 - left["params"] / one["params"]))
        for which in WAYS
    }
    difference = gone["A"].minus(gone["B"])
    return (
        "The paper's claim is that a pre-trained network can be pruned further. Of the parameters "
        f"of Network-A {gone['A']} % go, of Network-B's {gone['B']} %: {difference.points:+.2f} "
        f"points ({difference.certainty})."
    )


def figures(study: Study, page: Page, name: str) -> None:
    """Sensitivity, ranked norms and the first filters of a baseline (Fig. 1 and 3 to 6)."""
    model = keras.models.load_model(study.folder / f"{name}.keras", compile=False)
    text = (study.folder / f"{name}-pruned.sensitivity.json").read_text(encoding="utf-8")
    analysis, layers = iplt.Sensitivity.from_json(text), pruned_layers(model)
    for what, draw in {
        "sensitivity": lambda: iplt.plots.sensitivity(analysis),
        "norms": lambda: iplt.plots.norms(model, "l1", layers=layers),
        "filters": lambda: iplt.plots.kernels(model),
    }.items():
        page.picture(f"{name}-{what}", draw)
