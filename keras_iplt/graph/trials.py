"""Trying a custom layer with a few channels fewer, on random numbers.

Made from its config, or cut, with its code left as it is.
"""

import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.channels import (
    SOLID,
    Affine,
    Arguments,
    Call,
    Channels,
    Gain,
    Recipe,
    Slice,
    covered_by,
)
from keras_iplt.graph.custom import MOST_NUMBERS, followed_by, names_read, results_of, tried_on
from keras_iplt.graph.cut_layers import CutLayer, cut, inside_of, numbers_left
from keras_iplt.graph.flow import Flow
from keras_iplt.graph.recreate import config_of, recreate
from keras_iplt.graph.rules import rule_for
from keras_iplt.graph.slices import (
    Kept,
    kept_along,
    kept_axes,
    kept_lengths,
    lengths_left,
    numbers_of,
    take,
    zeroed,
)

__all__ = ["CutTrial", "Kind", "Trial", "custom_inside", "frozen_roots"]

_MOST_TRIES = 64

Kind = tuple[int, ...]  # classes of ids
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


class Trial:
    """One custom layer, a few channels of it chosen to go, and numbers to try it on."""

    def __init__(self, flow: Flow, call: Call, kinds: list[Kind] | None = None) -> None:
        self.flow, self.call = flow, call
        self.layer = call.operation
        self.args, self.kwargs, self.outputs = call.args, call.kwargs, call.outputs
        self.specs = call.specs
        self.weights = list(self.layer.weights)
        roots = flow.partition.find(np.arange(len(flow.partition)))
        self.pieces = pieces = dict[int, list[Slice]]()
        for piece in flow.slices.values():
            pieces.setdefault(id(piece.variable), []).append(piece)
        vectors = [p.ids for w in self.weights for p in pieces.get(id(w), [])]
        tensors = keras.tree.flatten((self.args, self.kwargs, self.outputs))
        vectors += [x.ids.ravel() for x in tensors if isinstance(x, Channels)]
        self.kinds = kinds or _kinds(vectors, roots, frozen_roots(flow, roots))
        self.gone = _few_of_each(self.kinds, len(roots))[roots]
        self.changes = {id(r.variable): r.change(self.gone) for r in flow.rescales}
        self.scaled = list(_numbers_inside(flow, call))
        self.kept = [kept_axes(w, pieces.get(id(w), []), self.gone) for w in self.weights]

    def outcome(self) -> tuple[Any, str]:
        """The recipe that works, or why none does."""
        found = False
        for recipe in self.recipes():
            small = self.smaller(recipe)
            if small is not None:
                found = True
                if self.agrees(small):
                    return recipe, ""
        if found:
            return None, "computes something else when it has fewer channels"
        return None, (
            "cannot be made smaller: no entry of its config says how many channels it has. "
            "keras_iplt.register_rule can teach how"
        )

    @property
    def too_large(self) -> bool:
        shapes = [s.shape for s in keras.tree.flatten(self.specs)
                  if isinstance(s, keras.KerasTensor)]  # fmt: skip
        return any(np.prod(tried_on(self.call, s), dtype=float) > MOST_NUMBERS for s in shapes)

    def recipes(self) -> list[Any]:
        """Assignments of config entries to lengths that change, the simplest first."""
        changing = {
            (i, axis): weight.shape[axis]
            for i, weight in enumerate(self.weights)
            for axis, kept in enumerate(self.kept[i])
            if kept is not None
        }
        options = []
        for key, value in config_of(self.layer).items():
            where = list[Any]()
            if isinstance(value, int) and not isinstance(value, bool):
                where = [place for place, length in changing.items() if length == value]
            elif isinstance(value, float):  # an epsilon that a mean is compared with
                where = [
                    gain for number, gain in self.scaled if np.isclose(number, value, 1e-6, 0)
                ][:1]
            if where:
                none = [(key, None)] if isinstance(value, int) else []
                options.append([*none, *((key, place) for place in where)])
        choices = itertools.islice(itertools.product(*options), _MOST_TRIES)
        return [{key: place for key, place in choice if place} for choice in choices]

    def smaller(self, recipe: Any) -> keras.Layer | None:
        """The layer made with a recipe, with weights, or None if its shapes are not right."""
        shapes = [
            tuple(n if k is None else len(k) for n, k in zip(w.shape, kept, strict=True))
            for w, kept in zip(self.weights, self.kept, strict=True)
        ]
        changes = followed_by(self.layer, recipe, shapes, self.gone)
        return self._made(changes, self.gone, shapes)

    def _made(
        self, changes: dict[str, Any], gone: np.ndarray, shapes: list[tuple[int, ...]]
    ) -> keras.Layer | None:
        try:
            layer = recreate(self.layer, changes)
            args, kwargs = _symbolic(self.specs, (self.args, self.kwargs), gone)
            layer(*args, **kwargs)
        except Exception:
            # Code of others with a config it may not expect: whatever it raises, this is no way.
            return None
        return layer if [tuple(w.shape) for w in layer.weights] == shapes else None

    def agrees(self, small: keras.Layer) -> bool:
        """Masked equals smaller, on random weights and inputs.

        Such as are positive, which any code can compute with, and such as are not, without which
        attention looks at all positions alike."""
        whole = np.zeros_like(self.gone)
        big = self._made({}, whole, [tuple(w.shape) for w in self.weights])
        return big is not None and all(self._agrees(big, small, draw) for draw in _DRAWS)

    def _agrees(self, big: keras.Layer, small: keras.Layer, draw: Draw) -> bool:
        random, whole = np.random.default_rng(0), np.zeros_like(self.gone)
        several = zip(big.weights, small.weights, self.weights, self.kept, strict=True)
        for weight, less, own, kept in several:
            value = numbers_of(weight)
            if np.issubdtype(value.dtype, np.floating):
                value = draw(random, value.shape).astype(value.dtype)
            value = zeroed(value, kept)
            weight.assign(value)
            less.assign(self.changes.get(id(own), Affine()).of(take(value, kept)))
        state = random.bit_generator.state
        results = []
        for layer, removed in ((big, whole), (small, self.gone)):
            random.bit_generator.state = state
            args, kwargs = self._numbers(random, removed, draw is _positive)
            try:
                results.append(results_of(layer, args, kwargs))
            except Exception:
                # Code of others on numbers and sizes it may not be made for: this is no way.
                return False
        outputs = [x for x in keras.tree.flatten(self.outputs) if isinstance(x, Channels)]
        if draw is not _positive and not all(np.isfinite(y).all() for y in results[0]):
            return True  # the root of a negative number, say
        for x, big_y, small_y in zip(outputs, *results, strict=True):
            if not big_y.size:
                continue  # what code puts out in place of nothing
            kept = tuple(kept_along(x, axis, self.gone) for axis in range(len(x.shape)))
            big_y = take(big_y, kept) * _gain(x, self.gone)
            rounding = 1e-5 * max(1.0, np.abs(big_y).max(initial=0))
            if big_y.shape != small_y.shape or not np.allclose(big_y, small_y, 1e-4, rounding):
                return False
        return True

    def _numbers(
        self, random: np.random.Generator, removed: np.ndarray, positive: bool
    ) -> Arguments:
        """Random inputs of the original shape, masked, without what is removed."""

        def number(spec: Any, x: Any) -> Any:
            if not isinstance(spec, keras.KerasTensor):
                return spec
            shape = tried_on(self.call, x.shape)
            value = random.uniform(0.1 if positive else -1, 1, shape)
            if "float" not in spec.dtype:  # masks and tokens: an index is not beyond its table
                value = random.integers(0, 2, shape).astype("float32")
            kept = tuple(kept_along(x, axis, self.gone) for axis in range(len(x.shape)))
            value = zeroed(value, kept) if x.zero else value
            kept = tuple(kept_along(x, axis, removed) for axis in range(len(x.shape)))
            value *= _gain(x, removed)
            return keras.ops.convert_to_tensor(take(value, kept), dtype=spec.dtype)

        return keras.tree.map_structure(number, self.specs, (self.args, self.kwargs))


