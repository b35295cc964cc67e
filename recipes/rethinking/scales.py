"""Sparse structure selection (Huang and Wang, ECCV 2018): blocks whose scale is zero go.

What each residual block adds is multiplied by a scale of its own, which starts from one. The loss
has an l1 penalty on the scales, which takes them to zero exactly: it is not in the gradient, but a
soft threshold after each step, by the penalty times the learning rate (proximal gradient; what the
paper accelerates it by is here the momentum of SGD).
"""

from typing import Any

import keras
from keras import ops

import keras_iplt as iplt

__all__ = ["BlockScale", "SoftThreshold", "follow", "selected", "with_scales"]

SUFFIX = "_scale"  # of the names of scales: what is before is the layer that ends the block


class SoftThreshold(keras.constraints.Constraint):
    """Takes numbers nearer to zero after each step of an optimizer, and not beyond.

    Args:
        penalty: times the learning rate, by how much.
    """

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty
        self.optimizer: keras.Optimizer | None = None  # that of the model, see `follow`

    def __call__(self, w: Any) -> Any:
        if self.optimizer is None:
            return w
        nearer = ops.abs(w) - ops.cast(self.optimizer.learning_rate * self.penalty, w.dtype)
        return ops.sign(w) * ops.relu(nearer)

    def get_config(self) -> dict[str, Any]:
        return {"penalty": self.penalty}


@keras.saving.register_keras_serializable("keras_iplt_recipes")
class BlockScale(keras.layers.Layer):
    """Multiplies what a block adds by one number.

    Args:
        penalty: the factor of the l1 penalty on it.
    """

    def __init__(self, penalty: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.penalty = penalty

    def build(self, input_shape: Any) -> None:
        threshold = SoftThreshold(self.penalty)
        self.factor = self.add_weight(shape=(), initializer="ones", constraint=threshold)

    def call(self, x: Any) -> Any:
        return x * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "penalty": self.penalty}


def with_scales(model: keras.Model, penalty: float) -> keras.Model:
    """The architecture with a scale at the end of each residual block, and new values."""
    graph = iplt.trace(model)
    blocks = {block.name: block for block in graph.branches}

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if layer.name in blocks:
            block, operands = blocks[layer.name], list(args[0])
            scale = BlockScale(penalty, name=block.layers[-1] + SUFFIX)
            (place,) = block.places
            operands[place] = scale(operands[place])
            args = (operands,)
        return layer(*args, **kwargs)

    return keras.models.clone_model(model, call_function=call)


def follow(model: keras.Model) -> None:
    """Lets the scales of a compiled model know the learning rate."""
    for layer in model.layers:
        if isinstance(layer, BlockScale):
            layer.factor.constraint.optimizer = model.optimizer


def selected(model: keras.Model) -> keras.Model:
    """The network without the blocks whose scale is zero, and without scales.

    Others are multiplied into the batch norms before them."""
    factors = {one.name: float(one.factor) for one in model.layers if isinstance(one, BlockScale)}
    graph = iplt.trace(model)
    gone = [
        block for block in graph.branches if any(factors.get(name) == 0 for name in block.layers)
    ]
    left = iplt.prune(model, branches=gone) if gone else model

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer.name in factors else layer(*args, **kwargs)

    plain = keras.models.clone_model(left, call_function=call)
    for layer in plain.layers:
        layer.set_weights(left.get_layer(layer.name).get_weights())
        factor = factors.get(layer.name + SUFFIX)
        if factor is not None:
            layer.gamma.assign(layer.gamma * factor)
            layer.beta.assign(layer.beta * factor)
    return plain
