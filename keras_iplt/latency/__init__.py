"""What layers cost in TFLite's interpreter, measured, so that plans can promise seconds."""

from keras_iplt.latency.table import LatencyTable, latency_table

__all__ = ["LatencyTable", "latency_table"]
