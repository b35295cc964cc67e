"""Schedules of tensorflow-model-optimization, which is not imported for it."""

from __future__ import annotations

import sys
from typing import Any

import keras

from keras_iplt.errors import OptionError
from keras_iplt.schedules.base import Schedule
from keras_iplt.support.arguments import checked, expect

__all__ = ["FromTfmot", "is_in_steps"]


@keras.saving.register_keras_serializable("keras_iplt")
class FromTfmot(Schedule):
    """A schedule of tensorflow-model-optimization. It counts in steps, so it must be told `step`.

    The share is that of the latest step, from 1 (tfmot's first) to `step`, at which the schedule
    says that it prunes; 0 before the first. Should the schedule go down, the largest share stays.

    Args:
        schedule: a tfmot `PruningSchedule`.
    """

    @checked
    def __init__(self, schedule: Any) -> None:
        if not is_in_steps(schedule):
            raise OptionError(f"schedule: expected a tfmot PruningSchedule, received: {schedule!r}")
        self.schedule = schedule
        self._seen, self._share = 0, 0.0  # the last step looked at, and the share at that
        last = getattr(schedule, "end_step", -1)  # -1: for ever
        constant = getattr(schedule, "target_sparsity", None)
        self.target = constant if last < 0 else _latest(schedule, int(last), 0)

    def __call__(self, epoch: int, step: int | None = None) -> float:
        if step is None:
            raise OptionError(
                f"step: expected the number of batches trained so far, which a tfmot schedule "
                f"counts in, received: {step!r}"
            )
        if step < self._seen:  # another training
            self._seen, self._share = 0, 0.0
        self._share = max(self._share, _latest(self.schedule, step, self._seen))
        self._seen = step
        return self._share

    def get_config(self) -> dict[str, Any]:
        """What makes the tfmot schedule again: its module, class name and config."""
        kind = type(self.schedule)
        return {"schedule": {"module": kind.__module__, **self.schedule.get_config()}}

    @classmethod
    @checked
    def from_config(cls, config: dict[str, Any]) -> FromTfmot:
        names = ("module", "class_name", "config")
        described = expect("config['schedule']", dict[str, Any], config.get("schedule"))
        if any(name not in described for name in names):
            raise OptionError(f"config: expected a schedule by {names}, received: {described!r}")
        module, name = described["module"], described["class_name"]
        kind: Any = keras.saving.get_registered_object(name)
        kind = kind or getattr(sys.modules.get(module), name, None)
        if not _is_kind_in_steps(kind):
            raise OptionError(
                f"schedule: expected a tfmot PruningSchedule that has been imported, received: "
                f"{name!r} of {module!r}. Import keras_iplt.tfmot_bridge, and what defines the "
                "class, first"
            )
        return cls(kind.from_config(described["config"]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.schedule.get_config()})"


def _latest(schedule: Any, step: int, before: int) -> float:
    """The share at the latest step at which a schedule prunes, up to `step` and after `before`."""
    for at in range(step, before, -1):
        prunes, share = schedule(at)
        if prunes:
            return float(share)
    return 0.0


_IN_STEPS = ("tensorflow_model_optimization", "keras_iplt.sparsity")


def is_in_steps(x: Any) -> bool:
    """Whether this is a `PruningSchedule`, tfmot's or that of `keras_iplt.sparsity`."""
    return _is_kind_in_steps(type(x))


def _is_kind_in_steps(kind: Any) -> bool:
    return isinstance(kind, type) and any(
        base.__name__ == "PruningSchedule" and base.__module__.startswith(_IN_STEPS)
        for base in kind.__mro__
    )
