"""Gradients of a model's loss, on whatever backend Keras runs on."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt.errors import CriterionError, DataError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.walk import accepts
from keras_iplt.running.observe import Batch
from keras_iplt.support.arguments import blaming

__all__ = ["gradients", "loss_of"]


def gradients(
    model: keras.Model, given: Iterable[Batch], variables: Sequence[keras.Variable]
) -> Iterator[list[np.ndarray]]:
    """The gradient of the loss for each of some variables, batch by batch.

    The loss is what `model.compile` was told to minimise, without weight regularisation: at the
    end of training the two pull with equal force in opposite directions, and their sum would be
    noise. The model runs as for inference and none of its state changes.

    Args:
        model: a compiled model.
        given: `keras_iplt.running.observe.Batch`es with labels.
        variables: which variables, trainable or not.

    Yields:
        Per batch, one array per variable.
    """
    if not model.compiled:
        raise DataError(
            f"gradients need a loss, and model {model.name!r} is not compiled: call "
            "model.compile(loss=…) first"
        )
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise CriterionError(
            f"gradients: expected one of the backends {', '.join(_BACKENDS)}, received: {backend}"
        )
    with _no_weight_regularization(model):
        gradient = _BACKENDS[backend](model, variables)
        for batch in given:
            if model.loss is not None and batch.y is None:
                raise DataError(
                    "gradients need labels for the loss: expected data as (x, y), received: x"
                )
            with blaming(f"data: the loss of model {model.name!r}", DataError):
                found = [numbers_of(g) for g in gradient(batch)]
            yield found


def _loss(
    model: keras.Model, variables: Sequence[keras.Variable], values: Sequence[Any], batch: Batch
) -> Any:
    """The loss of one batch with `values` in place of `variables`."""
    with keras.StatelessScope(zip(variables, values, strict=True), collect_losses=True):
        return loss_of(model, batch, model(batch.x, training=False))


def loss_of(model: keras.Model, batch: Batch, outputs: Any) -> Any:
    """The loss of a batch, of these outputs, as for inference."""
    # Who overrides compute_loss may know no `training`, which Keras got later.
    training = {"training": False} if accepts(model.compute_loss, "training") else {}
    return model.compute_loss(
        x=batch.x, y=batch.y, y_pred=outputs, sample_weight=batch.sample_weight, **training
    )


@contextlib.contextmanager
def _no_weight_regularization(model: keras.Model) -> Iterator[None]:
    variables = [v for v in model.trainable_variables if v.regularizer is not None]
    regularizers = [v.regularizer for v in variables]
    try:
        for variable in variables:
            variable.regularizer = None
        yield
    finally:
        for variable, regularizer in zip(variables, regularizers, strict=True):
            variable.regularizer = regularizer


# -- one function per backend: from a model to a function of a batch -------------------------------


def _tensorflow(
    model: keras.Model, variables: Sequence[keras.Variable]
) -> Callable[[Batch], list[Any]]:
    import tensorflow as tf

    values = [tf.convert_to_tensor(v.value) for v in variables]

    def gradient(batch: Batch) -> list[Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            loss = _loss(model, variables, values, batch)
        found = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(g) for g in found]  # an embedding's are indexed slices

    return gradient


def _jax(model: keras.Model, variables: Sequence[keras.Variable]) -> Callable[[Batch], list[Any]]:
    import jax

    values = [v.value for v in variables]
    compiled = jax.jit(jax.grad(lambda values, batch: _loss(model, variables, values, batch)))
    ready = False

    def gradient(batch: Batch) -> list[Any]:
        nonlocal ready
        if not ready:  # builds what compile left to be built at first use: not to be done by jit
            _loss(model, variables, values, batch)
            ready = True
        return compiled(values, batch)

    return gradient


def _torch(model: keras.Model, variables: Sequence[keras.Variable]) -> Callable[[Batch], list[Any]]:
    import torch

    values = [v.value.detach().requires_grad_() for v in variables]

    def gradient(batch: Batch) -> list[Any]:
        loss = _loss(model, variables, values, batch)
        found = torch.autograd.grad(loss, values, allow_unused=True)
        pairs = zip(values, found, strict=True)
        return [torch.zeros_like(v) if g is None else g for v, g in pairs]

    return gradient


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
