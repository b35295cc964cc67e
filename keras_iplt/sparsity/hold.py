"""Zeros that stay zero while a model trains, inside the compiled training step.

Keras's optimizers call a variable's `constraint` after every update. `Hold` gives variables one
that multiplies with a mask, so that what was pruned is exactly zero after every batch: on every
replica, between the steps of one execution, and in whatever is saved at any moment. Nothing is
added to the model, and nothing is left when the training ends.

On JAX a training step sees no variables but those handed to it, so the optimizer carries a copy
of each mask through it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.slices import numbers_of

__all__ = ["Hold", "mask_variable"]


def mask_variable(variable: keras.Variable, name: str = "mask") -> keras.Variable:
    """A mask of ones for a variable.

    Make it in the scope that the model's variables were made in (`_keras.variable_scope`)."""
    return keras.Variable(np.ones(variable.shape, bool), trainable=False, dtype="bool", name=name)


class Hold:
    """Masks, and the variables that they are held over.

    Args:
        model: a compiled model whose variables these are.
        pairs: `(variable, mask)`: the mask a variable of the same shape, of ones and zeros.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> model.compile("adam", "mse")
    >>> kernel = model.layers[0].kernel
    >>> hold = Hold(model, [(kernel, mask_variable(kernel))])
    >>> hold.begin()
    >>> hold.set(0, np.array([[True, False], [True, True], [False, True]]))
    >>> _ = model.fit(np.ones((4, 3)), np.ones((4, 2)), epochs=3, verbose=0)
    >>> int((keras.ops.convert_to_numpy(kernel) == 0).sum())
    2
    >>> hold.end()
    >>> kernel.constraint is None
    True
    """

    def __init__(
        self, model: keras.Model, pairs: Iterable[tuple[keras.Variable, keras.Variable]]
    ) -> None:
        self.model, self.pairs = model, list(pairs)
        self._carried = [mask for _, mask in self.pairs]  # what the training step multiplies with
        self._undo: list[Callable[[], None]] = []

    @property
    def holds(self) -> bool:
        """Whether the training step is changed now."""
        return bool(self._undo)

    def begin(self) -> None:
        """From now on updates leave zeros where they are. The training step is traced anew."""
        if self.holds or not self.pairs:
            return
        in_fit = "train" in private.functions(self.model)
        for variable, _ in self.pairs:
            if isinstance(variable.constraint, _Held):
                variable.constraint.hold.end()  # of a training that was interrupted
        if keras.backend.backend() == "jax":
            self._lend_to_optimizers()
        for (variable, _), mask in zip(self.pairs, self._carried, strict=True):
            self._undo.append(self._constrain(variable, mask))
        if in_fit:  # which makes it only once, before training begins
            self.model.make_train_function(force=True)

    def _lend_to_optimizers(self) -> None:
        private.build_optimizer(self.model)
        self._carried = [mask_variable(variable) for variable, _ in self.pairs]
        self.refresh()
        lent: dict[int, tuple[Any, list[keras.Variable]]] = {}
        for (variable, _), mask in zip(self.pairs, self._carried, strict=True):
            optimizer = private.optimizer_of(self.model.optimizer, variable)
            if optimizer is not None:  # else nothing trains it
                lent.setdefault(id(optimizer), (optimizer, []))[1].append(mask)
        for optimizer, masks in lent.values():
            self._undo.append(private.lend_state(self.model.optimizer, optimizer, masks))

    def end(self) -> None:
        """The training step is what it was. Values stay."""
        if not self.holds:
            return
        for undo in reversed(self._undo):
            undo()
        self._undo = []
        self._carried = [mask for _, mask in self.pairs]
        self.model.train_function = None  # traced with the masks in it

    def set(self, index: int, mask: Any) -> None:
        """Gives one variable another mask, and zeroes it accordingly.

        In the middle of an epoch on JAX, `_keras.synchronize` first.

        Args:
            index: place of the variable in `pairs`.
            mask: an array, True for what stays.
        """
        variable, own = self.pairs[index]
        for each in {id(one): one for one in (own, self._carried[index])}.values():
            each.assign(np.asarray(mask).astype(each.dtype))
        self._zero(variable, own)

    def refresh(self) -> None:
        """Takes up masks that were changed otherwise, as by loading them."""
        for (_, own), carried in zip(self.pairs, self._carried, strict=True):
            if carried is not own:
                carried.assign(numbers_of(own).astype(bool))

    def put_back(self) -> None:
        """Zeroes what has come to life in another way than by an update.

        Averaged weights, say, that an optimizer puts in place when training ends."""
        for variable, own in self.pairs:
            self._zero(variable, own)

    def _constrain(self, variable: keras.Variable, mask: keras.Variable) -> Callable[[], None]:
        before = variable.constraint
        variable.constraint = _Held(self, mask, before)

        def undo() -> None:
            variable.constraint = before

        return undo

    def _zero(self, variable: keras.Variable, mask: keras.Variable) -> None:
        variable.assign(variable * keras.ops.cast(mask, variable.dtype))


class _Held(keras.constraints.Constraint):
    """A constraint: a mask, after the constraint that there was before."""

    def __init__(self, hold: Hold, mask: keras.Variable, before: Any) -> None:
        self.hold, self.mask, self.before = hold, mask, before

    def __call__(self, value: Any) -> Any:
        if self.before is not None:
            value = self.before(value)
        return value * keras.ops.cast(self.mask, value.dtype)
