"""Turning the `call` of a layer, or any function of tensors, into a graph of operations.

Code is recorded by running it on symbols: for its tensors, and for the variables that it reads of
its layer and of layers in it, so that `ops.transpose(self.embedding.embeddings)` is an operation on
a variable and not a constant. A layer that is called on numbers alone (`self.positions(ops.arange(
length))`) gets a symbol for those, too.

A length that is not known, the batch's first of all, is None on a symbol, which much code cannot
compute with, and some misunderstands. It is therefore run again on trial lengths. What is a number
there and does not stay one with other lengths is no constant.
"""

import inspect
import itertools
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.recordings import plain_differences, same_constants, same_operations
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.walk import walk

__all__ = ["BATCH", "TRIALS", "Recording", "at_lengths", "inline", "structure_of"]

# For axes 0, 1, 2 …; the last one goes on. Code may want what many numbers divide, or no more
# positions than it has embeddings for, or squares. No batch is that long, nor a number of channels.
BATCH = 499
TRIALS = ((BATCH, 24, 40, 56), (BATCH, 8, 12, 20), (BATCH, 32), (BATCH, 3, 5, 7), (BATCH, 224))


class Recording(keras.Function):
    """The operations of a piece of code.

    Attributes:
        given: what its last inputs stand for, which no caller gives: variables, and arrays that
            layers were called on.
        arguments: what the code was called with, its tensors as the first inputs.
        lengths: those that stood in for unknown ones, axis by axis, if constants depend on them:
            the operations then tell how channels flow, but cannot take the place of the code.
        way: the lengths that it was recorded with, and whether with symbols for variables; None if
            it was put together from such recordings.
        paths: by id, the names of layers inside of layers whose code was run through.
    """

    given: list[Any]
    lengths: tuple[int, ...] | None
    arguments: tuple[Any, ...]
    way: tuple[tuple[int, ...], bool] | None
    paths: dict[int, str]

    @property
    def whole(self) -> bool:
        """Whether the operations can take the place of the code anywhere."""
        return self.lengths is None and not self.given


def inline(
    code: keras.Layer | Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    like: Recording | None = None,
) -> Recording | None:
    """Records what code does to symbolic tensors.

    Args:
        code: a layer, whose `call` it is and on which no trace of the recording remains (no node,
            and nothing that was assigned to a variable), or a function.
        args, kwargs: its arguments; `keras.KerasTensor`s stand for tensors.
        like: a recording of another layer that may turn out to do the same: the same operations on
            the same constants, recorded once in the same way, need no further proof.

    Returns:
        A `Recording`, or None if the code cannot be recorded.
    """
    call = _Code(code, args, kwargs)
    if like is not None and (found := call.recorded_like(like)) is not None:
        return found
    plain = call.recorded(())
    if not call.unknown:
        return plain
    for lengths in TRIALS:
        trial = call.recorded(lengths)
        if trial is None:
            continue
        if plain is not None and _alike(plain, trial):
            return plain
        trial.lengths = lengths
        return call.without_lengths(trial) or trial
    return None


def structure_of(function: keras.Function) -> Any:
    """The inputs of a graph in the structure that its caller gives them in."""
    if isinstance(function, Recording) and len(function.arguments) == 1:
        return function.arguments[0]
    return private.input_structure(function)


