"""Training as the recipes do it: on what hardware, resumed if interrupted, timed, told about."""

import contextlib
import dataclasses
import functools
import json
import time

import keras

from keras_iplt.errors import OptionError

from .. import data
from ..common.study import say

__all__ = [
    "Hardware", "Lines", "Trained", "check_data", "compiled", "cosine", "fit", "loaded",
    "milestones", "percent", "saved",
]  # fmt: skip

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What the machine is used for.

    Attributes:
        precision: Keras's policy of dtypes.
        xla: whether TensorFlow compiles with XLA too (JAX always does).
        devices: over how many devices each batch is spread: the GPUs, or as many logical CPUs
            where there are none.
        eager: whether TensorFlow's steps run without being compiled at all, which is the faster
            way for a handful of batches. Not over several devices, see `_mirrored`.
    """

    precision: str = "float32"
    xla: bool = False
    devices: int = 1
    eager: bool = False

    @contextlib.contextmanager
    def ready(self, seed):
        """Models are to be built, compiled and trained within: from this seed, on these devices."""
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(seed)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.precision)
        try:
            with _spread(self.devices):
                yield
        finally:
            keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def _spread(devices):
    """Data parallel over several devices."""
    backend = keras.backend.backend()
    if devices == 1:
        yield
    elif backend == "tensorflow":
        with _mirrored(devices).scope():
            yield
    elif backend == "jax":
        import jax

        if jax.device_count() < devices:
            raise OptionError(
                f"--devices {devices}: JAX sees {jax.device_count()}. On a machine without GPUs: "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={devices}"
            )
        before = keras.distribution.distribution()
        names = keras.distribution.list_devices()[:devices]
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
        )
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)
    else:
        raise OptionError(f"--devices {devices}: expected the backend tensorflow or jax, "
                          f"received: {backend}")  # fmt: skip


@functools.cache
def _mirrored(devices):
    """One strategy for all runs of a process: TensorFlow numbers what the devices add up, and each
    new strategy would begin with numbers that are known with other shapes."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(_logical_devices(tf, devices))


def _logical_devices(tf, count):
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    physical = tf.config.list_physical_devices(kind)
    if kind == "CPU" and tf.config.get_logical_device_configuration(physical[0]) is None:
        with contextlib.suppress(RuntimeError):  # TensorFlow has begun: the devices are what
            parts = [tf.config.LogicalDeviceConfiguration()] * count  # they are, and counted below
            tf.config.set_logical_device_configuration(physical[0], parts)
    found = [device.name for device in tf.config.list_logical_devices(kind)]
    if len(found) < count:
        raise OptionError(f"--devices {count}: expected at most {len(found)}, the {kind}s that "
                          "TensorFlow sees")  # fmt: skip
    return found[:count]


def loaded(
    source, seed, batch, take=None, take_test=None, data_dir=None, download=False, validation=0,
    **options,
):  # fmt: skip
    """A data set with the parts of the papers: all training examples are trained on.

    Args:
        source: a name, an .npz file or a folder: see `recipes.data.load`.
        seed: of the run.
        batch: examples in a batch.
        take, take_test: at most how many examples to train on, and to test on.
        data_dir, download, validation, **options: see `recipes.data.load`.
    """
    parts = {"train": take, "test": take_test}
    return data.load(
        source, batch_size=batch, seed=seed, validation=validation, data_dir=data_dir,
        download=download, take={p: n for p, n in parts.items() if n is not None}, **options,
    )  # fmt: skip


def check_data(sources, data_dir, download):
    """Whatever is wrong with a data set is said before the others are trained on for hours."""
    if len(set(map(str, sources))) > 1:
        for source in dict.fromkeys(sources):
            data.load(source, batch_size=1, validation=0, data_dir=data_dir, download=download)


def compiled(model, optimizer, hardware):
    """The model, compiled for logits and integer classes."""
    xla = hardware.xla or keras.backend.backend() == "jax"
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=xla,
        run_eagerly=hardware.eager and hardware.devices == 1 and not xla,
    )
    return model


def cosine(rate, epochs, batches):
    """A rate that goes to zero along a cosine."""
    return keras.optimizers.schedules.CosineDecay(rate, max(1, epochs * batches))


