"""Quantisation-aware training: what is rounded, that it trains, and that files compute the same."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_iplt as iplt
from keras_iplt import quantization
from keras_iplt.exporting.runtimes import interpreter_of
from keras_iplt.quantization import quantizers
from keras_iplt.quantization.fake import fake_quantized, rounded

BACKEND = keras.backend.backend()
any_backend = pytest.mark.any_backend
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="for the TensorFlow backend")
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 8, 8, 3)).astype("float32")
Y = RANDOM.integers(0, 5, 64)


def numbers(x):
    return np.asarray(ops.convert_to_numpy(x))


def network():
    """Every kind of operation that integers are computed with, in one small network."""

    def block(x, layer):
        return layers.ReLU()(layers.BatchNormalization()(layer(x)))

    image = keras.Input((8, 8, 3), name="image")
    x = block(image, layers.Conv2D(8, 3, padding="same", use_bias=False, name="first"))
    y = block(x, layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1))
    x = layers.ReLU()(layers.Add()([x, layers.BatchNormalization()(layers.Conv2D(8, 1)(y))]))
    x = layers.Concatenate()([x, block(x, layers.Conv2D(8, 1))])
    x = layers.ReLU(6)(layers.BatchNormalization(name="alone")(layers.MaxPooling2D()(x)))
    x = layers.Conv2D(8, 1, activation="silu")(layers.ZeroPadding2D()(x)) * 2.0
    x = layers.Conv2DTranspose(8, 2, strides=2, activation="relu")(x)
    x = layers.Conv2D(8, 3, strides=2, groups=2, activation="gelu")(1.5 - x)
    x = layers.SeparableConv2D(8, 3, padding="same", activation="hard_silu", name="both")(x)
    x = layers.UpSampling2D(interpolation="bilinear")(layers.PReLU("normal")(x))
    x = layers.BatchNormalization()(layers.Dense(8)(layers.GlobalAveragePooling2D()(x)))
    return keras.Model(image, layers.Dense(5, activation="softmax", name="head")(x))


def little():
    """As little as shows something."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, strides=2, use_bias=False, name="first")(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = x + layers.Conv2D(8, 3, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(5, activation="softmax", name="head")(x))


def lively(model):
    """Random numbers for what would be the same in every batch norm."""
    for variable in model.variables:
        if variable.name in ("gamma", "beta", "moving_mean", "moving_variance"):
            variable.assign(RANDOM.uniform(0.5, 1.5, variable.shape))
    return model


def trained(model, epochs=2):
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    model.fit(X, Y, epochs=epochs, verbose=0)
    return model


@any_backend
def test_rounding_equals_numpy_and_gradients_pass_inside_the_range():
    """Against a reference written down once more; per channel for weights, zero stays zero."""
    low, high = -0.7, 2.1
    step = (high - low) / 255
    zero = np.round(-low / step)
    x = np.concatenate([[0.0, low, high, -9, 9], RANDOM.uniform(-1, 3, 200)]).astype("float32")
    expected = (np.clip(np.round(x / step) + zero, 0, 255) - zero) * step
    found = numbers(fake_quantized(ops.convert_to_tensor(x), low, high))
    assert np.abs(found - expected).max() < 1e-5 and found[0] == 0
    weights = RANDOM.normal(size=(3, 3, 2, 4)).astype("float32")
    weights[..., 1] = 0
    steps = np.abs(weights).max((0, 1, 2)) / 127
    found = numbers(rounded(ops.convert_to_tensor(weights), (-1,)))
    assert np.abs(found / np.where(steps, steps, 1) % 1 - 0.5).min() > 0.499
    assert np.abs(found - weights).max() <= steps.max() / 2 * 1.01 and not found[..., 1].any()

    def gradient(function, value):
        variable = keras.Variable(value)
        if BACKEND == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                y = ops.sum(function(variable))
            return numbers(tape.gradient(y, variable.value))
        if BACKEND == "torch":
            ops.sum(function(variable)).backward()
            return numbers(variable.value.grad)
        import jax

        return numbers(jax.grad(lambda v: ops.sum(function(v)))(variable.value))

    inside = (x >= (0 - zero) * step) & (x <= (255 - zero) * step)
    # At the very ends either answer is right.
    sure = np.abs(x - low).clip(max=np.abs(x - high)) > 2 * step
    found = gradient(lambda v: fake_quantized(ops.convert_to_tensor(v), low, high), x)
    assert np.array_equal(found[sure], inside[sure].astype("float32"))
    assert (gradient(lambda v: rounded(ops.convert_to_tensor(v), (-1,)), weights) == 1).all()