class CutTrial(Trial):
    """The same of a layer that keeps its code, and loses what goes of its weights."""

    def recipes(self) -> list[Any]:
        """Numbers in the code that change with means, and attributes that may be widths."""
        if _is_shared(self.flow, self.call):
            return []
        known, alone = self._inside_alone()
        widths = list[list[tuple[Any, Any]]]()
        for index, layer in enumerate(inside_of(self.layer)):
            calls = [self.call] if layer is self.layer else self.flow.calls_of(layer)
            if index in alone or not calls or rule_for(layer):
                continue
            scaled = [pair for call in calls for pair in _numbers_of(self.flow, call)]
            read = names_read(layer)
            for name, value in vars(layer).items():
                if isinstance(value, float):
                    for number, gain in scaled:
                        if np.isclose(number, value, 1e-6, 0):
                            known[index, name] = gain
                elif type(value) is int and name in read and value in self.lengths:
                    places = self.lengths[value].values()
                    widths.append([(None, None), *(((index, name), at) for at in places)])
        choices = itertools.islice(itertools.product(*widths), _MOST_TRIES)
        return [known | {key: at for key, at in choice if at} for choice in choices]

    @functools.cached_property
    def lengths(self) -> dict[int, dict[int, tuple[int, int]]]:
        """Length of an axis -> what is left of it -> one of the weights, and its axis."""
        found = dict[int, dict[int, tuple[int, int]]]()
        for i, weight in enumerate(self.weights):
            for axis, kept in enumerate(self.kept[i]):
                if kept is not None:
                    found.setdefault(weight.shape[axis], {})[len(kept)] = (i, axis)
        return found

    def _inside_alone(self) -> tuple[Recipe, set[int]]:
        """What the layers inside need, each tried alone, and which these are.

        So there are not as many tries as attributes of all of them have combinations."""
        known, alone = Recipe(), set[int]()
        layers = {id(layer): i for i, layer in enumerate(inside_of(self.layer))}
        weights = {id(weight): i for i, weight in enumerate(self.weights)}
        for call in custom_inside(self.flow, self.call):
            if _is_shared(self.flow, call):
                continue
            trial = CutTrial(self.flow, call, self.kinds)
            places = [layers[id(one)] for one in inside_of(call.operation)]
            alone.update(places)
            recipe, _ = trial.outcome()
            for (index, name), follows in (recipe or {}).items():
                if not isinstance(follows, Gain):
                    follows = weights[id(trial.weights[follows[0]])], follows[1]
                known[places[index], name] = follows
        return known, alone

    def smaller(self, recipe: Any) -> keras.Layer | None:
        def kept(variable: keras.Variable) -> Kept:
            return kept_axes(variable, self.pieces.get(id(variable), []), self.gone)

        shapes = [lengths_left(v, kept(v)) for v in self.layer.variables]
        try:
            numbers = numbers_left(self.call, recipe, self.flow.calls_of, kept, self.gone)
            layer = cut(self.call, shapes, numbers, self.layer.name)
            args, kwargs = _symbolic(self.specs, (self.args, self.kwargs), self.gone)
            layer(*args, **kwargs)
        except Exception:
            # Code of others on sizes that it was not made for: whatever it raises, this is no way.
            return None
        return layer


