"""A training that is killed at any moment goes on as if nothing had happened."""

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
    """The error, given at once; the file and the model are as they were."""
    path = directory / "training.npz"
    before = path.read_bytes()
    model = compiled(options.pop("build", dense), options.pop("optimizer", None))
    weights = everything(model)
    ours = callback(backup_dir=directory, **options)
    with pytest.raises(iplt.PruningError) as caught:
        ours.set_params({"epochs": 4, "steps": 6})
        ours.set_model(model)
        ours.on_train_begin()
    assert path.read_bytes() == before
    assert_equal([v for v in everything(model)][: len(weights)], weights)
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
        state = kept.load()
        kept.restore(small)
    except iplt.errors.BackupError as error:
        assert str(path) in str(error)
        assert "damaged" in str(error) or "another training" in str(error)
    else:
        assert kind == "flipped" and state["format"] == "keras_iplt.backup/1"
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
