"""The channel groups of a model, drawn: what hangs together has one colour and one lane.

    ●      conv1       Conv2D · BatchNormalization · ReLU
    ┃ ●    conv2       Conv2D · BatchNormalization · ReLU      a group of its own
    ●╯     conv3       Conv2D · BatchNormalization
    ●      add         Add · ReLU                              conv1 and conv3 are added up
     ○     head        Dense                                   frozen

Operations are rows in the order of the graph. Those that only pass channels on (activations,
normalisations …) share the row of what they follow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import SOLID, Call, Graph
from keras_iplt.graph.flow import channels_in
from keras_iplt.graph.trace import graph_for
from keras_iplt.plots import canvas
from keras_iplt.plots.canvas import Colour
from keras_iplt.support.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["groups"]

_UNIT = 0.215  # inches between rows, and between lanes
_SIZE = 8  # of text, in points
_LETTER = 0.6 * _SIZE / 72 / _UNIT  # DejaVu Sans is about 0.6 of its size wide
_KINDS = ("group", "channels", "name", "what")
_TITLE = "what it consists of"
_SOLID = -1  # stands for channels that stay


@dataclasses.dataclass
class _Row:
    """A node of the drawing: an operation and those that only pass on what it creates."""

    name: str
    types: list[str]
    parts: dict[int, int]  # group -> how many channels
    sources: list[int]  # rows
    lane: int = 0

    @property
    def home(self) -> int:
        """The group whose lane it stands in."""
        return min((g for g in self.parts if g != _SOLID), default=_SOLID)


@checked
def groups(model: keras.Model | Graph) -> Figure:
    """What must be pruned together: operations in order, coloured by the group of their channels.

    Each group has a number, a colour and a lane; what has several groups in its channels has a
    slice of each, and what is frozen is grey.

    Args:
        model: a Keras model or its `Graph`.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> import keras
    >>> from keras_iplt import plots
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, name="conv"),
    ...     keras.layers.Flatten(), keras.layers.Dense(10, name="head")])
    >>> [text.get_text() for text in plots.groups(model).axes[0].texts if text.get_gid() == "name"]
    ['conv', 'head']
    """
    graph = graph_for(model)
    rows = _rows(graph)
    if not rows:
        raise OptionError(f"expected a model with operations, received: {graph.model.name!r}")
    columns = _columns(rows, _assign_lanes(rows) + 0.6)
    width, height = columns[-1] + 1.6, len(rows) + 3
    whole = canvas.figure(_UNIT * width, _UNIT * height, layout=None)
    axes = whole.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    # One unit is as wide as it is high, so that circles are round.
    axes.set_xlim(-1.6, columns[-1])
    axes.set_ylim(len(rows) + 0.1, -2.9)
    _draw_bands(axes, rows)
    _draw_edges(axes, rows)
    for place, row in enumerate(rows):
        _draw_node(axes, place, row)
    _draw_text(axes, rows, columns, len(graph.groups))
    return whole


# -- what there is to draw -------------------------------------------------------------------------


def _rows(graph: Graph) -> list[_Row]:
    """The rows, in the order of the graph."""
    group_of = np.full(len(graph.classes), _SOLID)
    for group in graph.groups:
        group_of[group.classes] = group.index
    group_of[SOLID] = _SOLID
    same: dict[int, Any] = {}  # tensors that are one, outside and inside of nested models
    calls = list(_calls(graph, graph.function, same))
    source_of: dict[int, int] = {}  # tensor -> row
    readers = _readers(calls, same)
    working = {work.path for work in graph.works} | {made.path for made in graph.producers}
    rows: list[_Row] = []
    for call in calls:
        parts = _parts(graph, group_of, call)
        inputs = [_real(x, same) for x in call.node.input_tensors]
        sources = list(dict.fromkeys(source_of[id(x)] for x in inputs if id(x) in source_of))
        kind = type(call.operation).__name__
        if len(sources) == 1 and all(readers[id(x)] == 1 for x in inputs):
            place = sources[0]
            works = any(p == call.path or p.startswith(f"{call.path}/") for p in working)
            if not works and set(parts) == set(rows[place].parts):
                rows[place].types.append(kind)
                source_of |= {id(x): place for x in call.node.outputs}
                continue
        source_of |= {id(x): len(rows) for x in call.node.outputs}
        rows.append(_Row(call.path, [kind], parts, sources))
    return rows


def _calls(graph: Graph, function: keras.Function, same: dict[int, Any]) -> Iterator[Call]:
    """The operations, those of nested models in their place."""
    for node in private.nodes(function):
        call = graph.calls.get(id(node))
        if call is None:
            continue
        if call.carry != "model":
            yield call
            continue
        inner = private.known_function(call.operation)
        same |= {id(x): y for x, y in zip(inner.inputs, node.input_tensors, strict=False)}
        ends = keras.tree.flatten(private.output_structure(inner))
        same |= {id(x): y for x, y in zip(node.outputs, ends, strict=False)}
        yield from _calls(graph, inner, same)


def _real(tensor: Any, same: dict[int, Any]) -> Any:
    """The tensor that an operation makes, for one that stands for it."""
    seen = set()
    while id(tensor) in same and id(tensor) not in seen:  # a shared model may feed itself
        seen.add(id(tensor))
        tensor = same[id(tensor)]
    return tensor


def _readers(calls: Iterable[Call], same: dict[int, Any]) -> dict[int, int]:
    """tensor -> how many operations read it."""
    found: dict[int, int] = {}
    for call in calls:
        for key in {id(_real(x, same)) for x in call.node.input_tensors}:
            found[key] = found.get(key, 0) + 1
    return found


def _parts(graph: Graph, group_of: np.ndarray, call: Call) -> dict[int, int]:
    """group -> how many of its channels are in what comes out."""
    ids = [x.ids.ravel() for x in channels_in(call.outputs)] or [np.array([SOLID])]
    found, counts = np.unique(group_of[graph.classes[np.concatenate(ids)]], return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _assign_lanes(rows: list[_Row]) -> int:
    """Gives each group the first lane that is free from its first row to its last."""
    spans: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        key = row.home if row.home != _SOLID else -1 - place  # what is frozen stands for itself
        spans.setdefault(key, []).append(place)
    free_after: list[int] = []
    for places in sorted(spans.values()):
        ends = [*free_after, -1]  # the last one is a new lane
        lane = next(lane for lane, last in enumerate(ends) if last < places[0])
        free_after[lane : lane + 1] = [places[-1]]
        for place in places:
            rows[place].lane = lane
    return len(free_after)


# -- drawing ---------------------------------------------------------------------------------------


def _paint(group: int) -> Colour:
    return canvas.FROZEN if group == _SOLID else canvas.colour(group)


def _draw_bands(axes: Axes, rows: list[_Row]) -> None:
    """A broad line from the first to the last operation of each group."""
    spans: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        spans.setdefault(row.home, []).append(place)
    for group, places in spans.items():
        if group != _SOLID and len(places) > 1:
            axes.plot(
                [rows[places[0]].lane] * 2, [places[0], places[-1]], color=_paint(group),
                linewidth=11, alpha=0.22, solid_capstyle="round", zorder=1, gid="band",
            )  # fmt: skip


def _draw_edges(axes: Axes, rows: list[_Row]) -> None:
    """Where data flow: down the lane that is free, or around what lies between."""
    path, patches = canvas.matplotlib("path").Path, canvas.matplotlib("patches")
    for end, row in enumerate(rows):
        for start in row.sources:
            a, b = rows[start].lane, row.lane
            between = [rows[i].lane for i in range(start + 1, end)]
            if a == b and a in between:
                bow = a - min(0.62 + 0.02 * (end - start), 1.3)
                corners = [(a, start), (bow, start + 0.9), (bow, end - 0.9), (b, end)]
            elif a not in between:
                corners = [(a, start), (a, end - 1), (a, end), (b, end)]
            elif b not in between:
                corners = [(a, start), (b, start), (b, start + 1), (b, end)]
            else:
                middle = (a + b) / 2
                corners = [(a, start), (middle, start + 0.5), (middle, end - 0.5), (b, end)]
            codes = [path.MOVETO] + [path.CURVE4] * 3
            axes.add_patch(
                patches.PathPatch(
                    path(corners, codes), facecolor="none", edgecolor="0.45", linewidth=1,
                    alpha=0.8, zorder=2, gid="edge",
                )
            )  # fmt: skip


def _draw_node(axes: Axes, place: int, row: _Row) -> None:
    """A circle, with a slice for each group in its channels."""
    wedge = canvas.matplotlib("patches").Wedge
    total, turned = sum(row.parts.values()), 90.0
    for group, count in sorted(row.parts.items()):
        angle = 360 * count / total
        axes.add_patch(
            wedge(
                (row.lane, place), 0.34, turned, turned + angle, facecolor=_paint(group),
                edgecolor="white", linewidth=0.6, zorder=3,
            )
        )  # fmt: skip
        turned += angle


def _columns(rows: list[_Row], left: float) -> list[float]:
    """Where the columns of text begin, and where the last one ends."""
    ends = [left]
    for most, *cells in zip((9, 8, 34, 70), ("group", "channels", "", _TITLE), strict=True):
        column = len(ends) - 1
        cells += [_cells(row)[column] for row in rows]
        ends.append(ends[-1] + _LETTER * (2.8 + min(most, max(map(len, cells)))))
    return ends


def _cells(row: _Row) -> tuple[str, str, str, str]:
    """What is said about a row: groups, channels, name, and what it consists of."""
    known = [str(group) for group in row.parts if group != _SOLID]
    groups = "+".join(known) if len(known) < 4 else f"{known[0]}…{known[-1]}"
    count = sum(row.parts.values())
    channels = str(count) if known or count > 1 else "–"
    what = canvas.shorten(" · ".join(row.types), 70)
    return groups or "–", channels, canvas.shorten(row.name), what


def _draw_text(axes: Axes, rows: list[_Row], columns: list[float], count: int) -> None:
    """A table beside the drawing."""
    title = f"{count} groups of channels that go together; grey stays"
    axes.text(-0.4, -2.2, title, fontsize=_SIZE + 1, va="center")
    heads = ("group", "channels", "operation", _TITLE)
    for x, head in zip(columns, heads, strict=False):
        axes.text(x, -1.2, head, fontsize=_SIZE, color="0.45", va="center")
    for place, row in enumerate(rows):
        paints = _paint(row.home), None, None, "0.4"
        for x, cell, paint, kind in zip(columns, _cells(row), paints, _KINDS, strict=False):
            how = {"color": paint} if paint is not None else {}
            weight = "bold" if kind == "group" else "normal"
            canvas.text(
                axes, x, place, cell, fontsize=_SIZE, va="center", gid=kind, weight=weight, **how
            )
