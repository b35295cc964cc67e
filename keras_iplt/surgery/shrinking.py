"""A plan carried out in place: the very object that is being trained becomes smaller."""

import contextlib
import gc
import itertools
import types
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeAlias

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError, PruningError
from keras_iplt.graph.channels import Affine
from keras_iplt.graph.slices import Kept, kept_axes, numbers_of, take
from keras_iplt.graph.trace import graph_of
from keras_iplt.graph.walk import is_graph_model
from keras_iplt.planning.plan import Plan, bound, bound_graph
from keras_iplt.support.arguments import Kind, Verbosity, checked, several
from keras_iplt.support.progress import silent
from keras_iplt.support.text import warn
from keras_iplt.surgery.journal import Journal
from keras_iplt.surgery.live import Live
from keras_iplt.surgery.refitting import Compensate, refitted
from keras_iplt.surgery.verification import verify

__all__ = ["Also", "check_strategy", "rehearse", "shrink", "shrunk"]

Also: TypeAlias = Annotated[keras.Model | Iterable[keras.Model], Kind("a keras.Model or several")]
Changed = dict[int, tuple[keras.Variable, Kept]]  # by id: a variable and what stays of it


@checked
def shrink(
    model: keras.Model,
    plan: Plan,
    also: Also = (),
    compensate: Compensate = None,
    verbose: Verbosity = 1,
) -> None:
    """Makes this very model smaller, and what it was compiled with: training goes on where it was.

    Layers, variables, optimizer, metrics and the counter of iterations stay the same objects;
    their values, and the optimizer's state for them, lose what `plan` takes away. May be called
    at any time between two batches, by a callback too. If anything goes wrong, the model is
    exactly as it was before.

    Args:
        model: the model that the plan was made for, or one of the same architecture.
        plan: a `Plan`.
        also: other models over the same layers (an extractor of features, say), which are
            refreshed too. One that would go stale and is not named here is warned about.
        compensate: see `keras_iplt.rewrite`.
        verbose: 0 for no progress bar, which only terminals and notebooks get.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    >>> iplt.shrink(model, iplt.plan(model, ratio=0.5))
    >>> model.layers[0].units, model.count_params()
    (4, 30)
    """
    with silent(when=not verbose):
        shrunk(model, plan, also, compensate)


def shrunk(
    model: keras.Model,
    plan: Plan,
    also: Also = (),
    compensate: Compensate = None,
) -> Callable[[], None]:
    """As `shrink`; returns a function that makes the model as it was before.

    Values included, where a shape changed or a weight was fitted anew."""
    named = [model, *several(also)]
    for one in named:
        private.synchronize(one)
    plan = bound(plan, model)
    _check_branches(plan)
    if not plan.gone.any():
        return lambda: None
    with _all_or_nothing(model, lambda: None):
        live = Live(bound_graph(plan), plan.gone)
    fitted = {} if compensate is None else refitted(live.graph, plan.gone, compensate)
    unnamed = _stale(live, named)
    journal = Journal()

    def undo() -> None:
        for one in named:
            private.synchronize(one)
        journal.undo()
        _refresh(named)

    with _all_or_nothing(model, undo):
        _carry_out(live, journal, named, fitted)
        _refresh(named)
        for other in unnamed:
            warn(
                f"model {other.name!r} uses layers of {model.name!r} that have just been made "
                "smaller, and what it has compiled is out of date. Pass it along: "
                f"shrink({model.name}, plan, also=[{other.name}])",
                stacklevel=4,
            )
    return undo


def rehearse(model: keras.Model, plan: Plan, also: Also = ()) -> None:
    """Raises the errors that `shrink` would raise.

    The model stays as it is, and so does what it has compiled."""
    plan = bound(plan, model)
    _check_branches(plan)
    journal = Journal()
    with _all_or_nothing(model, journal.undo):
        if plan.gone.any():
            _carry_out(Live(bound_graph(plan), plan.gone), journal, [model, *several(also)])
    journal.undo()