class _Code:
    """Code and its arguments."""

    def __init__(self, code: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._code, self._args, self._kwargs = code, args, kwargs
        self._layer = code if isinstance(code, keras.Layer) else None
        tensors = [x for x in keras.tree.flatten((args, kwargs)) if _is_symbol(x)]
        self.unknown = any(None in x.shape for x in tensors)
        named = args[0] if isinstance(code, keras.Model) and isinstance(args[0], dict) else {}
        self._names = {id(x): name for name, x in named.items()}

    def recorded(self, lengths: tuple[int, ...]) -> Recording | None:
        """The operations with these lengths for unknown ones."""
        variables = [] if self._layer is None else self._layer.variables
        for symbols in (True, False) if variables else (False,):  # code may assign to variables
            recording = self._attempt(lengths, symbols)
            if recording is not None and symbols and _holds_code(recording):
                continue  # which may refer to what stood in for the layer
            if recording is not None and variables and any(_arrays(recording)):
                # An array that was computed from variables is another one if they are others.
                again = self._attempt(lengths, symbols, [(v, _other(v)) for v in variables])
                recording = recording if again and _alike(recording, again) else None
            if recording is not None:
                return recording
        return None

    def recorded_like(self, other: Recording) -> Recording | None:
        """The operations, if they are those of another layer, recorded in the same way."""
        recording = None if other.way is None else self._attempt(*other.way)
        if recording is None or not _alike(recording, other, twins=True):
            return None
        recording.lengths = other.lengths
        return recording

    def _attempt(
        self,
        lengths: tuple[int, ...],
        symbols: bool,
        values: Sequence[tuple[keras.Variable, Any]] = (),
    ) -> Recording | None:
        inputs, given = list[Any](), _Given()

        def symbol(x: Any) -> Any:
            if not _is_symbol(x):
                return x
            inputs.append(_input_like(x, lengths, self._names.get(id(x))))
            return inputs[-1]

        args, kwargs = keras.tree.map_structure(symbol, (self._args, self._kwargs))
        scope = keras.StatelessScope(state_mapping=values)  # what it assigns is let go
        with private.restored_nodes(self._layer), scope, private.calls_through(given.called):
            try:
                outputs = given.outputs(given.code(self._code, symbols)(*args, **kwargs))
                if all(any(y is x for x in inputs) for y in keras.tree.flatten(outputs)):
                    # Nothing is done, of which Keras 3.10 makes no function.
                    outputs = keras.tree.map_structure(keras.layers.Identity(), outputs)
                used = given.used()
                with private.named(given.paths.values()):
                    recording = Recording([*inputs, *(s for s, _ in used)], outputs)
            except Exception:
                # Whatever user code raises on symbolic input means the same here: it cannot be
                # recorded. The caller tries another way or freezes with that reason.
                return None
            finally:
                given.dismiss()
        recording.given, recording.lengths = [value for _, value in used], None
        recording.arguments, recording.way = args, (lengths, symbols)
        recording.paths = {key: path for key, (_, path) in given.paths.items()}
        return recording

    def without_lengths(self, trial: Recording) -> Recording | None:
        """The operations of a trial in which no constant depends on the lengths, or None."""
        assert trial.lengths is not None
        first, *others = trial.lengths
        again = None if trial.given else self.recorded((first + 4, *(2 * n for n in others)))
        changes = None if again is None else _freed(trial, again)
        if changes is None:
            return None

        def called_again(node: Any, args: Any, kwargs: Any) -> Any:
            operation = node.operation
            if isinstance(operation, keras.Layer):
                return operation(*args, **kwargs)
            return private.remade(operation, changes.get(id(node), {}))(*args, **kwargs)

        inputs = [
            _input_like(x, (), self._names.get(id(x)))
            for x in keras.tree.flatten((self._args, self._kwargs))
            if _is_symbol(x)
        ]
        waiting = iter(inputs)
        arguments = keras.tree.map_structure(
            lambda x: next(waiting) if _is_symbol(x) else x, self._args
        )
        layers = {id(n.operation): n.operation for n in private.nodes(trial)}
        names = [(layers[key], path) for key, path in trial.paths.items() if key in layers]
        with private.restored_nodes(self._layer), keras.StatelessScope(), private.named(names):
            try:
                recording = Recording(inputs, walk(trial, inputs, called_again))
            except Exception:
                # Operations on lengths that are not known: whatever they raise, this is no way.
                return None
        recording.given, recording.lengths, recording.arguments = [], None, arguments
        recording.way, recording.paths = None, trial.paths
        return recording


class _Given:
    """What code reads beside its arguments, as symbols.
    Variables, and what layers are called on without any tensor."""

    def __init__(self) -> None:
        self._stand_ins = private.StandIns(self._symbol)
        self._known: dict[int, tuple[keras.KerasTensor, Any]] = {}  # by id(variable or array)
        self._inside = 0
        self._symbols = False
        self._around = list[str]()  # names of layers whose code is being run through
        self.paths: dict[int, tuple[keras.Layer, str]] = {}  # of the layers that these call

    def code(self, code: keras.Layer | Callable[..., Any], symbols: bool) -> Callable[..., Any]:
        """The function to run."""
        self._symbols = symbols
        if not isinstance(code, keras.Layer):
            return code
        return self._stand_ins.of(code).call if symbols else code.call

    def outputs(self, outputs: Any) -> Any:
        """What code puts out, with symbols for arrays that it made up itself."""

        def symbol(x: Any) -> Any:
            return keras.layers.Identity()(self._symbol(x)) if keras.ops.is_tensor(x) else x

        return keras.tree.map_structure(symbol, outputs)

    def used(self) -> list[tuple[keras.KerasTensor, Any]]:
        """Pairs of a symbol that an operation took in, and what it stands for."""
        return [pair for pair in self._known.values() if private.is_used(pair[0])]

    def dismiss(self) -> None:
        """Lets what stood in for layers go."""
        self._stand_ins.dismiss()

    def called(self, call: Any, layer: keras.Layer, args: Any, kwargs: Any) -> Any:
        """A layer is called, by the code or by another layer."""
        layer = self._stand_ins.original(layer)
        leaves = keras.tree.flatten((args, kwargs))
        if not self._inside:
            if self._around:
                self.paths[id(layer)] = layer, "/".join([*self._around, layer.name])
            kwargs = {
                k: v for k, v in kwargs.items() if v is not None or not _is_left_out(layer, k)
            }
            if layer.variables and not any(map(_is_symbol, leaves)):
                args, kwargs = keras.tree.map_structure(self._array, (args, kwargs))
        self._inside += 1
        try:
            return call(layer, *args, **kwargs)
        except Exception:
            # Code of others: whatever it raises, what it does may still be a series of operations.
            if self._inside > 1 or not _is_code(layer, leaves):
                raise
        finally:
            self._inside -= 1
        self._around.append(layer.name)
        try:
            return self.code(layer, self._symbols)(*args, **kwargs)
        finally:
            self._around.pop()

    def _array(self, x: Any) -> Any:
        return self._symbol(x) if keras.ops.is_tensor(x) or isinstance(x, np.ndarray) else x

    def _symbol(self, x: Any) -> keras.KerasTensor:
        if id(x) not in self._known:
            dtype = keras.backend.standardize_dtype(x.dtype)
            name = f"given_{len(self._known)}"
            symbol = keras.Input(batch_shape=tuple(x.shape), dtype=dtype, name=name)
            self._known[id(x)] = symbol, x
        return self._known[id(x)][0]


def _is_left_out(layer: keras.Layer, name: str) -> bool:
    """Whether a layer takes None for an argument that is left out.
    It may compute the shapes of its outputs by a method that knows nothing of it (a `cache`, added
    by a subclass)."""
    parameter = inspect.signature(layer.call).parameters.get(name)
    return parameter is not None and parameter.default is None


def _is_code(layer: keras.Layer, arguments: Sequence[Any]) -> bool:
    """Whether a call of a layer is no more than one of its `call`.

    That is run where Keras has no such operation: a layer that puts out None beside a tensor, or
    computes the shapes of its outputs by a method that does not fit its `call`."""
    symbols = [x for x in arguments if _is_symbol(x)]
    return (
        layer.built
        and not private.is_keras_layer(layer)
        and layer.compute_dtype == layer.variable_dtype
        and bool(symbols)
        and all(private.mask_of(x) is None for x in symbols)
    )


def _is_symbol(x: Any) -> bool:
    return isinstance(x, keras.KerasTensor)


def _input_like(
    x: keras.KerasTensor, lengths: tuple[int, ...], name: str | None
) -> keras.KerasTensor:
    return keras.Input(batch_shape=at_lengths(x.shape, lengths), dtype=x.dtype, name=name)


def at_lengths(shape: Sequence[int | None], lengths: tuple[int, ...]) -> tuple[int | None, ...]:
    """A shape with lengths in place of None; the last one goes on for further axes."""
    known = [*lengths, *lengths[-1:] * len(shape)]
    several = itertools.zip_longest(shape, known[: len(shape)])
    return tuple(new if old is None else old for old, new in several)


def _other(variable: keras.Variable) -> np.ndarray:
    """Another value for a variable."""
    value = numbers_of(variable)
    if value.dtype.kind == "b":
        return ~value
    return (value * 1.5 + 0.25 if value.dtype.kind == "f" else value + 1).astype(value.dtype)


def _arrays(recording: Recording) -> Iterator[bool]:
    """True for each array among the constants of a recording."""
    for constants in (recording.given, *map(private.arguments, private.nodes(recording))):
        for x in keras.tree.flatten(constants):
            if not isinstance(x, (keras.KerasTensor, keras.Variable)):
                yield bool(np.ndim(x)) if hasattr(x, "shape") else False


def _holds_code(recording: Recording) -> bool:
    """Whether functions are among the constants of a recording, or what operations were made of."""
    constants = [
        *map(private.arguments, private.nodes(recording)),
        *(
            vars(n.operation)
            for n in private.nodes(recording)
            if private.is_keras_operation(n.operation)
        ),
    ]
    return any(isinstance(x, types.FunctionType) for x in keras.tree.flatten(constants))


def _alike(one: Recording, other: Recording, twins: bool = False) -> bool:
    """Whether two recordings are of the same operations on the same constants.

    `twins` are recordings of two layers, each with variables and layers inside of its own."""
    return same_constants(one.given, other.given, twins) and same_operations(one, other, twins)


def _freed(one: Recording, other: Recording) -> dict[int, dict[str, Any]] | None:
    """Which operations to change, by id(node), so that no constant depends on lengths.

    Those are the lengths by which the recording differs from another; None if that cannot be.

    A reshape to `(batch, length, -1)` becomes one to `(-1, length, channels)`.
    """
    changes: dict[int, dict[str, Any]] = {}
    nodes, others = private.nodes(one), private.nodes(other)
    if len(nodes) != len(others):
        return None
    for a, b in zip(nodes, others, strict=True):
        if type(a.operation) is not type(b.operation):
            return None
        if not same_constants(private.arguments(a), private.arguments(b)):
            return None
        differing = {} if a.operation is b.operation else dict(
            plain_differences(a.operation, b.operation))  # fmt: skip
        if not differing:
            continue
        shapes = [tuple(node.outputs[0].shape) for node in (a, b)]
        depending = [i for i, (m, n) in enumerate(zip(*shapes, strict=True)) if m != n]
        if set(differing) != {"newshape"} or len(depending) != 1:
            return None
        (own,) = depending
        changes[id(a)] = {"newshape": tuple(-1 if i == own else n
                                            for i, n in enumerate(shapes[0]))}  # fmt: skip
    return changes
