"""How far the pruning of single weights has come, whatever calls for the next step."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import OptionError
from keras_iplt.graph.selectors import Layers
from keras_iplt.graph.slices import numbers_of
from keras_iplt.sparsity import allocation as allocations
from keras_iplt.sparsity import patterns
from keras_iplt.sparsity.allocation import Allocation
from keras_iplt.sparsity.hold import Hold, mask_variable
from keras_iplt.sparsity.patterns import Pattern
from keras_iplt.sparsity.pool import PoolOptions, bias_of, pool_of
from keras_iplt.sparsity.table import Sparsity, of_pool
from keras_iplt.support.arguments import Share, blaming, checked, said

__all__ = ["HeldProgress", "HeldState", "WeightProgress", "prune_weights"]


class WeightProgress:
    """A model on its way to a sparsity, step by step. What is zero stays zero.

    Args:
        model: a built model.
        allocation, pattern: see `SparsityCallback`.
        which: the weights that are pruned.

    Attributes:
        pool: the `Prunable`s.
        masks: an array for each, True for what stays.
    """

    def __init__(
        self,
        model: keras.Model,
        allocation: str | Allocation,
        pattern: str | Pattern,
        which: PoolOptions,
    ) -> None:
        self.model = model
        self.allocation, self.pattern = allocations.get(allocation), patterns.get(pattern)
        convolutions_only = which.convolutions_only
        if convolutions_only is None:
            convolutions_only = self.allocation.convolutions_only and which.layers is None
        self.pool = pool_of(model, which.layers, which.ignore, convolutions_only)
        for one in self.pool:
            self.pattern.check(one)
        self.allocation.begin()
        self.masks = [
            numbers_of(one.variable) != 0 if which.keep_zeros else np.ones(one.variable.shape, bool)
            for one in self.pool
        ]
        self.total = sum(one.size for one in self.pool)

    @property
    def gone(self) -> list[int]:
        """How many weights of each variable are zero for good."""
        return [mask.size - int(np.count_nonzero(mask)) for mask in self.masks]

    @property
    def share(self) -> float:
        """The share of the weights that is zero for good."""
        return sum(self.gone) / self.total

    def check(self, sparsity: float | None) -> None:
        """Raises an `OptionError` if the pattern cannot be that sparse."""
        fixed = self.pattern.fixed
        if fixed is not None and sparsity not in (None, 0, fixed):
            raise OptionError(
                f"target: expected {fixed:g}, the only sparsity of {self.pattern}, received: "
                f"{sparsity!r}"
            )

    def decide(self, sparsity: float) -> list[np.ndarray]:
        """The masks for a sparsity: the weights of the model are looked at, and left alone."""
        gone = self.gone
        with blaming(f"allocation {said(self.allocation)}"):
            zeros = self.allocation.zeros(self.pool, sparsity, gone)
        masks = []
        for one, mask, count, least in zip(self.pool, self.masks, zeros, gone, strict=True):
            magnitudes = np.where(mask, one.magnitudes(), -1)  # what is gone goes first
            with blaming(f"pattern {said(self.pattern)} on {one.path!r}"):
                wanted = self.pattern.mask(magnitudes, max(count, least), one.filter_axis)
            masks.append(wanted & mask)
        return masks


@dataclasses.dataclass(frozen=True)
class HeldState:
    """How far the pruning of single weights had come, of what JSON takes.

    Attributes:
        masks: their bits, as text.
        allocation: what its `state` returned.
    """

    masks: list[str]
    allocation: Any


class HeldProgress(WeightProgress):
    """The same while the model is trained: zeros are held.

    The bias of a filter goes with the last of its weights: an optimizer would walk away with it,
    since nothing but rounding moves it where a batch norm follows.

    Attributes:
        masked: the masks, to be read and set.
        costs: what whole filters cost that are gone, for `WayBack`; none are here.
    """

    costs: tuple[float, ...] = ()

    def __init__(
        self, model: keras.Model, allocation: Allocation, pattern: Pattern, which: PoolOptions
    ) -> None:
        super().__init__(model, allocation, pattern, which)
        with private.variable_scope(model):
            held = [one.variable for one in self.pool]
            self._biases: dict[int, int] = {}  # the place of a kernel -> that of its bias
            for i, one in enumerate(self.pool):
                if (bias := bias_of(one, self.pool)) is not None:
                    self._biases[i] = len(held)
                    held.append(bias)
            self.hold = Hold(model, [(variable, mask_variable(variable)) for variable in held])
        for i, mask in enumerate(self.masks):
            if not mask.all():
                self._hold(i, mask)

    @property
    def masked(self) -> Any:
        return self.masks

    @masked.setter
    def masked(self, masks: Sequence[np.ndarray]) -> None:
        for i, mask in enumerate(masks):
            if mask is not self.masks[i]:
                self._hold(i, mask)
        self.masks = list(masks)

    def _hold(self, place: int, mask: np.ndarray) -> None:
        self.hold.set(place, mask)
        if place in self._biases:
            filters = np.moveaxis(mask, self.pool[place].filter_axis, 0)
            self.hold.set(self._biases[place], filters.reshape(len(filters), -1).any(axis=1))

    def look_again(self) -> None:
        """Another training of the model begins."""
        for one, mask in zip(self.pool, self.masks, strict=True):
            if tuple(one.variable.shape) != mask.shape:
                raise OptionError(
                    f"model {self.model.name!r}: expected the shapes of the last training, "
                    f"received: {one.path!r} of shape {tuple(one.variable.shape)} in place of "
                    f"{mask.shape}. The model has become smaller: use a new callback"
                )
        self.hold.put_back()

    def state(self) -> HeldState:
        """What `set_state` needs to go on."""
        packed = [np.packbits(mask).tobytes() for mask in self.masks]
        texts = [base64.b64encode(one).decode() for one in packed]
        return HeldState(texts, self.allocation.state())

    def set_state(self, state: HeldState) -> None:
        """Goes on from there; the values of the weights are for the caller."""
        masks = []
        for text, own in zip(state.masks, self.masks, strict=True):
            bits = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
            if len(bits) != -(-own.size // 8):
                raise ValueError(f"masks: expected {own.size} bits, received: {8 * len(bits)}")
            masks.append(np.unpackbits(bits, count=own.size).reshape(own.shape).astype(bool))
        self.masked = masks
        self.allocation.set_state(state.allocation)
        self.allocation.zeros(self.pool, self.share, self.gone)  # it can go on, or raises
        self.allocation.set_state(state.allocation)


@checked
def prune_weights(
    model: keras.Model,
    sparsity: Share,
    allocation: str | Allocation = "uniform",
    pattern: str | Pattern = "weights",
    layers: Layers | None = None,
    ignore: Layers = (),
    convolutions_only: bool | None = None,
) -> Sparsity:
    """Sets the least important weights of a model to zero, in place and at once.

    Nothing holds them there: to train on, use `SparsityCallback(keep_zeros=True)`.

    Args:
        model: any built model.
        sparsity: the share of the weights that is zero afterwards.
        allocation, pattern, layers, ignore, convolutions_only: see `SparsityCallback`.

    Returns:
        A `Sparsity`. Print it for a table.

    Example:

    >>> import keras
    >>> from keras_iplt import sparsity
    >>> model = keras.Sequential([
    ...     keras.Input((10,)), keras.layers.Dense(20), keras.layers.Dense(2)])
    >>> round(sparsity.prune_weights(model, 0.75).sparsity, 2)
    0.75
    """
    which = PoolOptions(layers, ignore, convolutions_only)
    progress = WeightProgress(model, allocation, pattern, which)
    progress.check(sparsity)
    for one, mask in zip(progress.pool, progress.decide(sparsity), strict=True):
        one.variable.assign(one.variable * mask.astype("float32"))
    return of_pool(progress.pool)
