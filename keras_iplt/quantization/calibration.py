"""Quantised models made ready without training: ranges from examples, and shifts moved back.

Rounding moves each weight a little, and the outputs of a layer with it: by a part that differs from
example to example, which nothing but training can mend, and by a part that is the same for all. The
latter is what biases and batch norms hold anyway: it is taken off there.
"""

from collections.abc import Iterator
from typing import Annotated, Any

import keras
import numpy as np

from keras_iplt.callbacks.backup import restorable
from keras_iplt.errors import ModelError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.trace import trace
from keras_iplt.quantization.quantize import stripped
from keras_iplt.quantization.quantizers import measuring
from keras_iplt.quantization.wrapper import rounding_layers
from keras_iplt.running.linear import Linear, linear, some_positions
from keras_iplt.running.observe import batches, without_gradients
from keras_iplt.running.relay import Relay, Weights, held_by, hold
from keras_iplt.running.steps import Program, Step, recorded
from keras_iplt.support.arguments import Data, Kind, Positive, Verbosity, checked
from keras_iplt.support.progress import doing, silent, told
from keras_iplt.surgery.recalibration import Moments, rows_of
from keras_iplt.surgery.refitting import distances
from keras_iplt.surgery.refitting.behind import Behind

__all__ = ["calibrate"]

_SAMPLES = 16384  # of what goes into a layer with a bias
_MOST = 4.0  # times as much as before, or as little, a variance may become
_QUANTIZED = Kind(
    "a model that quantize_model or quantize_apply returned",
    lambda model: bool(rounding_layers(model)),
    ModelError,
)


@checked
def calibrate(
    model: Annotated[keras.Model, _QUANTIZED],
    data: Data,
    memory: Positive = 2e9,
    verbose: Verbosity = 1,
) -> None:
    """Makes a quantised model ready for export without training, in place.

    First it takes off what the rounding of weights adds to the outputs of a layer on average: from
    biases, and from the moving means and variances of batch norms, each with what those before it
    left. That is dropped if the outputs do not come closer to those in floating point on these
    data. Then the range of each activation is measured: it holds all that passes through.

    Args:
        model: a quantised model of which `strip_quantization` makes what is to be computed.
        data: `x` or batches, as for `keras_iplt.plan`; labels are not looked at. A hundred examples
            do, as they will come in use.
        memory: how many bytes of tensors to hold. Examples that do not fit are left out where
            tensors are large, early in the model, and join later.
        verbose: 0 for no progress bar, which only terminals and notebooks get.

    Example:

    >>> import numpy as np
    >>> from keras_iplt import quantization
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
    >>> quantized = quantization.quantize_model(model)
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> quantization.calibrate(quantized, x)
    >>> apart = quantized.predict(x, verbose=0) - model.predict(x, verbose=0)
    >>> bool(np.abs(apart).max() < 0.1)
    True
    """
    with silent(when=not verbose):
        data = [*data] if isinstance(data, Iterator) else data
        put_back = restorable(model)
        try:
            _take_shifts_off(model, data, memory)
            with doing("measuring ranges"):
                _measure_ranges(model, data)
        except BaseException:
            put_back()
            raise


def _measure_ranges(model: keras.Model, data: Any) -> None:
    for layer in rounding_layers(model):
        layer.forget_ranges()
    with measuring(), without_gradients():
        for batch in batches(model, data):
            model(batch.x, training=False)


def _take_shifts_off(model: keras.Model, data: Any, memory: float) -> None:
    plain, pairs = stripped(model)
    twins = [pair for olds, copy in pairs for pair in zip(olds, copy.variables, strict=True)]
    values = {
        id(variable): numbers_of(value)
        for layer in rounding_layers(model)
        for variable, value in layer.rounded()
    }
    if not values:
        return
    rounded: Weights = {id(b): (b, values[id(a)]) for a, b in twins if id(a) in values}
    graph = trace(plain)
    program = recorded(graph.function, graph.calls)
    mended = dict(rounded)
    relay = Relay(program, batches(plain, data), [{}, mended, rounded], memory, rounded)
    for index, layer in told(_takers(program, rounded).items(), "layer"):
        relay.advance(index)
        if layer is None:
            _mend_norm(program.steps[index], relay, mended)
        else:
            _mend_bias(layer, program.steps[index].inputs[0], relay, mended)
    relay.advance(len(program.steps))
    after, before = distances(program, relay)
    if after < before:
        for variable, twin in twins:
            if id(twin) in mended and id(twin) not in rounded:
                variable.assign(mended[id(twin)][1])


def _takers(program: Program, rounded: Weights) -> dict[int, Linear | None]:
    """By their index, the steps that can take something off: layers with a bias, None for norms."""
    behind = Behind(program)
    found = {}
    marks = zip(program.steps, program.reached({*rounded}), strict=True)
    for index, (step, moved) in enumerate(marks):
        layer = linear(step.operation)
        is_norm = type(step.operation) is keras.layers.BatchNormalization
        takes = is_norm or (layer is not None and layer.has_bias)
        if moved and takes and behind.used_once(step):
            found[index] = layer
    return found


def _mend_norm(step: Step, relay: Relay, weights: Weights) -> None:
    """A batch norm comes to see its inputs as they were."""
    was, now = Moments(), Moments()
    for whole, mended, _ in relay.batches():
        was.add(rows_of(step, whole))
        now.add(rows_of(step, mended))
    if not was.count:
        return
    norm = step.operation
    mean, variance = norm.moving_mean, norm.moving_variance
    hold(weights, mean, held_by(weights, mean) + now.mean - was.mean)
    least = np.finfo(np.float32).tiny
    wider = np.clip((now.variance + least) / (was.variance + least), 1 / _MOST, _MOST)
    spread = (held_by(weights, variance) + norm.epsilon) * wider - norm.epsilon
    hold(weights, variance, np.maximum(spread, 0))


def _mend_bias(layer: Linear, place: int, relay: Relay, weights: Weights) -> None:
    """A bias takes up by how much the outputs of the product are off on average."""
    examples = sum(len(whole[place]) for whole, *_ in relay.batches())
    rng = np.random.default_rng(0)
    sums: list[Any] = [0.0, 0.0]
    count = 0
    for whole, mended, _ in relay.batches():
        inputs = [
            layer.prepared(numbers_of(whole[place]), lambda variable: variable.value),
            layer.prepared(numbers_of(mended[place]), lambda variable: held_by(weights, variable)),
        ]
        chosen = some_positions(layer.positions(inputs[0].shape), _SAMPLES, examples, rng)
        for i, x in enumerate(inputs):
            features = layer.features(x, chosen)
            sums[i] = sums[i] + features.sum(axis=0, dtype=np.float64)
        count += len(features)
    kernels = layer.kernel, held_by(weights, layer.kernel)
    was, now = (
        np.einsum("gf,gfo->go", total / count, layer.matrix(np.asarray(kernel)))
        for total, kernel in zip(sums, kernels, strict=True)
    )
    bias = layer.layer.bias
    hold(weights, bias, held_by(weights, bias) - layer.bias_from(now - was))
