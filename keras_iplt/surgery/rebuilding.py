"""A plan carried out by the model's own class: made again from its config, with smaller numbers.

What is rewritten is operations and layers. A class of its own can do more (generate text with a
cache, be quantised, be saved as a preset), and goes on doing so if its config can say the widths.
"""

import math
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError
from keras_iplt.graph.compilation import carry_compilation
from keras_iplt.graph.slices import lengths_left, numbers_of
from keras_iplt.planning.plan import Plan, bound
from keras_iplt.support.arguments import Verbosity, checked
from keras_iplt.support.progress import silent
from keras_iplt.surgery.refitting import Compensate
from keras_iplt.surgery.rewriting import rewritten
from keras_iplt.surgery.trial_run import difference

__all__ = ["rebuild"]

Shape = tuple[int, ...]
Path = tuple[Any, ...]  # keys and positions, from the outside of a config to a number in it
_SAME = {"float16": 2e-2, "bfloat16": 1e-1}  # as the rewritten model, in all else within 1e-4


@checked
def rebuild(
    model: keras.Model, plan: Plan, compensate: Compensate = None, verbose: Verbosity = 1
) -> keras.Model:
    """The model with fewer channels, as a new model of the same class, from its own config.

    For models of a class of their own, such as KerasHub's: what the class can do besides being
    called, it goes on doing. Its config has to be able to say the widths, so layers that share a
    number in it must lose equally many channels: plan with `per_layer`, which gives each of several
    layers the same share. Functional and Sequential models are rewritten.

    Args:
        model: the model that the plan was made for, or one of the same architecture.
        plan: a `Plan`.
        compensate: see `keras_iplt.rewrite`.
        verbose: 0 for no progress bar, which only terminals and notebooks get.

    Returns:
        A new model that computes what the rewritten one does.

    Raises:
        ModelError: if the config cannot say the widths that the plan leaves.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> class Classifier(keras.Model):
    ...     def __init__(self, width, **options):
    ...         super().__init__(**options)
    ...         self.width, self.hidden = width, keras.layers.Dense(width, activation="relu")
    ...         self.out = keras.layers.Dense(2)
    ...     def call(self, x):
    ...         return self.out(self.hidden(x))
    ...     def get_config(self):
    ...         return {"width": self.width, "name": self.name}
    >>> model = Classifier(8)
    >>> _ = model(keras.ops.zeros((1, 4)))
    >>> small = iplt.rebuild(model, iplt.plan(model, ratio=0.5))
    >>> type(small).__name__, small.width
    ('Classifier', 4)
    """
    with silent(when=not verbose):
        plan = bound(plan, model)
        reference, rewriter = rewritten(model, plan, compensate)
        if type(reference) is type(model):
            return reference
        stay = {id(v) for v in rewriter.graph.model.variables}
        left = [v for v in model.variables if id(v) in stay]
        shapes = [lengths_left(v, rewriter.kept(v)) for v in left]
        search = _Search(model, private.known_function(reference), len(plan.branches))
        small = search.model(left, shapes)
        for source, target in zip(left, small.variables, strict=True):
            value = rewriter.value(source)
            target.assign(numbers_of(source) if value is None else value)
        _check_same(small, reference)
        _carry_flags(model, small, stay)
        carry_compilation(model, small)
        return small


def _check_same(small: keras.Model, reference: keras.Model) -> None:
    """The class may compute with its widths: a scale, a mean, the size of a head."""
    try:
        found: float | str = difference(small, reference)
    except Exception as error:  # whatever code of others raises
        found = f"{type(error).__name__}: {error}"
    if isinstance(found, str) or not found <= _SAME.get(reference.compute_dtype, 1e-4):
        raise ModelError(
            f"{type(small).__name__}, made again from its config with the widths of the plan, does "
            f"not compute what the rewritten model does ({found}): it computes with a width "
            "otherwise too. Leave out the layers of that width, or use rewrite"
        )


def _carry_flags(old: keras.Model, new: keras.Model, stay: Container[int]) -> None:
    """Gives what holds weights, and they themselves, their `trainable`; outer layers first."""

    def of(model: keras.Model, counts: Callable[[Any], bool]) -> Iterator[Any]:
        layers = private.all_layers(model)
        yield from (one for one in layers if any(map(counts, one.variables)))
        yield from filter(counts, model.variables)

    pairs = zip(of(old, lambda v: id(v) in stay), of(new, lambda v: True), strict=True)
    for source, target in pairs:
        if source.trainable != target.trainable:
            target.trainable = source.trainable


# -- the config that says the shapes --


