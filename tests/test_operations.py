"""The law behind each single operation: what it leaves of a masked channel is proven, or nothing
goes."""

import keras
import numpy as np
import pytest
from support.law import difference, random_plan, randomize
from support.operations import ENDS, IMAGES, OPERATIONS, SOURCES, build

import keras_iplt as iplt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:You are using a softmax over axis"),
    pytest.mark.filterwarnings("ignore:.*was passed an input with a mask attached"),
]


def check(name, images):
    """Masked equals rewritten equals shrunk, wherever the whole model computes numbers at all.

    Returns:
        In how many of the models something went.
    """
    pruned = 0
    for source in SOURCES:
        for end in ENDS:
            model = build(name, source, end, images)
            if model is None:
                continue
            model(np.zeros((2, *model.inputs[0].shape[1:]), "float32"))  # some build what they hold
            randomize(model, 1)
            weights = [keras.ops.convert_to_numpy(w) for w in model.weights]
            graph = iplt.trace(model)
            for before, weight in zip(weights, model.weights, strict=True):
                assert np.array_equal(before, keras.ops.convert_to_numpy(weight)), (
                    "trace changed it"
                )
            if graph.groups:
                where = f"{name}, {source}, {end}"
                pruned += check_plan(model, random_plan(graph, 1, most=0.9), weights, where)
    return pruned


def check_plan(model, plan, weights, where):
    if not plan.fpr:
        return 0
    random = np.random.default_rng(1)
    x = random.normal(size=(2, *model.inputs[0].shape[1:])).astype("float32")

    def outputs(one):
        return keras.ops.convert_to_numpy(one(x, training=False))

    whole = outputs(model)
    for weight, value in zip(model.weights, weights, strict=True):
        weight.assign(value)  # some count how often they are called
    small = outputs(iplt.rewrite(model, plan))
    iplt.mask(model, plan)
    masked = outputs(model)
    if np.isfinite(whole).all():
        assert np.isfinite(masked).all(), f"{where}: masked is no number"
        assert difference(masked, small) < 1e-5, f"{where}: rewritten"
    for weight, value in zip(model.weights, weights, strict=True):
        weight.assign(value)
    try:
        iplt.shrink(model, plan)
    except iplt.errors.ModelError:
        assert np.array_equal(outputs(model), whole, equal_nan=True), f"{where}: not as before"
        return 1
    if np.isfinite(whole).all():
        assert difference(masked, outputs(model)) < 1e-5, f"{where}: shrunk"
    return 1


@pytest.mark.parametrize("name", OPERATIONS)
def test_masked_equals_smaller_behind_each_operation(name):
    check(name, images=False)


@pytest.mark.parametrize("name", IMAGES)
def test_masked_equals_smaller_behind_each_operation_on_images(name):
    check(name, images=True)


@pytest.mark.parametrize("name", ["relu", "tanh", "exp minus one", "sigmoid minus a half",
                                  "sum over positions", "where, zero", "multiply, the input",
                                  "batch norm, scale=True, center=True", "einsum, bias d",
                                  "layer norm over positions, scale=True, center=False",
                                  "LSTM, tanh", "twice clipped", "var over positions"])  # fmt: skip
def test_what_keeps_zeros_is_pruned_before_a_sum(name):
    """Caution has not become refusal: where zero can be proven, channels go."""
    assert check(name, images=False) >= 4
