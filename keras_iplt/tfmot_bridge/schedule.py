"""Our schedules in tfmot."""

from typing import Any

import keras

from keras_iplt import schedules
from keras_iplt.errors import OptionError
from keras_iplt.support.arguments import Count, checked
from keras_iplt.tfmot_bridge.door import PruningSchedule

__all__ = ["EpochSchedule"]


class EpochSchedule(PruningSchedule):
    """A schedule of `keras_iplt` as one of tfmot's, for its `prune_low_magnitude`.

    It prunes at the first step of every epoch, up to the first epoch at which the target holds.

    Args:
        schedule: whatever `keras_iplt.schedules.get` takes, except what counts in steps itself.
        steps_per_epoch: how many batches an epoch has.

    Example:

    >>> schedule = EpochSchedule({1: 0.25, 3: 0.5}, steps_per_epoch=10)
    >>> [(step, bool(prunes), float(share)) for step in (1, 11, 12, 31)
    ...     for prunes, share in [schedule(step)]]
    [(1, True, 0.0), (11, True, 0.25), (12, False, 0.25), (31, True, 0.5)]
    """

    @checked
    def __init__(self, schedule: Any, steps_per_epoch: Count) -> None:
        self.schedule = schedules.get(schedule)
        last = self.schedule.last_epoch
        if last is None:
            raise OptionError(
                "schedule: expected one in epochs that says when it ends (last_epoch), received: "
                f"{schedule!r}"
            )
        self.steps_per_epoch = steps_per_epoch
        self.end_step = last * self.steps_per_epoch + 1
        self._shares = [self.schedule(epoch) for epoch in range(last + 1)]

    def __call__(self, step: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        since = tf.cast(step, tf.int64) - 1  # tfmot's first step is 1
        epoch = tf.clip_by_value(since // self.steps_per_epoch, 0, len(self._shares) - 1)
        prunes = self._should_prune_in_step(since, 0, self.end_step - 1, self.steps_per_epoch)
        return prunes, tf.gather(tf.constant(self._shares, tf.float32), epoch)

    def get_config(self) -> dict[str, Any]:
        """What tfmot writes into the config of a wrapped layer."""
        return {
            "class_name": type(self).__name__,
            "config": {
                "schedule": keras.saving.serialize_keras_object(self.schedule),
                "steps_per_epoch": self.steps_per_epoch,
            },
        }

    @classmethod
    @checked
    def from_config(cls, config: dict[str, Any]) -> "EpochSchedule":
        """The schedule from the inner "config" of what `get_config` returns."""
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["steps_per_epoch"])
