"""Biases of 64 bits, which convolutions of 16-bit activations take.

TensorFlow's converter writes those of models that were trained in integers in 32 bits. Of these
runtimes refuse some, and take others for numbers of 64 bits, which they are not.
"""

import numpy as np

__all__ = ["with_wide_biases"]

_PLACES = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "TRANSPOSE_CONV": 3}  # of the bias, among inputs


def with_wide_biases(content: bytes) -> bytes:
    """A .tflite file of 16-bit activations with biases as its operations take them."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(content)
    kinds = schema.TensorType
    for graph in model.subgraphs:
        for one in graph.operators:
            place = _PLACES.get(flatbuffer_utils.opcode_to_name(model, one.opcodeIndex))
            if place is None or place >= len(one.inputs):
                continue
            bias = graph.tensors[one.inputs[place]]
            if bias.type == kinds.INT32:
                numbers = np.frombuffer(bytes(model.buffers[bias.buffer].data), "<i4")
                wide = schema.BufferT()  # a new one: others may have the old one as well
                wide.data = np.frombuffer(numbers.astype("<i8").tobytes(), np.uint8)
                model.buffers.append(wide)
                bias.buffer, bias.type = len(model.buffers) - 1, kinds.INT64
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
