"""What drives wrapped layers while a model trains, and what writes down how sparse they are."""

from collections.abc import Iterable
from typing import Any, Literal

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.slices import numbers_of
from keras_iplt.sparsity.hold import Hold
from keras_iplt.sparsity.tfmot_api.pruning_wrapper import PruneLowMagnitude, collect_prunable_layers
from keras_iplt.support.arguments import Count, Path, checked
from keras_iplt.support.tensorboard import Summaries

__all__ = ["PruningSummaries", "UpdatePruningStep"]


class UpdatePruningStep(keras.callbacks.Callback):
    """Drives the `PruneLowMagnitude` layers of the model that is trained.

    Before each batch their schedules are asked. Where one says so, masks are found anew from the
    weights as they are then, and what they leave out is set to zero, before the batch is computed.
    Inside the compiled training step zeros are held at zero, so that weights are sparse after
    every batch and in whatever is saved. Batches are counted from 1; a model that was saved goes
    on where it was. With `steps_per_execution`, masks are made at most once per execution.

    In a training loop of your own, with a Keras optimizer and TensorFlow:

        callback.set_model(model); callback.on_train_begin()
        callback.on_train_batch_begin(batch=-1)     # before each batch
        callback.on_epoch_end(batch=-1)             # after each epoch

    Example:

    >>> from keras_iplt.sparsity.tfmot_api.pruning_wrapper import PruneLowMagnitude
    >>> dense = keras.layers.Dense(2)
    >>> model = keras.Sequential([keras.Input((4,)), PruneLowMagnitude(dense)])
    >>> model.compile("adam", "mse")
    >>> x, y = np.ones((3, 4)), np.ones((3, 2))
    >>> _ = model.fit(x, y, epochs=101, verbose=0, callbacks=[UpdatePruningStep()])
    >>> int(np.count_nonzero(keras.ops.convert_to_numpy(dense.kernel)))
    4
    """

    def __init__(self) -> None:
        super().__init__()
        self.prunable_layers: list[PruneLowMagnitude] = []
        self.step: Any = None  # of the batch that is trained now; None before the first
        self._trained: Any = None
        self._hold: Any = None
        self._trains = False
        self._asked = 0  # the step up to which schedules have been asked
        self._taken_last = 0  # steps of the execution that is going on
        self._ahead = 0  # of the steps that the optimizer knows of

    def set_model(self, model: keras.Model) -> None:
        """Called by `fit`, `evaluate` and `predict`: whatever was going on before is over."""
        super().set_model(model)
        self._trains = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._trained, self._trains = self.model, True
        model = self.model
        self.prunable_layers = collect_prunable_layers(model)
        ready = private.functions(model)
        for layer in self.prunable_layers:
            if layer.driver is not None:  # its training was interrupted
                layer.driver.release()
        if "train" in ready:  # `fit` has made it before this call, and makes it but once
            model.make_train_function(force=True)
        for layer in self.prunable_layers:
            layer.driver = self
        self.step = None

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not self.prunable_layers:
            return
        if self._hold is None:  # not sooner: other callbacks restore models as training begins
            self._begin()
        self._taken_last = self._steps_from(batch)
        self.step += self._taken_last
        due = self._hold and self._due(range(self._asked + 1, self.step + 1))
        if due:
            private.synchronize(self._trained)
            self._prune(due)
            self._write_step()

    # An epoch: the name of the argument is that of tfmot.
    def on_epoch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._hold is not None:
            self._hold.put_back()
            self._end_epoch()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._hold is not None and self._trains:
            self._end_epoch()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._hold is not None:
            self._hold.put_back()  # the optimizer may have put averages of weights in place
        self.release()

    def release(self) -> None:
        """Lets go of the model.

        Nothing is held any more, and a training without this callback is refused again."""
        if self._hold is not None:
            private.synchronize(self._trained)
            self._write_step()
            self._hold.end()
            self._hold = self.step = None
        for layer in self.prunable_layers:
            if layer.driver is self:
                layer.driver = None
                self._trained.train_function = None  # traced with a driver

    def _begin(self) -> None:
        """Begins to hold, at the first batch.
        At the second, where TensorFlow builds the model in the course of the first."""
        for layer in self.prunable_layers:
            layer.driver = self
        built = all(layer.built for layer in self.prunable_layers)
        if self.step is None:
            self.step = self._asked = max(0, self.prunable_layers[0].steps_taken()) if built else 0
        if built:
            pairs = [
                (weight, mask)
                for one in self.prunable_layers
                for weight, mask, _ in one.pruning_vars
            ]
            self._hold = Hold(self._trained, pairs)
            self._hold.begin()
            self._hold.put_back()
            optimizer = getattr(self._trained, "optimizer", None)
            self._ahead = self.step - private.steps_taken(optimizer)

    def _steps_from(self, batch: int) -> int:
        """How many steps one execution takes; the last of an epoch may take fewer."""
        steps, known = self._trained.steps_per_execution, (self.params or {}).get("steps")
        return min(steps, known - batch) if known else steps

    def _due(self, steps: Iterable[int]) -> dict[int, Any]:
        """The sparsity, by id, of layers whose masks are made anew at one of these steps.
        It is that of the last such step."""
        due = {}
        for step in steps:
            self._asked = step
            answers: dict[int, tuple[Any, Any]] = {}
            for layer in self.prunable_layers:
                schedule = layer.pruning_schedule
                if id(schedule) not in answers:
                    answers[id(schedule)] = schedule(step)
                answer = answers[id(schedule)]
                if layer.pruning_obj.due(step, answer):
                    due[id(layer)] = answer[1]
        return due

    def _prune(self, due: dict[int, Any]) -> None:
        place = 0
        for layer in self.prunable_layers:
            triples = layer.pruning_vars
            if id(layer) in due:
                found = layer.pruning_obj.masks(due[id(layer)])
                for i, (threshold, mask) in enumerate(found):
                    self._hold.set(place + i, mask)
                    triples[i][2].assign(threshold)
            place += len(triples)

    def _end_epoch(self) -> None:
        """Takes back what was counted and not trained.
        Where nobody knows how long the data are, one execution more is announced (not on PyTorch),
        and the one before may find too few."""
        if self.params and self.params.get("steps") is None and self._taken_last:
            if keras.backend.backend() != "torch" and not self._trained.stop_training:
                self.step -= self._taken_last
            if self._taken_last > 1:
                taken = self._ahead + private.steps_taken(self._trained.optimizer)
                self.step = min(self.step, taken)
            self._taken_last = 0
        self._write_step()

    def _write_step(self) -> None:
        for layer in self.prunable_layers:
            layer.pruning_step.assign(self.step)


class PruningSummaries(Summaries):
    """Writes for TensorBoard how sparse each mask is and where its threshold lies.

    At the start of every epoch, beside what `keras.callbacks.TensorBoard` writes. Needs TensorFlow.

    Args:
        log_dir: a directory.
        update_freq, **kwargs: see `keras.callbacks.TensorBoard`.

    Example:

        model.fit(x, y, callbacks=[UpdatePruningStep(), PruningSummaries("logs")])
    """

    @checked
    def __init__(
        self, log_dir: Path, update_freq: Count | Literal["epoch", "batch"] = "epoch", **kwargs: Any
    ) -> None:
        super().__init__(log_dir, update_freq=update_freq, **kwargs)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:  # None in a training loop of the user's own
            super().on_epoch_begin(epoch, logs)
        model = self.model
        step = int(numbers_of(model.optimizer.iterations))
        with self.own_writer.as_default():
            for layer in collect_prunable_layers(model):
                for _, mask, threshold in layer.pruning_vars:
                    share = 1 - np.mean(numbers_of(mask))
                    self.write(f"{mask.path}/sparsity", share, step)
                    self.write(f"{threshold.path}/threshold", numbers_of(threshold), step)
        self.own_writer.flush()
