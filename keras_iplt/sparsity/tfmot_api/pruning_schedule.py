"""How sparse, at which batch: schedules that count in training steps, as tfmot's do.

A schedule is called with a step and says whether masks are made anew then, and for what sparsity:

    should_prune, sparsity = schedule(step)

Called with an integer it answers with Python's numbers, called with a tensor with tensors.
"""

import abc
import numbers
from typing import Annotated, Any, TypeAlias

import keras

from keras_iplt import schedules
from keras_iplt.errors import OptionError
from keras_iplt.support.arguments import Kind, Power, checked, is_integer

__all__ = ["ConstantSparsity", "PolynomialDecay", "PruningSchedule", "get"]


def _is_step(step: Any) -> bool:
    """A whole number, or a tensor of one, which may be symbolic."""
    whole = getattr(getattr(step, "dtype", None), "kind", "i") in "iu"  # NumPy's and JAX's say so
    return is_integer(step) or (hasattr(step, "dtype") and whole)


StepOrTensor: TypeAlias = Annotated[Any, Kind("a step: an integer, or a tensor of one", _is_step)]


class PruningSchedule(abc.ABC):
    """Base of schedules in training steps. The first step is 1.

    Example:

    >>> class Linear(PruningSchedule):
    ...     def __init__(self, target, end):
    ...         self.target, self.end = target, end
    ...     def __call__(self, step):
    ...         prunes = self._should_prune_in_step(step, 0, self.end, 100)
    ...         return prunes, self.target * min(1.0, step / self.end)
    ...     def get_config(self):
    ...         config = {"target": self.target, "end": self.end}
    ...         return {"class_name": "Linear", "config": config}
    >>> Linear(0.8, end=1000)(500)
    (True, 0.4)
    """

    def _should_prune_in_step(
        self, step: Any, begin_step: int, end_step: int, frequency: int
    ) -> Any:
        """Whether `step` is one of begin_step, begin_step + frequency … up to end_step.
        -1 is without end."""
        begun = step >= begin_step
        over = False if end_step < 0 else step > end_step
        turn = (step - begin_step) % frequency == 0
        if isinstance(step, numbers.Integral):
            return bool(begun and turn and not over)
        return keras.ops.logical_and(
            keras.ops.logical_and(begun, turn), keras.ops.logical_not(over)
        )

    def _validate_step(
        self, begin_step: int, end_step: int, frequency: int, allow_negative_1: bool
    ) -> None:
        if begin_step < 0:
            raise OptionError(f"begin_step: expected at least 0, received: {begin_step!r}")
        if end_step == -1 and not allow_negative_1:
            raise OptionError("end_step: expected at least 0, received: -1")
        if end_step < -1:
            raise OptionError(
                f"end_step: expected at least 0, or -1 for no end, received: {end_step!r}"
            )
        if end_step != -1 and end_step < begin_step:
            raise OptionError(
                f"end_step: expected at least begin_step={begin_step!r}, received: {end_step!r}"
            )
        if frequency <= 0:
            raise OptionError(f"frequency: expected more than 0, received: {frequency!r}")

    def _validate_sparsity(self, sparsity: float, variable_name: str) -> None:
        if not 0.0 <= sparsity < 1.0:
            raise OptionError(
                f"{variable_name}: expected a number in [0, 1), received: {sparsity!r}"
            )

    @abc.abstractmethod
    def __call__(self, step: Any) -> tuple[Any, Any]:
        """Whether masks are made anew at this step, and for what sparsity."""
        raise NotImplementedError(f"{type(self).__name__} must override __call__(step)")

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """`{"class_name": …, "config": …}`, the latter with the constructor's arguments."""
        raise NotImplementedError(f"{type(self).__name__} must override get_config()")

    @classmethod
    @checked
    def from_config(cls, config: dict[str, Any]) -> "PruningSchedule":
        """The schedule with these arguments."""
        return cls(**config)


