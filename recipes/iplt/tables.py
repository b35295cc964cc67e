"""The IPLT paper: Tables 1 and 2, pruning based on little training against much."""

import argparse
from collections.abc import Callable
from typing import Any

import keras_iplt as iplt

from ..common.claims import NOISE, NOT_WORSE, holds
from ..common.grid import Grid
from ..common.page import Page
from ..common.published import Table, published
from ..common.spread import Runs, Spread, accuracy_at, quotient, spread
from ..common.training import check_data
from ..zoo.vgg import VGG16
from .choices import choices
from .runs import Found, against_pmt, cifar, mnist
from .soft_pruning import table_3

PUBLISHED = published("iplt")
METHODS = {"baseline": "baseline", "norms": "Pruning filters", "PMT": "PMT", "IPLT": "IPLT"}
ON_TIMES = "Times are those of training, tracing and pruning included, over the baseline's."


def reproduce(options: argparse.Namespace) -> dict[str, Any]:
    """Runs what is wanted of the three tables and of the choices, and writes the page."""
    sources = {"1": options.mnist, "2": options.cifar, "3": options.cifar, "choices": options.mnist}
    check_data([sources[name] for name in options.tables], options.data_dir, options.download)
    grid = Grid(options)
    page = Page("Incremental pruning based on less training", grid.study, options.command)
    parts = {"1": table_1, "2": table_2, "3": table_3, "choices": choices}
    for name in options.tables:
        parts[name](options, grid, page)
    return page.write()


def table_1(options: argparse.Namespace, grid: Grid, page: Page) -> None:
    """A plain CNN on MNIST."""
    found = against_pmt(
        grid, "table1", mnist(options), options.mnist_tuning, options.ratios_1,
        {"convolutions_only": False, "min_channels": 1},
        {"every": options.mnist_k, "step": options.step},
    )  # fmt: skip
    page.heading("Table 1: a CNN on MNIST")
    page.text(
        f"`mnist_cnn` with {options.mnist_filters} filters and {options.mnist_units} units on "
        f"{options.mnist}: {options.mnist_epochs} epochs, k = {options.mnist_k}, "
        f"{options.mnist_tuning} epochs of tuning for PMT; seeds: {options.seeds}."
    )
    table, rows = PUBLISHED["table 1"], []
    for (method, gone), runs in found.items():
        theirs = table.row(method, gone)
        rows.append({
            "method": method, "FPR, %": spread(runs, "fpr", 1),
            "PPR, % (published)": theirs["parameters gone, %"],
            "PPR, % (obtained)": spread(runs, "ppr"),
            "accuracy, % (published)": theirs["accuracy, %"],
            "accuracy, % (obtained)": spread(runs, "accuracy"), **times(found, runs, method),
        })  # fmt: skip
    page.table("Table 1", rows, ON_TIMES)
    check_claims(page, found)
    page.picture("table1", lambda: tradeoff(found, table, "ppr", "parameters gone, %"))


def table_2(options: argparse.Namespace, grid: Grid, page: Page) -> None:
    """VGG-16 on CIFAR-10, where the layers of another paper are pruned too."""
    filters = [max(1, round(options.vgg_width * count)) for count in VGG16]
    setting = {
        **cifar(options), "network": "vgg16", "shape": {"filters": filters, "l2": 2.5e-4},
        "epochs": options.vgg_epochs,
    }  # fmt: skip
    found = against_pmt(
        grid, "table2", setting, options.vgg_tuning, options.ratios_2, {"convolutions_only": True},
        {"every": options.vgg_k, "step": options.step}, halved=True,
    )  # fmt: skip
    page.heading("Table 2: VGG-16 on CIFAR-10")
    page.text(
        f"`vgg16` with {options.vgg_width:g} of its filters on {options.cifar}: "
        f"{options.vgg_epochs} epochs, k = {options.vgg_k}, {options.vgg_tuning} epochs of tuning "
        f"for the others; seeds: {options.seeds}. Sizes are those of float32 weights, FLOPs are "
        "multiply-adds, as the paper counts both."
    )
    table, rows = PUBLISHED["table 2"], []
    for (method, gone), runs in found.items():
        theirs = table.row(method, gone)
        macs = theirs["multiply-adds"]
        rows.append({
            "method": METHODS[method], "FPR, %": spread(runs, "fpr", 1),
            "MB (published)": theirs["size, MB"],
            "MB (obtained)": Spread.of(4e-6 * run["params"] for run in runs),
            "FLOPs (published)": macs and f"{macs:.3g}",
            "FLOPs (obtained)": f"{spread(runs, 'macs').mean:.3g}",
            "of them gone, % (published)": theirs["multiply-adds gone, %"],
            "gone, % (obtained)": spread(runs, "macs_gone"),
            "accuracy, % (published)": theirs["accuracy, %"],
            "accuracy, % (obtained)": spread(runs, "accuracy"), **times(found, runs, method),
        })  # fmt: skip
    page.table("Table 2", rows, ON_TIMES)
    page.text(table.remarks["all"])
    check_claims(page, found)
    page.picture("table2", lambda: tradeoff(found, table, "macs_gone", "multiply-adds gone, %"))


def times(found: Found, runs: Runs, method: str) -> dict[str, Spread]:
    """Seconds of training over those of the baseline of the same seed, wall and CPU.

    What PMT tunes has been trained before.
    """
    extra = 0 if method in ("baseline", "IPLT") else 1
    return {
        f"time, {what}": Spread.of(
            extra + value for value in quotient(runs, found["baseline", 0], key).values
        )
        for what, key in (("wall", "seconds"), ("CPU", "cpu"))
    }


def check_claims(page: Page, found: Found) -> None:
    """Whether the paper's two claims hold here."""
    steps = {gone: runs for (method, gone), runs in found.items() if method == "IPLT"}

    def findings(claim: str, said: Callable[[int, Runs], str]) -> None:
        lines = (f"{gone} % of the filters: {said(gone, runs)}" for gone, runs in steps.items())
        page.findings(claim, lines)

    def accuracy(gone: int, runs: Runs) -> str:
        others = spread(found["PMT", gone], "accuracy")
        return spread(runs, "accuracy").minus(others).judged(NOT_WORSE)

    def time(gone: int, runs: Runs) -> str:
        wall, cpu = (one.mean for one in times(found, runs, "IPLT").values())
        return (
            f"less time than the baseline {holds(max(wall, cpu) < 1)} ({wall:.2f} of its wall "
            f"seconds, {cpu:.2f} of its CPU seconds)."
        )

    claim = "The claim that IPLT is not worse than PMT with as many filters gone."
    findings(f"{claim} {NOISE}", accuracy)
    findings("The claim that IPLT saves training time.", time)


def tradeoff(found: Found, table: Table, key: str, xlabel: str) -> Any:
    """Accuracy against what is gone, with the published points."""
    lines: dict[str, list[Any]] = {}
    theirs: dict[str, list[Any]] = {}
    for (method, gone), runs in found.items():
        name = METHODS[method]
        lines.setdefault(name, []).append(accuracy_at(spread(runs, key).mean, runs))
        if printed := table.rows.get((method, gone)):
            theirs.setdefault(name, []).append((printed[xlabel], printed["accuracy, %"]))
    return iplt.plots.tradeoff(lines, theirs, xlabel=xlabel, ylabel="accuracy, %")
