"""Custom layers, tried on numbers.

Whether one made again computes the same, and what makes it smaller."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError
from keras_iplt.graph.channels import (
    SOLID,
    Affine,
    Arguments,
    Call,
    Channels,
    Gain,
    Recipe,
    Shape,
    Slice,
)
from keras_iplt.graph.flow import Flow
from keras_iplt.graph.inline import at_lengths
from keras_iplt.graph.recreate import config_of, recreate
from keras_iplt.graph.slices import kept_along, kept_axes, kept_lengths, numbers_of, take, zeroed

__all__ = ["check_round_trip", "followed_by", "learn_to_recreate"]

_MOST_NUMBERS = 4_000_000  # in a tensor that a layer is tried on
_MOST_TRIES = 64
_BATCH = 3

Kind = tuple[int, ...]  # classes of ids


def check_round_trip(call: Call) -> None:
    """Raises a `ModelError` unless a custom layer, made again from its config, computes the same.

    Args:
        call: the layer's call. Layers that do not compute the same twice are let through.
    """
    layer = call.operation
    specs = [s for s in keras.tree.flatten(call.specs) if isinstance(s, keras.KerasTensor)]
    if any(np.prod(tried_on(call, s.shape), dtype=float) > _MOST_NUMBERS for s in specs):
        return
    random = np.random.default_rng(0)

    def number(spec: Any) -> Any:
        if not isinstance(spec, keras.KerasTensor):
            return spec
        value = random.uniform(0.1, 1, tried_on(call, spec.shape))
        return keras.ops.convert_to_tensor(value, dtype=spec.dtype)

    args, kwargs = keras.tree.map_structure(number, call.specs)
    try:
        with keras.StatelessScope():
            layer(*args, **kwargs)
    except Exception:  # code of others, on numbers and sizes that it may not be made for
        return
    twin = recreate(layer)
    twin(*args, **kwargs)
    same_weights = [w.shape for w in twin.weights] == [w.shape for w in layer.weights]
    if same_weights:
        for source, target in zip(layer.weights, twin.weights, strict=True):
            target.assign(source.value)
    with keras.StatelessScope():
        results = [_results(one, args, kwargs) for one in (layer, layer, twin)]
    if not _equal(*results[:2]):
        return
    if not same_weights or not _equal(*results[1:]):
        raise ModelError(
            f"layer {layer.name!r} ({type(layer).__name__}) computes something else when it is "
            "made again from its config: get_config must return every argument of __init__, and "
            "from_config must use them"
        )


def _results(layer: keras.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[np.ndarray]:
    return [_numpy(y) for y in keras.tree.flatten(layer(*args, **kwargs))]


def _equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(
        x.shape == y.shape and np.allclose(x, y, 1e-4, 1e-5, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


class Lesson(NamedTuple):
    """How a custom layer is made smaller.

    Attributes:
        recipe: which entries of the config follow what.
        stuck: ids of the channels that cannot go.
        problem: the sentence that says why.
    """

    recipe: Recipe | None
    stuck: list[np.ndarray]
    problem: str = ""


def learn_to_recreate(flow: Flow, call: Call) -> Lesson:
    """Tries a custom layer with a few channels fewer.

    Of all kinds that it has, or else of those that can go without the others."""
    try:
        config_of(call.operation)
    except Exception as error:  # code of others: whatever it raises
        problem = f"has no config to be made again from ({type(error).__name__}: {error})"
        return Lesson(None, _ids_of(flow, call), problem)
    trial = _Trial(flow, call)
    if trial.too_large:
        return Lesson(None, _ids_of(flow, call), "is too large to be tried on numbers")
    recipe, problem = trial.outcome()
    if recipe is not None or len(trial.kinds) < 2:
        return Lesson(recipe, [] if recipe is not None else _ids_of(flow, call), problem)
    alone = [kind for kind in trial.kinds if _Trial(flow, call, [kind]).outcome()[0] is not None]
    recipe = _Trial(flow, call, alone).outcome()[0] if alone else None
    if recipe is None:
        return Lesson(None, _ids_of(flow, call), problem)
    return Lesson(recipe, [np.array(kind) for kind in trial.kinds if kind not in alone], problem)


def _ids_of(flow: Flow, call: Call) -> list[np.ndarray]:
    """The ids in what goes into a layer, in what comes out and in its variables."""
    variables = {id(v) for v in call.operation.variables}
    tensors = keras.tree.flatten((call.args, call.kwargs, call.outputs))
    pieces = [p.ids for p in flow.slices.values() if id(p.variable) in variables]
    return [x.ids for x in tensors if isinstance(x, Channels)] + pieces


class _Trial:
    """One custom layer, a few channels of it chosen to go, and numbers to try it on."""

    def __init__(self, flow: Flow, call: Call, kinds: list[Kind] | None = None) -> None:
        self.layer = call.operation
        self.call = call
        self.args, self.kwargs, self.outputs = call.args, call.kwargs, call.outputs
        self.specs = call.specs
        self.weights = list(self.layer.weights)
        roots = flow.partition.find(np.arange(len(flow.partition)))
        pieces: dict[int, list[Slice]] = {}
        for piece in flow.slices.values():
            pieces.setdefault(id(piece.variable), []).append(piece)
        vectors = [p.ids for w in self.weights for p in pieces.get(id(w), [])]
        tensors = keras.tree.flatten((self.args, self.kwargs, self.outputs))
        vectors += [x.ids.ravel() for x in tensors if isinstance(x, Channels)]
        self.kinds = kinds or _kinds(vectors, roots, _frozen_roots(flow, roots))
        self.gone = _few_of_each(self.kinds, len(roots))[roots]
        self.changes = {id(r.variable): r.change(self.gone) for r in flow.rescales}
        self.scaled = list(_numbers_inside(flow, call))
        self.kept = [kept_axes(w, pieces.get(id(w), []), self.gone) for w in self.weights]

    def outcome(self) -> tuple[Recipe | None, str]:
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
        return any(np.prod(tried_on(self.call, s), dtype=float) > _MOST_NUMBERS for s in shapes)

    def recipes(self) -> list[Recipe]:
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

    def smaller(self, recipe: Recipe) -> keras.Layer | None:
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
        """Masked equals smaller, on random weights and inputs."""
        whole = np.zeros_like(self.gone)
        big = self._made({}, whole, [tuple(w.shape) for w in self.weights])
        if big is None:
            return False
        random = np.random.default_rng(0)
        several = zip(big.weights, small.weights, self.weights, self.kept, strict=True)
        for weight, less, own, kept in several:
            value = numbers_of(weight)
            if np.issubdtype(value.dtype, np.floating):
                value = random.uniform(0.5, 1.5, value.shape).astype(value.dtype)
            value = zeroed(value, kept)
            weight.assign(value)
            less.assign(self.changes.get(id(own), Affine()).of(take(value, kept)))
        state = random.bit_generator.state
        results = []
        for layer, removed in ((big, whole), (small, self.gone)):
            random.bit_generator.state = state
            args, kwargs = self._numbers(random, removed)
            try:
                results.append(_results(layer, args, kwargs))
            except Exception:
                # Code of others on numbers and sizes it may not be made for: this is no way.
                return False
        outputs = [x for x in keras.tree.flatten(self.outputs) if isinstance(x, Channels)]
        for x, big_y, small_y in zip(outputs, *results, strict=True):
            kept = tuple(kept_along(x, axis, self.gone) for axis in range(len(x.shape)))
            big_y = take(big_y, kept) * _gain(x, self.gone)
            if big_y.shape != small_y.shape or not np.allclose(big_y, small_y, 1e-4, 1e-5):
                return False
        return True

    def _numbers(self, random: np.random.Generator, removed: np.ndarray) -> Arguments:
        """Random inputs of the original shape, masked, without what is removed."""

        def number(spec: Any, x: Any) -> Any:
            if not isinstance(spec, keras.KerasTensor):
                return spec
            value = random.uniform(0.1, 1, tried_on(self.call, x.shape))
            kept = tuple(kept_along(x, axis, self.gone) for axis in range(len(x.shape)))
            value = zeroed(value, kept) if x.zero else value
            kept = tuple(kept_along(x, axis, removed) for axis in range(len(x.shape)))
            value *= _gain(x, removed)
            return keras.ops.convert_to_tensor(take(value, kept), dtype=spec.dtype)

        return keras.tree.map_structure(number, self.specs, (self.args, self.kwargs))


def followed_by(
    layer: keras.Layer, recipe: Recipe, shapes: Sequence[Sequence[int]], gone: np.ndarray
) -> dict[str, Any]:
    """What a recipe makes of a layer's config, for the shapes of weights that are left."""
    config = config_of(layer) if recipe else {}
    return {
        key: config[key] * follows.factor(gone)
        if isinstance(follows, Gain)
        else shapes[follows[0]][follows[1]]
        for key, follows in recipe.items()
    }


