"""Experiments from the literature, a package per paper, on the public names of keras_iplt."""
