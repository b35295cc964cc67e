"""The same plan gives the same indices on every backend, and the law holds on each."""

import keras
import numpy as np
import pytest
from support.graphs import build
from support.law import check_law

import keras_iplt as iplt

pytestmark = pytest.mark.any_backend

CORE = [
    "plain", "residual", "sequential_flatten", "several_inputs_and_outputs",
    "transfer_with_training_false", "nested_called_twice", "time_distributed",
    "recurrent_behind_convolutions", "u_net", "grouped", "dense_to_image", "pixel_shuffle",
    "squeeze_excite_ops", "multi_head_attention", "padded_shortcut", "custom_layer_scale",
    "custom_blocks", "custom_probed", "subclassed", "lambdas",
]  # fmt: skip


@pytest.mark.parametrize("name", CORE)
def test_the_law_holds(name):
    """Masked equals rewritten on the backend at hand."""
    check_law(build(name), seed=4)


def fixed(name):
    """A model whose weights are the same on every backend."""
    model = build(name)
    random = np.random.default_rng(7)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize(
    ("name", "options"),
    [("plain", {"scope": "global"}), ("residual", {"scope": "layer"}), ("u_net", {"of": "params"})],
)
def test_the_same_plan_everywhere(name, options):
    """What is kept follows from the weights alone, computed here once more with numpy."""
    model = fixed(name)
    plan = iplt.plan(model, 0.4, criterion="l2", **options)
    for group, removed in zip(plan.graph.groups, plan.removed, strict=True):
        norms = np.mean(
            [
                np.sqrt((np.moveaxis(_kernel(p.layer), -1, 0).reshape(group.size, -1) ** 2).sum(1))
                for p in group.producers
            ],
            axis=0,
        )
        assert sorted(removed) == sorted(np.argsort(norms, kind="stable")[: len(removed)])


def _kernel(layer):
    kernel = keras.ops.convert_to_numpy(layer.kernel).astype("float64")
    transposed = isinstance(layer, keras.layers.Conv2DTranspose)
    return np.swapaxes(kernel, -1, -2) if transposed else kernel
