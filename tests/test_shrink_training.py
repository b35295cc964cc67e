"""Training goes on in the smaller model as it would in one that had been small all along."""

import keras
import numpy as np
import pytest
from keras import layers
from support.law import difference

import keras_iplt as iplt
from keras_iplt import _keras as private
from keras_iplt.graph.slices import kept_axes, take

pytestmark = pytest.mark.slow

BACKEND = keras.backend.backend()
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(16, 6, 6, 2)).astype("float32")
Y = RANDOM.normal(size=(16, 2)).astype("float32")


def functional():
    i = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, name="conv")(i)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dense(6, activation="tanh", name="hidden")(layers.Flatten()(x))
    x = layers.Dense(6, activation="tanh", name="square")(x)  # a square kernel
    return keras.Model(i, layers.Dense(2, name="head")(x))


def sequential():
    return keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(),
         layers.Dense(6, activation="relu"), layers.Dense(2)])  # fmt: skip


def nested():
    i = keras.Input((6, 6, 2))
    inner = keras.Sequential([layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()])
    x = layers.GlobalAveragePooling2D()(inner(i))
    return keras.Model(i, layers.Dense(2)(layers.Dense(6, activation="relu")(x)))


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(4, 3, activation="relu")
        self.norm = layers.BatchNormalization()
        self.pool, self.out = layers.GlobalAveragePooling2D(), layers.Dense(2)

    def call(self, x, training=None):
        return self.out(self.pool(self.norm(self.conv(x), training=training)))


def subclassed():
    model = Net()
    model(X[:1])
    return model


def transfer():
    base = functional()
    inside = base.get_layer("square").output
    base.get_layer("conv").trainable = False
    return keras.Model(base.input, layers.Dense(2)(layers.Dense(5, activation="relu")(inside)))


MODELS = [functional, sequential, nested, subclassed, transfer]


def compiled(build, optimizer, **options):
    keras.utils.set_random_seed(3)
    model = build()
    model.compile(optimizer(), "mse", **{"metrics": ["mae"], **options})
    return model


def seeded_plan(model):
    """The same plan for every copy of a model, whatever its weights."""
    graph = iplt.trace(model)
    names = {p.path: 0.5 for group in graph.groups for p in group.producers}
    scores = iplt.criteria.get("random")
    return iplt.plan(graph, ratio=0.0, per_layer=names, criterion=scores)


def independent(model, plan, optimizer, **options):
    """The small model as one would make it by hand: rewritten, with what the optimizer knew."""
    small = iplt.rewrite(model, plan)
    small.compile(optimizer(), "mse", metrics=["mae"], **options)
    small.optimizer.build(small.trainable_variables)
    slices = plan.graph.by_variable
    kept = {v.path: kept_axes(v, slices.get(id(v), ()), plan.gone) for v in model.variables}
    if not model.optimizer.built:
        return small
    assert len(model.optimizer.variables) == len(small.optimizer.variables)
    shapes = _slot_axes(model.optimizer)
    for old, new in zip(model.optimizer.variables, small.optimizer.variables, strict=True):
        value = keras.ops.convert_to_numpy(old)
        if id(old) in shapes:
            variable, axes = shapes[id(old)]
            value = take(value, tuple(kept[variable.path][axis] for axis in axes))
        new.assign(value)
    return small


def _slot_axes(optimizer):
    """id(slot) -> (variable, its axes), found by name and shape, not as `shrink` does."""
    found = {}
    for inner in private.inner_optimizers(optimizer):
        for name, slots in vars(inner).items():
            trained = inner._trainable_variables
            if isinstance(slots, list) and len(slots) == len(trained) and name != "_variables":
                for slot, variable in zip(slots, trained, strict=True):
                    if (
                        isinstance(slot, keras.Variable)
                        and slot is not variable
                        and len(slot.shape)
                    ):
                        axes = list(range(len(variable.shape)))
                        if len(slot.shape) < len(axes):
                            axes.pop(-1 if name == "_r" else -2)
                        found[id(slot)] = variable, axes
    return found


def numbers(model):
    return [keras.ops.convert_to_numpy(v) for v in model.variables]


def largest_difference(one, other):
    pairs = zip(numbers(one), numbers(other), strict=True)
    return max(difference(a, b) for a, b in pairs if a.size)


