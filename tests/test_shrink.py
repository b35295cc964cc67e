"""A live model made smaller in place: it is what `rewrite` makes, or exactly what it was."""

import dataclasses
import random
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.graphs import GRAPHS, build
from support.law import TOLERANCE, difference, random_inputs, random_plan, randomize
from support.random_graphs import build as build_random
from support.random_graphs import sample

import keras_iplt as iplt
from keras_iplt import _keras as private
from keras_iplt.graph.recordings import plain_differences
from keras_iplt.graph.rules import registry
from keras_iplt.surgery.journal import Journal
from keras_iplt.surgery.rewriter import Rewriter
from keras_iplt.surgery.shrinking import shrunk

SIZES_IN_CODE = {"padded_shortcut_lambda", "lambdas"}
RUNS = ("_losses", "_call_context_args", "_lock")  # what a layer notes down while it is called


def outputs(model, inputs):
    packed = inputs[0] if len(inputs) == 1 else inputs
    if isinstance(getattr(model, "input", None), dict):
        packed = dict(zip(model.input, inputs, strict=True))
    found = model(packed, training=False)
    return [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(found)]


def rewritten(plan):
    """The smaller model, and pairs of an old layer and what became of it."""
    rewriter = Rewriter(plan.graph, plan.gone)
    small = rewriter.model(plan.graph.model)
    rewriter.carry_weights()
    return small, rewriter._pairs


def differences(old, new):
    """Plain attributes in which two layers, or layers inside them, differ."""
    for name, value in plain_differences(old, new):
        if name in RUNS:
            continue
        mine = vars(old).get(name)
        if name != "_build_shapes_dict" or not _fits(mine, value):
            yield f"{old.path}.{name}: {mine}, expected: {value}"
    for pair in zip(private.sublayers(old), private.sublayers(new), strict=True):
        yield from differences(*pair)


def _fits(shapes, expected):
    """Whether lengths agree where both are known. The batch is not compared: a subclassed model
    knows it."""
    return str(shapes) == str(expected) or all(
        len(one) == len(other)
        and all(n == m or None in (n, m) for n, m in zip(one[1:], other[1:], strict=True))
        for one, other in zip(_shapes(shapes), _shapes(expected), strict=True)
    )


def _shapes(structure):
    found = []
    keras.tree.map_shape_structure(found.append, structure)
    return found


def state(model):
    """Everything that shrinking may touch, to compare before and after."""
    found = [keras.ops.convert_to_numpy(v) for v in model.variables]
    if getattr(model, "optimizer", None) is not None:
        found += [keras.ops.convert_to_numpy(v) for v in model.optimizer.variables]
    return found


def plain_state(model):
    """Plain attributes of layers and recorded shapes, as text."""
    layers = [model, *model._flatten_layers()]
    found = [
        (layer.name, name, str(value))
        for layer in layers
        for name, value in sorted(vars(layer).items())
        if name not in RUNS and isinstance(value, (int, float, str, tuple, list, dict, type(None)))
    ]
    for inner in private.models_of(model):
        if private.function_of(inner):
            for node in private.nodes(private.function_of(inner)):
                found.append(str([x.shape for x in node.outputs]))
    return found


def same(before, after):
    return len(before) == len(after) and all(map(np.array_equal, before, after))


def check(model, seed):
    """Shrinks a model and compares it with the rewritten one, and with itself after undo."""
    randomize(model, seed)
    plan = random_plan(iplt.trace(model), seed)
    small, pairs = rewritten(plan)
    inputs = random_inputs(model if getattr(model, "inputs", None) else small, seed)
    objects = [(id(x), x.path) for x in [*model._flatten_layers(), *model.variables]]
    before, values, plain = outputs(model, inputs), state(model), plain_state(model)
    undo = shrunk(model, plan)
    for one, other in zip(outputs(model, inputs), outputs(small, inputs), strict=True):
        assert difference(other, one) <= TOLERANCE
    assert [d for old, new in pairs for d in differences(old, new)] == []
    assert objects == [(id(x), x.path) for x in [*model._flatten_layers(), *model.variables]]
    assert model.count_params() == small.count_params()
    undo()
    assert same(values, state(model))
    assert same(before, outputs(model, inputs))
    assert plain == plain_state(model)


