"""What was counted: the whole model, its layers, and the files that were exported."""

import collections.abc
import numbers
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element

from keras_iplt.analysis.comparison import Comparison, share_gone
from keras_iplt.analysis.profiles import LayerProfile, Profile
from keras_iplt.errors import OptionError
from keras_iplt.exporting.exporter import Export
from keras_iplt.reporting.page import add, add_row, gauge, table
from keras_iplt.support.tables import mebibytes, percent, thousands

__all__ = ["add_exports", "add_headline", "add_layers", "checked_metrics"]

Metrics = dict[str, tuple[float, float | None]]  # name -> before and after


def add_headline(
    main: Element, profile: Profile, comparison: Comparison | None, metrics: Metrics
) -> None:
    """What it comes to: tiles, and a table."""
    section = add(main, "section")
    add(section, "h2", "At a glance")
    tiles = add(section, "dl", class_="tiles")
    if comparison is None:
        _tile(
            tiles, "Parameters", thousands(profile.params), f"{mebibytes(profile.size_bytes)} MiB"
        )
        _tile(tiles, "FLOPs", _short(profile.flops), "per example")
    else:
        after = comparison.after
        filters = sum(row.prunable for row in profile.layers)
        _tile(tiles, "Filters gone", percent(comparison.fpr), f"of {thousands(filters)} (FPR)")
        _tile(
            tiles,
            "Parameters gone",
            percent(comparison.ppr),
            f"{thousands(after.params)} left (PPR)",
        )
        _tile(tiles, "FLOPs gone", percent(comparison.pruned_flops), f"{_short(after.flops)} left")
    for name, (old, new) in metrics.items():
        if new is None:
            _tile(tiles, name, _metric(name, old), "")
        else:
            _tile(tiles, name, _metric(name, new), f"was {_metric(name, old)}")
    heads = ["", "value"] if comparison is None else ["", "before", "after", "gone"]
    body = table(section, "The model as a whole; FLOPs are for one example", heads)
    for label, column, form in (
        ("Parameters", "params", thousands),
        ("Trainable parameters", "trainable_params", thousands),
        ("Multiply-adds", "macs", thousands),
        ("FLOPs", "flops", thousands),
        ("Size of the weights (MiB)", "size_bytes", mebibytes),
    ):
        old = getattr(profile, column)
        cells = [form(old)]
        if comparison is not None:
            new = getattr(comparison.after, column)
            cells += [form(new), percent(share_gone(old, new))]
        add_row(body, label, cells)
    for name, (old, new) in metrics.items():
        cells = [_metric(name, old)]
        if comparison is not None:
            cells += ["–", ""] if new is None else [_metric(name, new), ""]
        add_row(body, name, cells)


def add_layers(main: Element, profile: Profile, comparison: Comparison | None) -> None:
    """A row per layer that has weights or costs anything."""
    section = add(main, "section")
    add(section, "h2", "Layer by layer")
    if comparison is None:
        pairs: list[tuple[LayerProfile, LayerProfile | None]] = [
            (row, row) for row in profile.layers if row.params or row.flops
        ]
        caption = "Layers with weights or FLOPs; the bars show shares of the largest"
    else:
        pairs = [(pair.before, pair.after) for pair in comparison.layers]
        caption = "Layers with weights or FLOPs; the bars show how much is left"
    heads = ["layer", "type", "filters", "parameters", "FLOPs"]
    body = table(section, caption, heads, left=2)
    for before, after in pairs:
        frozen = bool(before.filters) and not before.prunable
        row = add_row(
            body, before.name, [before.type], left=1, **({"class_": "frozen"} if frozen else {})
        )
        for column in ("filters", "params", "flops"):
            old = getattr(before, column)
            new = 0 if after is None else getattr(after, column)
            said = thousands(old) if new == old else f"{thousands(old)} → {thousands(new)}"
            cell = add(row, "td", said if old != 0 else "–", class_="number")
            whole = (
                old if comparison is not None else max(getattr(p[0], column) or 0 for p in pairs)
            )
            if old and new is not None:
                gauge(cell, new / whole)


def add_exports(main: Element, exports: Sequence[Export]) -> None:
    """The files that were written, side by side."""
    section = add(main, "section")
    add(section, "h2", "Exported files")
    heads = ["file", "format", "bytes", "after gzip", "one example", "runtime", "differs by"]
    caption = (
        "Differences are of outputs, relative to the largest, from those of the Keras model, with "
        "what was allowed"
    )
    body = table(section, caption, heads, left=2)
    largest = max(done.size for done in exports)
    for done in exports:
        row = add_row(body, done.path, [f"{done.format}, {done.precision}"], left=1)
        gauge(add(row, "td", thousands(done.size), class_="number"), done.size / largest)
        for said in (
            thousands(done.gzip),
            f"{1e3 * done.latency:.2f} ms",
            done.runtime,
            f"{done.difference:.1e} of {done.tolerance:.0e}",
        ):
            add(row, "td", said, class_="number")


def checked_metrics(accuracy: Any) -> Metrics:
    """`{metric: (before, after)}` from what `report` takes; `after` may be None."""
    if accuracy is None:
        return {}
    wrong = OptionError(
        'accuracy: expected {"before": …, "after": …} or {metric: (before, after)} of numbers, '
        f"received: {accuracy!r}"
    )
    if not isinstance(accuracy, collections.abc.Mapping) or not accuracy:
        raise wrong
    if set(accuracy) <= {"before", "after"}:
        accuracy = {"accuracy": (accuracy.get("before"), accuracy.get("after"))}
    found = {}
    for name, pair in accuracy.items():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not _is_number(pair[0]):
            raise wrong
        if pair[1] is not None and not _is_number(pair[1]):
            raise wrong
        found[str(name)] = float(pair[0]), None if pair[1] is None else float(pair[1])
    return found


def _is_number(x: Any) -> bool:
    return isinstance(x, numbers.Real) and not isinstance(x, bool)


# -- how it is said --------------------------------------------------------------------------------


def _tile(tiles: Element, name: str, value: str, aside: str) -> None:
    tile = add(tiles, "div")
    add(tile, "dt", name)
    said = add(tile, "dd", value)
    add(said, "small", aside)


def _metric(name: str, value: float) -> str:
    """Accuracies in percent, everything else as it is."""
    share = "acc" in name.lower() and 0 <= value <= 1
    return f"{value:.2%}" if share else f"{value:.4g}"


def _short(count: float | None) -> str:
    """12345678 -> "12.3 M"."""
    if count is None:
        return "unknown"
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