def optimizers():
    o = keras.optimizers
    found = {
        "sgd": lambda: o.SGD(0.01, momentum=0.9, nesterov=True),
        "rmsprop": lambda: o.RMSprop(0.01, centered=True, momentum=0.9),
        "adam_amsgrad": lambda: o.Adam(0.01, amsgrad=True, global_clipnorm=0.5),
        "adamw": _adamw_with_exclusions,
        "adadelta": lambda: o.Adadelta(0.5),
        "adagrad": lambda: o.Adagrad(0.05),
        "adamax": lambda: o.Adamax(0.01),
        "nadam": lambda: o.Nadam(0.01),
        "ftrl": lambda: o.Ftrl(0.01),
        "lion": lambda: o.Lion(0.001),
        "lamb": lambda: o.Lamb(0.01),
        "adafactor": lambda: o.Adafactor(0.01),
        "scaled": lambda: o.LossScaleOptimizer(o.Adam(0.01)),
        "ema": lambda: o.Adam(0.01, use_ema=True, ema_overwrite_frequency=3),
        "accumulated": lambda: o.SGD(0.01, momentum=0.9, gradient_accumulation_steps=3),
        "schedule": lambda: o.Adam(o.schedules.ExponentialDecay(0.01, 2, 0.8), weight_decay=0.01),
    }
    if hasattr(o, "Muon"):
        found["muon"] = lambda: o.Muon(0.01)
    if hasattr(o, "ScheduleFreeAdamW"):
        found["schedule_free"] = lambda: o.ScheduleFreeAdamW(0.01)
    if hasattr(o, "MultiOptimizer"):
        found["several"] = lambda: o.MultiOptimizer(
            lambda v: o.Adam(0.01) if "hidden" in v.path else o.SGD(0.01, momentum=0.9)
        )
    return found


def _adamw_with_exclusions():
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "hidden"])
    return optimizer


@pytest.mark.filterwarnings("ignore:the smaller model is not compiled")
@pytest.mark.parametrize("name", optimizers())
def test_optimizers(name):
    """Every optimizer goes on as it would in an independent small model with the same state."""
    optimizer = optimizers()[name]
    model = compiled(functional, optimizer, run_eagerly=True)
    quiet = dict(batch_size=4, shuffle=False, verbose=0)
    model.fit(X, Y, **quiet)
    plan = seeded_plan(model)
    small = independent(model, plan, optimizer, run_eagerly=True)
    slots = [id(v) for v in model.optimizer.variables]
    iplt.shrink(model, plan)
    assert slots == [id(v) for v in model.optimizer.variables]
    for one in (model, small):
        one.fit(X, Y, **quiet)
    assert int(model.optimizer.iterations) == int(small.optimizer.iterations)
    assert largest_difference(model, small) <= 1e-6
    for a, b in zip(model.optimizer.variables, small.optimizer.variables, strict=True):
        assert difference(a, b) <= 1e-6


# -- in the middle of fit --


class ShrinkAt(keras.callbacks.Callback):
    """A user's own callback: shrinks once, and makes the independent small model at that moment."""

    def __init__(self, moment, optimizer, also=()):
        super().__init__()
        self.moment, self.optimizer, self.also = moment, optimizer, also
        self.done, self.small, self.left = 0, None, None

    def on_train_begin(self, logs=None):
        self._at("train begin")

    def on_epoch_begin(self, epoch, logs=None):
        self._at(f"epoch {epoch} begin")

    def on_train_batch_begin(self, batch, logs=None):
        self._at(f"batch {batch} begin")

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        self._at(f"batch {batch} end")

    def on_test_batch_end(self, batch, logs=None):
        self._at("validation")

    def on_epoch_end(self, epoch, logs=None):
        self._at(f"epoch {epoch} end")

    def _at(self, moment):
        if moment == self.moment and self.small is None:
            private.synchronize(self.model)
            plan = seeded_plan(self.model)
            self.small = independent(
                self.model, plan, self.optimizer,
                run_eagerly=self.model.run_eagerly, jit_compile=self.model.jit_compile)  # fmt: skip
            self.left = self.done
            iplt.shrink(self.model, plan, also=self.also)


def adam():
    return keras.optimizers.Adam(0.01)