@any_backend
@pytest.mark.parametrize(
    ("kind", "end"), [("MovingAverage", 1.0497), ("LastValue", 3), ("AllValues", 4)]
)
def test_ranges_follow_what_passes_through(kind, end):
    """The first batch begins them."""
    quantizer = getattr(quantizers, f"{kind}Quantizer")(8, False, False, False)
    layer = quantization.QuantizeLayer(quantizer)
    for largest in (1.0, 4.0, 3.0):
        layer(ops.convert_to_tensor([[-1.0, largest]]), training=True)
    low, high = (float(numbers(variable)) for variable in layer.variables)
    assert low == -1 and high == pytest.approx(end)
    nothing = quantization.QuantizeLayer(quantizer)
    nothing(ops.zeros((1, 2)), training=True)  # a ReLU that is dead, say: any range but none
    assert [float(numbers(variable)) for variable in nothing.variables] == [0, 1]


def test_a_batch_norm_behind_scales_weights_and_their_range_alike():
    """Rounding the weights before folding and after it is the same: training needs no folding."""
    for kernel, axes, shape in [((3, 3, 4, 6), (-1,), (6,)), ((3, 3, 6, 1), (-2, -1), (6, 1))]:
        weights = RANDOM.normal(size=kernel).astype("float32")
        gain = RANDOM.normal(size=shape).astype("float32")
        before = numbers(rounded(ops.convert_to_tensor(weights), axes)) * gain
        after = numbers(rounded(ops.convert_to_tensor(weights * gain), axes))
        assert np.abs(before - after).max() < 1e-6


@any_backend
def test_a_quantised_model_trains_and_is_saved_and_becomes_plain_again(tmp_path):
    """Weights are copies; ranges move while it trains, and are held and kept in files."""
    model = lively(little())
    before = model.get_weights()
    model = quantization.quantize_model(model)
    plain = quantization.strip_quantization(model)
    assert all(map(np.array_equal, plain.get_weights(), before))
    ends = [v for v in model.variables if v.name.endswith(("_min", "_max"))]
    assert len(ends) > 8 and not any(numbers(v).any() for v in ends)
    trained(model)
    held = [numbers(v) for v in ends]
    assert all((high > low) and low <= 0 for low, high in zip(held[::2], held[1::2], strict=True))
    outputs = model.predict(X, verbose=0)
    assert all(map(np.array_equal, held, map(numbers, ends)))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(again.predict(X, verbose=0), outputs)
    plain = quantization.strip_quantization(again)
    assert [type(layer) for layer in plain.layers] == [type(layer) for layer in little().layers]
    apart = np.abs(plain.predict(X, verbose=0) - outputs).max()
    assert 0 < apart < 0.05


class Own(keras.Model):
    """A class that is made from inputs and outputs."""


def test_a_class_of_your_own_is_kept():
    """One that computes otherwise than its graph says counts as an operation."""

    class Twice(keras.Model):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training, mask=mask)

    image = keras.Input((8, 8, 3))
    inner = Twice(image, layers.Conv2D(4, 3, name="inner")(image))
    x = layers.Conv2D(4, 1, name="outer")(inner(image))
    model = Own(image, x)
    quantized = quantization.quantize_model(model)
    assert type(quantized) is type(quantization.strip_quantization(quantized)) is Own
    assert [place.path for place in quantization.layout(model).left] == [inner.name]
    assert np.array_equal(
        quantization.strip_quantization(quantized).predict(X, verbose=0),
        model.predict(X, verbose=0),
    )


