"""How a tensor is quantised: what its range is, and how many steps there are in it."""

import abc
import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_iplt import _keras as private
from keras_iplt.graph.slices import numbers_of
from keras_iplt.quantization.fake import fake_quantized, rounded, together
from keras_iplt.support.arguments import Count, checked

__all__ = [
    "AllValuesQuantizer",
    "FixedQuantizer",
    "LastValueQuantizer",
    "MovingAverageQuantizer",
    "Quantizer",
    "WeightsQuantizer",
]

Range = tuple[Any, Any]
_registered = keras.saving.register_keras_serializable("keras_iplt")


class Quantizer(abc.ABC):
    """Base of quantizers, and of those of your own.

    Example:

    >>> from keras import ops
    >>> class Clipped(Quantizer):
    ...     def build(self, tensor_shape, name, layer):
    ...         limit = layer.add_weight(
    ...             name=name + "_limit", shape=(), initializer="ones", trainable=False)
    ...         return {"limit": limit}
    ...     def __call__(self, inputs, training, weights, **kwargs):
    ...         return ops.clip(inputs, 0.0, weights["limit"])
    ...     def get_config(self):
    ...         return {}
    """

    @abc.abstractmethod
    def build(self, tensor_shape: Any, name: str, layer: keras.Layer) -> dict[str, Any]:
        """Makes the variables that the quantizer needs, as weights of a layer; a dict of them."""

    @abc.abstractmethod
    def __call__(self, inputs: Any, training: bool | None, weights: dict[str, Any]) -> Any:
        """The tensor, quantised. `weights` are those that `build` made."""

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Quantizer":
        """A quantizer of such a config."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    __hash__ = None  # type: ignore[assignment]


_MEASURING = contextvars.ContextVar("measuring", default=False)


@contextlib.contextmanager
def measuring() -> Iterator[None]:
    """A scope in which ranges grow to hold what passes through, although nothing is trained."""
    before = _MEASURING.set(True)
    try:
        yield
    finally:
        _MEASURING.reset(before)


def _wider(old: Any, new: Any, i: int) -> Any:
    """The lower (i=0) or upper end of a range that holds two."""
    return (ops.minimum, ops.maximum)[i](old, new)


class _Observing(Quantizer):
    """Base: the range is found while training, and held afterwards. Before that nothing is rounded.

    Args:
        num_bits: how many steps: 2 to the power of it.
        per_axis: whether each index of the last axis has a range of its own.
        symmetric: whether zero is in the middle.
        narrow_range: whether there is one step less, as many below zero as above.
    """

    @checked
    def __init__(
        self, num_bits: Count, per_axis: bool, symmetric: bool, narrow_range: bool
    ) -> None:
        self.num_bits, self.per_axis = num_bits, per_axis
        self.symmetric, self.narrow_range = symmetric, narrow_range

    def build(self, tensor_shape: Any, name: str, layer: keras.Layer) -> dict[str, Any]:
        add = functools.partial(
            layer.add_weight, tuple(tensor_shape[-1:]) if self.per_axis else (), "zeros", "float32",
            trainable=False, autocast=False, aggregation="mean",
        )  # fmt: skip
        return {"min_var": add(name=f"{name}_min"), "max_var": add(name=f"{name}_max")}

    def __call__(self, inputs: Any, training: bool | None, weights: dict[str, Any]) -> Any:
        x = ops.cast(inputs, "float32")
        low, high = (ops.convert_to_tensor(weights[name]) for name in ("min_var", "max_var"))
        observes = training or _MEASURING.get()
        if observes:
            found = self._range_of(ops.stop_gradient(x))
            is_first = low == high
            after = _wider if _MEASURING.get() else self._after
            low, high = (
                ops.where(is_first, new, after(old, new, i))
                for i, (old, new) in enumerate(zip((low, high), found, strict=True))
            )
            weights["min_var"].assign(low)
            weights["max_var"].assign(high)
        else:
            is_known = low < high
            high = ops.where(is_known, high, 1.0)
        y = fake_quantized(x, low, high, self.num_bits, self.narrow_range, self.per_axis)
        if not observes:
            y = ops.where(is_known, y, x)
        return ops.cast(y, inputs.dtype)

    def forget(self, weights: dict[str, Any]) -> None:
        """There is no range any longer."""
        for name in ("min_var", "max_var"):
            weights[name].assign(np.zeros(weights[name].shape, "float32"))

    def held(self, weights: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
        """The ends of the range as numbers, or None before any was found."""
        low, high = (numbers_of(weights[name]) for name in ("min_var", "max_var"))
        return (low, high) if (low < high).all() else None

    def _range_of(self, x: Any) -> Range:
        """The range of a tensor, with zero in it, so that zeros and padding stay exact."""
        axes = list(range(len(x.shape) - 1)) if self.per_axis else None
        low = ops.minimum(ops.min(x, axes), 0.0)
        high = ops.maximum(ops.max(x, axes), 0.0)
        # Any range does for nothing but zeros, except for one so narrow that runtimes refuse it.
        high = ops.where(low < high, high, 1.0)
        if self.symmetric:  # with a step more below zero, unless the range is narrow
            steps = 2 ** (self.num_bits - 1)
            below = steps - 1 if self.narrow_range else steps
            high = ops.maximum(high, -low * (steps - 1) / below)
            low = -high * below / (steps - 1)
        return low, high

    def _after(self, old: Any, new: Any, i: int) -> Any:
        """The lower (i=0) or upper end of a range that was `old`, after a batch of range `new`."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {
            "num_bits": self.num_bits,
            "per_axis": self.per_axis,
            "symmetric": self.symmetric,
            "narrow_range": self.narrow_range,
        }