class ConstantSparsity(PruningSchedule):
    """The same sparsity from the first step to the last.

    Args:
        target_sparsity: the share of the weights that are zero.
        begin_step, end_step: between which steps masks are made; -1: without end.
        frequency: every how many steps.

    Example:

    >>> schedule = ConstantSparsity(0.5, begin_step=100, frequency=10)
    >>> schedule(99), schedule(110)
    ((False, 0.5), (True, 0.5))
    """

    @checked
    def __init__(
        self, target_sparsity: float, begin_step: int, end_step: int = -1, frequency: int = 100
    ) -> None:
        self._validate_step(begin_step, end_step, frequency, True)
        self._validate_sparsity(target_sparsity, "target_sparsity")
        self.target_sparsity = target_sparsity
        self.begin_step, self.end_step, self.frequency = begin_step, end_step, frequency

    @checked
    def __call__(self, step: StepOrTensor) -> tuple[Any, Any]:
        prunes = self._should_prune_in_step(step, self.begin_step, self.end_step, self.frequency)
        return prunes, _like(step, self.target_sparsity)

    def get_config(self) -> dict[str, Any]:
        return _config(self, "target_sparsity", "begin_step", "end_step", "frequency")


class PolynomialDecay(PruningSchedule):
    """Fast at first, then slower (Zhu and Gupta, "To prune, or not to prune"):

        final + (initial - final) * (1 - (step - begin) / (end - begin)) ** power

    Args:
        initial_sparsity, final_sparsity: at the first and at the last step.
        begin_step, end_step: between which steps masks are made.
        power: the exponent; 1 is a straight line.
        frequency: every how many steps.

    Example:

    >>> schedule = PolynomialDecay(0.0, 0.8, begin_step=0, end_step=100, frequency=50)
    >>> [(prunes, round(sparsity, 3)) for prunes, sparsity in map(schedule, (1, 50, 100))]
    [(False, 0.024), (True, 0.7), (True, 0.8)]
    """

    @checked
    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: int,
        end_step: int,
        power: Power = 3,
        frequency: int = 100,
    ) -> None:
        self._validate_step(begin_step, end_step, frequency, False)
        self._validate_sparsity(initial_sparsity, "initial_sparsity")
        self._validate_sparsity(final_sparsity, "final_sparsity")
        if final_sparsity < initial_sparsity:
            raise OptionError(
                f"final_sparsity: expected at least initial_sparsity={initial_sparsity!r}, since "
                f"weights that are gone stay gone, received: {final_sparsity!r}"
            )
        self.initial_sparsity, self.final_sparsity = initial_sparsity, final_sparsity
        self.power = power
        self.begin_step, self.end_step, self.frequency = begin_step, end_step, frequency

    @checked
    def __call__(self, step: StepOrTensor) -> tuple[Any, Any]:
        prunes = self._should_prune_in_step(step, self.begin_step, self.end_step, self.frequency)
        return prunes, self._sparsity(step)

    def _sparsity(self, step: Any) -> Any:
        since, span = step - self.begin_step, max(1, self.end_step - self.begin_step)
        if isinstance(step, numbers.Integral):
            progress = min(1.0, max(0.0, since / span))
        else:
            progress = keras.ops.clip(keras.ops.cast(since, "float32") / span, 0.0, 1.0)
        left = (1 - progress) ** self.power
        return self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * left

    def get_config(self) -> dict[str, Any]:
        return _config(
            self, "initial_sparsity", "final_sparsity", "power", "begin_step", "end_step",
            "frequency",
        )  # fmt: skip


def get(schedule: Any) -> Any:
    """The schedule, if it is one in training steps.

    tfmot's own become those of the same name here, which need no TensorFlow to be called."""
    kind = type(schedule)
    if kind.__module__.startswith("tensorflow_model_optimization") and kind.__name__ in _OURS:
        return _OURS[kind.__name__].from_config(schedule.get_config()["config"])
    if not callable(schedule) or isinstance(schedule, (type, schedules.Schedule)):
        raise OptionError(
            "pruning_schedule: expected a PruningSchedule, which counts in training steps, "
            f"received: {schedule!r}. Schedules in epochs are for SparsityCallback"
        )
    return schedule


_OURS = {kind.__name__: kind for kind in (ConstantSparsity, PolynomialDecay)}


def _like(step: Any, value: float) -> Any:
    """A Python number, or a tensor where the step is one."""
    if isinstance(step, numbers.Integral):
        return value
    return keras.ops.convert_to_tensor(value, "float32")


def _config(schedule: PruningSchedule, *names: str) -> dict[str, Any]:
    return {
        "class_name": type(schedule).__name__,
        "config": {name: getattr(schedule, name) for name in names},
    }