def _positive(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.uniform(0.5, 1.5, shape)


def _centred(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.normal(size=shape) * (1.5 / float(np.prod(shape[:-1])) ** 0.5)


_DRAWS = (_positive, _centred)


def _is_shared(flow: Flow, call: Call) -> bool:
    """Whether layers inside are called from elsewhere, too: a cut layer has others of its own."""
    within = {id(call), *covered_by(flow.calls, call)}
    return any(
        id(other) not in within
        for layer in private.all_layers(call.operation)[1:]
        for other in flow.calls_of(layer)
    )


def _numbers_of(flow: Flow, call: Call) -> Iterator[tuple[float, Gain]]:
    """The numbers in a layer's own code that change with what goes, and how."""
    for node in private.nodes(call.inner) if call.inner is not None else ():
        one = flow.calls[id(node)]
        arguments: dict[int | str, Any] = dict(enumerate(one.args))
        arguments.update(one.kwargs)
        for key, gain in one.scaled.items():
            yield float(np.ravel(keras.ops.convert_to_numpy(arguments[key]))[0]), gain


def _numbers_inside(flow: Flow, call: Call) -> Iterator[tuple[float, Gain]]:
    """The same, with those of layers inside."""
    yield from _numbers_of(flow, call)
    for node in private.nodes(call.inner) if call.inner is not None else ():
        yield from _numbers_inside(flow, flow.calls[id(node)])


def _gain(x: Channels, gone: np.ndarray) -> float:
    return 1.0 if x.gain is None else x.gain.factor(gone)


def _symbolic(specs: Arguments, channels: Arguments, gone: np.ndarray) -> Arguments:
    """Symbolic inputs of the shapes that are left."""

    def symbol(spec: Any, x: Any) -> Any:
        if not isinstance(spec, keras.KerasTensor):
            return spec
        return keras.Input(batch_shape=kept_lengths(x, gone), dtype=spec.dtype)

    return keras.tree.map_structure(symbol, specs, channels)


def frozen_roots(flow: Flow, roots: np.ndarray) -> set[int]:
    return {SOLID, *(int(r) for ids, _ in flow.freezes for r in roots[ids])}


def _kinds(vectors: Iterable[np.ndarray], roots: np.ndarray, frozen: Collection[int]) -> list[Kind]:
    """The sets of classes that stand together in a tensor or variable and may go, each once."""
    found = (
        tuple(int(c) for c in np.unique(roots[ids]) if int(c) not in frozen) for ids in vectors
    )
    return [kind for kind in dict.fromkeys(found) if kind]


def _few_of_each(kinds: Iterable[Kind], count: int) -> np.ndarray:
    """Chooses classes to go: one of the first kind, two of the next …
    So different lengths stay different, and a config entry can be told from its neighbour."""
    chosen = np.zeros(count, bool)
    for few, kind in enumerate(kinds, 1):
        chosen[list(kind[: min(few, len(kind) - 1)])] = True
    return chosen


def custom_inside(flow: Flow, call: Call) -> list[Call]:
    """The calls of custom layers that a layer's code makes, which can be made again alone.

    Inside a layer that was cut, none can."""
    can = call.inner is not None and not isinstance(call.operation, CutLayer)
    nodes = private.nodes(call.inner) if can else ()
    calls = [flow.calls[id(node)] for node in nodes]
    return [one for one in calls if one.inner is not None and not rule_for(one.operation)]
