"""Files that compute in integers and take and give integers as well, without floats at the ends."""

import keras
import numpy as np

from keras_iplt.errors import ExportError, OptionError
from keras_iplt.exporting.runtimes import interpreter_of

__all__ = ["IO_DTYPES", "check_io_dtype", "with_io_dtype"]

IO_DTYPES = ("float32", "int8", "uint8", "int16")
_OF = {"int8": ("int8", "uint8"), "int16x8": ("int16",)}  # by precision, those that it may have


def check_io_dtype(io_dtype: str, format: str, precision: str) -> None:
    """Refuses integers where what is written computes in none of them.

    Args:
        io_dtype: what is asked for.
        format, precision: of what is written.
    """
    fitting = ("float32", *(_OF.get(precision, ()) if format == "tflite" else ()))
    if io_dtype not in fitting:
        raise OptionError(
            f"io_dtype: expected {' or '.join(map(repr, fitting))} for {format!r}, {precision}, "
            f"received: {io_dtype!r}; integers are for a .tflite of precision 'int8' (int8, uint8) "
            "or 'int16x8' (int16), or of a model that was trained in integers"
        )


def with_io_dtype(model: keras.Model, content: bytes, io_dtype: str) -> bytes:
    """A .tflite file that takes and gives integers where another takes and gives floats.

    Args:
        model: the model that it was written from.
        content: of a file that begins and ends by converting.
        io_dtype: see `keras_iplt.export`.
    """
    import tensorflow as tf
    from tensorflow.lite.python.util import modify_model_io_type

    dtype = tf.as_dtype(io_dtype)
    try:
        changed = modify_model_io_type(content, dtype, dtype)
    except ValueError:  # nothing converts at one of the ends
        changed = content
    interpreter, _ = interpreter_of(changed, 1)
    ends = (*interpreter.get_input_details(), *interpreter.get_output_details())
    if any(one["dtype"] is np.float32 for one in ends):
        raise ExportError(
            f"io_dtype: expected a model that begins and ends in integers, received: "
            f"{model.name!r}, at an end of which layers stay in float. Take io_dtype='float32'"
        )
    return changed