@pytest.mark.parametrize("name", sorted(GRAPHS.keys() - SIZES_IN_CODE))
def test_shrunk_is_rewritten(name):
    """The same outputs and attributes as the rewritten model's, on the same objects; and undo
    brings everything back bit by bit."""
    check(build(name), seed=3)


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
def test_random_graphs():
    """The same holds for random graphs."""
    found = 0
    for seed in range(15):
        keras.utils.clear_session()
        model = build_random(sample(random.Random(f"shrink {seed}")))
        if iplt.trace(model).groups:
            check(model, seed)
            found += 1
    assert found > 8


def test_states_of_recurrent_layers():
    """What a stateful layer remembers goes along: the masked model goes on alike."""

    def build():
        i = keras.Input(batch_shape=(2, 5, 4))
        x = layers.LSTM(6, stateful=True, return_sequences=True, name="lstm")(i)
        model = keras.Model(i, layers.Dense(2)(layers.GRU(5, stateful=True, name="gru")(x)))
        randomize(model)
        return model

    one, other = build(), build()
    plan = random_plan(iplt.trace(one), 1)
    x = np.random.default_rng(0).normal(size=(3, 2, 5, 4)).astype("float32")
    for model in (one, other):
        model(x[0])
    iplt.mask(one, plan)
    iplt.shrink(other, plan)
    for batch in x[1:]:
        assert difference(one(batch), other(batch)) < TOLERANCE
    assert other.get_layer("lstm").states[0].shape[1] < 6


# -- what cannot be made smaller in place --


def unchanged(model, act, inputs=None):
    """Runs `act`, after which the model has to be what it was, to the bit."""
    inputs = random_inputs(model) if inputs is None else inputs
    before, values, plain = outputs(model, inputs), state(model), plain_state(model)
    objects = [id(v) for v in model.variables]
    result = act()
    assert same(before, outputs(model, inputs))
    assert same(values, state(model))
    assert plain == plain_state(model)
    assert objects == [id(v) for v in model.variables]
    return result


@pytest.mark.parametrize("name", sorted(SIZES_IN_CODE))
def test_sizes_in_lambdas(name):
    """A lambda with the old number of channels in its code is found out, and nothing changes."""
    model = build(name)
    plan = random_plan(iplt.trace(model), 3)

    def act():
        with pytest.raises(iplt.PruningError, match=r"size seems to be written|was expected"):
            iplt.shrink(model, plan)

    unchanged(model, act)


class Sized(layers.Layer):
    """A layer that works on eight channels because its code says so."""

    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how = how

    def call(self, x):
        if self.how == "reshape":
            return ops.reshape(ops.reshape(x, (-1, 4, 2)), (-1, 8))
        if self.how == "slice":
            return ops.concatenate([x[..., 4:8], x[..., 0:4]], axis=-1)
        if self.how == "split":
            return ops.concatenate(ops.split(x, [2], axis=-1)[::-1], axis=-1)
        return ops.pad(x, [[0, 0], [0, 8]])[:, :8]


class Scaled(layers.Layer):
    """A layer that scales one tensor by a number that it picks from another."""

    def call(self, x, y):
        return x * y[..., 1][..., None]


@pytest.mark.any_backend
def test_numbers_picked_by_a_layer_of_ones_own():
    """`...` stands for other slices in what was recorded than in what is expected."""
    i = keras.Input((5,))
    model = keras.Model(i, layers.Dense(3)(Scaled()(layers.Dense(8)(i), i)))
    x = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
    plan = iplt.plan(model, ratio=0.5)
    small = iplt.rewrite(model, plan)
    iplt.shrink(model, plan)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), small.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )


class SizedNet(keras.Model):
    """The same, as a model whose `call` has the size in it."""

    def __init__(self, how):
        super().__init__()
        self.one, self.two = layers.Dense(8, activation="relu"), layers.Dense(3)
        self.how = how

    def call(self, x):
        return self.two(Sized.call(self, self.one(x)))