def _gain(x: Channels, gone: np.ndarray) -> float:
    return 1.0 if x.gain is None else x.gain.factor(gone)


def _numbers_inside(flow: Flow, call: Call) -> Iterator[tuple[float, Gain]]:
    """The numbers in a layer's code that change with what goes, and how."""
    for node in private.nodes(call.inner) if call.inner is not None else ():
        inside = flow.calls[id(node)]
        arguments: dict[int | str, Any] = dict(enumerate(inside.args))
        arguments.update(inside.kwargs)
        for key, gain in inside.scaled.items():
            yield float(np.ravel(keras.ops.convert_to_numpy(arguments[key]))[0]), gain
        yield from _numbers_inside(flow, inside)


def tried_on(call: Call, shape: Shape) -> list[int]:
    """The shape to try a custom layer on.

    It is of a small batch, and of lengths that the layer was read with where they are not known."""
    lengths = None if call.inner is None else call.inner.lengths
    found = at_lengths(shape, (_BATCH, *(lengths[1:] if lengths else (_BATCH,))))
    return [n for n in found if n is not None]  # all of them


def _symbolic(specs: Arguments, channels: Arguments, gone: np.ndarray) -> Arguments:
    """Symbolic inputs of the shapes that are left."""

    def symbol(spec: Any, x: Any) -> Any:
        if not isinstance(spec, keras.KerasTensor):
            return spec
        return keras.Input(batch_shape=kept_lengths(x, gone), dtype=spec.dtype)

    return keras.tree.map_structure(symbol, specs, channels)


def _frozen_roots(flow: Flow, roots: np.ndarray) -> set[int]:
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


def _numpy(y: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(y), "float32")
