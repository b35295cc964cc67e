"""A training that is killed at any moment goes on as if nothing had happened."""

import errno
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.training import (
    X,
    Y,
    callback,
    compiled,
    dense,
    dropout,
    fit,
    residual,
    sigmoid,
)

import keras_iplt as iplt
from keras_iplt.callbacks import backup
from keras_iplt.surgery.journal import Journal

pytestmark = pytest.mark.slow


def everything(model):
    return [np.asarray(keras.ops.convert_to_numpy(v)) for v in backup.variables_of(model)]


def assert_equal(one, other):
    """To the bit."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


# -- what is on the disk when a training is killed -------------------------------------------------


class Moments:
    """Keeps a copy of the directory at moments of a training: that is all that a kill leaves."""

    def __init__(self, directory, copies, monkeypatch):
        self.directory, self.copies, self.taken = directory, copies, {}
        for owner, name in ((os, "replace"), (Journal, "resize"), (np, "savez")):
            self.before(owner, name, monkeypatch)

    def take(self, moment):
        if moment not in self.taken and self.directory.exists():
            self.taken[moment] = self.copies / str(len(self.taken))
            shutil.copytree(self.directory, self.taken[moment])

    def before(self, owner, name, monkeypatch):
        function, count = getattr(owner, name), iter(range(10**6))

        def called(*args, **kwargs):
            if name == "savez":
                args[0].write(b"PK half of a file")
                args[0].flush()
            if (number := next(count)) in (1, 3, 12):
                self.take(f"{name} {number}")
            if name == "savez":
                args[0].seek(0)
                args[0].truncate()
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, called)


class InEpochs(keras.callbacks.Callback):
    def __init__(self, moments):
        super().__init__()
        self.moments = moments

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 3:
            self.moments.take(f"epoch {self.epoch}")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_end(self, logs=None):
        self.moments.take("after the last epoch")


VARIANTS = {
    "shrink": (dropout, {}),
    "behind a sigmoid": (sigmoid, dict(mode="mask")),
    "mask": (residual, dict(mode="mask", guard=("val_loss", 100.0, "back"))),
    "soft": (dense, dict(mode="soft")),
    "held": (dense, dict(guard=("loss", 1e-9, "hold"))),
}


@pytest.mark.any_backend
@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_at_any_moment(variant, tmp_path, monkeypatch):
    """In an epoch, in a shrink, in a write, before anything and after everything: a model built
    anew ends with the same weights and state of the optimizer, to the bit."""
    build, options = VARIANTS[variant]

    def train(directory, watch=None):
        model = compiled(build, keras.optimizers.Adam(0.005))
        guard = options.get("guard")
        more = {} if guard is None else {"guard": iplt.Guard(*guard)}
        ours = callback(0.6, 0.2, backup_dir=directory, **{**options, **more})
        others = [] if watch is None else [InEpochs(watch)]
        history = fit(model, ours, 6, others, validation_data=(X[:8], Y[:8]))
        return everything(model), history

    with monkeypatch.context() as patches:
        moments = Moments(tmp_path / "one", tmp_path, patches)
        expected, whole = train(tmp_path / "one", moments)
    assert not (tmp_path / "one" / "training.npz").exists(), "the training is over"
    assert {"epoch 1", "epoch 4", "replace 1", "savez 3"} <= set(moments.taken)
    wanted = ["epoch 4", "savez 3", "resize 12", "after the last epoch"]
    for moment in wanted if variant == "shrink" else wanted[:2]:
        again, history = train(moments.taken[moment])
        assert_equal(expected, again)
        for name, values in history.items():
            assert values == whole[name][len(whole[name]) - len(values) :]


SCRIPT = """
    import os, signal, sys
    sys.path.insert(0, {tests!r})
    import numpy as np
    from support.training import callback, compiled, dropout, fit
    from keras_iplt.surgery.journal import Journal

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def die_at(owner, name, number, before=None):
        function, count = getattr(owner, name), iter(range(10**6))
        def called(*args, **kwargs):
            if next(count) == number:
                if before is not None:
                    before(*args)
                die()
            return function(*args, **kwargs)
        setattr(owner, name, called)

    where, result = sys.argv[1:]
    if where == "write":
        die_at(np, "savez", 1, lambda file, **_: (file.write(b"PK half"), file.flush()))
    elif where == "shrink":
        die_at(Journal, "resize", 30)
    model = compiled(dropout)
    fit(model, callback(0.6, 0.2, backup_dir="backup"), 6)
    np.savez(result, *model.get_weights())
