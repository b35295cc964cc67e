"""What an ONNX file holds, made from a TensorFlow function by tf2onnx."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from keras_iplt.support.extras import required

__all__ = ["check_installed", "onnx_content"]

# tf2onnx's own default, on which it is tested most. Runtimes since 2021 read it, and the newer ones
# that tf2onnx knows (up to 18) gave the same graphs for every kind of layer tried.
_OPSET = 15


def check_installed() -> None:
    """Raises a `MissingExtraError` unless ONNX files can be written and run."""
    for package in ("tf2onnx", "onnxruntime"):
        required(package, "onnx", "ONNX files need")


def onnx_content(function: Any, batch_size: int | None) -> bytes:
    """The bytes of an ONNX file.

    Args:
        function: a `tf.function` with an input signature, the names of which are kept.
        batch_size: that of its inputs; None for any.
    """
    convert = required("tf2onnx.convert", "onnx", "ONNX files need")
    with _inlined(), _messages() as messages:
        proto, _ = convert.from_function(
            function,
            function.input_signature,
            opset=_OPSET,
            custom_op_handlers={"Erfc": (_erfc, [])},
        )
    # It carries on without what it does not know, and the file would not load.
    if unknown := [m for m in messages if "not supported" in m]:
        raise ValueError("; ".join(unknown))
    if batch_size is None:
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return proto.SerializeToString()


@contextlib.contextmanager
def _inlined() -> Iterator[None]:
    """Within it, what is traced holds no function within the function.
    Keras compiles grouped convolutions for the sake of TensorFlow on a CPU, and tf2onnx cannot look
    inside."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _erfc(context: Any, node: Any, name: str, args: Any) -> None:
    """1 - erf, since ONNX lacks erfc, which the exact GELU is made of."""
    import numpy as np

    (x,), (y,) = node.input, node.output
    shapes, dtypes = node.output_shapes, node.output_dtypes
    context.remove_node(node.name)
    one = context.make_const(f"{name}_one", np.array(1, "float32"))
    erf = context.make_node("Erf", [x], name=f"{name}_erf", shapes=shapes, dtypes=dtypes)
    context.make_node(
        "Sub", [one.output[0], erf.output[0]], outputs=[y], name=name, shapes=shapes, dtypes=dtypes
    )


@contextlib.contextmanager
def _messages() -> Iterator[list[str]]:
    """What tf2onnx logs as an error, in a list instead of on the screen."""
    logger, messages = logging.getLogger("tf2onnx"), []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler, before = Handler(logging.ERROR), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