def test_quantised_models_are_pruned_like_others():
    """Masked equals rewritten equals shrunk, exactly: ranges go along."""
    model = trained(quantization.quantize_model(lively(little())), epochs=1)
    plan = iplt.plan(model, ratio=0.5)
    small = iplt.rewrite(model, plan)
    iplt.mask(model, plan)
    masked = model.predict(X, verbose=0)
    assert np.abs(small.predict(X, verbose=0) - masked).max() < 1e-6
    iplt.shrink(model, plan)
    assert np.abs(model.predict(X, verbose=0) - masked).max() < 1e-6
    assert model.get_layer("quant_first").layer.filters < 8
    trained(model, epochs=1)


@pytest.mark.slow
@on_tensorflow
def test_the_file_computes_in_integers_what_training_saw(tmp_path):
    """Every operation between the first and the last takes and gives int8; outputs to a step."""
    model = quantization.quantize_model(lively(network()))
    with pytest.raises(iplt.errors.ExportError, match="expected a range, found while training"):
        iplt.export(model, tmp_path / "m.tflite", verbose=0)
    trained(model, epochs=3)
    done = iplt.export(model, tmp_path / "m.tflite", data=X, verbose=0)
    assert (
        done.precision == "int8" and 8 * done.difference <= done.tolerance
    )  # a step, of the eight allowed
    assert list(done.outputs) == ["head"]
    interpreter, _ = interpreter_of(tmp_path / "m.tflite", 1)
    kinds = {t["index"]: t["dtype"] for t in interpreter.get_tensor_details()}
    operations = interpreter._get_ops_details()
    found = [op["op_name"] for op in operations]
    assert found.count("QUANTIZE") <= 2 and found.count("DEQUANTIZE") == 1
    floats = [
        op["op_name"]
        for op in operations
        if any(kinds.get(i) is np.float32 for i in (*op["inputs"], *op["outputs"]))
    ]
    assert floats == ["QUANTIZE", "DEQUANTIZE"]
    assert found.count("DEPTHWISE_CONV_2D") == 3  # one is a batch norm that follows no weights
    done = iplt.export(model, tmp_path / "m.tflite", data=X, io_dtype="int8", verbose=0)
    assert 8 * done.difference <= done.tolerance
    operations = interpreter_of(tmp_path / "m.tflite", 1)[0]._get_ops_details()
    assert not {"QUANTIZE", "DEQUANTIZE"} & {operations[i]["op_name"] for i in (0, -1)}
    with pytest.raises(iplt.errors.OptionError, match="trained in integers"):
        iplt.export(model, tmp_path / "m.tflite", precision="float16")
    with pytest.raises(iplt.errors.ModelError, match="trained in integers"):
        iplt.quantization_errors(model, X)


@pytest.mark.slow
@on_tensorflow
@pytest.mark.parametrize("bits", [{"num_bits_weight": 4}, {"num_bits_activation": 16}], ids=str)
def test_files_of_other_numbers_of_bits(bits, tmp_path):
    """Kernels of 4 bits or activations of 16, as trained."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    scheme = quantization.default_n_bit.DefaultNBitQuantizeScheme(**bits)
    model = trained(quantization.quantize_model(lively(little()), scheme=scheme), epochs=1)
    few = bits.get("num_bits_weight", 8)
    kernel = model.get_layer("quant_first")._rounding["weights"][0][1](
        model.get_layer("quant_first").layer.kernel, False, {}
    )
    assert (len(np.unique(numbers(kernel)[..., 0])) <= 15) == (few == 4)
    done = iplt.export(model, tmp_path / "m.tflite", data=X, verbose=0)
    assert done.difference <= done.tolerance
    assert done.precision == ("int8" if few == 4 else "int16x8")
    graph = flatbuffer_utils.read_model(str(tmp_path / "m.tflite")).subgraphs[0]
    kinds = [tensor.type for tensor in graph.tensors]
    kind = schema.TensorType
    assert kinds.count(kind.INT4) == (3 if few == 4 else 0)
    assert (kinds.count(kind.INT16) > 5) == (few == 8)
    with pytest.raises(iplt.errors.OptionError, match="io_dtype: expected 'float32' or 'int"):
        iplt.export(model, tmp_path / "m.tflite", io_dtype="int8" if few == 8 else "int16")


@pytest.mark.slow
@on_tensorflow
def test_other_files_hold_the_same_rounding(tmp_path):
    """Runtimes round what is between two steps their own way, so that steps are compared."""
    onnx = pytest.importorskip("onnx")
    model = trained(quantization.quantize_model(lively(little())))
    found = [iplt.export(model, tmp_path / name, data=X, verbose=0) for name in ("m.onnx", "saved")]
    assert all(done.difference <= done.tolerance < 0.2 for done in found)
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert any(node.op_type == "QuantizeLinear" for node in graph.node)


class Mine(layers.Layer):
    """Of nobody else's."""

    def call(self, x):
        return x * x


