"""Incremental pruning of single weights: tables and figures, published and obtained."""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import keras_iplt as iplt

from ..common.claims import NOISE, NOT_WORSE, holds
from ..common.grid import Grid
from ..common.page import Page
from ..common.published import published
from ..common.spread import Runs, Spread, quotient, spread
from ..common.training import check_data
from .runs import METHODS, READINGS, TABLE_DATA, TRAINED, Found, built, cases

__all__ = ["reproduce"]

NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
OURS = "this paper"
PUBLISHED = published("incremental_weights")


def reproduce(options: argparse.Namespace) -> dict[str, Any]:
    """Runs what is wanted of the tables, and writes the page."""
    needed = cases(options)
    sources = [getattr(options, data) for data, *_ in needed]
    check_data(sources, options.data_dir, options.download)
    grid = Grid(options)
    page = Page("An incremental pruning strategy for fast training", grid.study, options.command)
    found = grid.run(needed)
    for number in sorted(set(options.tables) & set(TABLE_DATA)):
        accuracies(options, page, found, number)
    if 5 in options.tables:
        table_5(page, found)
    figures(page, found)
    return page.write()


def accuracies(options: argparse.Namespace, page: Page, found: Found, number: int) -> None:
    """One of Tables I to IV, published and obtained."""
    data, table = TABLE_DATA[number], PUBLISHED[f"table {number}"]
    kind, numeral = "unpruned" if number == 1 else "pruned", ("I", "II", "III", "IV")[number - 1]
    page.heading(f"Table {numeral}: {kind} networks on {NAMES[data]}")
    was_run = any(data == name for name, *_ in found)
    page.text(setting(options, data, kind) if was_run else "As published: nothing of it was run.")
    page.table(f"Table {numeral}", rows(found, number), table.remarks["all"])
    if was_run:
        check_accuracies(page, found, number)


def setting(options: argparse.Namespace, data: str, kind: str) -> str:
    """What was done to whom."""
    left = " that were left" if options.share_of == "left" else ""
    steps = (
        f" After every {options.k} of them another {100 * options.step:g} % of the weights{left} "
        f"went, to {100 * options.target:g} %" + (" at most." if left else ".")
    )
    networks = [network for network in TRAINED[data] if not options.only or network in options.only]
    return (
        f"On {getattr(options, data)}: {options.epochs} epochs of batches of {options.batch}; "
        f"seeds: {options.seeds}.{steps if kind == 'pruned' else ''}\n\n"
        + "\n".join(f"- {network}: {described(options, network)}" for network in networks)
    )


def described(options: argparse.Namespace, network: str) -> str:
    """What it was built with, of which the paper tells neither rates nor factors."""
    name, shape = built(options, network)
    made = f"`{name}`, batch norm, dropout of {shape['dropout']:g}, L2 of {shape['l2']:g}"
    if network != "VGG-Lite":
        return f"{made}."
    return (
        f"{made}, {options.vgg_width:g} of its filters. It is a reconstruction: the paper's figure "
        "of it is missing (docs/zoo.md)."
    )


def rows(found: Found, number: int) -> list[dict[str, Any]]:
    """Those of other papers as published, those of this one with what was obtained."""
    made, pruned = [], number > 1
    ours = READINGS if pruned else METHODS[:1]
    for (network, whose), theirs in PUBLISHED[f"table {number}"].rows.items():
        for method in ours if whose == OURS else ("",):
            runs = found.get((TABLE_DATA[number], network, method), [])
            row = {"network": network, "of": whose}
            if pruned:
                row |= {"what goes": method or None, "zeros, %": of_any(runs, "zeros", 1)}
            made.append({
                **row, "epochs (published)": theirs["epochs"],
                "epochs (obtained)": len(runs[0]["history"]["loss"]) if runs else None,
                "accuracy, % (published)": theirs["accuracy, %"],
                "training accuracy, % (obtained)": of_any(runs, "train"),
                "test accuracy, % (obtained)": of_any(runs, "test"),
            })  # fmt: skip
    return made


def of_any(runs: Runs, key: str, digits: int = 2) -> Spread | None:
    """The spread of a figure, if anything was run."""
    return spread(runs, key, digits) if runs else None


def check_accuracies(page: Page, found: Found, number: int) -> None:
    """What the published figures are near to, and whether what the paper claims of them holds."""
    data, table = TABLE_DATA[number], PUBLISHED[f"table {number}"]
    ours = [network for network, whose in table.rows if whose == OURS]
    told = {
        (network, method): found[data, network, method]
        for network in ours for method in (METHODS[:1] if number == 1 else READINGS)
        if (data, network, method) in found
    }  # fmt: skip

    def findings(claim: str, verdict: Callable[[str, str], str]) -> None:
        page.findings(claim, (f"{', '.join(one)}: {verdict(*one)}" for one in told))

    def near(network: str, method: str) -> str:
        return distances(table.row(network, OURS)["accuracy, %"], told[network, method])

    def costs_nothing(network: str, method: str) -> str:
        before = spread(found[data, network, "unpruned"], "test")
        return spread(told[network, method], "test").minus(before).judged(NOT_WORSE)

    findings("What the published accuracy is near to.", near)
    if number == 1:
        claim = "The claim that both training and testing accuracies are above 99 %."
        findings(claim, lambda network, method: above_99(told[network, method]))
    else:
        claim = "The claim that pruning while training does not cost accuracy: of test images, "
        findings(f"{claim}pruned less unpruned. {NOISE}", costs_nothing)


