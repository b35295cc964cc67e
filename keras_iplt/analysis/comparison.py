"""What pruning saved: one model beside another, in the columns of the IPLT paper."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import keras

from keras_iplt.analysis.profiles import LayerProfile, Profile, profile
from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import Graph
from keras_iplt.graph.classes import name_before
from keras_iplt.support.arguments import Kind, checked
from keras_iplt.support.tables import Table, Tables, mebibytes, percent, thousands

__all__ = ["Comparison", "LayerComparison", "compare", "share_gone"]


@dataclasses.dataclass(frozen=True)
class LayerComparison:
    """A layer before and after; `after` is None where it is gone."""

    before: LayerProfile
    after: LayerProfile | None


@dataclasses.dataclass(frozen=True)
class Comparison(Tables):
    """Two profiles side by side. Print it for a table.

    Attributes:
        before, after: the profiles.
        layers: a `LayerComparison` per layer of `before` that has weights or costs anything.
        names: what the two are called in print.
    """

    before: Profile
    after: Profile
    layers: tuple[LayerComparison, ...]
    names: tuple[str, str] = ("before", "after")

    @property
    def fpr(self) -> float:
        """Share of the prunable filters that are gone (the paper's FPR)."""
        pairs = [pair for pair in self.layers if pair.before.prunable]
        total = sum(pair.before.prunable for pair in pairs)
        gone = sum(pair.before.filters - _filters(pair.after) for pair in pairs)
        return gone / total if total else 0.0

    @property
    def ppr(self) -> float | None:
        """Share of the parameters that are gone (the paper's PPR)."""
        return share_gone(self.before.params, self.after.params)

    @property
    def pruned_flops(self) -> float | None:
        """Share of the FLOPs that are gone, or None where they are unknown."""
        return share_gone(self.before.flops, self.after.flops)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as dicts, lists, strings and numbers, as it would come back from JSON."""
        shares = {"fpr": self.fpr, "ppr": self.ppr, "pruned_flops": self.pruned_flops}
        return json.loads(json.dumps({**shares, **dataclasses.asdict(self)}))

    def _blocks(self) -> list[str | Table]:
        shares = [percent(share) for share in (self.fpr, self.ppr, self.pruned_flops)]
        totals = [("", "FPR", "PPR", "params", "FLOPs", "pruned FLOPs", "size (MiB)")]
        for name, x, (fpr, ppr, flops) in (
            (self.names[0], self.before, ("-", "-", "-")),
            (self.names[1], self.after, shares),
        ):
            counts = thousands(x.params), thousands(x.flops)
            totals.append((name, fpr, ppr, *counts, flops, mebibytes(x.size_bytes)))
        rows: list[tuple[str, ...]] = [("layer", "filters", "params", "FLOPs")]
        for pair in self.layers:
            changes = (_change(pair, column) for column in ("filters", "params", "flops"))
            rows.append((pair.before.name, *changes))
        unknown = ["FLOPs unknown: compare profiles that were made with input_shape"]
        note = unknown if self.pruned_flops is None else []
        return [Table(totals, left=1), *note, "", Table(rows, left=1)]


@checked
def compare(
    before: keras.Model | Graph | Profile,
    after: keras.Model | Graph | Profile,
    names: Annotated[tuple[str, str], Kind("two strings")] = ("before", "after"),
) -> Comparison:
    """Puts two models side by side: FPR, PPR, parameters, FLOPs and size, in total and by layer.

    FPR is the share of filters that are gone. A filter is an output channel of a layer that creates
    channels with its weights, hidden dense units included, depthwise ones not; only those count
    that could be pruned in `before`. Layers are matched by name; where the names differ and the
    kinds of layers do not, by position. A layer that `after` lacks counts as gone altogether.

    Args:
        before, after: models, their `Graph`s or their `Profile`s.
        names: what to call the two in print.

    Returns:
        A `Comparison`. Print it for a table.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Conv2D(16, 3, name="conv"),
    ...     keras.layers.GlobalAveragePooling2D(),
    ...     keras.layers.Dense(10, name="head"),
    ... ])
    >>> print(iplt.compare(model, iplt.prune(model, ratio=0.5)))
              FPR    PPR  params   FLOPs  pruned FLOPs  size (MiB)
    before      -      -     618  32,596             -        0.00
    after   50.0%  49.2%     314  16,308         50.0%        0.00
    <BLANKLINE>
    layer  filters      params             FLOPs
    conv   16 -> 8  448 -> 224  32,256 -> 16,128
    head        10   170 -> 90        340 -> 180
    """
    before, after = (x if isinstance(x, Profile) else profile(x) for x in (before, after))
    if [shape[1:] for shape in before.input_shape] != [shape[1:] for shape in after.input_shape]:
        raise OptionError(
            "expected two models counted at the same input shapes, received: "
            f"{before.input_shape} and {after.input_shape}"
        )
    return Comparison(before, after, tuple(_pairs(before, after)), names)


# -- which layer is which --------------------------------------------------------------------------


def _pairs(before: Profile, after: Profile) -> Iterator[LayerComparison]:
    """The layers of `before` with what became of them."""
    ours, theirs = _costly(before), _costly(after)
    found = _by_name(ours, theirs)
    if len(found) < len(theirs):
        found = _by_position(ours, theirs)
    for one in ours:
        other = found.get(one.name)
        if other is not None and other.filters > one.filters:
            raise OptionError(
                f"expected a model and a pruned version of it, received: {one.filters} filters in "
                f"layer {one.name!r} of {before.name!r}, but {other.filters} in {after.name!r}. "
                "Is it the other way round?"
            )
        yield LayerComparison(one, other)


def _costly(x: Profile) -> list[LayerProfile]:
    return [row for row in x.layers if row.params or row.flops != 0]


def _by_name(ours: list[LayerProfile], theirs: list[LayerProfile]) -> dict[str, LayerProfile]:
    """name -> counterpart: of the same path, or else of the same last name.
    The latter where there is but one, as a rewritten model may have lost the layers around it."""
    found: dict[str, LayerProfile] = {}
    for key in (lambda row: row.name, lambda row: row.name.rpartition("/")[2]):
        taken = {row.name for row in found.values()}
        mine = _unique([row for row in ours if row.name not in found], key)
        others = _unique([row for row in theirs if row.name not in taken], key)
        found |= {mine[k].name: others[k] for k in mine if k in others}
    return found


def _unique(
    rows: Iterable[LayerProfile], key: Callable[[LayerProfile], str]
) -> dict[tuple[str, str], LayerProfile]:
    """(key, type) -> the only row that has them."""
    sorted_out: dict[tuple[str, str], list[LayerProfile]] = {}
    for row in rows:
        sorted_out.setdefault((key(row), name_before(row.type)), []).append(row)
    return {k: found[0] for k, found in sorted_out.items() if len(found) == 1}


def _by_position(ours: list[LayerProfile], theirs: list[LayerProfile]) -> dict[str, LayerProfile]:
    """name -> counterpart where both models are the same sequence of layers."""
    if [name_before(row.type) for row in ours] != [name_before(row.type) for row in theirs]:
        known = {(row.name, name_before(row.type)) for row in ours}
        odd = next(row for row in theirs if (row.name, name_before(row.type)) not in known)
        raise OptionError(
            "expected a model and a pruned version of it, received models of different "
            f"architecture: layer {odd.name!r} ({odd.type}) of the second has no counterpart in "
            f"the first, which has {len(ours)} layers to the second's {len(theirs)}"
        )
    return {one.name: other for one, other in zip(ours, theirs, strict=True)}


# -- printing --------------------------------------------------------------------------------------


def _filters(row: LayerProfile | None) -> int:
    return 0 if row is None else row.filters


def share_gone(before: float | None, after: float | None) -> float | None:
    if before is None or after is None:
        return None
    return 1 - after / before if before else 0.0


def _change(pair: LayerComparison, column: str) -> str:
    """ "16 -> 8", or one number where nothing changed."""
    old = getattr(pair.before, column)
    new = 0 if pair.after is None else getattr(pair.after, column)
    return thousands(old) if new == old else f"{thousands(old)} -> {thousands(new)}"
