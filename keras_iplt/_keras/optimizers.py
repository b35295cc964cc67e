"""What optimizers keep for each variable, and how they tell variables apart."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import keras

from keras_iplt._keras.live import variable_scope

__all__ = [
    "batches_per_update",
    "build_optimizer",
    "built_alike",
    "driving_slots",
    "inner_optimizers",
    "is_lent",
    "key_of",
    "keyed_by_variable",
    "lend_state",
    "optimizer_of",
    "own_state",
    "slots",
    "steps_taken",
]


def inner_optimizers(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """The optimizer and those that it hands variables to."""
    inner = getattr(optimizer, "inner_optimizer", None)  # LossScaleOptimizer
    several = [inner] if inner is not None else getattr(optimizer, "_inner_optimizers", ())
    return [optimizer, *(each for one in several for each in inner_optimizers(one))]


def optimizer_of(
    optimizer: keras.optimizers.Optimizer, variable: keras.Variable
) -> keras.optimizers.Optimizer | None:
    """The innermost optimizer that trains a variable, or None."""
    training = [
        one
        for one in inner_optimizers(optimizer)
        if any(variable is other for other in getattr(one, "_trainable_variables", ()))
    ]
    return training[-1] if training else None


def build_optimizer(model: keras.Model) -> None:
    """Makes the slots of the optimizer if there are none yet."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        with variable_scope(model):
            optimizer.build(model.trainable_variables)


def built_alike(model: keras.Model) -> keras.optimizers.Optimizer | None:
    """The optimizer of a model if it has its slots; else another one of its settings that has.
    It shows what the first would keep."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or optimizer.built:
        return optimizer
    other = type(optimizer).from_config(optimizer.get_config())
    with variable_scope(model):
        other.build(model.trainable_variables)
    return other


def _slot_lists(
    optimizer: keras.optimizers.Optimizer,
) -> Iterator[tuple[str, list[keras.Variable | None]]]:
    """Pairs `(attribute, slots)`: lists of as many variables as the optimizer trains.
    Whatever they are called, so that optimizers of others work too."""
    trained = getattr(optimizer, "_trainable_variables", [])
    for name, several in vars(optimizer).items():
        if (
            name not in ("_trainable_variables", "_variables")
            and isinstance(several, list)
            and len(several) == len(trained)
            and all(slot is None or isinstance(slot, keras.Variable) for slot in several)
        ):
            yield name, several


# Lists of slots that hold weights themselves (averages of them), by class of optimizer.
_WEIGHTS_KEPT = {
    "Optimizer": {"_model_variables_moving_average"},
    "ScheduleFreeAdamW": {"_momentums"},
}


def slots(
    optimizer: keras.optimizers.Optimizer,
) -> Iterator[tuple[keras.Variable, keras.Variable, tuple[int, ...], bool]]:
    """Tuples `(slot, variable, axes, weights)`: state that an optimizer keeps for a variable.
    That is which axes of the variable it has, and whether it is made of weights (not of gradients).
    Inner optimizers are asked on their own."""
    kinds = [kind.__name__ for kind in type(optimizer).__mro__]
    weights = set().union(*(_WEIGHTS_KEPT.get(kind, ()) for kind in kinds))
    for name, several in _slot_lists(optimizer):
        for slot, variable in zip(several, optimizer._trainable_variables, strict=True):
            if slot is None or slot is variable or not len(slot.shape):
                continue
            axes = list(range(len(variable.shape)))
            if isinstance(optimizer, keras.optimizers.Adafactor) and name in ("_r", "_c"):
                del axes[-1 if name == "_r" else -2]
            yield slot, variable, tuple(axes), name in weights


# Lists of slots that move a weight even where its gradient is zero.
_DRIVING = {
    "momentums",
    "_momentums",
    "_m",
    "_linears",
    "_accumulated_gradients",
    "_model_variables_moving_average",
}


def driving_slots(
    optimizer: keras.optimizers.Optimizer,
) -> list[tuple[keras.Variable, keras.Variable, tuple[int, ...]]]:
    """Triples `(slot, variable, axes)`: what goes on moving a variable whose gradient is zero.
    That is momentum, not the averages of squares that updates are divided by."""
    driving = {
        id(slot) for name, slots in _slot_lists(optimizer) if name in _DRIVING for slot in slots
    }
    return [(slot, variable, axes) for slot, variable, axes, _ in slots(optimizer)
            if id(slot) in driving]  # fmt: skip


def own_state(optimizer: keras.optimizers.Optimizer) -> Sequence[keras.Variable]:
    """The variables that an optimizer made, without those of inner ones."""
    return getattr(optimizer, "_variables", ())


def batches_per_update(optimizer: keras.optimizers.Optimizer) -> int:
    """After how many batches the weights have changed for certain."""
    return max(getattr(one, "gradient_accumulation_steps", None) or 1
               for one in inner_optimizers(optimizer))  # fmt: skip


def steps_taken(optimizer: keras.optimizers.Optimizer | None) -> int:
    """How many training steps an optimizer has seen, whether or not each was an update."""
    if optimizer is None:
        return 0
    counted = getattr(inner_optimizers(optimizer)[-1], "_iterations", 0)
    return int(keras.ops.convert_to_numpy(counted))


_KEYED = (
    "_trainable_variables_indices",
    "_exclude_from_weight_decay",
    "_exclude_from_weight_decay_cache",
    "_var_to_optimizer_idx",
)


def key_of(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> Hashable:
    """What stands for a variable in these dicts and sets."""
    return optimizer._var_key(variable) if hasattr(optimizer, "_var_key") else id(variable)


def keyed_by_variable(optimizer: keras.optimizers.Optimizer) -> list[str]:
    """Names of attributes that are dicts or sets keyed by variable.
    On TensorFlow the key changes with the variable's value."""
    return [name for name in _KEYED if getattr(optimizer, name, None)]


def lend_state(
    outermost: keras.optimizers.Optimizer,
    optimizer: keras.optimizers.Optimizer,
    variables: list[keras.Variable],
) -> Callable[[], None]:
    """Lets an optimizer carry variables through its steps as if they were its own.

    That is how they get into a training step on JAX. They are neither saved with it nor loaded.

    Args:
        outermost: the optimizer of the model.
        optimizer: it, or one inside it, that the variables are lent to.
        variables: a list.

    Returns:
        A function that takes them back.
    """
    for variable in variables:
        vars(variable)["_is_lent"] = True
    own = optimizer._variables
    undo = [_patched(optimizer, "_variables", [*own, *variables])]

    def without(method: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def same(store: Any) -> Any:
            put_back = _patched(optimizer, "_variables", own)
            try:
                return method(store)
            finally:
                put_back()

        return same

    for one in inner_optimizers(outermost):
        if any(optimizer is other for other in inner_optimizers(one)):
            for name in ("save_own_variables", "load_own_variables"):
                undo.append(_patched(one, name, without(getattr(one, name))))

    def take_back() -> None:
        for step in reversed(undo):
            step()

    return take_back


def is_lent(variable: keras.Variable) -> bool:
    """Whether an optimizer carries this variable for somebody else."""
    return "_is_lent" in vars(variable)


def _patched(thing: object, name: str, value: Any) -> Callable[[], None]:
    """Sets an attribute past Keras, which would go on tracking variables in it.
    Returns a function that undoes it."""
    missing = object()
    before = vars(thing).get(name, missing)
    object.__setattr__(thing, name, value)

    def undo() -> None:
        if before is missing:
            object.__delattr__(thing, name)
        else:
            object.__setattr__(thing, name, before)

    return undo
