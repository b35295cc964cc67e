"""Layers as what they are at heart: features of their input times a matrix, plus a bias.

Dense              the input's last axis
convolutions       the window under the kernel at some positions (a transposed one: of its
                   input with zeros between); grouped and depthwise ones group by group
SeparableConv      what its depthwise half puts out
EinsumDense        the labels that are summed over; those that it shares with its kernel are
                   groups

features(x) @ matrix(kernel) + bias = layer(x), before any activation
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.flow import channel_axis
from keras_iplt.graph.rules.product import einsum_terms
from keras_iplt.graph.slices import numbers_of

__all__ = ["Linear", "linear", "some_positions"]


class Linear(abc.ABC):
    """A layer as a product.

    Attributes:
        layer, kernel: the layer, and the variable that is its matrix.
    """

    def __init__(self, layer: keras.Layer, kernel: keras.Variable) -> None:
        self.layer, self.kernel = layer, kernel

    def prepared(self, x: np.ndarray, value_of: Callable[[keras.Variable], Any]) -> np.ndarray:
        """The input as the product sees it; `value_of(variable)` is what a variable holds."""
        return x

    @abc.abstractmethod
    def positions(self, shape: tuple[int, ...]) -> int:
        """How many positions of one example the product is computed at."""

    @abc.abstractmethod
    def features(self, x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """(examples × positions chosen, groups, features) of a batch."""

    @abc.abstractmethod
    def matrix(self, kernel: np.ndarray) -> np.ndarray:
        """A kernel as (groups, features, outputs)."""

    @abc.abstractmethod
    def kernel_from(self, matrix: np.ndarray) -> np.ndarray:
        """The kernel that `matrix` makes a matrix of."""

    def input_axis(self, axis: int) -> int:
        """The axis of the prepared input that an axis of the kernel is contracted with."""
        return -1

    @property
    def outputs(self) -> int:
        """How many numbers it puts out at a position."""
        groups, _, outputs = self.matrix(np.empty(self.kernel.shape, np.bool_)).shape
        return groups * outputs

    @property
    def output_axis(self) -> int | None:
        """The axis along which its outputs stand, with all positions along the others.

        None if there is no such axis."""
        return channel_axis(self.layer)

    def of_ones(self, kernel: np.ndarray) -> np.ndarray:
        """(groups, outputs): what a kernel makes of ones, away from borders and on average."""
        return self.matrix(kernel).sum(axis=1)

    @property
    def has_bias(self) -> bool:
        """Whether a bias of the layer stands for one number per output."""
        return self.layer.bias is not None

    def bias_from(self, row: np.ndarray) -> np.ndarray:
        """The layer's bias from (groups, outputs)."""
        return row.ravel()


