"""How sparse each layer should be: Tables I to IV, and what the paper claims by them."""

import argparse
import itertools
import math
from typing import Any

import numpy as np

from ..common.claims import BETTER, NOISE
from ..common.grid import Grid
from ..common.page import Page
from ..common.published import published
from ..common.spread import Runs, Spread, paired, spread
from .runs import VARIANTS, Found, Layers, control, cuts, in_order, probe, started, variant

PUBLISHED = published("structure_aware")
LAYERS, ERRORS = PUBLISHED["tables 1, 2"], PUBLISHED["tables 3, 4"]


def tables_3_4(
    options: argparse.Namespace, grid: Grid, page: Page, network: str
) -> tuple[dict[str, Any], Runs, Found]:
    """The three variants on one network.

    Returns:
        What `pictures` draws: the cuts, the controls, and (variant, sparsity) -> results.
    """
    keys = [(name, target) for target in options.targets for name in VARIANTS]
    results = grid.run({
        "control": control(options, network), "cuts": cuts(options, network),
        **{key: variant(options, network, *key) for key in keys},
    })  # fmt: skip
    unpruned, (looked,) = results["control"], results["cuts"]
    found = {key: results[key] for key in keys}
    page.heading(f"Tables III and IV: {network}")
    page.text(
        f"{started(options, network)}, on {options.data}: {len(unpruned[0]['losses'])} phases, "
        f"each {options.every} × {options.batch} images, another {options.step:.0%} of the "
        f"weights of convolutions after each, rate {options.rate:g}, ζ = {options.zeta:g}, η = "
        f"{'2 × the loss without pruning + ζ' if options.eta is None else options.eta}; seeds: "
        f"{options.seeds}. The published networks learned ImageNet."
    )
    losses = np.array([run["losses"] for run in unpruned])
    page.text(
        f"Without pruning the loss of a phase is {losses.mean():.4f} on average and rises by "
        f"{np.diff(losses).max():.4f} from one phase to the next at most: ζ should be above that."
    )
    rows = [row_of(network, "none", 0.0, unpruned, unpruned)]
    rows += [row_of(network, *key, runs, unpruned) for key, runs in found.items()]
    page.table(f"Tables III and IV, {network}", rows)
    if network in ERRORS.remarks:
        page.text(ERRORS.remarks[network])
    for (name, target), runs in found.items():
        if frozen := runs[0]["frozen"]:
            page.text(f"{name}, {target:g}: frozen in this order: {', '.join(frozen)}.")
    for target in options.targets:
        check_claim(page, target, {name: found[name, target] for name in VARIANTS})
    equation_1(page, network, max(options.targets), found)
    after_a_cut(page, network, looked)
    return looked, unpruned, found


def row_of(network: str, name: str, target: float, runs: Runs, unpruned: Runs) -> dict[str, Any]:
    """What runs of a variant found, beside their controls."""
    theirs = ERRORS.row(network, name, target)
    shares = [value for run in runs for _, _, value in run["layers"]]
    frozen = Spread.of([len(run["frozen"]) for run in runs], 0)
    return {
        "allocation": name, "sparsity": f"{target:g}",
        "error more than before, % (published)": theirs["error more than before, %"],
        "error more than before, % (obtained)": worse(runs, unpruned),
        "more than without pruning": worse(runs, unpruned, "accuracy"),
        "accuracy, %": spread(runs, "accuracy"),
        "e^-loss, %": Spread.of(likely(run["loss"]) for run in runs),
        "layers, %": f"{100 * min(shares):.0f}–{100 * max(shares):.0f}",
        "frozen layers": f"{frozen} of {len(runs[0]['layers'])}" if name == "param" else None,
    }  # fmt: skip


def worse(runs: Runs, unpruned: Runs, than: str = "before") -> Spread:
    """How many points of accuracy are lost: before the training, or in the end of the control."""

    def lost(run: dict[str, Any], other: dict[str, Any]) -> float:
        return (other["before"][0] if than == "before" else other[than]) - run["accuracy"]

    return paired(runs, unpruned, lost)


def likely(loss: float) -> float:
    """Eq. 1, in percent."""
    return 100 * math.exp(-loss)


def check_claim(page: Page, target: float, found: dict[str, Runs]) -> None:
    """Whether depth is better than param, and that than fixed, as the paper finds."""
    page.findings(
        f"The claim that Prune_depth is better than Prune_param, and that than Prune_fixed, at "
        f"{target:.0%}. {NOISE}",
        (f"{better} before {other}: {judged(found[better], found[other])}"
         for better, other in (("depth", "param"), ("param", "fixed"), ("depth", "fixed"))),
    )  # fmt: skip


def judged(runs: Runs, others: Runs) -> str:
    """Whether runs are better than others, beyond noise."""
    return spread(runs, "accuracy").minus(spread(others, "accuracy")).judged(BETTER)


