"""What a model keeps of its training: arguments, compiled functions, callbacks, state on JAX."""

import contextlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import keras

__all__ = [
    "companions",
    "compile_arguments",
    "forget_plateau",
    "functions",
    "has_several_workers",
    "is_chief",
    "remake_functions",
    "rescue_state",
    "set_initial_epoch",
    "state_kept",
    "synchronize",
]


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """What `compile` was called with, as it was given."""
    return dict(model._compile_config.config)


_FUNCTIONS = ("train", "test", "predict")


def functions(model: keras.Model) -> list[str]:
    """Which compiled functions a model has.
    They hold on to the variables that they were traced with."""
    return [kind for kind in _FUNCTIONS if getattr(model, f"{kind}_function", None) is not None]


def remake_functions(model: keras.Model) -> None:
    """Makes the compiled functions that a model has anew.
    They are traced when they are next called. `fit` calls `make_train_function` only once, before
    the first epoch."""
    for kind in functions(model):
        getattr(model, f"make_{kind}_function")(force=True)
    for layer in model._flatten_layers():
        # PyTorch: the module's list of parameters; one that has none yet makes it when asked for.
        if hasattr(layer, "_torch_params"):
            layer._track_variables()


def synchronize(model: keras.Model) -> None:
    """In the middle of an epoch on JAX, brings the state of training back into the variables."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def rescue_state() -> None:
    """To be called before an error is raised in a step of `fit` on JAX: saves the state.
    `fit` has taken it out of the variables, and would put none back after its first step failed."""
    if keras.backend.backend() != "jax":
        return
    kinds = [f"{kind}_variables" for kind in ("trainable", "non_trainable", "optimizer", "metrics")]
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        state, caller = frame.f_locals.get("state"), frame.f_locals.get("self")
        if frame.f_code.co_name == "fit" and hasattr(caller, "jax_state_sync") and state:
            vars(caller)["_jax_state"] = dict(zip(kinds, state, strict=True))
        frame = frame.f_back


@contextlib.contextmanager
def state_kept(model: keras.Model) -> Iterator[None]:
    """Around `evaluate`: where it fails, the model has its state again.
    On JAX it takes the state out of the variables, and puts none back."""
    variables = [*model.variables, *model.metrics_variables]
    values = [variable._value for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            if variable._value is None:
                variable._value = value


_OF_SEVERAL_WORKERS = {"CollectiveAllReduceStrategy", "ParameterServerStrategyV2"}


def has_several_workers(model: keras.Model) -> bool:
    """Whether the model is trained by a TensorFlow strategy for several machines."""
    strategy = getattr(model, "distribute_strategy", None)
    return bool(_OF_SEVERAL_WORKERS & {kind.__name__ for kind in type(strategy).__mro__})


def is_chief() -> bool:
    """Whether this process is the first (and as a rule the only one) of the training."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.process_index() == 0
    return True


def companions(callback: keras.callbacks.Callback) -> list[keras.callbacks.Callback]:
    """The list of all callbacks of the `fit` that is calling this one, to be changed in place.
    Empty if the caller is not `fit`: nothing else knows the list."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList) and callback in caller.callbacks:
            return caller.callbacks
        frame = frame.f_back
    return []


def forget_plateau(callback: keras.callbacks.ReduceLROnPlateau) -> None:
    """Lets a `ReduceLROnPlateau` start to watch anew."""
    callback._reset()


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Lets the `fit` that has just begun start at another epoch (None: at the one asked for)."""
    model._initial_epoch = epoch