"""


def test_sigkill(tmp_path):
    """The same script is run until it comes to its end, killed by SIGKILL in between: in
    writing the second backup, and in the middle of a shrink."""
    tests = pathlib.Path(__file__).parent
    script = textwrap.dedent(SCRIPT).format(tests=str(tests))
    environment = {**os.environ, "PYTHONPATH": str(tests.parent), "TF_CPP_MIN_LOG_LEVEL": "3"}

    def run(where, directory):
        directory.mkdir(exist_ok=True)
        return subprocess.run(
            [sys.executable, "-c", script, where, "result.npz"],
            cwd=directory, env=environment, capture_output=True, text=True,
        )  # fmt: skip

    undisturbed = run("nowhere", tmp_path / "a")
    assert undisturbed.returncode == 0, undisturbed.stderr
    for where in ("write", "shrink"):
        assert run(where, tmp_path / "b").returncode == -9, where
        assert not (tmp_path / "b" / "result.npz").exists()
    last = run("nowhere", tmp_path / "b")
    assert last.returncode == 0, last.stderr
    with np.load(tmp_path / "a/result.npz") as one, np.load(tmp_path / "b/result.npz") as other:
        assert one.files == other.files
        assert_equal([one[n] for n in one.files], [other[n] for n in other.files])
    assert not list((tmp_path / "b" / "backup").glob("*.npz"))


# -- backups that are not what they should be ------------------------------------------------------


class Kill(BaseException):
    pass


class KillIn(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Kill


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a backup, two epochs into a training."""
    directory = tmp_path_factory.mktemp("whole")
    interrupted(directory)
    return (directory / "training.npz").read_bytes()


@pytest.fixture(scope="module")
def small():
    """A model of the size that it has in that backup."""
    return compiled(lambda: dense(15))


def interrupted(directory, build=dense, **options):
    with pytest.raises(Kill):
        resumed(directory, build, [KillIn(2)], **options)


def resumed(directory, build=dense, callbacks=(), optimizer=None, **options):
    model = compiled(build, optimizer)
    fit(model, callback(backup_dir=directory, **options), 4, callbacks)
    return model


def refused(directory, **options):
    """The error, given at once, and again if it is tried again; the file, the model, its optimizer
    and the callback are as they were."""
    path = directory / "training.npz"
    before = path.read_bytes() if path.is_file() else None
    model = compiled(options.pop("build", dense), options.pop("optimizer", None))
    values, built = everything(model), model.optimizer.built
    shapes = [layer.get_config() for layer in model.layers]
    ours = callback(backup_dir=directory, **options)
    ours.set_params({"epochs": 4, "steps": 6})
    ours.set_model(model)
    attributes = {name: repr(value) for name, value in vars(ours).items() if name != "_company"}
    for _ in range(2):
        with pytest.raises(iplt.PruningError) as caught:
            ours.on_train_begin()
        assert before == (path.read_bytes() if path.is_file() else None)
        assert_equal(everything(model), values)
        assert model.optimizer.built == built
        assert [layer.get_config() for layer in model.layers] == shapes
        assert {name: repr(vars(ours)[name]) for name in attributes} == attributes
    assert not list(directory.glob(".*")), "the lock is given back"
    return caught.value


@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_backups_are_refused(whole, small, tmp_path, data):
    """Cut off anywhere, with a flipped bit, or not a backup at all: the error says that it is
    damaged and what to do; it is neither used nor touched. (A flip in an unused byte of a zip
    archive does no harm.)"""
    kind = data.draw(st.sampled_from(["cut", "flipped", "noise"]))
    if kind == "cut":
        content = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif kind == "flipped":
        place = data.draw(st.integers(0, len(whole) - 1))
        content = whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :]
    else:
        content = data.draw(st.binary(max_size=200))
    path = tmp_path / "training.npz"
    path.write_bytes(content)
    kept = backup.Backup(tmp_path)
    try:
        state = kept.load(iplt.IPLTCallback.state_class)
        kept.restore(small)
    except iplt.errors.BackupError as error:
        assert str(path) in str(error)
        assert "damaged" in str(error) or "another training" in str(error)
    else:
        assert kind == "flipped" and state.epoch == 1
    assert path.read_bytes() == content


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"not a backup", npz(a=np.zeros(3)), npz(note=np.array("[]")),
        npz(note=np.array("{}")), npz(note=np.array(json.dumps({"format": "other/1"}))),
        npz(note=np.array(json.dumps({"format": "keras_iplt.backup/1"}))),
        npz(note=np.array(json.dumps({"format": "keras_iplt.backup/1", "made": 3}))),
    ],
)  # fmt: skip
def test_files_that_are_no_backups_are_refused(content, tmp_path):
    """Whatever lies there, the training does not begin, and the file is left alone."""
    (tmp_path / "training.npz").write_bytes(content)
    error = refused(tmp_path)
    assert isinstance(error, iplt.errors.BackupError) and "Remove it" in str(error)


