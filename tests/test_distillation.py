"""A student that is pruned while `keras.distillation.Distiller` trains it."""

import keras
import numpy as np
import pytest
from keras import models
from support.training import X, Y, callback, compiled, dense, fit, residual, sigmoid, widths

import keras_iplt as iplt

pytestmark = [pytest.mark.slow, pytest.mark.any_backend]

distillation = pytest.importorskip("keras.distillation", reason="Keras has it since 3.12")


def distiller(*features, build=residual):
    """One whose teacher and student are the same network; the student's features at some layers
    are to be those of the teacher."""
    teacher, student = build(), build()
    student.set_weights(teacher.get_weights())
    losses = [distillation.FeatureDistillation("mse")]
    losses += [distillation.FeatureDistillation("mse", name, name) for name in features]
    return distillation.Distiller(teacher, student, losses)


@pytest.mark.parametrize("mode", ["shrink", "mask", "soft"])
def test_the_student_shrinks(mode, tmp_path):
    """Without a call before, whatever the mode: the teacher stays as it is, and the student is a
    network of its own."""
    model = compiled(distiller)
    before = model.teacher.get_weights()
    history = fit(model, callback(mode=mode, scope="layer"))
    assert history["ratio"][-1] == 0.5
    assert history["params"][-1] == model.student.count_params()
    assert widths(model.student) == {"one": 4, "two": 4, "hidden": 6, "head": 2}
    for a, b in zip(before, model.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.student.save(tmp_path / "student.keras")
    again = models.load_model(tmp_path / "student.keras")
    expected = model.student.predict(X, verbose=0)
    np.testing.assert_allclose(again.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("call", [False, True])
def test_features_keep_their_width(call):
    """A layer that is to put out what the teacher's does stays as wide; the others shrink, and what
    the loss sees is the smaller student."""
    model = compiled(lambda: distiller("hidden", build=sigmoid))
    if call:
        model(X[:2])
    fit(model, callback(scope="layer"))
    assert widths(model.student) == {"conv": 4, "hidden": 12, "head": 2}
    fresh = distillation.Distiller(model.teacher, model.student, model.distillation_losses)
    fresh.compile(model.optimizer, "mse")
    losses = [each.evaluate(X, Y, verbose=0, return_dict=True)["loss"] for each in (model, fresh)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


class Distiller(keras.Model):
    """As people write it: it holds a teacher that it never calls."""

    def __init__(self, teacher, student):
        super().__init__()
        self.teacher, self.student = teacher, student
        teacher.trainable = False

    def call(self, x):
        return self.student(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        taught = keras.ops.mean(keras.ops.square(y_pred - self.teacher(x)))
        return taught + super().compute_loss(x, y, y_pred, sample_weight)


@pytest.mark.parametrize("kind", [Distiller, distillation.Distiller])
def test_single_weights_of_the_student_go(kind):
    """They are what is counted, too; of the teacher none."""

    def build():
        losses = distillation.FeatureDistillation("mse")
        return kind(residual(), residual(), *([losses] if kind is not Distiller else []))

    model = compiled(build)
    if kind is Distiller:
        model(X[:2])
    before = model.teacher.get_weights()
    found = fit(model, iplt.SparsityCallback(0.5, step=0.25, every=1, verbose=0))
    assert found["sparsity"][-1] == 0.5 == iplt.sparsity.measure(model.student).sparsity
    assert found["nonzeros"][-1] == iplt.sparsity.measure(model.student).weights / 2
    assert iplt.sparsity.measure(model).layers[0].name.endswith("/one")
    assert iplt.sparsity.measure(model).weights == iplt.sparsity.measure(model.student).weights
    for a, b in zip(before, model.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_where_all_are_features_nothing_goes():
    """And the error says which model asks for them."""
    model = compiled(lambda: distiller("hidden", build=dense))
    with pytest.raises(iplt.errors.NothingToPruneError, match="multi_feature_extractor"):
        fit(model, callback())