@pytest.mark.any_backend
@pytest.mark.parametrize("how", ["reshape", "slice", "split", "pad"])
@pytest.mark.parametrize("kind", ["layer", "model"])
def test_sizes_in_code(kind, how):
    """So is a custom layer, and a subclassed model."""
    if kind == "layer":
        i = keras.Input((5,))
        x = layers.Dense(8, activation="relu")(i)
        model = keras.Model(i, layers.Dense(3)(Sized(how)(x)))
    else:
        model = SizedNet(how)
        model(np.ones((2, 5)))
    graph = iplt.trace(model)
    assert graph.groups
    inputs = [np.ones((2, 5), "float32")]
    plan = iplt.plan(model, per_layer={graph.groups[0].producers[0].path: 0.5}, ratio=0.0)

    def act():
        with pytest.raises(iplt.PruningError, match=r"size seems to be written|was expected"):
            iplt.shrink(model, plan)

    unchanged(model, act, inputs)


# -- failures on the way --


def trained(seed=0):
    """A compiled model that has trained for a batch, its data and a plan."""
    keras.utils.set_random_seed(seed)
    i = keras.Input((6, 6, 2))
    x = layers.Conv2D(6, 3, name="conv")(i)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dense(5, activation="relu")(layers.Flatten()(x))
    model = keras.Model(i, layers.Dense(2)(x * ops.array([1.0, 2, 3, 4, 5])))
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(16, 6, 6, 2)), random.normal(size=(16, 2))
    model.fit(x, y, batch_size=8, verbose=0)
    return model, x.astype("float32"), y.astype("float32")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("step", ["set", "resize"])
