"""What models cost as .tflite, measured, so that plans can promise seconds and bytes."""

import functools

from keras_iplt.exporting.formats import PRECISIONS
from keras_iplt.latency.file_size import FileSize
from keras_iplt.latency.table import LatencyTable, latency_table
from keras_iplt.planning.measures import register_measure, register_rounding

__all__ = ["LatencyTable", "latency_table"]

register_measure("size", FileSize)
for _precision in PRECISIONS:
    register_measure(f"size:{_precision}", functools.partial(FileSize, precision=_precision))
register_measure("latency", latency_table)
register_rounding("auto", latency_table)
