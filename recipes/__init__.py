"""Experiments from the literature, one module per paper, on the public names of keras_iplt."""
