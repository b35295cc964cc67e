"""The IPLT paper: Table 3, soft filter pruning against its IPLT form."""

import argparse
import itertools
from typing import Any

import keras_iplt as iplt

from ..common.claims import NOISE, NOT_WORSE
from ..common.grid import Case, Grid
from ..common.page import Page
from ..common.published import published
from ..common.spread import accuracy_at, quotient, spread
from .runs import Found, cifar, train

DECAY = 2.5e-4  # Keras's L2 is not halved: the gradient is that of a weight decay of 5e-4
TABLE = published("iplt")["table 3"]


def table_3(options: argparse.Namespace, grid: Grid, page: Page) -> None:
    """Soft filter pruning of a ResNet, and its IPLT form."""
    found = grid.run(soft_cases(options))
    page.heading("Table 3: soft filter pruning of ResNet-110 on CIFAR-10")
    begun = f"from {options.resnet}" if options.resnet else f"of depth {options.resnet_depth}, new"
    page.text(
        f"A ResNet {begun}, on {options.cifar}: {options.resnet_epochs} epochs, k = "
        f"{options.resnet_k}, {options.resnet_soft} epochs in which the IPLT form prunes; seeds: "
        f"{options.seeds}."
    )
    formula = [
        {
            "filters gone, %": gone,
            "published, %": TABLE.row("SFP", gone)["multiply-adds gone, %"],
            "by the formula, %": round(100 * sfp_share(gone / 100), 1),
        }
        for gone in (10, 20, 30)
    ]
    title = "Multiply-adds of ResNet-110 that go, by the formula of soft filter pruning"
    page.table(title, formula, TABLE.remarks["all"])
    page.table("Table 3", soft_rows(found))
    page.findings(
        "The claim that the IPLT form is not worse than soft filter pruning with as many filters "
        f"gone. {NOISE}",
        (
            f"{gone} % of the filters, {layout}: "
            + spread(runs, "accuracy").minus(spread(found["SFP", layout, gone], "accuracy"))
            .judged(NOT_WORSE)
            for (method, layout, gone), runs in found.items() if method == "IPLT, soft"
        ),
    )  # fmt: skip
    page.picture("table3", lambda: soft_tradeoff(found))


def soft_cases(options: argparse.Namespace) -> dict[tuple[str, str, int], Case]:
    """Both methods in both layouts, by method, layout and filters gone in percent."""
    setting = {
        **cifar(options), "network": "cifar_resnet",
        "shape": {"depth": options.resnet_depth, "l2": DECAY},
        "epochs": options.resnet_epochs, "rate": options.resnet_rate,
        "start": None if options.resnet is None else str(options.resnet),
    }  # fmt: skip
    whole = Case("table3/baseline", train, {**setting, "method": "baseline"})
    cases = {("baseline", "–", 0): whole}
    for layout, method, ratio in itertools.product(
        ("full width", "coupled"), ("SFP", "IPLT, soft"), options.ratios_3
    ):
        rising = [r for r in options.ratios_3 if r <= ratio]
        soft = {"ratios": rising, "every": options.resnet_k, "soft_epochs": options.resnet_soft}
        own = {"target": ratio} if method == "SFP" else soft
        name = f"{method.lower().replace(', ', '-')}-{ratio:g}-{layout.replace(' ', '-')}"
        cases[method, layout, round(100 * ratio)] = Case(
            f"table3/{name}", train, {**setting, "method": method, "layout": layout, "pruning": own}
        )
    return cases


def soft_rows(found: Found) -> list[dict[str, Any]]:
    """Table 3: a row for each method, layout and share."""
    baseline, rows = found["baseline", "–", 0], []
    for (method, layout, gone), results in found.items():
        theirs = TABLE.row(method.partition(",")[0], gone)
        rows.append({
            "method": method, "layout": layout, "filters, %": spread(results, "fpr", 1),
            "multiply-adds": f"{spread(results, 'macs').mean:.3g}",
            "gone, %": spread(results, "macs_gone", 1),
            "accuracy, % (published, ResNet-110)": theirs["accuracy, %"],
            "accuracy, % (obtained)": spread(results, "accuracy"),
            "time, CPU": quotient(results, baseline, "cpu"),
        })  # fmt: skip
    return rows


def soft_tradeoff(found: Found) -> Any:
    """Accuracy against multiply-adds gone, a line for each method and layout."""
    lines: dict[str, list[Any]]
    lines = {f"{method}, {layout}": [] for method, layout, gone in found if gone}
    for (method, layout, _), runs in found.items():
        for name in [f"{method}, {layout}"] if method != "baseline" else lines:
            lines[name].append(accuracy_at(spread(runs, "macs_gone").mean, runs))
    return iplt.plots.tradeoff(lines, xlabel="multiply-adds gone, %", ylabel="accuracy, %")


def sfp_share(ratio: float, depth: int = 110, widths: tuple[int, ...] = (16, 32, 64)) -> float:
    """The share of the multiply-adds of a CIFAR ResNet that soft filter pruning counts as gone.

    Every convolution loses a fraction of its filters; streams stay whole, so that only the second
    convolution of a block, and what follows the first one of the network, have fewer inputs.
    """
    left, blocks = 1 - ratio, (depth - 2) // 6
    whole = 9.0 * 3 * widths[0] * 32**2
    pruned = whole * left
    inputs, before = widths[0], left
    for stage, width in enumerate(widths):
        side = 32 >> stage
        for _ in range(blocks):
            first, second = (9 * side**2 * width * count for count in (inputs, width))
            whole += first + second
            pruned += first * left * before + second * left**2
            inputs, before = width, 1.0
    return 1 - pruned / whole
