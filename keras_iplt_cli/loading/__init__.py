"""Models and data from files of other people: looked through first, then loaded."""

from keras_iplt_cli.loading.examples import Examples, load_examples
from keras_iplt_cli.loading.loader import load_model

__all__ = ["Examples", "load_examples", "load_model"]