def _check_branches(plan: Plan) -> None:
    """Raises a `ModelError` if whole branches go."""
    if plan.branches:
        raise ModelError(
            f"model {bound_graph(plan).model.name!r} cannot be made less deep in place. Use "
            "keras_iplt.rewrite, which makes a new model, or keras_iplt.mask"
        )


def _carry_out(
    live: Live,
    journal: Journal,
    named: list[keras.Model],
    fitted: Mapping[int, np.ndarray] = types.MappingProxyType({}),
) -> None:
    """Makes all changes, and verifies them; `fitted` are values that weights take first, by id."""
    check_strategy(live.graph.model)
    _resize(live, journal, named, fitted)
    live.carry_out(journal)
    for other in named[1:]:
        _follow(live, other, journal)
    verify(live)


@contextlib.contextmanager
def _all_or_nothing(model: keras.Model, undo: Callable[[], None]) -> Iterator[None]:
    """Whatever is raised inside, what was done is undone first.
    Also for the user's Ctrl-C, and warnings that are errors."""
    try:
        yield
    except BaseException as error:
        undo()
        if isinstance(error, (PruningError, Warning)) or not isinstance(error, Exception):
            raise
        raise ModelError(
            f"model {model.name!r} cannot be made smaller in place ({type(error).__name__}: "
            f"{error}); it is as it was before. keras_iplt.rewrite makes a new model instead"
        ) from error


def check_strategy(model: keras.Model) -> None:
    """Raises a `ModelError` if the model is trained by a strategy that does not work."""
    if private.has_several_workers(model):
        raise ModelError(
            f"model {model.name!r} is trained by a {type(model.distribute_strategy).__name__}: "
            "over several workers, fit does not work in Keras 3 (keras-team/keras#20585). Use "
            "MirroredStrategy on one machine, or JAX"
        )


# -- variables and the state that optimizers keep for them --


def _resize(
    live: Live, journal: Journal, models: list[keras.Model], fitted: Mapping[int, np.ndarray]
) -> None:
    """Slots first: which axis they share with a variable is told by its old shape."""
    changed = {}
    for pieces in live.graph.by_variable.values():
        variable = pieces[0].variable
        kept = kept_axes(variable, pieces, live.gone)
        if any(indices is not None for indices in kept):
            changed[id(variable)] = variable, kept
    for variable in live.graph.model.variables:  # those fitted that keep their shape
        if id(variable) in fitted and id(variable) not in changed:
            journal.assign(variable, fitted[id(variable)])
    changed |= {id(variable): (variable, kept) for variable, kept in live.states()}
    optimizers = [
        inner
        for model in models
        if getattr(model, "optimizer", None) is not None
        for inner in private.inner_optimizers(model.optimizer)
    ]
    factors = live.factors()

    def resize(variable: keras.Variable, kept: Kept, change: Affine) -> None:
        value = take(fitted.get(id(variable), numbers_of(variable)), kept)
        journal.resize(variable, change.of(value))

    with private.variable_scope(live.graph.model):
        for optimizer in dict.fromkeys(optimizers):
            _resize_slots(optimizer, changed, factors, resize)
        before = {key: v for o in optimizers for key, v in _keys(o, changed).items()}
        for variable, kept in changed.values():
            resize(variable, kept, factors.get(id(variable), Affine()))
    for optimizer in dict.fromkeys(optimizers):
        for name in private.keyed_by_variable(optimizer):
            _rekey(optimizer, name, before, journal)