@_registered
class LastValueQuantizer(_Observing):
    """The range is that of the last batch."""

    def _after(self, old: Any, new: Any, i: int) -> Any:
        return new


@_registered
class MovingAverageQuantizer(_Observing):
    """The range is a moving average over batches, that of the first batch to begin with."""

    # tfmot keeps 0.999 and begins with a range from -6 to 6, which takes thousands of batches to
    # forget. That of a batch is a fair guess from the beginning.
    _KEPT = 0.99

    def _after(self, old: Any, new: Any, i: int) -> Any:
        return old + (1 - self._KEPT) * (new - old)


@_registered
class AllValuesQuantizer(_Observing):
    """The range is that of all batches together."""

    def _after(self, old: Any, new: Any, i: int) -> Any:
        return _wider(old, new, i)


@_registered
class FixedQuantizer(Quantizer):
    """The range is given.

    Args:
        num_bits: how many steps: 2 to the power of it.
        init_min, init_max: the range.
        narrow_range: whether there is one step less.
    """

    @checked
    def __init__(
        self, num_bits: Count, init_min: float, init_max: float, narrow_range: bool
    ) -> None:
        self.num_bits, self.narrow_range = num_bits, narrow_range
        self.init_min, self.init_max = init_min, init_max

    def build(self, tensor_shape: Any, name: str, layer: keras.Layer) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: Any, training: bool | None, weights: dict[str, Any]) -> Any:
        x = ops.cast(inputs, "float32")
        y = fake_quantized(x, *self.held(weights), self.num_bits, self.narrow_range)
        return ops.cast(y, inputs.dtype)

    def held(self, weights: dict[str, Any]) -> tuple[float, float]:
        """The ends of the range."""
        return self.init_min, self.init_max

    def get_config(self) -> dict[str, Any]:
        return {
            "num_bits": self.num_bits,
            "init_min": self.init_min,
            "init_max": self.init_max,
            "narrow_range": self.narrow_range,
        }


@_registered
class WeightsQuantizer(Quantizer):
    """The range is that of the weights themselves, around zero, at every moment.

    Args:
        axes: along which each index has a range of its own.
        num_bits: how many steps: one less than 2 to the power of it.
        keep_zeros: whether weights stay zero that are so when the layer is wrapped.
        keep_clusters: whether weights stay equal that are so when the layer is wrapped: they move
            together, by the mean of their gradients.
    """

    @checked
    def __init__(
        self,
        axes: tuple[int, ...] = (-1,),
        num_bits: Count = 8,
        keep_zeros: bool = False,
        keep_clusters: bool = False,
    ) -> None:
        self.axes, self.num_bits = axes, num_bits
        self.keep_zeros, self.keep_clusters = keep_zeros, keep_clusters

    def build(self, tensor_shape: Any, name: str, layer: keras.Layer) -> dict[str, Any]:
        state: dict[str, Any] = {}
        add = functools.partial(
            layer.add_weight, tuple(tensor_shape), trainable=False, autocast=False
        )
        if self.keep_zeros:
            stays = _of(layer, name, lambda weights: weights != 0)
            # As numbers: the converter of TFLite multiplies constants by those only.
            state["mask"] = add(stays, "float32", name=f"{name}_mask")
        if self.keep_clusters:
            firsts = _of(layer, name, _first_of_equals)
            state["firsts"] = add(firsts, "int32", name=f"{name}_firsts")
        return state

    def __call__(self, inputs: Any, training: bool | None, weights: dict[str, Any]) -> Any:
        return rounded(self.kept(inputs, weights), self.axes, self.num_bits)

    def kept(self, inputs: Any, weights: dict[str, Any]) -> Any:
        """The weights before they are rounded, with the zeros and clusters that are kept."""
        if "firsts" in weights:
            inputs = together(inputs, ops.convert_to_tensor(weights["firsts"]))
        if "mask" in weights:
            inputs = inputs * ops.cast(weights["mask"], inputs.dtype)
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {
            "axes": self.axes,
            "num_bits": self.num_bits,
            "keep_zeros": self.keep_zeros,
            "keep_clusters": self.keep_clusters,
        }


def _first_of_equals(weights: np.ndarray) -> np.ndarray:
    """For each weight, the place of the first that equals it."""
    _, firsts, which = np.unique(weights, return_index=True, return_inverse=True)
    return firsts[which].reshape(weights.shape)


def _of(wrapper: Any, name: str, function: Callable[[np.ndarray], np.ndarray]) -> Any:
    """An initializer: a function of what a weight of the wrapped layer holds by then."""

    def values(shape: Any, dtype: Any = None) -> Any:
        weight = private.weight_called(wrapper.layer, name)
        return ops.convert_to_tensor(function(numbers_of(weight)), dtype)

    return values