def test_what_has_no_integer_form_stays_in_float():
    """With a reason; what is computed in integers behind it gets its range."""
    i = keras.Input((8, 8, 3))
    x = Mine(name="mine")(layers.Conv2D(4, 3, name="conv")(i))
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Flatten(name="flat")(layers.Conv2D(4, 3, activation="mish", name="mish")(x))
    found = quantization.layout(keras.Model(i, layers.Dense(2, name="head")(x)))
    words = {place.path: (place.words, place.reason) for place in found.places}
    assert words["conv"] == ("int8", "") and words["flat"] == ("int8, passed on", "")
    assert words["norm"] == ("int8", "LayerNormalization has no integer form here")
    assert words["mine"][1].startswith("Mine is not one of Keras's layers: annotate it")
    assert words["mish"] == ("int8", "the activation mish has no integer form here")
    assert [place.path for place in found.left] == ["mine", "norm", "mish"]
    assert "float: the activation mish" in str(found)


def test_a_separable_convolution_is_rounded_in_between():
    """It becomes two, with its weights, that compute the same; one with a config stays one."""
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.SeparableConv2D(
        4, 3, strides=2, depth_multiplier=2, activation="relu", name="both")])  # fmt: skip
    found = quantization.layout(model)
    assert [place.path for place in found.places] == ["both_depthwise", "both"] and not found.left
    quantized = quantization.quantize_model(model)
    plain = quantization.strip_quantization(quantized)
    assert np.abs(plain.predict(X, verbose=0) - model.predict(X, verbose=0)).max() < 1e-6
    assert len(quantized.get_layer("quant_both_depthwise").weights) == 3  # one, and two ends
    config = quantization.default_8bit.Default8BitQuantizeConfig()
    for given, count in ((None, 2), (config, 1)):
        layer = quantization.quantize_annotate_layer(model.layers[0], given)
        found = quantization.layout(keras.Sequential([keras.Input((8, 8, 3)), layer]))
        assert len(found.places) == count and not found.left


def test_a_script_of_tfmot_runs():
    """Annotated layers, a config with quantizers of one's own, and a scope to load them in."""

    class Mine(quantization.QuantizeConfig):
        def get_weights_and_quantizers(self, layer):
            return [(layer.kernel, quantizers.LastValueQuantizer(
                num_bits=4, symmetric=True, narrow_range=False, per_axis=False))]  # fmt: skip

        def get_activations_and_quantizers(self, layer):
            return [(layer.activation, quantizers.AllValuesQuantizer(
                num_bits=8, symmetric=False, narrow_range=False, per_axis=False))]  # fmt: skip

        def set_quantize_weights(self, layer, quantize_weights):
            layer.kernel = quantize_weights[0]

        def set_quantize_activations(self, layer, quantize_activations):
            layer.activation = quantize_activations[0]

        def get_output_quantizers(self, layer):
            return None

        def get_config(self):
            return {}

    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, activation="relu", name="plain")])
    model = keras.Sequential(
        [
            keras.Input((4,)),
            quantization.quantize_annotate_layer(layers.Dense(6, name="mine"), Mine()),
            inner,
            quantization.quantize_annotate_layer(layers.Dense(5, activation="softmax")),
        ]
    )
    again = quantization.quantize_annotate_model(model).layers  # what is annotated stays so
    assert again[0].quantize_config is model.layers[0].quantize_config
    assert type(again[-1].layer) is layers.Dense
    head = model.layers[-1].layer
    noted = len(head._inbound_nodes)
    with quantization.quantize_scope({"Mine": Mine}):
        given, model = model, quantization.quantize_apply(model)
        assert len(head._inbound_nodes) == noted  # nothing is left on the layers of what was given
        names = [layer.name for layer in model.layers]
        assert names[:2] == ["quantize_layer", "quant_mine"] and names[3].startswith("quant_dense")
        assert model.layers[2].layers[0].name == "plain"
        whole = quantization.quantize_model(given)  # all layers, and that as it says
        assert type(whole.get_layer("quant_mine").quantize_config) is Mine
        assert whole.get_layer(inner.name).layers[-1].name == "quant_plain"
        trained_on = X.reshape(64, -1)[:, :4]
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(trained_on, Y, verbose=0)
        again = keras.models.model_from_json(model.to_json())
    again.set_weights(model.get_weights())
    outputs = [one.predict(trained_on, verbose=0) for one in (model, again)]
    assert np.array_equal(*outputs)
    mine = model.layers[1]
    assert len(np.unique(numbers(rounded(mine.layer.kernel, (), 4)))) <= 15


