"""Loss and metrics of a compiled model whose variables hold one thing after the other."""

import collections.abc
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_iplt.analysis.replay import Replay
from keras_iplt.errors import DataError, ModelError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.walk import accepts
from keras_iplt.running.observe import Batch, batches, without_gradients
from keras_iplt.support.arguments import blaming

__all__ = ["Examples", "Meter"]

# Compiling takes about so many seconds for each operation, and saves such a share of the time.
_TRACING, _SAVED = 0.01, 0.4


class Examples:
    """Data with labels that are gone through several times.

    Attributes:
        data: as they were given.
        first: the first batch.
        count: how many batches there are, once they have been gone through.
    """

    def __init__(self, model: keras.Model, data: Any) -> None:
        if isinstance(data, collections.abc.Iterator):
            raise DataError(
                "data: expected (x, y) or batches that can be gone through several times, "
                f"received: an iterator ({type(data).__name__}), which ends. Make it a list"
            )
        self._model, self.data, self.count = model, data, 1
        self.first = next(batches(model, data))
        if self.first.y is None:
            raise DataError("data: expected labels to measure by, (x, y), received: x alone")

    def __iter__(self) -> Iterator[Batch]:
        count = 0
        for count, batch in enumerate(batches(self._model, self.data), 1):  # noqa: B007
            yield batch
        self.count = count


class Meter:
    """Measures what `evaluate` would. The model, its metrics included, stays as it is.

    Attributes:
        names: of the loss and the metrics.
    """

    def __init__(self, model: keras.Model, batch: Batch) -> None:
        if not model.compiled:
            raise DataError(
                f"model {model.name!r} is not compiled: call model.compile(loss=…, metrics=[…]) "
                "to say what is to be measured"
            )
        self._model = model
        # Metrics are built at first use, which is not to be within a scope.
        before = {id(v): numbers_of(v).copy() for v in model.metrics_variables}
        with without_gradients(), _evaluating(model):
            self.names = [*_figures(model, batch, model(batch.x, training=False))]
        for metric in model.metrics:
            if any(id(v) not in before for v in metric.variables):
                metric.reset_state()
            for variable in metric.variables:
                if id(variable) in before:
                    variable.assign(before[id(variable)])

    def measured(
        self, replay: Replay, changes: Sequence[Sequence[Any]], given: Examples
    ) -> list[dict[str, float]]:
        """The loss and the metrics after each of several changes.

        Args:
            replay: a `Replay` of the model.
            changes: lists with a value for each variable of the replay.
            given: `Examples`.

        Returns:
            For each change a dict by name.
        """
        sums = [_Sum(self._model, replay.variables, change) for change in changes]
        with without_gradients(), _evaluating(self._model):
            for index, batch in enumerate(given):
                begun, once = _timed(replay.begin, batch.inputs)
                for one in sums:
                    (outputs, losses), again = _timed(replay.finish, begun, one.change)
                    if index == 0 and one is sums[0] and not losses and not begun.masked:
                        left = given.count - 1, len(changes) * given.count - 1
                        replay.compile(
                            _is_worth_it(replay.once, once * left[0]),
                            _is_worth_it(replay.again, again * left[1]),
                        )
                    one.add(batch, outputs, losses)
        return [one.read() for one in sums]


def _evaluating(model: keras.Model) -> contextlib.AbstractContextManager[None]:
    return blaming(f"evaluating model {model.name!r}", ModelError)


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - begin


def _is_worth_it(steps: Sequence[Any], seconds: float) -> bool:
    """Whether to compile steps that would otherwise take so many seconds."""
    return seconds * _SAVED > _TRACING * len(steps)


class _Sum:
    """The loss and the metrics after one change, batch by batch.
    The state of the metrics is kept here, as if they were the model's own."""

    def __init__(
        self, model: keras.Model, variables: Sequence[keras.Variable], change: Sequence[Any]
    ) -> None:
        self.change = change
        self._model = model
        # What weights are penalised for is read in the scope, or not found.
        penalised = [(v, v.value) for v in model.trainable_variables if v.regularizer]
        self._values = [*penalised, *zip(variables, change, strict=True)]
        self._states: list[tuple[keras.Variable, Any]] | None = None
        self._found: dict[str, Any] = {}
        self._loss, self._count = 0.0, 0

    def add(self, batch: Batch, outputs: Any, losses: list[Any]) -> None:
        with keras.StatelessScope([*self._values, *(self._states or ())], True) as scope:
            scope.losses.extend(losses)
            if self._states is None:
                self._model.reset_metrics()
            self._found = _figures(self._model, batch, outputs)
            variables = [v for metric in self._model.metrics for v in metric.variables]
            states = [(v, scope.get_current_value(v)) for v in variables]
        self._states = [(v, x) for v, x in states if x is not None]
        size = len(batch.inputs[0])
        self._loss += size * float(numbers_of(self._found["loss"]))
        self._count += size

    def read(self) -> dict[str, float]:
        found = {name: float(numbers_of(value)) for name, value in self._found.items()}
        return found | {"loss": self._loss / self._count}


def _figures(model: keras.Model, batch: Batch, outputs: Any) -> dict[str, Any]:
    """The loss of a batch, and what the metrics say of all so far."""
    # Who overrides compute_loss may know no `training`, which Keras got later.
    training = {"training": False} if accepts(model.compute_loss, "training") else {}
    loss = model.compute_loss(
        x=batch.x, y=batch.y, y_pred=outputs, sample_weight=batch.sample_weight, **training
    )
    metrics = model.compute_metrics(batch.x, batch.y, outputs, batch.sample_weight)
    return {"loss": loss, **{name: x for name, x in metrics.items() if name != "loss"}}