def in_the_middle(model, moment, optimizer=adam, tolerance=1e-6, data=None, weights=None, **fit):
    """Fits two epochs of four batches with a shrink at `moment`; compares with the independent
    small model trained by hand on the batches that were left."""
    callback = ShrinkAt(moment, optimizer)
    data = (X, Y) if data is None else data
    fit |= {"shuffle": False} | ({"batch_size": 4} if isinstance(data, tuple) else {})
    arrays = data if isinstance(data, tuple) else (data,)
    layers_before = [id(layer) for layer in model._flatten_layers()]
    history = model.fit(*arrays, epochs=2, verbose=0, callbacks=[callback], **fit)
    assert layers_before == [id(layer) for layer in model._flatten_layers()]
    assert len(history.history["loss"]) == 2 and np.isfinite(history.history["loss"]).all()
    small = callback.small
    assert model.count_params() == small.count_params()
    steps = model.steps_per_execution
    for batch in range(callback.left * steps, 8):
        part = slice(batch % 4 * 4, batch % 4 * 4 + 4)
        weight = None if weights is None else weights[part]
        small.train_on_batch(X[part], Y[part], sample_weight=weight)
    assert int(model.optimizer.iterations) == int(small.optimizer.iterations) == 8
    assert largest_difference(model, small) <= tolerance
    return model, small


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "moment",
    ["train begin", "epoch 1 begin", "batch 2 begin", "batch 1 end", "validation", "epoch 0 end"],
)
def test_moments(moment):
    """Shrinking works whenever a callback may ask for it."""
    model = compiled(functional, adam, jit_compile=False)
    in_the_middle(model, moment, validation_data=(X, Y))


@pytest.mark.any_backend
@pytest.mark.parametrize("build", MODELS[1:])
def test_kinds_of_models(build):
    """Sequential, nested, subclassed models, and partly frozen ones with a new head."""
    model = compiled(build, adam, jit_compile=False)
    in_the_middle(model, "batch 1 end")
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)


@pytest.mark.parametrize(
    "options",
    [
        {"jit_compile": True},
        {"jit_compile": False, "steps_per_execution": 2},
        {"run_eagerly": True},
    ],
    ids=lambda options: next(reversed(options)),
)
def test_modes_of_compile(options):
    """XLA, several steps per execution, eager."""
    in_the_middle(compiled(functional, adam, **options), "batch 1 end")


def test_mixed_precision():
    """Half precision, whose loss scaling wraps the optimizer."""
    keras.config.set_dtype_policy("mixed_float16")
    model = compiled(functional, adam, jit_compile=False)
    in_the_middle(
        model, "batch 1 end", lambda: keras.optimizers.LossScaleOptimizer(adam()), tolerance=2e-3
    )
    assert type(model.optimizer).__name__ == "LossScaleOptimizer"


def _generator():
    while True:
        for i in range(0, 16, 4):
            yield X[i : i + 4], Y[i : i + 4]


def test_generator():
    """Batches that Python makes."""
    model = compiled(functional, adam, jit_compile=False)
    in_the_middle(model, "batch 1 end", data=_generator(), steps_per_epoch=4)


def test_tf_data():
    """A `tf.data.Dataset`."""
    tf = pytest.importorskip("tensorflow")
    model = compiled(functional, adam, jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    in_the_middle(model, "batch 1 end", data=data)


def test_sample_weights():
    """Weighted samples."""
    weights = np.linspace(0.1, 2, 16).astype("float32")
    model = compiled(functional, adam, jit_compile=False)
    in_the_middle(model, "epoch 0 end", weights=weights, sample_weight=weights)


@pytest.mark.any_backend
@pytest.mark.skipif(BACKEND != "tensorflow", reason="a train_step of TensorFlow")
def test_custom_train_step():
    """A `train_step` of the user's own."""
    import tensorflow as tf

    class Custom(keras.Model):
        steps = 0

        def train_step(self, data):
            type(self).steps += 1
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    def build():
        plain = functional()
        return Custom(plain.input, plain.output)

    in_the_middle(compiled(build, adam, jit_compile=False, metrics=None), "batch 1 end")
    assert Custom.steps >= 2


def test_two_shrinks_and_nothing_traced_twice():
    """Each shrink costs one new trace of the training step, not more."""
    traces = []

    class Counted(layers.Layer):
        def call(self, x):
            traces.append(x.shape)
            return x

    i = keras.Input((5,))
    x = Counted()(layers.Dense(8, name="hidden")(i))
    model = keras.Model(i, layers.Dense(2)(x))
    model.compile("sgd", "mse", jit_compile=False)

    class Twice(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch in (2, 4):
                private.synchronize(self.model)
                iplt.shrink(self.model, iplt.plan(self.model, ratio=0.5))
                traces.append("shrunk")

    model.fit(X[:, 0, 0].repeat(3, 1)[:, :5], Y, epochs=6, verbose=0, callbacks=[Twice()])
    after = traces[len(traces) - traces[::-1].index("shrunk") :]
    assert [shape[-1] for shape in after] == [2] * len(after) and len(after) <= 2
    assert model.get_layer("hidden").units == 2