def wider():
    return dense(21)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(build=wider), "model"),
        (dict(target=0.6), "schedule"),
        (dict(mode="mask"), "mode"),
        (dict(criterion="l1"), "options"),
        (dict(optimizer="sgd"), "optimizer"),
    ],
)
def test_foreign_backups_are_refused(whole, options, named, tmp_path):
    """A backup of another model, schedule, mode, criterion or optimizer: the error names it."""
    (tmp_path / "training.npz").write_bytes(whole)
    error = refused(tmp_path, **options)
    assert isinstance(error, iplt.errors.BackupError)
    assert "another training" in str(error) and named in str(error)


def put(note, path, value):
    """A note of a backup in which one value is another. `"@"`: what is JSON inside it."""
    if not path:
        return value
    if path[0] == "@":
        return json.dumps(put(json.loads(note), path[1:], value))
    note = list(note) if isinstance(note, list) else dict(note)
    note[path[0]] = put(note[path[0]], path[1:], value)
    return note


FORGED = [
    ("epoch", "three"), ("epoch", -1), ("epoch", None), ("epoch", 10**6), ("course", []),
    ("course.share", float("nan")), ("course.share", 1.5), ("course.ended", "no"),
    ("course.epochs", 1), ("course.held", 10**9), ("course.last_step", 9), ("guard", [1]),
    ("guard", "best"), ("progress", 3), ("progress.plans", "x"), ("progress.plans", ["{}"]),
    ("progress.plans.0.@.removed", [[99]]), ("progress.plans.0.@.variables", [3]),
    ("progress.masked", 7), ("soft_share", "much"),
    ("soft_share", -0.1), ("variables", "all"), ("variables", 10**12), ("variables", 2),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), FORGED, ids=str)
def test_forged_state_is_refused(whole, place, value, tmp_path):
    """Of another type, out of range, or one that cannot be: all is checked before, or taken
    back. (A model that was shrunk once is at full size again.)"""
    with np.load(io.BytesIO(whole)) as content:
        arrays = dict(content)
    path = [int(key) if key.isdecimal() else key for key in place.split(".")]
    note = put(json.loads(str(arrays["note"])), path, value)
    (tmp_path / "training.npz").write_bytes(npz(**{**arrays, "note": np.array(json.dumps(note))}))
    error = refused(tmp_path)
    assert isinstance(error, iplt.errors.BackupError) and "remove " in str(error).lower()


@pytest.mark.parametrize(
    "value", [np.zeros(3), np.array("x"), np.array(1j), np.array(np.nan)], ids=repr
)
def test_forged_variables_are_refused(whole, value, tmp_path):
    """The counter of the optimizer's steps, as it were."""
    with np.load(io.BytesIO(whole)) as content:
        arrays = dict(content)
    (name,) = (key for key, array in arrays.items() if array.dtype.kind == "i" and not array.shape)
    (tmp_path / "training.npz").write_bytes(npz(**{**arrays, name: value}))
    assert "of other shapes" in str(refused(tmp_path))