def test_failure_at_any_step(monkeypatch, step, error):
    """Whatever fails, and the user's Ctrl-C, leaves everything as it was, to the bit; and training
    goes on as if nothing had been tried."""
    model, x, y = trained()
    untouched, _, _ = trained()
    plan = iplt.plan(model, ratio=0.5)
    whole = getattr(Journal, step)
    counted = []
    monkeypatch.setattr(Journal, step, lambda *args: [counted.append(1), whole(*args)])
    shrunk(model, plan)()
    monkeypatch.undo()
    plan = iplt.plan(model, ratio=0.5)
    assert len(counted) > 10
    for late in (False, True):
        for fatal in sorted({0, 1, len(counted) // 2, len(counted) - 1}):
            calls = []

            def failing(*args, calls=calls, fatal=fatal, late=late):
                calls.append(1)
                if len(calls) - 1 == fatal:
                    if late:
                        whole(*args)
                    raise error("injected")
                whole(*args)

            def act(failing=failing):
                with monkeypatch.context() as patch:
                    patch.setattr(Journal, step, failing)
                    with pytest.raises(
                        error if error is KeyboardInterrupt else iplt.errors.ModelError
                    ):
                        iplt.shrink(model, plan)

            unchanged(model, act, [x])
    for one in (model, untouched):
        one.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    assert same(state(model), state(untouched))


@pytest.mark.parametrize("place", ["verify", "_refresh"])
def test_failure_at_the_end(monkeypatch, place):
    """A model that is not what the plan says is not let back into training."""

    module = sys.modules["keras_iplt.surgery.shrinking"]
    model, x, y = trained()
    plan = iplt.plan(model, ratio=0.5)
    whole, calls = getattr(module, place), []

    def failing(*args):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("injected")
        whole(*args)

    def act():
        with monkeypatch.context() as patch:
            patch.setattr(module, place, failing)
            with pytest.raises(iplt.errors.ModelError, match=r"in place.*injected"):
                iplt.shrink(model, plan)

    unchanged(model, act, [x])
    model.fit(x, y, verbose=0)
    iplt.shrink(model, plan)
    model.fit(x, y, verbose=0)
    assert model.get_layer("conv").filters < 6


class AtBatch(keras.callbacks.Callback):
    """Does something once, in the middle of an epoch."""

    def __init__(self, act, batch=1):
        super().__init__()
        self.act, self.batch, self.seen = act, batch, 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.batch + 1:
            self.act()


@pytest.mark.any_backend
def test_failure_in_the_middle_of_an_epoch(monkeypatch):
    """A shrink that fails between two batches does not disturb the training."""
    model, x, y = trained()
    untouched, _, _ = trained()
    plan = iplt.plan(model, ratio=0.5)

    def act():
        with monkeypatch.context() as patch:
            patch.setattr("keras_iplt.surgery.live.Live.carry_out", lambda *_: 1 / 0)
            with pytest.raises(iplt.errors.ModelError, match="ZeroDivisionError"):
                iplt.shrink(model, plan)

    for one, callbacks in ((model, [AtBatch(act)]), (untouched, [])):
        one.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
    assert same(state(model), state(untouched))


@pytest.mark.any_backend
def test_undo_after_training():
    """`shrunk` tells the way back, also after the small model has trained on."""
    model, x, y = trained()
    values = state(model)
    undo = shrunk(model, iplt.plan(model, ratio=0.5))
    model.fit(x, y, verbose=0)
    undo()
    assert [v.shape for v in values] == [v.shape for v in state(model)]
    assert np.array_equal(values[0], state(model)[0])
    model.fit(x, y, verbose=0)
    assert not np.array_equal(values[0], state(model)[0])


# -- afterwards --


def halved(model, **options):
    private.synchronize(model)
    iplt.shrink(model, iplt.plan(model, ratio=0.5, scope="layer"), **options)


@pytest.mark.any_backend
def test_files(tmp_path):
    """A small model is saved and read with its optimizer, goes on from there as it would have,
    and its weights go from file to file."""
    model, x, y = trained()
    halved(model)
    model.fit(x, y, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert same(state(model), state(again))
    for one in (model, again):
        one.fit(x, y, shuffle=False, verbose=0)
    assert same(state(model), state(again))
    again.load_weights(tmp_path / "model.weights.h5")
    clone = keras.models.clone_model(model)
    assert [v.shape for v in clone.variables] == [v.shape for v in model.variables]
    clone.set_weights(model.get_weights())
    assert same(outputs(clone, [x]), outputs(model, [x]))


def test_summary():
    """What Keras tells about the model is up to date."""
    model, x, _ = trained()
    halved(model)
    lines = []
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert "(None, 4, 4, 3)" in text and "(None, 4, 4, 6)" not in text
    assert model.predict(x, verbose=0).shape == (16, 2)


def test_sub_models_and_new_heads():
    """Tensors in between can be outputs, and carry a new head."""
    model, x, y = trained()
    halved(model)
    inside = model.get_layer("conv").output
    part = keras.Model(model.input, inside)
    assert part.output_shape == part(x).shape[:0] + (None, 4, 4, 3)
    new = keras.Model(model.input, layers.Dense(1)(layers.Flatten()(inside)))
    new.compile("sgd", "mse")
    new.fit(x, y[:, :1], verbose=0)


def test_shrunk_again():
    """A model can be made smaller again and again."""
    model, x, y = trained()
    sizes = []
    for _ in range(2):
        halved(model)
        model.fit(x, y, verbose=0)
        sizes.append(model.get_layer("conv").filters)
    assert sizes == [3, 1]


def test_replay():
    """Plans stored as text make a fresh model into the small one, for its weights to be loaded."""
    model, x, y = trained()
    stored = []
    for _ in range(2):
        plan = iplt.plan(model, ratio=0.4, scope="layer")
        stored.append(plan.to_json())
        iplt.shrink(model, plan)
        model.fit(x, y, verbose=0)
    fresh, _, _ = trained(seed=1)
    for text in stored:
        iplt.shrink(fresh, iplt.Plan.from_json(text))
    fresh.set_weights(model.get_weights())
    assert same(outputs(fresh, [x]), outputs(model, [x]))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports from TensorFlow")
@pytest.mark.parametrize("kind", ["tf_saved_model", "litert"])
def test_export(tmp_path, kind):
    """Exported, the small model computes the same."""
    model, x, _ = trained()
    halved(model)
    expected = outputs(model, [x])[0]
    path = str(tmp_path / "exported")
    if kind == "tf_saved_model":
        import tensorflow as tf

        model.export(path, verbose=False)
        loaded = tf.saved_model.load(path)
        found = loaded.serve(x)
        shapes = {tuple(v.shape) for v in loaded.variables}
        assert (3, 3, 2, 3) in shapes and (3, 3, 2, 6) not in shapes
    else:
        interpreter = pytest.importorskip("ai_edge_litert.interpreter")
        try:
            model.export(f"{path}.tflite", format="litert", verbose=False)
        except ValueError:
            pytest.skip("this Keras does not export to LiteRT")
        runner = interpreter.Interpreter(f"{path}.tflite")
        runner.resize_tensor_input(runner.get_input_details()[0]["index"], x.shape)
        runner.allocate_tensors()
        runner.set_tensor(runner.get_input_details()[0]["index"], x)
        runner.invoke()
        found = runner.get_tensor(runner.get_output_details()[0]["index"])
    assert difference(expected, found) < TOLERANCE


# -- other models over the same layers --


def test_unnamed_extractor():
    """A model over the same layers that has compiled something is warned about, and where warnings
    are errors nothing has happened."""
    model, x, _ = trained()
    extractor = keras.Model(model.input, model.get_layer("conv").output, name="extractor")
    extractor.predict(x, verbose=0)
    plan = iplt.plan(model, ratio=0.5)

    def act():
        with pytest.raises(UserWarning, match="also="):
            iplt.shrink(model, plan)

    unchanged(model, act, [x])
    with pytest.warns(UserWarning, match="'extractor' uses layers"):
        iplt.shrink(model, plan)


def test_named_extractor():
    """One that is named goes along."""
    model, x, _ = trained()
    extractor = keras.Model(model.input, ops.square(model.get_layer("conv").output) * 2.0)
    extractor.predict(x, verbose=0)
    halved(model, also=extractor)
    assert extractor.output_shape == (None, 4, 4, 3)
    found = extractor.predict(x, verbose=0)
    conv = keras.ops.convert_to_numpy(model.get_layer("conv")(x))
    assert difference(np.square(conv) * 2, found) < TOLERANCE


def test_second_head_that_needs_what_goes():
    """A second head that needs the channels is refused, and nothing changes anywhere."""
    model, x, y = trained()
    inside = model.get_layer("conv").output
    other = keras.Model(model.input, layers.Dense(1)(layers.Flatten()(inside)), name="other")
    other.compile("sgd", "mse")
    other.fit(x, y[:, :1], verbose=0)
    plan, before = iplt.plan(model, ratio=0.5), outputs(other, [x])

    def act():
        with pytest.raises(iplt.errors.ModelError, match="'other' cannot follow"):
            iplt.shrink(model, plan, also=[other])

    unchanged(model, act, [x])
    assert same(before, outputs(other, [x]))
    other.fit(x, y[:, :1], verbose=0)


def test_unused_base():
    """A base model that was only built upon goes without a word."""
    base = build("plain")
    model = keras.Model(base.input, layers.Dense(2)(base.layers[-2].output))
    model.compile("sgd", "mse")
    halved(model)


# -- what is not accepted --


def test_not_a_model_or_plan():
    """Other things than models and plans are refused by name."""
    model, _, _ = trained()
    plan = iplt.plan(model, ratio=0.5)
    for arguments, message in [
        ((model, 0.5), "expected a keras_iplt.Plan"),
        (("model", plan), "expected a keras.Model"),
        ((model, plan, [1]), "also: expected a keras.Model or several"),
        ((keras.Sequential([layers.Dense(2)]), plan), "not built"),
        ((build("residual"), plan), "another architecture"),
    ]:
        with pytest.raises(iplt.PruningError, match=message):
            iplt.shrink(*arguments)


def test_uncompiled():
    """A model that is not compiled becomes smaller, and can be compiled then."""
    model = build("plain")
    halved(model)
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 8, 8, 3)), np.ones((4, 3)), verbose=0)