@any_backend
def test_what_cannot_be_is_refused():
    """Quantised twice, not a graph, not annotated, another scheme."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    quantized = quantization.quantize_model(model)
    with pytest.raises(iplt.errors.ModelError, match="strip_quantization"):
        quantization.quantize_model(quantized)
    with pytest.raises(iplt.errors.OptionError, match="not quantised yet"):
        quantization.quantize_annotate_layer(quantized.layers[-1])
    with pytest.raises(iplt.errors.ModelError, match="by strip_pruning or strip_clustering"):
        quantization.quantize_model(iplt.clustering.cluster_weights(model, 3))
    with pytest.raises(iplt.errors.ModelError, match="built Functional"):
        quantization.quantize_model(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(iplt.errors.OptionError, match="quantize_model takes all"):
        quantization.quantize_apply(model)
    annotated = keras.Sequential(
        [keras.Input((4,)), quantization.quantize_annotate_layer(layers.Dense(2))]
    )
    with pytest.raises(iplt.errors.OptionError, match="Default8BitQuantizeScheme"):
        quantization.quantize_apply(annotated, "8 bit")
    n_bit = quantization.default_n_bit.DefaultNBitQuantizeScheme
    with pytest.raises(iplt.errors.OptionError, match="num_bits_weight: expected 4 or 8"):
        n_bit(num_bits_weight=3)
    with pytest.raises(iplt.errors.OptionError, match="no operations for both"):
        n_bit(num_bits_weight=4, num_bits_activation=16)
    gelu = keras.Sequential([keras.Input((4,)), layers.Dense(2, "gelu", name="wide")])
    with pytest.raises(iplt.errors.ModelError, match=r"'wide': expected what files hold .*16 bits"):
        quantization.quantize_model(gelu, scheme=n_bit(num_bits_activation=16))
    kernel = model.layers[0].kernel
    kernel.assign(kernel * np.nan)
    with pytest.raises(iplt.errors.WeightsError, match="8 NaN or infinite values"):
        quantization.quantize_model(model)
    kernel.assign(np.ones((4, 2)))
    model.layers[0].quantize("int8")
    with pytest.raises(iplt.errors.ModelError, match=r"keras\.Model\.quantize did is for good"):
        quantization.layout(model)
    config = quantization.default_8bit.Default8BitQuantizeConfig({"kernal": (-1,)})
    with pytest.raises(iplt.errors.OptionError, match="among 'kernel', 'bias', received: 'kernal'"):
        quantization.QuantizeWrapper(layers.Dense(2), config).build((None, 4))
    for end, value in zip(quantized.layers[0].variables, (-1.0, np.inf), strict=True):
        end.assign(value)
    with pytest.raises(iplt.errors.ExportError, match=r"'quantize_layer.*received: -1\.0 to inf"):
        quantized.layers[0].as_written()
    if BACKEND != "tensorflow":
        with pytest.raises(iplt.errors.OptionError, match="expected the TensorFlow backend"):
            iplt.export(quantized, "model.tflite")
