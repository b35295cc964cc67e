"""From a Keras model to a file that runs elsewhere, checked there before it is put in its place."""

from keras_iplt.shipping.exporter import Export, export

__all__ = ["Export", "export"]
