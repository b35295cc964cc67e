"""A language model: what was found."""

import argparse
from typing import Any

import keras_iplt as iplt

from ..common.grid import Grid
from ..common.page import Page
from ..common.spread import Runs, Spread, paired, spread
from .runs import Found, run_all
from .text import ALPHABET, numbers_of


def reproduce(options: argparse.Namespace) -> dict[str, Any]:
    """Runs what is wanted, and writes the page."""
    numbers_of(options.prompt)  # what cannot work is said before anything is trained
    grid = Grid(options)
    page = Page("A language model, pruned", grid.study, options.command)
    show(options, page, *run_all(options, grid))
    return page.write()


def show(options: argparse.Namespace, page: Page, whole: Runs, found: Found) -> None:
    """The table of perplexities, what the models write, and a picture."""
    page.heading("Perplexity against parameters")
    page.text(
        f"A decoder of {options.depth} blocks of width {options.width} with {options.heads} heads "
        f"reads {options.length} of {len(ALPHABET)} letters: {options.epochs} × {options.batches} "
        f"batches of {options.batch} texts; refitted to {options.seen} of them, then "
        f"{options.tuning} × {options.batches} batches at {options.tuning_rate:g}, half of the "
        f"loss from the whole model; seeds: {options.seeds}. No figures are published beside these."
    )
    rows = [{
        "goes": "nothing", "parameters": spread(whole, "params", 0), "parameters left, %": None,
        "multiply-adds left, %": None, "cut": spread(whole, "perplexity"), "refitted": None,
        "tuned": None, "masked writes the same": None,
    }]  # fmt: skip
    for (way, _), runs in found.items():
        rows.append({
            "goes": way, "parameters": spread(runs, "params", 0),
            "parameters left, %": left(runs, whole, "params"),
            "multiply-adds left, %": left(runs, whole, "macs"),
            **{key: spread(runs, key) if key in runs[0] else None
               for key in ("cut", "refitted", "tuned")},
            "masked writes the same": "yes" if all(run["same"] for run in runs) else "no",
        })  # fmt: skip
    page.table(
        "Perplexity per letter on the last tenth of the text", rows,
        "Blocks go with larger steps, and there is nothing to refit where no channel goes.",
    )  # fmt: skip
    page.picture("perplexity", lambda: picture(whole, found))
    page.heading("What they write")
    texts = {"the whole model": whole[0]["text"]}
    for (way, share), runs in found.items():
        texts[f"{way}, {share:g} left, cut"] = runs[0]["cut text"]
        texts[f"{way}, {share:g} left, tuned"] = runs[0]["text"]
    page.findings(
        f"After {options.prompt!r}:", [f"{name}: `{text!r}`" for name, text in texts.items()]
    )


def left(runs: Runs, whole: Runs, key: str) -> Spread:
    """How much of a cost is left, in percent."""
    return paired(runs, whole, lambda run, other: 100 * run[key] / other[key], 1)


def picture(whole: Runs, found: Found) -> Any:
    """Perplexity, cut and tuned, against parameters."""
    whole_point = (spread(whole, "params").mean, spread(whole, "perplexity").mean)
    lines: dict[str, list[Any]] = {}
    for (way, _), runs in found.items():
        for key in ("cut", "tuned"):
            line = lines.setdefault(f"{way}, {key}", [whole_point])
            line.append((spread(runs, "params").mean, spread(runs, key).mean))
    return iplt.plots.tradeoff(lines, xlabel="parameters", ylabel="perplexity per letter")
