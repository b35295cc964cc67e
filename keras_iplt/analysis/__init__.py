"""What models cost and what pruning saved."""

from keras_iplt.analysis.comparison import Comparison, LayerComparison, compare
from keras_iplt.analysis.profiles import LayerProfile, Profile, profile

__all__ = ["Comparison", "LayerComparison", "LayerProfile", "Profile", "compare", "profile"]