class _Search:
    """Finds the config by trying: a number stays changed if more of the variables fit then.

    Args:
        model: the model to make again.
        function: the operations of the smaller one, which say what it is called on.
        branches: how many residual branches are left out.
    """

    def __init__(self, model: keras.Model, function: keras.Function, branches: int) -> None:
        self._model, self._function, self._branches = model, function, branches
        config = model.get_config()
        own = {key: getattr(model, key, None) for key in config}
        # What has no weights is given as it is: no config holds a tokenizer's words.
        same = {k: x for k, x in own.items() if isinstance(x, keras.Layer) and not x.variables}
        self._config = config | same
        if self._misfits({}, _shapes(model.variables)):
            raise ModelError(
                f"expected a model whose class makes it again from its config, received: "
                f"{type(model).__name__}, whose from_config(get_config()) does not. Use rewrite"
            )

    def model(self, left: Sequence[keras.Variable], shapes: Sequence[Shape]) -> keras.Model:
        """One of the same class, with variables of these shapes for those that are left."""
        changes: dict[Path, int] = {}
        wrong = self._misfits(changes, shapes)
        while wrong:
            for path, number in self._candidates(left, shapes):
                now = self._misfits(changes | {path: number}, shapes)
                if now < wrong:
                    changes[path], wrong = number, now
                    break
            else:
                break
        small = self._made(changes)
        if small is None or wrong:
            raise ModelError(
                f"the config of {type(self._model).__name__} cannot say what the plan leaves: "
                + _first_misfit(small, left, shapes)
            )
        return small

    def _made(self, changes: dict[Path, int]) -> keras.Model | None:
        """The model with other numbers in its config; None if that cannot be."""
        try:
            new = type(self._model).from_config(_changed(self._config, changes))
            if not new.built:
                symbols = [keras.KerasTensor(x.shape, x.dtype) for x in self._function.inputs]
                structure = private.input_structure(self._function)
                new(keras.tree.pack_sequence_as(structure, symbols))
        except Exception:  # sizes that the class is not made for, or no from_config of its own
            return None
        return new

    def _misfits(self, changes: dict[Path, int], shapes: Sequence[Shape]) -> float:
        """How many variables have another shape; more than all of them if there are others."""
        new = self._made(changes)
        if new is None:
            return math.inf
        if others := abs(len(new.variables) - len(shapes)):
            return len(shapes) + others
        return sum(a != b for a, b in zip(_shapes(new.variables), shapes, strict=True))

    def _candidates(
        self, left: Sequence[keras.Variable], shapes: Sequence[Shape]
    ) -> list[tuple[Path, int]]:
        """Numbers of the config, and what each might become, the likeliest first.

        A number of layers falls by no more than there are branches left out; all others go as the
        length of some axis goes.
        """
        pairs = {pair for v, shape in zip(left, shapes, strict=True)
                 for pair in zip(v.shape, shape, strict=True)}  # fmt: skip
        changed = sorted((before, after) for before, after in pairs if before != after)
        numbers = [(path, n) for path, n in _numbers(self._config) if n > 0]
        depths = [(path, n - k) for path, n in numbers for k in range(1, self._branches + 1)]
        equal = [(path, after) for path, n in numbers for before, after in changed if n == before]
        related = [
            (path, n * after // before)
            for path, n in numbers
            for before, after in changed
            if (n % before == 0 or before % n == 0) and n * after % before == 0
        ]
        return [one for one in dict.fromkeys([*depths, *equal, *related]) if one[1] > 0]


def _first_misfit(
    small: keras.Model | None, left: Sequence[keras.Variable], shapes: Sequence[Shape]
) -> str:
    if small is None or len(small.variables) != len(left):
        return (
            "no number in it leaves out just those branches. Leave out all branches of a block, "
            "or use rewrite"
        )
    variable, shape, made = next(
        one for one in zip(left, shapes, _shapes(small.variables), strict=True) if one[1] != one[2]
    )
    return (
        f"{variable.path!r} of shape {tuple(variable.shape)} is left with {shape}, and the class "
        f"makes {made}. Let all layers that share a number of the config lose the same: "
        "per_layer={'the*layers': ratio}; or use rewrite"
    )


def _shapes(variables: Sequence[keras.Variable]) -> list[Shape]:
    return [tuple(v.shape) for v in variables]


def _numbers(config: Any, path: Path = ()) -> Iterator[tuple[Path, int]]:
    """Every whole number in a config, and where it stands."""
    if isinstance(config, int) and not isinstance(config, bool):
        yield path, config
    elif isinstance(config, dict):
        for key, value in config.items():
            yield from _numbers(value, (*path, key))
    elif isinstance(config, list | tuple):
        for place, value in enumerate(config):
            yield from _numbers(value, (*path, place))


def _changed(config: Any, changes: dict[Path, int], path: Path = ()) -> Any:
    """A copy of a config with other numbers in it."""
    if path in changes:
        return changes[path]
    if isinstance(config, dict):
        return {key: _changed(value, changes, (*path, key)) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_changed(x, changes, (*path, i)) for i, x in enumerate(config))
    return config