def _resize_slots(
    optimizer: keras.optimizers.Optimizer,
    changed: Changed,
    factors: dict[int, Affine],
    resize: Callable[[keras.Variable, Kept, Affine], None],
) -> None:
    known = set()
    for slot, variable, axes, weights in private.slots(optimizer):
        known.add(id(slot))
        if id(variable) not in changed:
            continue
        _, kept = changed[id(variable)]
        if tuple(slot.shape) != tuple(variable.shape[axis] for axis in axes):
            raise ModelError(
                f"optimizer {type(optimizer).__name__} keeps state of shape {tuple(slot.shape)} "
                f"for variable {variable.path!r} of shape {tuple(variable.shape)}: how the one "
                "follows from the other is not known. Use an optimizer of Keras, or rewrite()"
            )
        kept = tuple(kept[axis] for axis in axes)
        change = factors.get(id(variable), Affine()) if weights else Affine()
        if change != Affine() or any(indices is not None for indices in kept):
            resize(slot, kept, change)
    lengths = {n for v, kept in changed.values() for n, k in zip(v.shape, kept, strict=True)
               if k is not None}  # fmt: skip
    for variable in private.own_state(optimizer):
        if id(variable) not in known and lengths & set(variable.shape) and optimizer.built:
            raise ModelError(
                f"optimizer {type(optimizer).__name__} keeps state {variable.name!r} of shape "
                f"{tuple(variable.shape)}, and for which variable is not known. Use an optimizer "
                "of Keras, or rewrite()"
            )


def _keys(
    optimizer: keras.optimizers.Optimizer, changed: Changed
) -> dict[Hashable, keras.Variable]:
    return {private.key_of(optimizer, variable): variable for variable, _ in changed.values()}


def _rekey(
    optimizer: keras.optimizers.Optimizer,
    name: str,
    before: dict[Hashable, keras.Variable],
    journal: Journal,
) -> None:
    def now(key: Hashable) -> Hashable:
        return private.key_of(optimizer, before[key]) if key in before else key

    old = getattr(optimizer, name)
    if isinstance(old, dict):
        journal.set(optimizer, name, {now(key): value for key, value in old.items()})
    else:
        journal.set(optimizer, name, {now(key) for key in old})


# -- models --


def _refresh(models: list[keras.Model]) -> None:
    """What is compiled is traced anew when it is called next."""
    inside = {id(inner): inner for model in models for inner in private.models_of(model)}
    for model in inside.values():
        private.remake_functions(model)


def _follow(live: Live, other: keras.Model, journal: Journal) -> None:
    """Brings the shapes recorded in another model over the same layers up to date.
    First in models that are nested in it."""
    known = {id(node) for node in live.nodes}
    for inner in reversed(private.models_of(other)):
        if not is_graph_model(inner):
            graph_of(inner)  # works, or raises
            continue
        for node in private.nodes(private.known_function(inner)):
            if id(node) not in known:
                known.add(id(node))
                _record_anew(node, other, journal)


def _record_anew(node: Any, other: keras.Model, journal: Journal) -> None:
    def symbol(x: Any) -> Any:  # without a history: no trace is left on the operations before
        return keras.KerasTensor(x.shape, x.dtype) if isinstance(x, keras.KerasTensor) else x

    args, kwargs = keras.tree.map_structure(symbol, private.arguments(node))
    try:
        with private.restored_nodes(node.operation):
            outputs = keras.tree.flatten(node.operation(*args, **kwargs))
    except Exception as error:
        # Layers of others on shapes they were not built for: whatever they raise.
        raise ModelError(
            f"also: model {other.name!r} cannot follow, its {node.operation.name!r} needs "
            f"channels that go ({error}). Make the plan for a model that contains both"
        ) from error
    for tensor, x in zip(node.outputs, outputs, strict=True):
        journal.set(tensor, private.TENSOR_SHAPE, tuple(x.shape))


def _stale(live: Live, named: list[keras.Model]) -> list[keras.Model]:
    """Models at large that have compiled something over layers that are going to be smaller."""
    known = {id(inner) for model in named for inner in private.models_of(model)}
    kinds = {keras.Model, *_subclasses(keras.Model)}
    objects = gc.get_objects()  # a million with TensorFlow: nothing of this in Python
    alive = itertools.compress(objects, map(kinds.__contains__, map(type, objects)))
    return [
        other
        for other in alive
        if id(other) not in known
        and vars(other)  # what is left of one that a recording used has nothing in it
        and (private.functions(other) or getattr(other, "compiled", False))
        and any(live.loses(layer) for layer in private.all_layers(other))
    ]


def _subclasses(kind: type) -> set[type]:
    direct: list[type] = type.__subclasses__(kind)
    return {*direct, *(deep for one in direct for deep in _subclasses(one))}