def distances(published: float, runs: Runs) -> str:
    """How far a figure is from accuracy on training and on test images."""
    train, test = (published - spread(runs, key).mean for key in ("train", "test"))
    return f"{published:.2f} is training accuracy {train:+.2f}, test accuracy {test:+.2f}."


def above_99(runs: Runs) -> str:
    """Whether accuracy on training and on test images is above 99 %."""
    means = [spread(runs, key).mean for key in ("train", "test")]
    return f"{means[0]:.2f} % and {means[1]:.2f} %: {holds(min(means) > 99)}."


def table_5(page: Page, found: Found) -> None:
    """Epochs, time and bytes."""
    page.heading("Table V: what a pruned model takes, and what it saves")
    page.table(
        "Table V: epochs to a pruned model",
        epoch_rows(found), PUBLISHED["table 5"].remarks["all"],
    )  # fmt: skip
    page.table(
        "What zeros save",
        savings(found),
        "Times are those of training over that of the unpruned network of the same seed, with "
        "tracing, pruning and an evaluation of the test images after each epoch: 1.00 means that "
        "zeros save none. Processors multiply by zero as by any other number. Wall seconds depend "
        "on what else a machine does, CPU seconds hardly; the first training of a process, an "
        "unpruned one, takes a few seconds more than the others. Bytes are those of all weights as "
        "float32, of the same with compressed rows (CSR) where these are smaller, and of the "
        "gzipped weight file: zeros save them where a model is stored. The paper prints neither "
        "seconds nor bytes.",
    )


def epoch_rows(found: Found) -> list[dict[str, Any]]:
    """Table V; what was trained besides follows."""
    table, made = PUBLISHED["table 5"], []
    trained_too = ((data, network) for data, network, method in found if method == READINGS[0])
    for data, network in dict.fromkeys([*table.rows, *trained_too]):
        theirs = table.row(data, network)
        runs = found.get((data, network, READINGS[0]))
        history = runs[0]["history"] if runs else {}
        made.append({
            "data": NAMES[data], "network": network,
            **{f"{whose} (published)": epochs for whose, epochs in theirs.items()},
            "epochs (obtained)": len(history["loss"]) if history else None,
            "of them before the last weights go":
                reached(history["sparsity"]) if history else None,
        })  # fmt: skip
    return made


def reached(sparsity: list[float]) -> int:
    """How many epochs are over when the most zeros are set, from how many there are in each."""
    return sparsity.index(max(sparsity))


def savings(found: Found) -> list[dict[str, Any]]:
    """Time over the unpruned network's, and bytes."""
    made = []
    for (data, network, method), runs in found.items():
        base = found[data, network, "unpruned"]
        pruned = method != "unpruned"
        made.append({
            "data": NAMES[data], "network": network, "what goes": method if pruned else None,
            "weights": runs[0]["weights"], "zeros, %": spread(runs, "zeros", 1),
            "s an epoch": Spread.of(run["seconds"] / len(run["history"]["loss"]) for run in runs),
            "time, wall": quotient(runs, base, "seconds") if pruned else None,
            "time, CPU": quotient(runs, base, "cpu") if pruned else None,
            **{f"{name}, kB": Spread.of([run[key] / 1000 for run in runs], 1)
               for name, key in (("float32", "bytes"), ("CSR", "csr"), ("gzip", "gzip"))},
        })  # fmt: skip
    return made


def figures(page: Page, found: Found) -> None:
    """A picture per network and data, unpruned and pruned."""
    page.heading("Fig. 7 and 8: accuracy and loss")
    page.text(
        'After each epoch, means of the seeds; test images dashed ("validation"). Training '
        "figures are those that Keras adds up during an epoch, with dropout, so that they may be "
        "below those of the test images; losses include the L2 penalty. The paper shows the "
        "unpruned networks on MNIST only."
    )
    for data, network in dict.fromkeys((data, network) for data, network, _ in found):
        own = {method: found[data, network, method] for method in METHODS
               if (data, network, method) in found}  # fmt: skip
        page.picture(f"curves-{data}-{network}", functools.partial(iplt.plots.history, curves(own)))


def curves(own: dict[str, Runs]) -> dict[str, list[float]]:
    """Accuracy and loss by epoch of each method, means of the seeds, as `plots.history` draws."""
    return {
        f"{prefix}{metric}, {method}": np.mean(
            [run["history"][prefix + metric] for run in runs], axis=0
        ).tolist()
        for method, runs in own.items()
        for metric in ("accuracy", "loss")
        for prefix in ("", "val_")
    }
