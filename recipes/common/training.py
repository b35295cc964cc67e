"""Training as the recipes do it: resumed if interrupted, timed, told about."""

import contextlib
import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras

from .. import zoo
from ..data import Data, load
from .hardware import Hardware
from .phases import Phases
from .study import Place, say

__all__ = [
    "Lines", "RunFunction", "Trained", "Workbench", "at_workbench", "check_data", "cosine",
    "falling", "milestones", "percent",
]  # fmt: skip

DATA = (  # what settings say of the data
    "source", "size", "scaling", "augment", "take", "take_test", "validation", "data_dir",
    "download",
)  # fmt: skip


class Trained(NamedTuple):
    """How a training went: numbers per epoch, and seconds of all, steps of pruning included."""

    history: dict[str, list[float]]
    seconds: float
    cpu: float


@dataclasses.dataclass(frozen=True)
class Workbench:
    """What a run works with.

    Attributes:
        place: where its files go.
        hardware: what the machine is used for.
        seed: the number that everything random follows from.
        batch: how many examples a batch has.
        source: what settings say of the data, see `DATA` and `recipes.data.load`.
    """

    place: Place
    hardware: Hardware
    seed: int
    batch: int
    source: dict[str, Any]

    @functools.cached_property
    def data(self) -> Data:
        """The data with the parts of the papers: all training examples are trained on."""
        options = {"validation": 0, **self.source}
        parts = {"train": options.pop("take", None), "test": options.pop("take_test", None)}
        return load(
            batch_size=self.batch, seed=self.seed,
            take={part: count for part, count in parts.items() if count is not None}, **options,
        )  # fmt: skip

    def build(self, network: str, shape: dict[str, Any], weights: Any = None) -> keras.Model:
        """A new network of the zoo for these data, from weights if there are any."""
        classes = len(self.data.classes)
        return zoo.build(network, self.data.input_shape, classes, weights, **shape)

    def load(self, start: str) -> keras.Model:
        """The model that another run of the study left, or that a `.keras` file has."""
        file = start if start.endswith(".keras") else self.place.model(start)
        return keras.models.load_model(file, compile=False)

    def compile(self, model: keras.Model, optimizer: Any, loss: Any = None) -> None:
        """Compiles a model for logits and integer classes, or for a loss of its own."""
        xla = self.hardware.xla or keras.backend.backend() == "jax"
        model.compile(
            optimizer,
            loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=None if loss else ["accuracy"],
            jit_compile=xla,
            run_eagerly=self.hardware.eager and self.hardware.devices == 1 and not xla,
        )

    def fit(
        self, model: keras.Model, epochs: int, callbacks: Sequence[keras.callbacks.Callback] = (),
        validation: Any = None, every: int | None = None, batches: Any = None,
    ) -> Trained:  # fmt: skip
        """Trains a compiled model and saves it; what was interrupted goes on where it was.

        Args:
            model, epochs: the network, built and compiled in the same way each time, and how long.
            callbacks: those of keras_iplt take care of themselves with `backup_dir=place.backup`.
            validation: batches to evaluate after each epoch, or None.
            every: how many batches an epoch has, if it has a length of its own, see `Phases`.
            batches: a `PyDataset` to train on in place of the data.
        """
        whole_only = self.hardware.devices > 1
        if batches is None:
            batches = (
                self.data.batches("train", drop_remainder=whole_only) if every is None
                else Phases(self.data, every, drop_remainder=whole_only)
            )  # fmt: skip
        record = _Record(self.place.file(".epochs"))
        backup = self.place.backup
        # Hidden files are of a training that was killed before its first backup.
        if not any(path for path in backup.glob("*") if not path.name.startswith(".")):
            record.path.unlink(missing_ok=True)
        if not any(getattr(callback, "backup", None) for callback in callbacks):
            callbacks = [keras.callbacks.BackupAndRestore(backup), *callbacks]
        lines = Lines(self.place.name, epochs)
        model.fit(
            batches, epochs=epochs, shuffle=False, verbose=0, validation_data=validation,
            callbacks=[*callbacks, _Epochs(batches), record, lines],
        )  # fmt: skip
        self.save(model)
        history = record.history()
        seconds, cpu = (sum(history.pop(name)) for name in ("seconds", "cpu"))
        return Trained(history, seconds, cpu)

    def save(self, model: keras.Model) -> None:
        """Writes the model of the run, whole or not at all."""
        partial = self.place.file(".partial.keras")
        model.save(partial)
        partial.replace(self.place.file(".keras"))


