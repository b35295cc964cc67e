"""Layers that pruned models are made of, beside those of Keras."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_iplt.errors import OptionError
from keras_iplt.support.arguments import Count, checked

__all__ = ["PaddedLayerNormalization", "Scatter"]


@keras.saving.register_keras_serializable("keras_iplt")
class Scatter(keras.layers.Layer):
    """Puts channels back to where they were before others were pruned, with zeros in between.

    What comes out has `width` channels whatever goes in, so that it can be added to a tensor none
    of whose channels went. Nothing is computed: numbers are copied.

    Args:
        width: the number of channels that come out.
        kept: where each channel that goes in comes out: ascending positions. By default all
            `width` of them: then the layer passes on what it gets.
        axis: the axis of the channels.

    Example:

    >>> x = Scatter(4, kept=[0, 2])(np.array([[7.0, 8.0]]))
    >>> ops.convert_to_numpy(x)
    array([[7., 0., 8., 0.]], dtype=float32)
    """

    @checked
    def __init__(
        self, width: Count, kept: Sequence[int] | None = None, axis: int = -1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        positions = np.arange(width) if kept is None else np.asarray(kept, np.int64)
        if (
            positions.ndim != 1
            or not len(positions)
            or (np.diff([-1, *positions, width]) < 1).any()
        ):
            raise OptionError(
                f"kept: expected ascending positions below width={width}, received: {kept!r}"
            )
        self.width, self.axis = int(width), axis
        self.kept = None if len(positions) == width else tuple(map(int, positions))

    @property
    def positions(self) -> np.ndarray:
        """Where each channel that goes in comes out."""
        return np.arange(self.width) if self.kept is None else np.array(self.kept)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        shape = list(input_shape)
        if not -len(shape) <= self.axis < len(shape):
            raise OptionError(
                f"axis: expected one of {len(shape)}, which shape {tuple(input_shape)} has, "
                f"received: {self.axis}"
            )
        if shape[self.axis] != len(self.positions):
            raise OptionError(
                f"layer {self.name!r} expected {len(self.positions)} channels along axis "
                f"{self.axis}, received: shape {tuple(input_shape)}"
            )
        shape[self.axis] = self.width
        return tuple(shape)

    def call(self, x: Any) -> Any:
        shape = self.compute_output_shape(x.shape)
        if self.kept is None:
            return x
        # Rows of a matrix are gathered much faster than columns, forth and back. To scatter them
        # would do as well, but in int8 TFLite fills up with the number 0, which stands for another.
        source = np.full(self.width, len(self.kept), "int32")
        source[self.positions] = np.arange(len(self.kept))
        rows = ops.moveaxis(x, self.axis, 0)
        rows = ops.pad(rows, [(0, 1)] + [(0, 0)] * (len(shape) - 1))
        return ops.moveaxis(ops.take(rows, source, axis=0), 0, self.axis)

    def get_config(self) -> dict[str, Any]:
        kept = None if self.kept is None else list(self.kept)
        return {**super().get_config(), "width": self.width, "kept": kept, "axis": self.axis}


@keras.saving.register_keras_serializable("keras_iplt")
class PaddedLayerNormalization(keras.layers.LayerNormalization):
    """Layer normalisation of what is left of `width` channels, as if zeros stood for the others.

    Mean and variance are over all `width` channels, so that those that are left come out as they
    did when the others were there, masked to zero. With `width` channels, none is missing and it is
    `keras.layers.LayerNormalization`.

    Args:
        width: how many channels are normalised, those included that do not go in.
        axis: the one axis of the channels.
        **options: see `keras.layers.LayerNormalization`.

    Example:

    >>> x = PaddedLayerNormalization(4)(np.array([[3.0, 1.0]]))  # of 3, 1, 0, 0
    >>> ops.convert_to_numpy(x).round(2)
    array([[1.63, 0.  ]], dtype=float32)
    """

    width: int  # also of a layer that becomes one when channels of it go

    @checked
    def __init__(self, width: Count, axis: int | Sequence[int] = -1, **options: Any) -> None:
        super().__init__(axis=axis, **options)
        if not isinstance(axis, int) and len(axis) != 1:
            raise OptionError(f"axis: expected a single one, received: {axis!r}")
        self.width = int(width)

    def call(self, inputs: Any) -> Any:
        (axis,) = self.axis
        count = inputs.shape[axis]
        if count == self.width:
            return super().call(inputs)
        if count > self.width:
            raise OptionError(
                f"layer {self.name!r} expected up to {self.width} channels along axis {axis}, "
                f"received: shape {tuple(inputs.shape)}"
            )
        share = count / self.width
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean = share * ops.mean(x, axis, keepdims=True)
        variance = share * ops.mean(ops.square(x - mean), axis, keepdims=True)
        variance += (1 - share) * ops.square(mean)  # of the zeros
        shape = [count if i == axis % len(x.shape) else 1 for i in range(len(x.shape))]
        gain = ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            gain *= ops.reshape(ops.cast(self.gamma, x.dtype), shape)
        y = x * gain if self.rms_scaling else (x - mean) * gain
        if self.beta is not None:
            y += ops.reshape(ops.cast(self.beta, x.dtype), shape)
        return ops.cast(y, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}
