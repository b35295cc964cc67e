"""What a smaller model multiplies: means over channels, and what is computed from them.

The mean over C channels, some of them masked to zero, becomes one over the C' that are left, which
is C / C' times as much. This factor is followed through the operations behind the mean: a root of
it, its reciprocal, a product. It ends in numbers and weights that are changed to make good for it:

    x * rsqrt(mean(x ** 2) + epsilon) * (1 + scale)     epsilon becomes epsilon * C / C',
                                                        1 + scale is multiplied by sqrt(C / C')

What an operation does to a factor is not written down by operation: it is carried out on numbers
and on multiples of them. Where a factor cannot be followed, the channels of the mean stay.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.channels import Arguments, Call, Channels, Gain
from keras_iplt.graph.flow import Flow, channels_in
from keras_iplt.graph.rules import (
    activation,
    elementwise,
    movement,
    product,
    rule_for,
    slicing,
    spatial,
)

__all__ = ["Use", "ended", "followed", "multiplied", "settle_gains", "without"]

_REASON = "an average over its channels is used where it cannot be made good for"
_MOVES = {
    movement.__name__,
    slicing.getitem,
    slicing.sliced,
    slicing.split,
    slicing.unstack,
    spatial.identity,
}
_ELEMENTWISE = {activation.unary, elementwise.binary}
_PRODUCTS = {product.dense_layer, product.einsum_dense, product.matmul, product.einsum}
_LINEAR = {"Mean", "Sum"}


class Use(NamedTuple):
    """How an operation uses a variable.

    `gain` is what the variable, `offset` added, makes good for; None if nothing."""

    variable: keras.Variable
    gain: Gain | None
    offset: float
    path: str


def followed(flow: Flow, record: Call, trace: Callable[..., Any], outputs: Any) -> Any:
    """`outputs` of an operation with what becomes of the gains of its operands.

    Args:
        flow: the `Flow`.
        record: the operation's call.
        trace: the function of its rule.
        outputs: what the rule returned for operands without gains.
    """
    operands = [*record.args, *record.kwargs.values()]
    tensors = channels_in(operands)
    if trace in _ELEMENTWISE and isinstance(outputs, Channels):
        return _Elementwise(flow, record).result(outputs)
    gains = [x.gain for x in tensors if x.gain is not None]
    if trace in _PRODUCTS:
        return _of_a_product(flow, record.operation, operands, gains, outputs)
    _count_uses(flow, operands)
    moves = trace in _MOVES or trace.__module__ in _MOVES
    linear = moves or type(record.operation).__name__ in _LINEAR
    if not gains or len(tensors) > 1 or not linear:
        return _ended(flow, gains, outputs)
    if isinstance(outputs, Channels) and outputs.gain is not None:
        return _ended(flow, gains, outputs)  # a mean of what is a mean over other channels
    return keras.tree.map_structure(lambda y: dataclasses.replace(y, gain=gains[0]), outputs)


def _of_a_product(
    flow: Flow, operation: Any, operands: Sequence[Any], gains: Sequence[Gain], outputs: Any
) -> Any:
    """The outcome of a product: weights in it make good for a gain, else it is passed on."""
    if isinstance(operation, keras.Layer):
        operands = [*operands, private.kernel_of(operation)]
    sources = [x for x in map(_source, operands) if x is not None]
    if len(gains) > 1 or len(sources) > 1 or (gains and any(offset for _, offset in sources)):
        _count_uses(flow, operands)
        return _ended(flow, gains, outputs)
    for variable, _ in sources:
        flow.uses.append(Use(variable, gains[0] if gains else None, 0.0, flow.path))
    if sources or not gains or not isinstance(outputs, Channels):
        return outputs if sources else _ended(flow, gains, outputs)
    return dataclasses.replace(outputs, gain=gains[0])


def ended(flow: Flow, x: Any) -> Any:
    """A structure of arguments without gains, where nobody follows these."""
    for one in channels_in(x):
        _ended(flow, [one.gain] if one.gain is not None else [], None)
    _count_uses(flow, keras.tree.flatten(x))
    return without(x)


def multiplied(
    call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], gone: np.ndarray
) -> Arguments:
    """Arguments of an operation, with the numbers changed that means are compared with."""
    changed: dict[int | str, Any] = dict(enumerate(args))
    changed.update(kwargs)
    for key, gain in call.scaled.items():
        if (factor := gain.factor(gone)) != 1:
            changed[key] = factor * (
                changed[key]
                if isinstance(changed[key], (int, float))
                else keras.ops.convert_to_numpy(changed[key])
            )
    return tuple(changed[i] for i in range(len(args))), {name: changed[name] for name in kwargs}


def without(x: Any) -> Any:
    """A structure of arguments without gains."""

    def plain(one: Any) -> Any:
        return dataclasses.replace(one, gain=None, source=None) if _is_marked(one) else one

    return keras.tree.map_structure(plain, x)


def _is_marked(x: Any) -> bool:
    return isinstance(x, Channels) and (x.gain is not None or x.source is not None)


def _ended(flow: Flow, gains: Sequence[Gain], outputs: Any) -> Any:
    for gain in gains:
        flow.freeze(gain.ids, _REASON)
    return outputs


def _source(x: Any) -> tuple[keras.Variable, float] | None:
    return (x, 0.0) if isinstance(x, keras.Variable) else getattr(x, "source", None)


def _source_of(x: Any) -> tuple[keras.Variable, float]:
    source = _source(x)
    assert source is not None
    return source


def _count_uses(flow: Flow, operands: Sequence[Any]) -> None:
    for x in keras.tree.flatten(operands):
        if (source := _source(x)) is not None:
            flow.uses.append(Use(source[0], None, 0.0, flow.path))


def _same(flow: Flow, one: Gain, other: Gain) -> bool:
    """Whether two means are over the same channels."""
    return np.array_equal(flow.partition.find(one.ids), flow.partition.find(other.ids))


class _Elementwise:
    """An operation that works position by position, and what is known of its operands."""

    def __init__(self, flow: Flow, record: Call) -> None:
        self.flow, self.record = flow, record
        self.keys: list[int | str] = [*range(len(record.args)), *record.kwargs]
        self.operands = [*record.args, *record.kwargs.values()]
        self.powers = [x.gain.power if getattr(x, "gain", None) else 0.0 for x in self.operands]

    def result(self, y: Channels) -> Channels:
        """The outcome `y` with its gain or its source."""
        gains = [x.gain for x in channels_in(self.operands) if x.gain is not None]
        sources = [i for i, x in enumerate(self.operands) if _source(x) is not None]
        if not gains:
            source = self._source_of_result(sources)
            if source is None:
                _count_uses(self.flow, self.operands)
            return dataclasses.replace(y, source=source)
        power = self._power(gains)
        if power is None:
            _count_uses(self.flow, self.operands)
            return _ended(self.flow, gains, y)
        gain = Gain(gains[0].ids, power)
        if power and len(sources) == 1 and self._degree({sources[0]: 1.0}) == 1:
            variable, offset = _source_of(self.operands[sources[0]])
            self.flow.uses.append(Use(variable, gain, offset, self.flow.path))
            return y
        _count_uses(self.flow, self.operands)
        return dataclasses.replace(y, gain=gain if power else None)

    def _power(self, gains: Sequence[Gain]) -> float | None:
        """The power that comes out, numbers being changed where they must; None if none fits."""
        if not all(_same(self.flow, gains[0], other) for other in gains):
            return None
        powers = {i: power for i, power in enumerate(self.powers) if power}
        found = self._degree(powers)
        if found is not None:
            return found
        for i, x in enumerate(self.operands):
            if _is_tensor(x) or np.isnan(_number(x)):
                continue
            for power in set(powers.values()):
                found = self._degree({**powers, i: power})
                if found is not None:
                    self.record.scaled[self.keys[i]] = Gain(gains[0].ids, power)
                    return found
        return None

    def _source_of_result(self, sources: list[int]) -> tuple[keras.Variable, float] | None:
        """`(variable, number)` if that is what comes out."""
        others = [x for i, x in enumerate(self.operands) if i not in sources]
        if len(sources) != 1 or any(isinstance(x, Channels) or np.size(x) > 1 for x in others):
            return None
        variable, offset = _source_of(self.operands[sources[0]])
        if self._is_cast:
            return variable, offset
        numbers = _numbers(len(self.operands))[:, : len(_SIGNS)]
        added = self._on(numbers) - numbers[sources[0]]
        close = np.isfinite(added).all() and np.ptp(added) < 1e-5
        return (variable, offset + float(np.mean(added))) if close else None

    @property
    def _is_cast(self) -> bool:
        operation = self.record.operation
        return type(operation).__name__ == "Cast" and "float" in str(operation.dtype)

    def _degree(self, powers: dict[int, float]) -> float | None:
        """n if operands multiplied by `k ** power` multiply the result by `k ** n`."""
        if self._is_cast:
            return powers[0]
        # Numbers as small as those among the operands, which would otherwise not be noticed.
        constants = [abs(_number(x)) for x in self.operands if not _is_tensor(x)]
        scales = [*_SIZES, *(c for c in constants if 0 < c < np.inf)]
        numbers = np.concatenate([_numbers(len(self.operands)) * c for c in scales], 1)
        before, results, degrees = self._on(numbers), [], list[float]()
        for k in (0.5, 1.7, 3.0):
            factors = [k ** powers.get(i, 0.0) for i in range(len(self.operands))]
            after = self._on(numbers, factors)
            known = np.isfinite(before) & np.isfinite(after) & (before != 0) & (after != 0)
            degrees += (np.log(np.abs(after[known] / before[known])) / np.log(k)).tolist()
            results.append((k, after))
        if not degrees:
            return None
        degree = round(float(np.median(degrees)) * 12) / 12
        fits = (np.allclose(before * k**degree, y, 1e-4, 0, equal_nan=True) for k, y in results)
        return degree if all(fits) else None

    def _on(self, numbers: np.ndarray, factors: Sequence[float] | None = None) -> np.ndarray:
        """What comes out for numbers in place of tensors, one row per operand, times factors."""
        several = zip(self.operands, numbers, factors or [1.0] * len(numbers), strict=True)
        values = [(row if _is_tensor(x) else _number(x)) * factor for x, row, factor in several]
        given = [keras.ops.convert_to_tensor(v, "float32") for v in values]
        count = len(self.record.args)
        named = dict(zip(self.record.kwargs, given[count:], strict=True))
        try:
            result = self.record.operation.call(*given[:count], **named)
        except Exception:  # an operation that takes no floating point numbers
            return np.full(numbers.shape[1], np.nan)
        return np.broadcast_to(
            np.asarray(keras.ops.convert_to_numpy(result), "float64"), numbers.shape[1:]
        )


def _is_tensor(x: Any) -> bool:
    return isinstance(x, (Channels, keras.Variable))


def _number(x: Any) -> float:
    """The one number of a constant."""
    return float(np.ravel(keras.ops.convert_to_numpy(x))[0]) if np.size(x) == 1 else np.nan


_SIZES = (1e-3, 1.0, 1e3)
_SIGNS = (1, 1, 1, 1, -1, 1, -1, 1, -1, -1)


@functools.cache
def _numbers(count: int) -> np.ndarray:
    random = np.random.default_rng(0)
    numbers = random.uniform(0.3, 2.5, (count, len(_SIGNS)))
    return numbers * np.stack([np.roll(_SIGNS, 2 * i) for i in range(count)])


def _is_kernel(variable: keras.Variable, layer: keras.Layer) -> bool:
    """Whether a variable is a kernel, the uses of which are counted one by one."""
    rule = rule_for(layer)
    return rule is not None and rule.trace in _PRODUCTS and variable is private.kernel_of(layer)


def settle_gains(flow: Flow) -> None:
    """Lets variables make good for what they are multiplied with, if all that uses them agrees."""
    flow.path = ""
    ruled = {
        id(w)
        for call in flow.calls.values()
        if call.carry == "rule" and isinstance(call.operation, keras.Layer)
        for w in call.operation.weights
        if not _is_kernel(w, call.operation)
    }
    by_variable: dict[int, list[Use]] = {}
    for use in flow.uses:
        by_variable.setdefault(id(use.variable), []).append(use)
    for key, uses in by_variable.items():
        gains = [use.gain for use in uses if use.gain is not None]
        if not gains:
            continue
        first = next(use for use in uses if use.gain is not None)
        if (
            key in ruled
            or len(gains) < len(uses)
            or any(
                gain.power != gains[0].power
                or use.offset != first.offset
                or not _same(flow, gain, gains[0])
                for gain, use in zip(gains, uses, strict=True)
            )
        ):
            for gain in gains:
                flow.freeze(gain.ids, f"{_REASON} ({first.path})")
            continue
        flow.rescale(first.variable, gains[0].ids, gains[0].power, first.offset)