def milestones(rate, epochs, batches, at=(0.5, 0.75), factor=0.1):
    """A rate that is multiplied by a factor when these shares of the epochs are over."""
    steps = [round(share * epochs) * batches for share in at]
    rates = [rate * factor**i for i in range(len(steps) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(steps, rates)


@dataclasses.dataclass(frozen=True)
class Trained:
    """How a training went, by its epochs.

    Attributes:
        history: name -> a number per epoch, as `fit` has it.
        seconds, cpu: wall and CPU seconds of all epochs, steps of pruning included.
    """

    history: dict
    seconds: float
    cpu: float


def fit(model, source, epochs, place, hardware, callbacks=(), validation=None):
    """Trains a compiled model; a training that was interrupted goes on where it was.

    Args:
        model: as built and compiled from the same seed each time.
        source: a `recipes.data` Data, whose training part it is trained on.
        epochs: how many.
        place: the `Place` of the run.
        hardware: the `Hardware`.
        callbacks: those of keras_iplt take care of themselves with `backup_dir=place.backup`.
        validation: batches to evaluate after each epoch, or None.

    Returns:
        A `Trained`.
    """
    batches = source.batches("train", drop_remainder=hardware.devices > 1)
    record = _Record(place.file(".epochs"))
    if not _has_begun(place.backup):
        record.path.unlink(missing_ok=True)
    if not any(getattr(callback, "backup", None) for callback in callbacks):
        callbacks = [keras.callbacks.BackupAndRestore(place.backup), *callbacks]
    model.fit(
        batches, epochs=epochs, shuffle=False, verbose=0, validation_data=validation,
        callbacks=[*callbacks, _Epochs(batches), record, Lines(place.name, epochs)],
    )  # fmt: skip
    history = record.history()
    seconds, cpu = (sum(history.pop(name)) for name in ("seconds", "cpu"))
    return Trained(history, seconds, cpu)


def _has_begun(backup):
    return backup.is_dir() and any(backup.iterdir())


class _Record(keras.callbacks.Callback):
    """Keeps the logs of each epoch in a file, which a training that is resumed goes on with, and
    the wall and CPU seconds since the epoch before."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_begin(self, logs=None):
        self._last = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter(), time.process_time()
        seconds, cpu = (b - a for a, b in zip(self._last, now, strict=True))
        self._last = now
        row = {"epoch": epoch, "seconds": seconds, "cpu": cpu}
        row |= {name: float(value) for name, value in logs.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def history(self):
        """name -> a number per epoch. Of an epoch that was done twice the second time counts."""
        rows: dict = {}
        for line in self.path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # cut off when the training was killed
                row = json.loads(line)
                rows[row.pop("epoch")] = row
        rows = dict(sorted(rows.items()))
        names = dict.fromkeys(name for row in rows.values() for name in row)
        return {name: [row[name] for row in rows.values() if name in row] for name in names}


class _Epochs(keras.callbacks.Callback):
    """Tells batches in memory which epoch they are for, if training begins with a later one."""

    def __init__(self, batches):
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        if hasattr(self._batches, "epoch"):
            self._batches.epoch = epoch


class Lines(keras.callbacks.Callback):
    """A line now and then: a progress bar would fill a pipe.

    Args:
        name: of what is trained.
        epochs: how many there are.
        lines: how many of them get a line.
    """

    def __init__(self, name, epochs, lines=5):
        super().__init__()
        self._name, self._epochs, self._every = name, epochs, -(-epochs // lines)

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._every == 0 or epoch + 1 == self._epochs:
            say(
                f"  {self._name}, epoch {epoch + 1} of {self._epochs}: loss {logs['loss']:.4f}, "
                f"accuracy {100 * logs['accuracy']:.2f} %, {self.model.count_params():,} parameters"
            )


def percent(model, batches):
    """Accuracy in percent."""
    return 100 * float(model.evaluate(batches, verbose=0, return_dict=True)["accuracy"])


def saved(model, place):
    """Writes the model of a run, whole or not at all."""
    partial = place.file(".partial.keras")
    model.save(partial)
    partial.replace(place.file(".keras"))
