"""Pruned networks from scratch: what was found, beside what the report says."""

import argparse
import functools
from typing import Any

import keras_iplt as iplt
from keras_iplt.errors import OptionError

from ..common.claims import COMPARED, Difference
from ..common.grid import Grid
from ..common.page import Page
from ..common.published import published
from ..common.spread import Runs, Spread, accuracy_at, paired, spread
from .names import METHODS, takes
from .networks import shape
from .runs import Found, run_all

BUDGETS = {"tuned": "fine-tuned", "e": "Scratch-E", "b": "Scratch-B"}
KINDS = {"all methods": METHODS, "structured": METHODS[:-1], "unstructured": ("weights",)}
CLAIMS = published("rethinking")["claims"]


def reproduce(options: argparse.Namespace) -> dict[str, Any]:
    """Runs what is wanted, and writes the page."""
    for network in options.networks:  # what cannot work is said before anything is trained
        shape(network, options.width)
    if not any(
        takes(method, network) for method in options.methods for network in options.networks
    ):
        raise OptionError(
            f"methods: sss selects residual blocks: expected resnet<depth> among the networks, "
            f"received: {', '.join(options.networks)}"
        )
    grid = Grid(options)
    page = Page("Rethinking the value of network pruning", grid.study, options.command)
    show(options, page, run_all(options, grid))
    return page.write()


def show(options: argparse.Namespace, page: Page, found: Found) -> None:
    """The table of accuracies, the claims, and a picture of each network."""
    page.heading("Fine-tuned, and from scratch")
    page.text(
        f"{options.data}: {options.epochs} epochs at first and for Scratch-E, {options.tuning} of "
        f"fine-tuning at {0.01 * options.rate:g}; {options.width:g} of the filters of each network "
        f"to begin with; seeds: {options.seeds}. The report prints no numbers to put beside these, "
        "and calls both budgets Scratch-B: the first is taken to be Scratch-E."
    )
    rows = [row(options, network, method, runs) for (network, method), runs in found.items()]
    page.table(
        "Accuracy on the test part", rows,
        "Gone are multiply-adds and parameters; of `weights`, what zeros would save if "
        "multiplications with them were left out, which no layer here does. Unpruned are the plain "
        "network or, of `slimming`, that with its penalty. Scratch-B is epochs × multiply-adds "
        "before / after. Of networks without residual blocks, `sss` has none to select.",
    )  # fmt: skip
    check_claims(page, found)
    for network in options.networks:
        own = {method: runs for (n, method), runs in found.items() if n == network}
        page.picture(network, functools.partial(picture, own))


def row(
    options: argparse.Namespace, network: str, method: str, runs: dict[str, Runs]
) -> dict[str, Any]:
    """What is told of one method on one network."""

    def gone(key: str) -> Spread:
        both = runs["tuned"], runs["unpruned"]
        return paired(*both, lambda left, whole: 100 * (1 - left[key] / whole[key]), 1)

    return {
        "network": network, "method": method, "multiply-adds gone, %": gone("macs"),
        "parameters gone, %": gone("params"), "unpruned, %": spread(runs["unpruned"], "accuracy"),
        **{f"{title}, %": spread(runs[name], "accuracy") for name, title in BUDGETS.items()},
        "epochs, fine-tuned": f"{options.epochs} + {options.tuning}",
        **{f"epochs, {BUDGETS[name]}": spread(runs[name], "epochs", 0)
           for name in ("e", "b")},
    }  # fmt: skip


def points_above(runs: Runs, others: Runs) -> Difference:
    """How many points of accuracy runs are above others: seeds share architecture and data."""
    return paired(runs, others, lambda run, other: run["accuracy"] - other["accuracy"]).difference


def tally(differences: list[Difference]) -> str:
    """How often what is the case."""
    if not differences:
        return "not run"
    said = [one.verdict(COMPARED) for one in differences]
    counted = [f"{said.count(word)} {word}" for word in dict.fromkeys(said)]
    listed = ", ".join(f"{one.points:+.2f}" for one in differences)
    return f"{', '.join(counted)} (points: {listed})"


def check_claims(page: Page, found: Found) -> None:
    """What the report says, and what came out."""
    compared = {
        case: {
            f"{BUDGETS[one]} over {BUDGETS[other]}": points_above(runs[one], runs[other])
            for one, other in (("b", "e"), ("e", "tuned"), ("b", "tuned"))
        }
        for case, runs in found.items()
    }
    page.table("Differences, points", [
        {"network": network, "method": method,
         **{key: f"{one.points:+.2f}: {one.verdict(COMPARED)}" for key, one in own.items()}}
        for (network, method), own in compared.items()
    ], "Seeds are paired; the noise is twice the standard error. Within the noise is not the same "
       "as equal: few seeds tell only large differences.")  # fmt: skip
    page.table("The report's claims", [
        {"claim": key, "of": kind, "published, in words": theirs["in words"], "obtained": tally(
            [own[key] for (_, method), own in compared.items() if method in KINDS[kind]])}
        for (key, kind), theirs in CLAIMS.rows.items()
    ])  # fmt: skip


def picture(found: dict[str, dict[str, Runs]]) -> Any:
    """Accuracy against what all training costs; left to right: Scratch-E, Scratch-B, fine-tuned."""
    lines = {}
    for method, runs in found.items():
        whole = spread(runs["unpruned"], "macs").mean
        points = []
        for name in ("e", "b", "tuned"):
            spent = Spread.of([run["epochs"] * run["macs"] / whole for run in runs[name]]).mean
            spent += runs["unpruned"][0]["epochs"] if name == "tuned" else 0
            points.append(accuracy_at(spent, runs[name]))
        lines[method] = points
    return iplt.plots.tradeoff(
        lines, ylabel="accuracy, %",
        xlabel="training, in epochs of the unpruned network: Scratch-E, Scratch-B, fine-tuned",
    )  # fmt: skip
