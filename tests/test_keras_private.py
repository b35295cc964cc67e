"""What keras_iplt takes from the inside of Keras is still there and still means the same.

When one of these fails after an update of Keras, the name in its message is what changed; mend
`keras_iplt/keras_private.py`, and only that.
"""

import keras
import pytest
from keras import layers, ops

from keras_iplt import keras_private as private


@pytest.fixture
def model():
    i = keras.Input((4,), name="numbers")
    x = layers.Dense(3, name="dense")(i)
    return keras.Model({"numbers": i}, {"y": ops.relu(x) + 1.0})


def has(thing, *names):
    for name in names:
        assert hasattr(thing, name), (
            f"Keras {keras.__version__} changed: {type(thing).__name__}.{name} is gone; "
            "see keras_iplt/keras_private.py"
        )


def test_graphs(model):
    """Models have nodes by depth and structures of inputs and outputs."""
    has(model, "_nodes_by_depth", "_inputs_struct", "_outputs_struct")
    assert private.function_of(model) is model
    assert private.function_of(keras.Sequential([layers.Dense(2)])) is None
    assert set(private.input_structure(model)) == {"numbers"}
    assert set(private.output_structure(model)) == {"y"}
    assert isinstance(model, private.Functional)


def test_nodes(model):
    """Nodes tell operation, arguments and outputs, inputs first."""
    found = private.nodes(model)
    assert [type(n.operation).__name__ for n in found] == ["Dense", "Relu", "Add"]
    for node in found:
        has(node, "operation", "arguments", "outputs", "input_tensors", "is_input")
    args, kwargs = private.arguments(found[-1])
    assert isinstance(args[0], keras.KerasTensor) and args[1] == 1.0 and kwargs == {}
    assert private.producer_of(found[0].outputs[0]) is model.get_layer("dense")
    assert private.is_keras_operation(found[1].operation)
    assert not private.is_keras_operation(found[0].operation)


def test_copied_operations_stand_alone(model):
    """A copy computes the same and knows no nodes."""
    relu = private.nodes(model)[1].operation
    has(relu, "_inbound_nodes", "_outbound_nodes")
    new = private.copied(relu)
    assert new is not relu and new._inbound_nodes == [] and relu._inbound_nodes


def test_own_variables():
    """A layer's own variables are told from those of the layers inside, and from seeds."""

    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner, self.drop = layers.Dense(2), layers.Dropout(0.5)
            self.seed = keras.random.SeedGenerator(0)

        def build(self, shape):
            self.scale = self.add_weight(shape=(2,), name="scale")

        def call(self, x):
            return self.drop(self.inner(x)) * self.scale

    outer = Outer()
    outer(ops.ones((1, 3)))
    has(outer, "_layers", "_trainable_variables", "_non_trainable_variables")
    assert [v.name for v in private.own_variables(outer)] == ["scale"]
    assert set(private.shapes_built_with(outer)) <= {"input_shape", "x_shape", "shape"}


def test_nodes_are_restored(model):
    """Symbolic calls inside the context leave no trace."""
    dense = model.get_layer("dense")
    with private.restored_nodes(model):
        dense(keras.Input((4,)))
        assert len(dense._inbound_nodes) == 2
    assert len(dense._inbound_nodes) == 1


def test_compile_arguments(model):
    """A compiled model remembers what it was compiled with."""

    def loss(y, p):
        return ops.mean(p)

    model.compile("sgd", loss=loss, metrics=["mae"])
    has(model, "_compile_config")
    given = private.compile_arguments(model)
    assert given["loss"] is loss and given["metrics"] == ["mae"]


def test_attention_projections():
    """Attention layers are four dense layers."""
    x = keras.Input((4, 6))
    layer = layers.MultiHeadAttention(2, 3)
    layer(x, x)
    has(layer, "_query_dense", "_key_dense", "_value_dense", "_output_dense")
    assert [tuple(d._kernel.shape) for d in private.attention_denses(layer)] == [
        (6, 2, 3), (6, 2, 3), (6, 2, 3), (2, 3, 6)]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (layers.Dense(2), ["_kernel", "bias"]),
        (layers.EinsumDense("ab,bc->ac", 2), ["_kernel", "partial_output_shape", "equation"]),
        (layers.Embedding(5, 2), ["_embeddings"]),
    ],
)
def test_weights_by_their_inner_names(layer, names):
    """Kernels that a property of the same name may dress up are reached underneath."""
    layer(ops.ones((1, 3)))
    has(layer, *names)
