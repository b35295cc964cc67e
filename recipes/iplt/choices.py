"""The IPLT paper: choices that it argues for in words, with no table beside them."""

import argparse
from typing import Any

from ..common.claims import COMPARED, NOISE, NOT_WORSE, Difference
from ..common.grid import Case, Grid
from ..common.page import Page
from ..common.spread import Runs, paired, quotient, spread
from .runs import mnist, train

__all__ = ["choices"]

PRINTED = "as printed"
CLAIMS = {  # what is said not to be worse than what
    "The claim that 10 % a step costs no accuracy beside smaller steps.": (
        PRINTED, "steps half as large",
    ),
    "The claim that a larger k need not be better.": ("k halved", PRINTED),
    "Ranked together, layers are not worse than each by itself.": (PRINTED, "each layer by itself"),
}  # fmt: skip


def choices(options: argparse.Namespace, grid: Grid, page: Page) -> None:
    """Steps, epochs between them and what is ranked together, one changed at a time."""
    target, k, step = max(options.ratios_1), options.mnist_k, options.step
    varied: dict[str, dict[str, Any]] = {
        PRINTED: {},
        "each layer by itself": {"scope": "layer"},
        "by energy": {"criterion": "energy"},
        "steps twice as large": {"step": min(target, 2 * step), "every": 2 * k},
    }
    if k > 1:
        varied["steps half as large"] = {"step": step / 2, "every": k // 2}
        varied["k halved"] = {"every": k // 2}
    common = {"target": target, "step": step, "every": k, "convolutions_only": False,
              "min_channels": 1}  # fmt: skip
    setting = {**mnist(options), "rate": 0.05, "method": "IPLT"}
    found = grid.run({
        name: Case(f"choices/{name.replace(' ', '-')}", train,
                   {**setting, "pruning": {**common, **own}})
        for name, own in varied.items()
    })  # fmt: skip
    page.heading("What the paper says of its choices")
    page.text(
        f"The network and data of Table 1, {100 * target:g} % of the filters, one choice changed "
        f"at a time. As printed: {100 * step:g} % a step, k = {k}, l2, all layers ranked together. "
        "With larger or smaller steps k changes as well, so that the last one falls at about the "
        "same epoch."
    )
    page.table("Choices", [
        {
            "choice": name, "FPR, %": spread(runs, "fpr", 1), "PPR, %": spread(runs, "ppr"),
            "multiply-adds gone, %": spread(runs, "macs_gone"),
            "accuracy, %": spread(runs, "accuracy"),
            "beside the printed": above(runs, found[PRINTED]).verdict(COMPARED),
            "time, CPU": quotient(runs, found[PRINTED], "cpu"),
        }
        for name, runs in found.items()
    ], f"Seeds are paired. {NOISE} Times are those of training over those of the printed choice."
    )  # fmt: skip
    for claim, (one, other) in CLAIMS.items():
        if one in found and other in found:
            page.findings(claim, [above(found[one], found[other]).judged(NOT_WORSE)])


def above(runs: Runs, others: Runs) -> Difference:
    """How many points of accuracy runs are above others, seed by seed."""
    return paired(runs, others, lambda run, other: run["accuracy"] - other["accuracy"]).difference