RunFunction = Callable[..., dict[str, Any]]


def at_workbench(function: RunFunction) -> RunFunction:
    """A function that a `Run` can have, of one that takes a `Workbench` and further settings."""

    @functools.wraps(function)
    def run(place: Place, *, seed: int, batch: int, hardware: Any, **settings: Any) -> Any:
        source = {name: settings.pop(name) for name in DATA if name in settings}
        machine = Hardware(**hardware)
        with machine.ready(seed):
            return function(Workbench(place, machine, seed, batch, source), **settings)

    return run


def check_data(sources: Iterable[Any], data_dir: str | None, download: bool) -> None:
    """Whatever is wrong with a data set is said before others are trained on for hours."""
    if len(set(map(str, sources))) > 1:
        for source in dict.fromkeys(sources):
            load(source, batch_size=1, validation=0, data_dir=data_dir, download=download)


def cosine(rate: float, epochs: int, batches: int) -> Any:
    """A rate that goes to zero along a cosine."""
    return keras.optimizers.schedules.CosineDecay(rate, max(1, epochs * batches))


def falling(rate: float, at: Iterable[int], batches: int) -> tuple[Any, float]:
    """A rate that falls to a tenth from these epochs on, and the last one that it falls to."""
    steps = [epoch * batches for epoch in at]
    rates = [rate * 0.1**i for i in range(len(steps) + 1)]
    if not steps:
        return rate, rate
    return keras.optimizers.schedules.PiecewiseConstantDecay(steps, rates), rates[-1]


def milestones(rate: float, epochs: int, batches: int) -> Any:
    """A rate that falls to a tenth when a half, and when three quarters of the epochs are over."""
    return falling(rate, [round(share * epochs) for share in (0.5, 0.75)], batches)[0]


class _Record(keras.callbacks.Callback):
    """Keeps the logs of each epoch in a file, and the wall and CPU seconds that it took.

    A training that is resumed goes on with the file.
    """

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.path = path
        self._last = 0.0, 0.0  # seconds when the epoch before ended

    def on_train_begin(self, logs: Any = None) -> None:
        self._last = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.perf_counter(), time.process_time()
        seconds, cpu = (b - a for a, b in zip(self._last, now, strict=True))
        self._last = now
        row = {"epoch": epoch, "seconds": seconds, "cpu": cpu}
        row |= {name: float(value) for name, value in logs.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def history(self) -> dict[str, list[float]]:
        """name -> a number per epoch. Of an epoch that was done twice the second time counts."""
        rows: dict[str, Any] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # cut off when the training was killed
                row = json.loads(line)
                rows[row.pop("epoch")] = row
        rows = dict(sorted(rows.items()))
        names = dict.fromkeys(name for row in rows.values() for name in row)
        return {name: [row[name] for row in rows.values() if name in row] for name in names}


class _Epochs(keras.callbacks.Callback):
    """Tells batches in memory which epoch they are for, if training begins with a later one."""

    def __init__(self, batches: Any) -> None:
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if hasattr(self._batches, "epoch"):
            self._batches.epoch = epoch


class Lines(keras.callbacks.Callback):
    """A line now and then: a progress bar would fill a pipe.

    Args:
        name: what is trained.
        epochs: how many there are.
        lines: how many of them get a line.
    """

    def __init__(self, name: str, epochs: int, lines: int = 5) -> None:
        super().__init__()
        self._name, self._epochs, self._every = name, epochs, -(-epochs // lines)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if (epoch + 1) % self._every == 0 or epoch + 1 == self._epochs:
            say(
                f"  {self._name}, epoch {epoch + 1} of {self._epochs}: loss {logs['loss']:.4f}, "
                f"{_accuracy(logs)}{self.model.count_params():,} parameters"
            )


def _accuracy(logs: dict[str, float]) -> str:
    return f"accuracy {100 * logs['accuracy']:.2f} %, " if "accuracy" in logs else ""


def percent(model: keras.Model, batches: Any) -> float:
    """Accuracy in percent."""
    return 100 * float(model.evaluate(batches, verbose=0, return_dict=True)["accuracy"])
