"""The page, part by part."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

import keras

from keras_iplt.analysis.comparison import Comparison, compare
from keras_iplt.analysis.profiles import Profile, profile
from keras_iplt.analysis.sensitivities import Sensitivity
from keras_iplt.exporting.exporter import Export
from keras_iplt.graph.channels import Graph
from keras_iplt.graph.trace import graph_for
from keras_iplt.planning.plan import Plan, bound
from keras_iplt.reporting.decisions import add_frozen, add_plan
from keras_iplt.reporting.figures import (
    add_exports,
    add_headline,
    add_layers,
    checked_metrics,
)
from keras_iplt.reporting.page import add, page, write
from keras_iplt.reporting.pictures import picture
from keras_iplt.reporting.surroundings import add_surroundings, checked_command
from keras_iplt.support.arguments import Path, checked, several
from keras_iplt.support.extras import required
from keras_iplt.support.files import file_at
from keras_iplt.surgery import rewrite

__all__ = ["report"]

_TALL = 40  # rows from which a picture is a list to scroll through


@checked
def report(
    path: Path,
    before: keras.Model | Graph | Profile,
    after: keras.Model | Graph | Profile | None = None,
    plan: Plan | None = None,
    sensitivity: Sensitivity | None = None,
    exports: Export | Iterable[Export] = (),
    history: Any = None,
    accuracy: Mapping[str, Any] | None = None,
    command: str | Iterable[str] | None = None,
    title: str | None = None,
    notes: str | Iterable[str] = (),
) -> str:
    """Writes one page about one run: numbers, layers, pictures, the plan, and how to repeat it.

    The page is a single HTML file without scripts that loads nothing. It is written beside its
    place and takes it when it is complete.

    Args:
        path: of the file.
        before: the model before pruning, its `Graph` or its `Profile`. A model that was shrunk in
            place has a profile only if it was made in time; pictures then come from `after`.
        after: the same afterwards. If there is none but a plan, what the plan leaves is shown.
        plan: the `Plan` that was carried out.
        sensitivity: a `Sensitivity`.
        exports: what `keras_iplt.export` returned, one or several.
        history: what `model.fit` returned, or `{metric: [one number per epoch]}`.
        accuracy: `{"before": …, "after": …}`, or `{metric: (before, after)}`.
        command: what was run, as a string or a list.
        title: of the page; by default the model's name.
        notes: sentences to add.

    Returns:
        The path.

    Example:

    >>> import os, pathlib, tempfile
    >>> import keras
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, name="conv"),
    ...     keras.layers.Flatten(), keras.layers.Dense(10, name="head")], name="net")
    >>> path = os.path.join(tempfile.mkdtemp(), "run.html")
    >>> _ = iplt.reporting.report(
    ...     path, model, plan=iplt.plan(model, 0.5), accuracy={"before": 0.98, "after": 0.97})
    >>> "97.00%" in pathlib.Path(path).read_text(encoding="utf-8")
    True
    """
    required("matplotlib.figure", "plots", "reports need")
    file_at(path)
    metrics, command = checked_metrics(accuracy), checked_command(command)
    exports, notes = several(exports), several(notes)
    before = before if isinstance(before, (Profile, Graph)) else graph_for(before)
    if plan is not None and isinstance(before, Graph):
        plan = bound(plan, before.model)
    supposed = False
    if after is None and plan is not None and isinstance(before, Graph):
        after, supposed = rewrite(before.model, plan), True
    if after is not None and not isinstance(after, (Profile, Graph)):
        after = graph_for(after)
    counted = before if isinstance(before, Profile) else profile(before)
    comparison = None if after is None else compare(counted, after)
    graph = next((one for one in (before, after) if isinstance(one, Graph)), None)
    name = counted.name
    title = title or (name if comparison is None else f"Pruning of {name}")
    document, main = page(title, _lead(name, comparison, supposed))
    add_headline(main, counted, comparison, metrics)
    _add_notes(main, notes)
    add_layers(main, counted, comparison)
    _add_pictures(main, counted, comparison, graph, graph is before, sensitivity, history)
    if plan is not None:
        add_plan(main, plan)
    if graph is not None:
        add_frozen(main, graph)
    if exports:
        add_exports(main, exports)
    add_surroundings(main, command)
    _add_footer(document)
    return write(document, path)


# -- parts -----------------------------------------------------------------------------------------


def _lead(name: str, comparison: Comparison | None, supposed: bool) -> str:
    if comparison is None:
        return f"The model {name}, as it is."
    if supposed:
        return f"The model {name}, and what the plan leaves of it."
    after = comparison.after.name
    other = "" if after == name else f", now {after}"
    return f"The model {name} before and after pruning{other}."


def _add_notes(main: Element, notes: Sequence[str]) -> None:
    if notes:
        section = add(main, "section")
        add(section, "h2", "Notes")
        listed = add(section, "ul")
        for note in notes:
            add(listed, "li", note)


def _add_pictures(
    main: Element,
    counted: Profile,
    comparison: Comparison | None,
    graph: Graph | None,
    is_before: bool,
    sensitivity: Any,
    history: Any,
) -> None:
    section = add(main, "section")
    add(section, "h2", "Pictures")
    if comparison is not None and any(row.filters for row in counted.layers):
        rows = sum(bool(pair.before.filters) for pair in comparison.layers)
        picture(
            section, f"Bars: filters of {rows} layers before and after",
            "Filters of each layer before (pale) and after (full). Grey layers are frozen.",
            "filters", counted, comparison.after, tall=rows > _TALL,
        )  # fmt: skip
    if history is not None:
        picture(
            section, "Curves: metrics by epoch", "The training, epoch by epoch.", "history", history
        )
    if sensitivity is not None:
        picture(
            section, "Curves: a metric against the share of filters that one layer loses",
            "How sensitive each layer is: the metric when this layer alone is pruned.",
            "sensitivity", sensitivity,
        )  # fmt: skip
    if graph is None:
        add(
            section, "p", "Both sides are given as profiles, not as models: there are no pictures "
            "of norms and groups, and it is not known what was frozen and why.",
        )  # fmt: skip
        return
    which = "before pruning" if is_before else "after pruning, as only its profile was given before"
    if graph.groups:
        picture(
            section, f"Curves: L2 norms of the filters of {len(graph.groups)} groups, ranked",
            f"Filters ranked by their L2 norm, {which}, relative to the largest of their group. "
            "Layers with steep curves have filters to spare; “+9” stands for nine more layers that "
            "share the channels.", "norms", graph,
        )  # fmt: skip
    hidden = add(section, "details", open="open")
    add(hidden, "summary", "What hangs together")
    picture(
        hidden, f"Diagram: operations of the model in order, in {len(graph.groups)} groups",
        "Operations with the same colour and number share channels, so these go together. Grey "
        "ones are frozen.", "groups", graph, tall=len(counted.layers) > _TALL,
    )  # fmt: skip


def _add_footer(document: Element) -> None:
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    (body,) = document.findall("body")
    footer = add(body, "footer")
    add(footer, "p", f"Written by keras_iplt, {now}.")