def test_compiled_and_not_trained():
    """An optimizer that has not seen the weights yet sees the small ones."""
    model = build("plain")
    model.compile("adam", "mse")
    halved(model)
    model.fit(np.ones((4, 8, 8, 3)), np.ones((4, 3)), verbose=0)


def test_stale_plan():
    """A plan fits once."""
    model, _, _ = trained()
    plan = iplt.plan(model, ratio=0.5)
    iplt.shrink(model, plan)
    with pytest.raises(iplt.errors.PlanMismatchError):
        iplt.shrink(model, plan)


@pytest.mark.parametrize("what", ["lora", "int8"])
def test_adapted_layers(what):
    """Layers with adapters or quantised weights stay; what leads to them too."""
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6), layers.Dense(6), layers.Dense(6), layers.Dense(2)]
    )
    if what == "lora":
        model.layers[1].enable_lora(2)
    else:
        model.layers[1].quantize("int8")
    halved(model)
    assert [layer.units for layer in model.layers] == [6, 6, 3, 2]
    model(np.ones((1, 4)))


class Odd(keras.optimizers.SGD):
    """An optimizer with state of its own making."""

    def build(self, variables):
        super().build(variables)
        self.odd = self.add_variable(shape=(6,), name="odd")


def test_unknown_state_of_an_optimizer():
    """State that may belong to a variable, nobody knows which, is refused."""
    model, x, y = trained()
    model.compile(Odd(0.01), "mse")
    model.fit(x, y, verbose=0)
    plan = iplt.plan(model, ratio=0.5)

    def act():
        with pytest.raises(iplt.errors.ModelError, match="'odd' of shape"):
            iplt.shrink(model, plan)

    unchanged(model, act, [x])


