"""What each kind of operation does to channels, one module per kind."""

from keras_iplt.graph.rules import (  # noqa: F401 - importing a module registers its rules
    activation,
    attention,
    convolution,
    elementwise,
    movement,
    normalization,
    product,
    recurrent,
    scatter,
    slicing,
    spatial,
    wrapper,
)
from keras_iplt.graph.rules.registry import register_rule, rule_for, supported

__all__ = ["register_rule", "rule_for", "supported"]