def test_slots_of_another_optimizer_are_refused(whole, tmp_path):
    """Of the same class, but with other slots: nothing is built, shrunk or assigned."""
    (tmp_path / "training.npz").write_bytes(whole)
    error = refused(tmp_path, optimizer=keras.optimizers.Adam(0.01, amsgrad=True))
    assert "expected 18 variables of this model and its optimizer, received: 14" in str(error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
def test_what_is_no_file_is_refused(make, tmp_path):
    """And not waited for."""
    make(tmp_path / "training.npz")
    assert "a directory, a device or a pipe" in str(refused(tmp_path))


@pytest.mark.any_backend
def test_a_disk_that_becomes_full(tmp_path, monkeypatch):
    """The training goes on with one warning; the last whole backup stays, and nothing beside it."""
    savez, count, kept = np.savez, iter(range(10**6)), []

    def full(file, **arrays):
        savez(file, **arrays)
        if next(count) >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    def look(epoch, logs):
        kept.append((tmp_path / "a" / "training.npz").read_bytes())
        assert {p.name for p in (tmp_path / "a").iterdir()} == {"training.npz", ".training.lock"}

    model, ours = compiled(), callback(backup_dir=tmp_path / "a")
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="goes on") as caught:
        patch.setattr(np, "savez", full)
        fit(model, ours, 4, [keras.callbacks.LambdaCallback(on_epoch_end=look)])
    assert len([one for one in caught if "No space left" in str(one.message)]) == 1
    assert kept[1] == kept[2] == kept[3] != kept[0]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "training.npz").write_bytes(kept[3])
    assert_equal(everything(resumed(tmp_path / "b")), everything(model))


def test_a_disk_that_is_full_from_the_start(tmp_path, monkeypatch):
    """Is found out before the first epoch."""

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(iplt.errors.BackupError, match=r"can be written to.*No space left"):
        resumed(tmp_path, callbacks=[KillIn(0)])
    assert not list(tmp_path.iterdir())


def test_more_epochs_than_asked_for(whole, tmp_path):
    """A backup of more is not cut short."""
    (tmp_path / "training.npz").write_bytes(whole)
    model, ours = compiled(), callback([0.25], backup_dir=tmp_path)
    with pytest.raises(iplt.errors.BackupError, match="expected schedule"):
        fit(model, ours, 1)
    with pytest.raises(iplt.errors.BackupError, match="expected at most 1 epochs, received: 2"):
        fit(compiled(), callback(backup_dir=tmp_path), 1)


@pytest.mark.any_backend
@pytest.mark.parametrize("mode", ["shrink", "soft"])
def test_evaluation_and_prediction_do_nothing(mode, tmp_path):
    """Before a training, after one, and after one that was interrupted in an epoch."""
    model, ours = compiled(), callback(mode=mode, backup_dir=tmp_path)
    model.optimizer.build(model.trainable_variables)  # which JAX does to evaluate, too

    class Halfway(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3 and model.layers[1].units == (15 if mode == "shrink" else 20):
                raise Kill

    def look():
        before, files = everything(model), sorted(tmp_path.iterdir())
        model.evaluate(X, Y, batch_size=8, verbose=0, callbacks=[ours])
        model.predict(X, batch_size=8, verbose=0, callbacks=[ours])
        assert_equal(everything(model), before)
        assert sorted(tmp_path.iterdir()) == files

    look()
    with pytest.raises(Kill):
        fit(model, ours, 4, [Halfway()])
    look()
    fit(model, ours, 4)
    look()


def test_a_directory_that_cannot_be_written_to(tmp_path):
    """Is found out before training."""
    (tmp_path / "file").write_text("")
    with pytest.raises(
        iplt.errors.BackupError, match="expected a directory that can be written to"
    ):
        resumed(tmp_path / "file" / "inside")


def test_a_finished_training_leaves_nothing_and_trains_anew(tmp_path):
    """The backup is removed at the end; the next run is a new training. An epoch that was not
    finished is trained again."""
    interrupted(tmp_path)
    assert (tmp_path / "training.npz").exists()
    model = resumed(tmp_path)
    assert model.count_params() == compiled(lambda: dense(10)).count_params()
    assert list(tmp_path.iterdir()) == []
    assert_equal(everything(resumed(tmp_path)), everything(model))


def test_a_second_fit_begins_at_its_own_epoch(tmp_path):
    """After a training that was resumed, a further `fit` of the same model counts from zero."""
    interrupted(tmp_path)
    model = compiled(dense)
    ours = callback(backup_dir=tmp_path)
    assert len(fit(model, ours, 4)["loss"]) == 2
    assert len(fit(model, ours, 3)["loss"]) == 3
    assert len(model.fit(X, Y, epochs=2, verbose=0).history["loss"]) == 2