def equation_1(page: Page, network: str, target: float, found: Found) -> None:
    """e^-loss beside the accuracy, phase by phase, in training."""
    runs, rows = found["fixed", target], []
    for phase in range(len(runs[0]["losses"])):
        rows.append({
            "phase": phase + 1, "sparsity, %": 100 * runs[0]["shares"][phase],
            "loss": Spread.of((run["losses"][phase] for run in runs), 4),
            "e^-loss, %": Spread.of(likely(run["losses"][phase]) for run in runs),
            "accuracy in training, %": Spread.of(run["accuracies"][phase] for run in runs),
        })  # fmt: skip
    page.table(
        f"Eq. 1, {network}: Prune_fixed to {target:.0%}",
        rows,
        "The paper takes e^-loss for the accuracy. It is the geometric mean of what the network "
        "gives to the right classes: it falls and rises with the accuracy, and is not the same.",
    )


def after_a_cut(page: Page, network: str, looked: dict[str, Any]) -> None:
    """Accuracy without retraining."""
    rows: dict[str, dict[str, Any]] = {"none": {"allocation": "none"}}
    for one in looked["cuts"]:
        column = f"{one['target']:g}"
        rows["none"][column] = looked["before"][0]
        rows.setdefault(one["how"], {"allocation": one["how"]})[column] = one["accuracy"]
    page.table(
        f"Accuracy after one cut, nothing retrained, {network}, %",
        list(rows.values()),
        '"Normalized" is Eq. 2, which the paper finds to harm.',
    )


def tables_1_2(options: argparse.Namespace, grid: Grid, page: Page, network: str) -> None:
    """Single layers of one network."""
    results = grid.run({"cuts": cuts(options, network), "control": control(options, network)})
    layers = in_order(network, results["cuts"][0]["layers"])
    theirs = [of for of in LAYERS.rows if of[0] == network]
    pairs = by_difference(theirs) if theirs else chosen(layers)
    probed = dict.fromkeys(itertools.chain.from_iterable(pairs.values()))
    found = grid.run({layer: probe(options, network, layer) for layer in probed})
    page.heading(f"Tables I and II: single layers of {network}")
    page.text(
        f"{started(options, network)}: {options.probe_sparsity:.0%} of one layer goes, "
        f"{options.probe_step:.0%} at a time, in as many batches as above. "
        + ("Layers are the paper's." if theirs else "Layers are chosen by rule: see the recipe.")
    )
    sizes = {name: size for name, size, _ in layers}
    places = {name: i for i, (name, _, _) in enumerate(layers, 1)}
    rows = [
        {
            "what differs": what, "layer": name, "number": places[name], "parameters": sizes[name],
            **{f"{key} (published)": value
               for key, value in LAYERS.row(network, what, name).items()},
            "loss of accuracy, % (obtained)": worse(found[name], results["control"]),
            "more than without pruning": worse(found[name], results["control"], "accuracy"),
        }
        for what, pair in pairs.items() for name in pair
    ]  # fmt: skip
    if rows:
        page.table(f"Tables I and II, {network}", rows)
    page.findings("The claims that size and depth matter.", (
        loses_less(what, pair, sizes, found) for what, pair in pairs.items()
    ))  # fmt: skip
    if network in LAYERS.remarks:
        page.text(LAYERS.remarks[network])


def by_difference(rows: list[tuple[Any, ...]]) -> dict[str, tuple[str, ...]]:
    """What differs -> the layers that the paper probes for it, of rows' keys."""
    return {
        what: tuple(layer for *_, layer in group)
        for what, group in itertools.groupby(rows, lambda of: of[1])
    }


def loses_less(
    what: str, pair: tuple[str, ...], sizes: dict[str, int], found: dict[str, Runs]
) -> str:
    """Whether of two layers, the deeper one last, that is better which the paper expects to be."""
    one, two = pair
    better, other = (one, two) if what == "size" and sizes[one] > sizes[two] else (two, one)
    word = "larger" if what == "size" else "deeper"
    return f"the {word} layer loses less: {judged(found[better], found[other])}"


def chosen(layers: Layers) -> dict[str, tuple[str, ...]]:
    """Two pairs of layers to probe, in a network that the paper does not.

    Args:
        layers: (name, size, …) of each, by depth.

    Returns:
        "size" and "depth" -> two names; without what the network does not have.
    """
    inner = layers[1:] if len(layers) > 2 else layers  # the first one sees the image
    pairs = [(a, b) for a, b in itertools.pairwise(inner) if a[1] != b[1]]
    found: dict[str, tuple[str, ...]] = {}
    if pairs:
        one, two = max(pairs, key=lambda p: (max(p[0][1] / p[1][1], p[1][1] / p[0][1]),
                                             p[0][1] + p[1][1]))  # fmt: skip
        found["size"] = (one[0], two[0])
    alike: dict[int, list[tuple[int, str]]] = {}
    for place, (name, size, *_) in enumerate(inner):
        alike.setdefault(size, []).append((place, name))
    ends = [(p[-1][0] - p[0][0], size, p[0][1], p[-1][1]) for size, p in alike.items() if p[1:]]
    if ends:
        found["depth"] = max(ends)[2:]
    return found
