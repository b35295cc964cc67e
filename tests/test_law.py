"""Masked equals rewritten: every hand-written graph, every tensor. And the check can fail."""

import keras
import numpy as np
import pytest
from keras import layers
from support.graphs import GRAPHS, build
from support.law import check_law, difference, random_inputs, random_plan, randomize

import keras_iplt as iplt
from keras_iplt.graph.slices import kept_axes
from keras_iplt.layers import PaddedLayerNormalization
from keras_iplt.surgery.shrinking import shrunk

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


def norms_of(model):
    """Those that may lose channels."""
    found = [layer for layer in model.layers if isinstance(layer, layers.LayerNormalization)]
    return [layer for layer in found if layer.name != "late"]


def test_layer_norm_counts_the_channels_that_went():
    """The law holds across it, of a layer made smaller twice too; without the count it does not."""
    model = build("layer_norms_of_a_stream")
    _, _, small = check_law(model, 1)
    assert {type(one) for one in norms_of(small)} == {PaddedLayerNormalization}
    check_law(small, 2)

    def forget(small):
        norms_of(small)[0].width = norms_of(small)[0].gamma.shape[0]

    with pytest.raises(AssertionError, match="differ by"):
        check_law(build("layer_norms_of_a_stream"), 1, spoil=forget)


@pytest.mark.any_backend
def test_layer_norm_that_lost_channels_in_place_gets_them_back():
    """`shrink` makes the layer another one, which can be undone; what loses nothing stays plain."""
    model, (x,) = build("layer_norms_of_a_stream"), random_inputs(build("layer_norms_of_a_stream"))
    randomize(model)
    before, graph = model(x), iplt.trace(model)
    undo = shrunk(model, random_plan(graph, 1))
    assert {type(one) for one in norms_of(model)} == {PaddedLayerNormalization}
    undo()
    assert {type(one) for one in norms_of(model)} == {layers.LayerNormalization}
    assert difference(before, model(x)) == 0
    inner = [group for group in graph.groups if group.size == 5]
    small = iplt.prune(model, per_layer={group.producers[0].path: 0.4 for group in inner})
    assert {type(one) for one in norms_of(small)} == {layers.LayerNormalization}


def test_approximate_pruning_leaves_layer_norm_as_it_is():
    """With `approximate` it stays one of Keras's own, law or no law."""
    model = build("layer_norm_and_rms_norm")
    randomize(model)
    plan = random_plan(iplt.trace(model, approximate=True), 1)
    small = iplt.rewrite(model, plan)
    assert {type(one) for one in norms_of(small)} == {layers.LayerNormalization}
    (x,) = random_inputs(model)
    iplt.mask(model, plan)
    assert difference(model(x), small(x)) > 1e-3


@pytest.mark.any_backend
def test_padded_layer_norm_in_half_precision(tmp_path):
    """Statistics are of single precision, as Keras's are; it comes back from a file."""
    x = np.random.default_rng(0).normal(300, 1, (4, 6)).astype("float16")
    padded = np.concatenate([x, np.zeros((4, 2), "float16")], axis=1)
    i = keras.Input((6,), dtype="float16")
    layer = PaddedLayerNormalization(8, dtype="mixed_float16", name="norm")
    keras.Model(i, layer(i)).save(tmp_path / "norm.keras")
    y = keras.models.load_model(tmp_path / "norm.keras")(x)
    expected = layers.LayerNormalization(dtype="mixed_float16")(padded)[:, :6]
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    assert difference(y, expected) < 2e-3
    with pytest.raises(iplt.errors.OptionError, match="up to 8 channels"):
        PaddedLayerNormalization(8)(np.ones((2, 9)))


def test_slices_of_a_variable_cover_what_goes():
    """`kept_axes` and `Plan.kept` tell the same story."""
    model = build("residual")
    plan = iplt.plan(model, ratio=0.5)
    for weight in model.weights:
        expected = kept_axes(weight, plan.graph.by_variable.get(id(weight), ()), plan.gone)
        for a, b in zip(plan.kept(weight), expected, strict=True):
            assert (a is None and b is None) or np.array_equal(a, b)