@pytest.mark.filterwarnings("ignore:.*was passed an input with a mask attached")
def test_a_nested_model_that_is_called_with_a_mask():
    """The mask is no input that could lose channels."""
    tokens = keras.Input((6,), dtype="int32")
    inner = keras.Sequential(
        [keras.Input((6, 8)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(4)]
    )
    y = inner(keras.layers.Embedding(5, 8, mask_zero=True)(tokens))
    y = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(y))
    model = keras.Model(tokens, y)
    x = np.random.default_rng(0).integers(0, 5, (3, 6))
    plan = iplt.plan(model, ratio=0.5)
    expected = iplt.rewrite(model, plan)(x)
    iplt.shrink(model, plan)
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-6)


def test_a_layer_whose_parts_no_longer_fit_is_put_back(monkeypatch):
    """As when a rule does not know all of a layer's parts: it is tried before `shrink` returns."""
    monkeypatch.setattr(private, "attention_gates", lambda layer: [])
    i = keras.Input((5, 6))
    try:
        attention = keras.layers.MultiHeadAttention(2, 4, use_gate=True)
    except ValueError:
        pytest.skip("Keras is older")
    model = keras.Model(i, keras.layers.Dense(2)(attention(i, i)))
    x = np.ones((2, 5, 6), "float32")
    before = keras.ops.convert_to_numpy(model(x))
    with pytest.raises(iplt.errors.ModelError, match="parts do not fit together"):
        iplt.shrink(model, iplt.plan(model, ratio=0.5, scope="layer"))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(x)), before)


def test_an_edited_operation_that_does_not_work_is_put_back(monkeypatch):
    """Its arguments are tried on numbers: what it says of its shape is not enough."""
    rule = registry._OPERATIONS["Split"]
    broken = dataclasses.replace(rule, resize=lambda *_: ({"indices_or_sections": [9]}, (), {}))
    monkeypatch.setitem(registry._OPERATIONS, "Split", broken)
    i = keras.Input((4,))
    parts = keras.ops.split(keras.layers.Dense(6)(i), 2, axis=-1)
    model = keras.Model(i, keras.layers.Dense(2)(keras.ops.tanh(parts[0])))
    weights = model.get_weights()
    with pytest.raises(iplt.errors.ModelError):
        iplt.shrink(model, iplt.plan(model, ratio=0.5))
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
