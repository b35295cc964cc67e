"""Weights from ONNX files, for a network that is built as the one in the file was."""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np

from keras_iplt.errors import WeightsError
from keras_iplt.support.extras import required
from keras_iplt.support.text import reason_of

__all__ = ["load_onnx"]

Node = TypeVar("Node")

_KINDS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def load_onnx(
    model: keras.Model, path: str | os.PathLike[str], fresh: Sequence[str] = ()
) -> keras.Model:
    """Gives the convolutions of a model the weights of those in an ONNX file.

    Names do not count, nor the order in which the file lists what it has: both networks are walked
    from their outputs to their inputs, and the convolutions are met in the same order.

    Args:
        model: of layers that are called once, its convolutions with biases.
        path: an ONNX file whose batch norms are part of its convolutions.
        fresh: names of layers that keep their weights where those of the file are of another shape.

    Returns:
        The model.
    """
    onnx = required("onnx", "onnx", "weights from ONNX files need")
    try:
        graph = onnx.load(os.fspath(path)).graph
        numbers = {x.name: onnx.numpy_helper.to_array(x) for x in graph.initializer}
    except Exception as error:  # of protobuf: a file may be anything
        raise WeightsError(
            f"weights: expected an ONNX file, received {os.fspath(path)!r}: {reason_of(error)}"
        ) from error
    theirs = [node for node in _nodes(graph) if node.op_type == "Conv"]
    ours = [layer for layer in _layers(model) if isinstance(layer, _KINDS)]
    if len(theirs) != len(ours):
        raise WeightsError(
            f"weights: expected the {len(ours)} convolutions of {model.name!r}, received "
            f"{len(theirs)} in {os.fspath(path)!r}"
        )
    found = {}
    for layer, node in zip(ours, theirs, strict=True):
        values = [_turned(numbers[name], layer) for name in node.input[1:] if name in numbers]
        shapes, expected = ([tuple(x.shape) for x in each] for each in (values, layer.weights))
        if shapes == expected:
            found[layer] = values
        elif layer.name not in fresh:
            raise WeightsError(
                f"weights: expected {expected} for layer {layer.name!r} of {model.name!r}, "
                f"received {shapes} in {os.fspath(path)!r}; is it another network?"
            )
    for layer, values in found.items():
        layer.set_weights(values)
    return model


def _turned(numbers: np.ndarray, layer: keras.Layer) -> np.ndarray:
    """A kernel as Keras has it, which ONNX has with its filters and channels first."""
    if numbers.ndim == 1:
        return numbers
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return np.transpose(numbers, (2, 3, 0, 1) if depthwise else (2, 3, 1, 0))


def _nodes(graph: Any) -> list[Any]:
    """The operations of an ONNX graph, each behind those whose results it takes."""
    made = {name: node for node in graph.node for name in node.output}
    return _walked(
        [made[x.name] for x in graph.output],
        lambda node: [made[name] for name in node.input if name in made],
        key=lambda node: node.output[0],
    )


def _layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a model, each behind those whose results it takes."""
    made = {id(layer.output): layer for layer in model.layers}
    return _walked(
        [made[id(x)] for x in model.outputs],
        lambda layer: [made[id(x)] for x in keras.tree.flatten(layer.input) if id(x) in made],
        key=id,
    )


def _walked(
    ends: Sequence[Node], before: Callable[[Node], Sequence[Node]], key: Callable[[Node], Any]
) -> list[Node]:
    """What leads to some ends, depth first, first inputs first."""
    order, seen, path = [], set(), [(node, False) for node in reversed(ends)]
    while path:
        node, done = path.pop()
        if done:
            order.append(node)
        elif key(node) not in seen:
            seen.add(key(node))
            path.append((node, True))
            path += [(other, False) for other in reversed(before(node))]
    return order