class Dense(Linear):
    """Over the last axis."""

    def positions(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape[1:-1])

    def features(self, x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        x = x.reshape(len(x), -1, x.shape[-1])[:, chosen]
        return x.reshape(-1, 1, x.shape[-1])

    def matrix(self, kernel: np.ndarray) -> np.ndarray:
        return kernel[None]

    def kernel_from(self, matrix: np.ndarray) -> np.ndarray:
        return matrix[0]


class Convolution(Linear):
    """At some positions of the output.

    Args:
        layer, kernel: the layer, and its kernel (…, in / groups, out).
        groups: how many groups of channels are convolved apart.
    """

    def __init__(self, layer: keras.Layer, kernel: keras.Variable, groups: int) -> None:
        super().__init__(layer, kernel)
        self.groups = groups
        self.window = tuple(kernel.shape[:-2])
        self.strides = _each(layer.strides, len(self.window))
        self.dilation = _each(layer.dilation_rate, len(self.window))

    def _spread(self, lengths: tuple[int, ...]) -> list[tuple[int, int, int]]:
        """Per axis: zeros before, zeros behind, and how many positions there are."""
        found = []
        for n, k, s, d in zip(lengths, self.window, self.strides, self.dilation, strict=True):
            reach = (k - 1) * d + 1
            if self.layer.padding == "valid":
                before = behind = 0
            elif self.layer.padding == "causal":
                before, behind = reach - 1, 0
            else:
                total = max((-(-n // s) - 1) * s + reach - n, 0)
                before, behind = total // 2, total - total // 2
            found.append((before, behind, (n + before + behind - reach) // s + 1))
        return found

    def _last(self, x: np.ndarray) -> np.ndarray:
        return np.moveaxis(x, channel_axis(self.layer), -1)

    def _lengths(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[1:-1] if channel_axis(self.layer) == -1 else shape[2:]

    def input_axis(self, axis: int) -> int:
        return channel_axis(self.layer)

    def positions(self, shape: tuple[int, ...]) -> int:
        return math.prod(count for _, _, count in self._spread(self._lengths(shape)))

    def features(self, x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        x = self._last(x)
        return self._windows(x, self._spread(x.shape[1:-1]), chosen)

    def _windows(
        self, x: np.ndarray, spread: list[tuple[int, int, int]], chosen: np.ndarray
    ) -> np.ndarray:
        """What the kernel lies on at some positions."""
        x = np.pad(x, [(0, 0), *((before, behind) for before, behind, _ in spread), (0, 0)])
        corners = np.unravel_index(chosen, [count for _, _, count in spread])
        offsets = np.indices(self.window).reshape(len(self.window), -1)
        axes = zip(corners, offsets, self.strides, self.dilation, strict=True)
        index = np.ravel_multi_index(
            [corner[:, None] * stride + offset * step for corner, offset, stride, step in axes],
            x.shape[1:-1],
        )
        # examples, positions, window, channels
        rows = x.reshape(len(x), -1, x.shape[-1])[:, index]
        rows = rows.reshape(-1, index.shape[1], self.groups, x.shape[-1] // self.groups)
        return rows.transpose(0, 2, 1, 3).reshape(len(rows), self.groups, -1)

    def matrix(self, kernel: np.ndarray) -> np.ndarray:
        *_, channels, outputs = kernel.shape
        parts = kernel.reshape(-1, channels, self.groups, outputs // self.groups)
        return parts.transpose(2, 0, 1, 3).reshape(self.groups, -1, outputs // self.groups)

    def kernel_from(self, matrix: np.ndarray) -> np.ndarray:
        groups, features, outputs = matrix.shape
        window = math.prod(self.window)
        parts = matrix.reshape(groups, window, features // window, outputs)
        return parts.transpose(1, 2, 0, 3).reshape(*self.window, features // window, -1)


class Depthwise(Convolution):
    """A convolution with a group per channel; its kernel is (…, in, multiplier)."""

    def __init__(self, layer: keras.Layer, kernel: keras.Variable) -> None:
        super().__init__(layer, kernel, int(kernel.shape[-2]))

    def matrix(self, kernel: np.ndarray) -> np.ndarray:
        return super().matrix(kernel.reshape(*self.window, 1, -1))

    def kernel_from(self, matrix: np.ndarray) -> np.ndarray:
        return super().kernel_from(matrix).reshape(self.kernel.shape)


class Transposed(Convolution):
    """A convolution, by the mirrored kernel, of its input with zeros between the positions."""

    def __init__(self, layer: keras.Layer, kernel: keras.Variable) -> None:
        super().__init__(layer, kernel, 1)
        self.steps, self.strides = self.strides, (1,) * len(self.window)

    def _spread(self, lengths: tuple[int, ...]) -> list[tuple[int, int, int]]:
        found = []
        for n, k, s, d in zip(lengths, self.window, self.steps, self.dilation, strict=True):
            reach = (k - 1) * d + 1
            if self.layer.padding == "valid":
                count, cut = (n - 1) * s + max(reach, s), 0
            else:
                count = n * s
                cut = max(reach - s, 0) // 2
            before = reach - 1 - cut
            # Behind: as much as the last position looks at, with zeros between inputs counted.
            found.append((before, count + reach - 1 - before - ((n - 1) * s + 1), count))
        return found

    def features(self, x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        x = self._last(x)
        spread = self._spread(x.shape[1:-1])
        lengths = [(n - 1) * s + 1 for n, s in zip(x.shape[1:-1], self.steps, strict=True)]
        stuffed = np.zeros((len(x), *lengths, x.shape[-1]), x.dtype)
        stuffed[(slice(None), *(slice(None, None, s) for s in self.steps))] = x
        return self._windows(stuffed, spread, chosen)

    def matrix(self, kernel: np.ndarray) -> np.ndarray:
        return super().matrix(np.swapaxes(_mirrored(kernel), -1, -2))

    def kernel_from(self, matrix: np.ndarray) -> np.ndarray:
        return _mirrored(np.swapaxes(super().kernel_from(matrix), -1, -2))

    def of_ones(self, kernel: np.ndarray) -> np.ndarray:
        # An output meets one of so many parts of the window: elsewhere it lies on zeros.
        return super().of_ones(kernel) / math.prod(self.steps)


class Separable(Dense):
    """The pointwise half."""

    def prepared(self, x: np.ndarray, value_of: Callable[[keras.Variable], Any]) -> np.ndarray:
        layer = self.layer
        kernel = keras.ops.cast(value_of(layer.depthwise_kernel), x.dtype.name)
        between = keras.ops.depthwise_conv(
            x, kernel, layer.strides, layer.padding, layer.data_format, layer.dilation_rate
        )
        return numbers_of(between)

    def input_axis(self, axis: int) -> int:
        return channel_axis(self.layer)

    def positions(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape[1:]) // shape[self.input_axis(-2)]

    def features(self, x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        return super().features(np.moveaxis(x, self.input_axis(-2), -1), chosen)

    def matrix(self, kernel: np.ndarray) -> np.ndarray:
        return kernel.reshape(1, *kernel.shape[-2:])

    def kernel_from(self, matrix: np.ndarray) -> np.ndarray:
        return matrix.reshape(self.kernel.shape)


class Einsum(Linear):
    """Labels of the input that the kernel has too are summed over (features) or kept (groups).

    Its own labels are outputs; all others of the input are positions."""

    def __init__(self, layer: keras.Layer, kernel: keras.Variable) -> None:
        super().__init__(layer, kernel)
        self.of_x, self.of_kernel, self.out = einsum_terms(layer.equation, 0, 0)  # no ellipsis
        self.groups = [c for c in self.of_kernel if c in self.of_x and c in self.out]
        self.summed = [c for c in self.of_kernel if c in self.of_x and c not in self.out]
        self.own = [c for c in self.of_kernel if c not in self.of_x]
        self.free = [c for c in self.of_x if c not in self.of_kernel]
        self.lengths = dict(zip(self.of_kernel, kernel.shape, strict=True))

    @property
    def is_understood(self) -> bool:
        """Whether the batch comes first, and every position of the input is one of the output."""
        return self.free[:1] == [self.of_x[0]] and all(c in self.out for c in self.free + self.own)

    def input_axis(self, axis: int) -> int:
        return self.of_x.index(self.of_kernel[axis])

    def positions(self, shape: tuple[int, ...]) -> int:
        by_label = dict(zip(self.of_x, shape, strict=True))
        return math.prod(by_label[c] for c in self.free[1:])

    def features(self, x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        x = x.transpose([self.of_x.index(c) for c in (*self.free, *self.groups, *self.summed)])
        groups = math.prod(self.lengths[c] for c in self.groups)
        x = x.reshape(len(x), -1, groups, math.prod(self.lengths[c] for c in self.summed))
        return x[:, chosen].reshape(-1, *x.shape[2:])

    def matrix(self, kernel: np.ndarray) -> np.ndarray:
        kernel = kernel.transpose([self.of_kernel.index(c) for c in self._ordered])
        sizes = [math.prod(self.lengths[c] for c in part) for part in (self.groups, self.summed)]
        return kernel.reshape(*sizes, -1)

    def kernel_from(self, matrix: np.ndarray) -> np.ndarray:
        kernel = matrix.reshape([self.lengths[c] for c in self._ordered])
        return kernel.transpose([self._ordered.index(c) for c in self.of_kernel])

    @property
    def _ordered(self) -> list[str]:
        return [*self.groups, *self.summed, *self.own]

    @property
    def has_bias(self) -> bool:
        """Whether its bias has one entry for each of its own labels, and no other."""
        bias, last = self.layer.bias, self.out[-len(self.own) :]
        return (
            bias is not None
            and not self.groups
            and list(last) == self.own
            and tuple(bias.shape) == tuple(self.lengths[c] for c in self.own)
        )

    @property
    def output_axis(self) -> int | None:
        return -1 if list(self.out) == [*self.free, *self.own] and len(self.own) == 1 else None

    def bias_from(self, row: np.ndarray) -> np.ndarray:
        return row.reshape(self.layer.bias.shape)


def linear(layer: Any) -> Linear | None:
    """A layer as a product, or None for whatever is none, or is not to be changed."""
    make = _KINDS.get(type(layer))
    if make is None or not layer.built or getattr(layer, "quantization_mode", None):
        return None
    if getattr(layer, "lora_enabled", False) or getattr(layer, "output_padding", None) is not None:
        return None
    if any(getattr(layer, name, None) is not None for name in _CONSTRAINTS):
        return None
    return make(layer)


def some_positions(count: int, samples: int, examples: int, rng: np.random.Generator) -> np.ndarray:
    """Which of `count` positions to look at for about so many samples of so many examples."""
    wanted = min(count, -(-samples // examples))
    return np.sort(rng.choice(count, wanted, replace=False))


def _einsum(layer: keras.Layer) -> Linear | None:
    if "..." in layer.equation:
        return None
    found = Einsum(layer, private.kernel_of(layer))
    return found if found.is_understood else None


_CONSTRAINTS = ("kernel_constraint", "depthwise_constraint", "pointwise_constraint",
                "bias_constraint")  # fmt: skip
_KINDS: dict[type, Callable[[Any], Linear | None]] = {
    keras.layers.Dense: lambda layer: Dense(layer, private.kernel_of(layer)),
    keras.layers.EinsumDense: _einsum,
}
for _d in ("1D", "2D", "3D"):
    _KINDS |= {
        getattr(keras.layers, f"Conv{_d}"): lambda layer: Convolution(
            layer, layer.kernel, layer.groups
        ),
        getattr(keras.layers, f"Conv{_d}Transpose"): lambda layer: Transposed(layer, layer.kernel),
    }
for _d in ("1D", "2D"):
    _KINDS |= {
        getattr(keras.layers, f"DepthwiseConv{_d}"): lambda layer: Depthwise(layer, layer.kernel),
        getattr(keras.layers, f"SeparableConv{_d}"): lambda layer: Separable(
            layer, layer.pointwise_kernel
        ),
    }


def _each(setting: Any, count: int) -> tuple[int, ...]:
    """A number, or one per axis, as one per axis."""
    return (int(setting),) * count if isinstance(setting, int) else tuple(map(int, setting))


def _mirrored(kernel: np.ndarray) -> np.ndarray:
    return np.flip(kernel, tuple(range(kernel.ndim - 2)))
