"""What layers cost in TFLite's interpreter, measured, so that plans can promise seconds."""

from keras_iplt.latency.table import LatencyTable, latency_table
from keras_iplt.planning.measures import register_measure, register_rounding

__all__ = ["LatencyTable", "latency_table"]

register_measure("latency", latency_table)
register_rounding("auto", latency_table)
