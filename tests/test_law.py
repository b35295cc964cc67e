"""Masked equals rewritten: every hand-written graph, every tensor. And the check can fail."""

import keras
import numpy as np
import pytest
from support.graphs import GRAPHS, build
from support.law import check_law, random_inputs, random_plan, randomize

import keras_iplt as iplt
from keras_iplt.graph.slices import kept_axes

pytestmark = pytest.mark.quick

# Keras on JAX attends with keys and values of one length only; PyTorch has no reversed slices.
UNSUPPORTED = {
    "jax": {"multi_head_attention_of_two_widths"},
    "torch": {"uneven_splits_and_slices"},
}
NAMES = [n for n in GRAPHS if n not in UNSUPPORTED.get(keras.backend.backend(), ())]


@pytest.mark.parametrize("name", NAMES)
def test_masked_equals_rewritten(name):
    """Outputs and all tensors in between agree at a random, uneven plan."""
    tolerance = 2e-2 if name == "mixed_precision" else 1e-5
    _, plan, _ = check_law(build(name), seed=1, tolerance=tolerance)
    if plan.graph.groups:
        _, second, _ = check_law(build(name), seed=2, tolerance=tolerance)
        assert plan.fpr > 0 or second.fpr > 0, "nothing was removed: the test shows nothing"


def rolled(variable, axis):
    """A kernel that is off by one channel."""
    value = keras.ops.convert_to_numpy(variable)
    return np.roll(value, 1, axis)


@pytest.mark.parametrize("name", ["plain", "residual", "u_net", "dense_to_image", "grouped",
                                  "multi_head_attention", "custom_low_rank"])  # fmt: skip
def test_a_mistake_by_one_channel_is_caught(name):
    """Rolling any one pruned kernel of the rewritten model by one channel breaks the law."""
    model = build(name)
    randomize(model, 3)
    plan = random_plan(iplt.trace(model), 3)
    pruned = [
        i for i, w in enumerate(model.weights)
        if len(w.shape) > 1 and any(k is not None and len(k) > 1 for k in plan.kept(w))
    ]  # fmt: skip
    assert pruned
    for i in pruned:
        kept = plan.kept(model.weights[i])
        axis = next(a for a, k in enumerate(kept) if k is not None and len(k) > 1)

        def spoil(small, i=i, axis=axis):
            small.weights[i].assign(rolled(small.weights[i], axis))

        with pytest.raises(AssertionError, match="differ by"):
            check_law(build(name), seed=3, plan=_again(plan, name), spoil=spoil)


def _again(plan, name):
    """The same plan for the model that `check_law` is given."""
    return iplt.Plan.from_json(plan.to_json())


@pytest.mark.parametrize("name", ["squeeze_excite_convolutions", "activations", "p_relu"])
def test_masking_producers_alone_is_not_enough(name):
    """Where f(0) is not 0, the law needs the consumers' slices to be zero too: `mask` does it."""
    model = build(name)
    randomize(model)
    plan = random_plan(iplt.trace(model), 1)
    iplt.mask(model, plan)
    for piece in plan.graph.slices:
        lost = plan.gone[piece.ids]
        value = np.moveaxis(keras.ops.convert_to_numpy(piece.variable), piece.axis, 0)
        assert (value[lost] == 0).all(), f"{piece.path} {piece.role}"


def test_approximate_pruning_crosses_layer_norm_and_says_so():
    """Layer norm is frozen by default; with `approximate` it is pruned, law or no law."""
    model = build("layer_norm_and_rms_norm")
    assert any("layer normalisation" in f.reason for f in iplt.trace(model).frozen)
    graph = iplt.trace(model, approximate=True)
    assert not any("layer normalisation" in f.reason for f in graph.frozen)
    randomize(model)
    plan = random_plan(graph, 1)
    small = iplt.rewrite(model, plan)
    (x,) = random_inputs(model)
    assert small.predict(x, verbose=0).shape == model.predict(x, verbose=0).shape
    assert small.count_params() < model.count_params()


def test_slices_of_a_variable_cover_what_goes():
    """`kept_axes` and `Plan.kept` tell the same story."""
    model = build("residual")
    plan = iplt.plan(model, ratio=0.5)
    for weight in model.weights:
        expected = kept_axes(weight, plan.graph.by_variable.get(id(weight), ()), plan.gone)
        for a, b in zip(plan.kept(weight), expected, strict=True):
            assert (a is None and b is None) or np.array_equal(a, b)
