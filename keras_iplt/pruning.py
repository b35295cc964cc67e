"""Deciding and carrying out in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from keras_iplt.criteria import DEFAULT
from keras_iplt.criteria.base import AnyCriterion
from keras_iplt.planning.budgets import HALF
from keras_iplt.planning.decide import plan
from keras_iplt.planning.measures import AnyMeasure
from keras_iplt.planning.options import PlanKeywords, Scope
from keras_iplt.support.arguments import Data, Share, checked
from keras_iplt.surgery.refitting import Compensate
from keras_iplt.surgery.rewriting import rewrite

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["prune"]


@checked
def prune(
    model: keras.Model,
    ratio: Share = HALF,
    of: AnyMeasure = "filters",
    criterion: AnyCriterion = DEFAULT,
    scope: Scope = "global",
    per_layer: Any = None,
    data: Data | None = None,
    compensate: Compensate = None,
    **more: Unpack[PlanKeywords],
) -> keras.Model:
    """`plan` and `rewrite` in one call.

    Args:
        model: a Keras model; it stays as it is.
        ratio: the share to remove; 0.5 unless a budget says how much is left.
        of, criterion, scope, per_layer, data: see `keras_iplt.plan`.
        compensate: see `keras_iplt.rewrite`.
        ignore, only, min_channels, round_to, max_ratio, convolutions_only: see
            `keras_iplt.plan`.
        params, macs, flops, size, latency, at_most: a budget in place of `ratio`: see
            `keras_iplt.plan`.
        branches: residual branches that go as a whole: see `keras_iplt.plan`.
        verbose: 0 for no progress bar, which only terminals and notebooks get.

    Returns:
        A new, smaller `keras.Model`.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    >>> iplt.prune(model, ratio=0.5).layers[0].units
    4
    >>> iplt.prune(model, params=40).count_params()
    37
    """
    decided = plan(model, ratio, of, criterion, scope, per_layer, data, **more)
    return rewrite(model, decided, compensate, more.get("verbose", 1))
