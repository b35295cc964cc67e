"""Calibration: ranges hold what passes through, and what rounding shifts is moved back."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_iplt as iplt
from keras_iplt import quantization
from keras_iplt.quantization.default_n_bit import DefaultNBitQuantizeScheme

pytestmark = pytest.mark.any_backend

RANDOM = np.random.default_rng(0)
X = RANDOM.uniform(0, 1, (96, 8, 8, 3)).astype("float32")
FEW_BITS = DefaultNBitQuantizeScheme(num_bits_weight=4)


def network():
    """A batch norm behind a layer, one alone, and biases before an activation and at the end."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, use_bias=False, name="first")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="behind")(x))
    x = layers.BatchNormalization(name="alone")(layers.MaxPooling2D()(x))
    x = layers.Dropout(0.5)(layers.DepthwiseConv2D(3, activation="relu", name="biased")(x))
    model = keras.Model(image, layers.Dense(4, name="head")(layers.Flatten()(x)))
    for variable in model.trainable_variables:
        variable.assign(RANDOM.normal(size=variable.shape))
    return model


def numbers(x):
    return np.asarray(ops.convert_to_numpy(x))


def range_of(model, name):
    ends = [numbers(v) for v in model.get_layer(name).variables if v.name.endswith(("min", "max"))]
    return [float(end) for end in ends]


def test_ranges_hold_what_passed_through_and_are_measured_anew():
    """All batches, and nothing that was there before; dropout drops nothing meanwhile."""
    model = keras.Sequential([keras.Input((2,)), layers.Dropout(0.5), layers.Dense(1, name="head")])
    model = quantization.quantize_model(model)
    name = model.layers[0].name
    x = RANDOM.uniform(0, 1, (64, 2)).astype("float32")
    x[50] = 7.0, -3.0  # in the second batch
    quantization.calibrate(model, x, verbose=0)
    assert np.allclose(range_of(model, name), [-3, 7])
    quantization.calibrate(model, x[:32], verbose=0)
    assert np.allclose(range_of(model, name), [0, x[:32].max()])
    head = model.get_layer("quant_head").layer
    y = x[:32] @ numbers(head.kernel) + numbers(head.bias)
    low, high = range_of(model, "quant_head")
    assert abs(low - min(y.min(), 0)) < 0.05 and abs(high - max(y.max(), 0)) < 0.05


def test_shifts_are_taken_off_norms_and_biases():
    """On average the outputs are what they were; without it they are far off."""
    model = network()
    iplt.recalibrate(model, X, verbose=0)
    before, whole = model.get_weights(), model.predict(X, verbose=0)
    only_rounded = quantization.quantize_model(model, scheme=FEW_BITS).predict(X, verbose=0)
    quantized = quantization.quantize_model(model, scheme=FEW_BITS)
    quantization.calibrate(quantized, X, verbose=0)
    calibrated = quantized.predict(X, verbose=0)
    spread = whole.std()
    assert np.abs((only_rounded - whole).mean(0)).max() > 0.2 * spread
    assert np.abs((calibrated - whole).mean(0)).max() < 0.02 * spread
    assert np.square(calibrated - whole).mean() < 0.7 * np.square(only_rounded - whole).mean()
    assert all(map(np.array_equal, model.get_weights(), before))
    plain = quantization.strip_quantization(quantized)
    same = {
        layer.name: all(map(np.array_equal, layer.get_weights(), old.get_weights()))
        for layer, old in zip(plain.layers, model.layers, strict=True)
        if layer.weights
    }
    norms = (one.get_layer("behind") for one in (model, plain))
    assert not np.allclose(*(numbers(norm.moving_variance) for norm in norms))
    assert same == {"first": True, "behind": False, "alone": False, "biased": False, "head": False}


def test_what_does_not_bring_outputs_closer_is_dropped(monkeypatch):
    """Then only ranges are measured."""
    from keras_iplt.quantization import calibration

    model = network()
    monkeypatch.setattr(calibration, "distances", lambda program, relay: (1.0, 1.0))
    quantized = quantization.quantize_model(model, scheme=FEW_BITS)
    quantization.calibrate(quantized, X, verbose=0)
    plain = quantization.strip_quantization(quantized)
    assert all(map(np.array_equal, plain.get_weights(), model.get_weights()))
    assert range_of(quantized, "quant_head")[1] > 0


def test_a_calibration_that_fails_changes_nothing():
    """Data that turn out wrong only when shifts are off and ranges are measured."""
    model = quantization.quantize_model(network(), scheme=FEW_BITS)
    quantization.calibrate(model, X, verbose=0)
    before = model.get_weights()
    with pytest.raises(iplt.errors.DataError, match="finite"):
        quantization.calibrate(model, [X[:8] * 2, X[:8] * np.nan], memory=1, verbose=0)
    assert all(map(np.array_equal, model.get_weights(), before))


def test_plain_models_are_refused():
    with pytest.raises(iplt.errors.ModelError, match="quantize_model"):
        quantization.calibrate(network(), X)
