"""Single layers in TFLite's interpreter: how long does one take, at this width or that?

A processor computes channels in blocks, and one that is not full costs what a full one does:

    3 × 3, 64 -> n channels     n      8   16   24   32   40   48   56   64   72
    (two AVX-512 cores)         ms   .13  .13  .26  .27  .54  .54  .54  .54  .81

`Stairs` is such a row; one is measured per kind of layer. How a layer's time grows with the
channels that go in is a straight line, and two points of it are measured for each shape.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_iplt.exporting.runtimes import interpreter_of

__all__ = ["WIDTHS", "Shape", "Stairs", "seconds", "shortest", "stairs"]

_STRIDE = 8  # widths between two measurements
_WIDEST = 128  # after that the stairs repeat
WIDTHS = range(_STRIDE, _WIDEST + 1, _STRIDE)
_SECONDS = 0.03  # to spend on one measurement, at least


@dataclasses.dataclass(frozen=True)
class Shape:
    """A layer but for its widths.

    Attributes:
        kind: "pointwise" (1 × 1), "convolution", "depthwise" or "dense".
        size: height and width of what goes in, or for a dense layer `(rows,)`.
        kernel, strides, dilation, padding: as the layer says.
    """

    kind: str
    size: tuple[int, ...]
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str = "same"


@functools.lru_cache(maxsize=4096)
def seconds(shape: Shape, inputs: int, outputs: int, threads: int = 1) -> float:
    """How long a layer of that shape takes with so many channels in and out."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    x = random.normal(size=(1, *shape.size, inputs)).astype("float32")
    bias = np.zeros(outputs, "float32")

    def layer(x: Any) -> Any:
        if shape.kind == "dense":
            y = tf.matmul(x[0], _kernel(random, inputs, outputs))
        elif shape.kind == "depthwise":
            kernel = _kernel(random, *shape.kernel, inputs, outputs // inputs)
            y = tf.nn.depthwise_conv2d(
                x, kernel, (1, *shape.strides, 1), shape.padding.upper(), dilations=shape.dilation
            )
        else:
            kernel = _kernel(random, *shape.kernel, inputs, outputs)
            y = tf.nn.conv2d(
                x, kernel, shape.strides, shape.padding.upper(), dilations=shape.dilation
            )
        return tf.nn.relu(y + bias)

    with tf.device("cpu"):
        function = tf.function(layer, input_signature=[tf.TensorSpec(x.shape, tf.float32)])
        # The module holds nothing; without one TensorFlow warns at every file.
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [function.get_concrete_function()], tf.Module()
        )
        content = converter.convert()
    runner, _ = interpreter_of(content, threads)
    runner.allocate_tensors()
    runner.set_tensor(runner.get_input_details()[0]["index"], x)
    return shortest(runner.invoke)


def shortest(run: Callable[[], object]) -> float:
    """The shortest of many times, which is what is left when nobody else uses the processor."""
    run()
    taken: list[float] = []
    while sum(taken) < _SECONDS or len(taken) < 15:
        begin = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def _kernel(random: np.random.Generator, *shape: int) -> np.ndarray:
    return (random.normal(size=shape) / math.sqrt(math.prod(shape[:-1]))).astype("float32")


@dataclasses.dataclass(frozen=True)
class Stairs:
    """How the time of a kind of layer grows with the channels that come out.

    Attributes:
        times: seconds at 8, 16, 24 … 128 channels.
    """

    times: tuple[float, ...]

    def __call__(self, width: int) -> float:
        """The time at a width, in units of its own: only ratios mean anything."""
        turns = max(0, math.ceil((width - _WIDEST) / (_WIDEST // 2)))
        index = math.ceil((width - turns * _WIDEST // 2) / _STRIDE)
        half = self.times[len(self.times) // 2 - 1]
        return (self.times[index - 1] if index else 0.0) + turns * (self.times[-1] - half)

    @property
    def step(self) -> int:
        """The number of channels in a block: the largest for which most blocks are flat."""
        for step in (64, 32, 16):
            blocks = np.reshape(self.times, (-1, step // _STRIDE))
            flat = np.ptp(blocks, axis=1) < 0.1 * blocks.max(axis=1)
            if flat.mean() >= 0.75:
                return step
        return _STRIDE


@functools.lru_cache(maxsize=64)
def stairs(shape: Shape, inputs: int, threads: int = 1) -> Stairs:
    """The `Stairs` of a layer, measured on a small picture."""
    small = dataclasses.replace(shape, size=tuple(min(n, 28) for n in shape.size))
    depthwise = shape.kind == "depthwise"
    times = [seconds(small, n if depthwise else min(inputs, 64), n, threads) for n in WIDTHS]
    # Noise only ever adds: no width takes longer than a wider one.
    return Stairs(tuple(np.minimum.accumulate(times[::-1])[::-1].tolist()))
