"""How sparse each layer should be: Fig. 3 to 7 and 9 to 11."""

import argparse
import math
from collections.abc import Callable
from typing import Any

import keras_iplt as iplt
from keras_iplt.support.extras import required

from ..common.grid import Grid
from ..common.page import Page
from ..common.published import published
from ..common.spread import Runs, Spread, spread
from .runs import FIG_7, FIG_10, VARIANTS, Found, Layers, control, in_order, variant, weights_of
from .tables import worse

SMALL = 100_000  # Fig. 3 counts the layers with fewer parameters than this
PUBLISHED = published("structure_aware")
SMALL_LAYERS = PUBLISHED["figure 3"]
WITHOUT_IMAGENET = ("googlenet",)


def figure_7(options: argparse.Namespace, grid: Grid, page: Page) -> None:
    """Prune_fixed on typical networks."""
    page.heading("Fig. 7: Prune_fixed at 50 %")
    names: list[str] = []
    left_out: list[str] = []
    for network in options.typical:
        missing = network in WITHOUT_IMAGENET and weights_of(options, network) == "imagenet"
        (left_out if missing else names).append(network)
    cases = {}
    for network in names:
        cases[network, "none"] = control(options, network)
        cases[network, "fixed"] = variant(options, network, "fixed", FIG_7)
    results, rows, bars = grid.run(cases), [], {}
    for network in names:
        unpruned, runs = results[network, "none"], results[network, "fixed"]
        before = Spread.of(run["before"][0] for run in unpruned)
        bars[network] = before.mean, spread(runs, "accuracy").mean
        rows.append({
            "network": network, "before, %": before,
            "no pruning, same batches, %": spread(unpruned, "accuracy"),
            "pruned, %": spread(runs, "accuracy"),
            "difference": Spread.of(-v for v in worse(runs, unpruned).values),
        })  # fmt: skip
    if rows:
        page.table("Fig. 7", rows, PUBLISHED["figure 7"].remarks["all"])
        page.picture("fig7", lambda: drawn_bars(bars))
    for network in left_out:
        page.text(f"Without {network}, of which Keras has no ImageNet weights: give --weights "
                  f"imagenet {network}=FILE.")  # fmt: skip


def pictures(
    options: argparse.Namespace,
    page: Page,
    network: str,
    looked: dict[str, Any],
    unpruned: Runs,
    found: Found,
) -> None:
    """Fig. 3 to 6 and 9 to 11 of one network, of what `tables_3_4` returned."""
    layers, most = in_order(network, looked["layers"]), max(options.targets)
    sizes = [size for _, size, _ in layers]
    last = {name: in_order(network, found[name, most][0]["layers"]) for name in VARIANTS}
    curves = {f"Prune_{name}": curve(found[name, most], found[name, most]) for name in VARIANTS}
    same = {"no pruning, same batches": curve(unpruned, found["fixed", most])}
    at = {one["how"]: shares_of(network, one["layers"]) for one in looked["cuts"]
          if one["target"] == FIG_10}  # fmt: skip
    label = "mean loss of a phase"
    drawn: dict[int, Callable[[], Any]] = {
        3: lambda: drawn_sizes(sizes),
        4: lambda: by_depth(
            {"mean magnitude": [mean for _, _, mean in layers]}, "mean |w| of the layer"),
        5: lambda: iplt.plots.loss({"Prune_fixed": curves["Prune_fixed"]} | same, ylabel=label),
        6: lambda: iplt.plots.loss(curves | same, ylabel=label),
        9: lambda: by_depth({
            f"sparsity at {most:g}, Prune_param": shares_of(network, last["param"]),
            "log of its parameters to the base of 10,000": [math.log(n, 10_000) for n in sizes],
        }, "of the layer"),
        # The paper does not say whether it trained: this is the cut alone.
        10: lambda: by_depth({
            f"one cut at {FIG_10:g}": at["depth"], "normalized": at["depth, normalized"],
        }, "sparsity of the layer"),
        11: lambda: by_depth(
            {f"Prune_{name}": shares_of(network, last[name]) for name in VARIANTS},
            f"sparsity of the layer at {most:g}"),
    }  # fmt: skip
    if 3 in options.figures:
        figure_3(page, network, sizes)
    for number, picture in drawn.items():
        if number in options.figures:
            page.picture(f"{network}-fig{number}", picture)


def figure_3(page: Page, network: str, sizes: list[int]) -> None:
    """Fig. 3 in numbers."""
    small = [size for size in sizes if size < SMALL]
    row = {
        "network": network, "layers": len(sizes), "below 100,000 (published)":
        SMALL_LAYERS.row(network)["below 100,000"], "below 100,000 (obtained)": len(small),
        "share of all parameters, %": 100 * sum(small) / sum(sizes),
    }  # fmt: skip
    page.table(f"Fig. 3, {network}: convolutions by their parameters", [row])
    if network in SMALL_LAYERS.remarks:
        page.text(SMALL_LAYERS.remarks[network])


def shares_of(network: str, rows: Layers) -> list[float]:
    """The sparsity of each layer."""
    return [value for _, _, value in in_order(network, rows)]


def curve(runs: Runs, paced: Runs) -> list[tuple[float, float, float]]:
    """Points of losses against sparsity: one for each, from the phase after it was reached.

    Args:
        runs: results, for their losses.
        paced: results, for their sparsities.
    """
    shares = paced[0]["shares"]
    points = []
    for share_gone in dict.fromkeys(shares):
        phase = shares.index(share_gone)
        losses = Spread.of(run["losses"][phase] for run in runs)
        points.append((share_gone, losses.mean, losses.deviation))
    return points


def empty_plot() -> tuple[Any, Any]:
    """A figure with one plot in it, without the lines that only frame it."""
    module = required("matplotlib.figure", "plots", "plots need")
    figure = module.Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(visible=True, color="0.5", alpha=0.22, linewidth=0.7)
    return figure, axes


def by_depth(lines: dict[str, list[float]], ylabel: str) -> Any:
    """Something of each layer against its number."""
    numbered = {name: list(enumerate(values, 1)) for name, values in lines.items()}
    return iplt.plots.tradeoff(numbered, xlabel="convolution", ylabel=ylabel)


def drawn_sizes(sizes: list[int]) -> Any:
    """How many layers have how many parameters."""
    figure, axes = empty_plot()
    axes.hist(sizes, bins=range(0, max(sizes) + SMALL + 1, SMALL) if max(sizes) > SMALL else 10)
    axes.set(xlabel="parameters of the layer", ylabel="layers")
    return figure


def drawn_bars(bars: dict[str, tuple[float, float]]) -> Any:
    """Accuracy of networks before and after."""
    figure, axes = empty_plot()
    for shift, label in ((-0.2, "before"), (0.2, f"sparsity {FIG_7:g}")):
        values = [pair[shift > 0] for pair in bars.values()]
        axes.bar([i + shift for i in range(len(bars))], values, width=0.38, label=label)
    axes.set_xticks(range(len(bars)), list(bars))
    axes.set(ylabel="accuracy, %", ylim=(0, 100))
    axes.legend(frameon=False)
    return figure
