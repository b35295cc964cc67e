"""What keras_iplt takes from the inside of Keras is still there and still means the same.

When one of these fails after an update of Keras, the name in its message is what changed; mend
`keras_iplt/_keras`, and only that.
"""

import ast
import collections
import pathlib

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_iplt
import keras_iplt_cli
from keras_iplt import _keras as private

pytestmark = pytest.mark.quick


@pytest.fixture
def model():
    i = keras.Input((4,), name="numbers")
    x = layers.Dense(3, name="dense")(i)
    return keras.Model({"numbers": i}, {"y": ops.relu(x) + 1.0})


def has(thing, *names):
    for name in names:
        assert hasattr(thing, name), (
            f"Keras {keras.__version__} changed: {type(thing).__name__}.{name} is gone; "
            "see keras_iplt/_keras"
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


def test_masks():
    """A tensor carries the mask that a layer made."""
    masked = keras.layers.Embedding(3, 2, mask_zero=True)(keras.ops.convert_to_tensor([[1, 0]]))
    assert keras.ops.convert_to_numpy(private.mask_of(masked)).tolist() == [[True, False]]
    assert private.mask_of(keras.ops.ones(2)) is None


def test_logits():
    """A loss of probabilities goes back to what they were computed from."""
    for activation in ("softmax", "sigmoid"):
        x = keras.ops.convert_to_tensor([[1.0, 2.0]])
        assert getattr(keras.activations.get(activation)(x), private.LOGITS) is x


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
    assert [tuple(private.kernel_of(d).shape) for d in private.attention_denses(layer)] == [
        (6, 2, 3), (6, 2, 3), (6, 2, 3), (2, 3, 6)]  # fmt: skip


def test_axes_of_attention():
    """Attention may look along some axes of positions only."""
    x = keras.Input((4, 5, 6))
    for axes in ((2,), (1, 2)):
        layer = layers.MultiHeadAttention(2, 3, attention_axes=axes)
        layer(x, x)
        has(layer, "_attention_axes")
        assert private.attention_axes(layer) == axes
    assert private.attention_axes(layers.Dense(2)) is None


def test_shapes_that_lambdas_are_told():
    """As given: a shape, a function, or nothing."""
    for given in ((3,), None, len):
        layer = layers.Lambda(lambda x: x, output_shape=given)
        has(layer, "_output_shape")
        assert private.lambda_output_shape(layer) == given


def test_layers_of_keras():
    """Told from those of users, also where these derive from them."""

    class Own(layers.Dense):
        pass

    assert private.is_keras_layer(layers.Dense(2)) and not private.is_keras_layer(Own(2))


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


def test_gates_of_attention():
    """Attention may have a fifth projection."""
    layer, x = layers.MultiHeadAttention(2, 3), keras.Input((4, 6))
    layer(x, x)
    assert private.attention_gates(layer) == []
    try:
        gated = layers.MultiHeadAttention(2, 3, use_gate=True)
    except ValueError:
        return  # Keras is older
    gated(x, x)
    has(gated, "_gate_dense")
    assert private.attention_gates(gated) == [gated._gate_dense]


def test_weights_behind_properties():
    """With LoRA the property gives a sum; the variable is behind it."""
    dense = layers.Dense(3)
    dense.build((None, 4))
    variable = dense.kernel
    dense.enable_lora(2)
    assert dense.kernel is not variable and private.weight_called(dense, "kernel") is variable
    assert private.kernel_of(dense) is variable
    norm = layers.BatchNormalization()
    norm.build((None, 4))
    assert private.weight_called(norm, "gamma") is norm.gamma
    with pytest.raises(AttributeError):
        private.weight_called(layers.Dense(3), "kernel")


def test_how_layers_take_their_inputs():
    """A wrapper can be told to do as its layer does."""
    with pytest.warns(UserWarning, match="input_shape"):
        layer, wrapper = layers.Dense(2, input_shape=(3,)), layers.Wrapper(layers.ReLU())
    has(layer, "_input_shape_arg", "_convert_input_args", "_allow_non_tensor_positional_args")
    layer._convert_input_args = False
    private.take_inputs_like(wrapper, layer)
    assert wrapper._input_shape_arg == (3,) and not wrapper._convert_input_args


def test_layers_that_build_from_one_shape():
    """Not those that take several, nor those that are built by being called."""

    class Composed(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inside = layers.Dense(2)

    attention = layers.MultiHeadAttention(2, 3)
    found = [private.builds_from_one_shape(one) for one in (layers.Dense(2), attention, Composed())]
    assert found == [True, False, False]


def test_symbolic_calls():
    """Told from calls that compute, inside the functions of a backend too."""
    seen = []

    class Look(layers.Layer):
        def call(self, x):
            seen.append(private.is_symbolic({"x": x}))
            return x

    Look()(keras.Input((3,)))
    Look()(ops.ones((1, 3)))
    assert seen == [True, False] and private.is_symbolic([keras.Input((3,))])


# -- live models --


@pytest.fixture
def trained(model):
    model.compile("adam", "mse")
    model.fit({"numbers": ops.ones((2, 4))}, {"y": ops.ones((2, 3))}, verbose=0)
    return model


def test_content(trained):
    """A variable takes a value of any shape, and gives back what it held."""
    kernel = trained.get_layer("dense").kernel
    has(kernel, "_value", "_shape", "_ndim", "_initialize", "_validate_shape", "_dtype")
    before = private.content(kernel)
    private.replace_value(kernel, np.zeros((2, 1, 3), "float32"))
    assert tuple(kernel.shape) == (2, 1, 3) and kernel.ndim == 3
    assert keras.ops.convert_to_numpy(kernel).shape == (2, 1, 3)
    private.set_content(kernel, before)
    assert tuple(kernel.shape) == (4, 3) and kernel.ndim == 2


def test_recorded_shapes(trained):
    """Layers, inputs and symbolic tensors note down shapes where shrinking changes them."""
    dense = trained.get_layer("dense")
    has(dense, "_build_shapes_dict", "units")
    name, spec = private.input_spec_of(dense)
    assert name in vars(dense) and spec.axes == {-1: 4}
    has(trained.inputs[0], "_shape", "_keras_history")
    has(private.producer_of(trained.inputs[0]), "_batch_shape")
    tensor = private.nodes(trained)[0].outputs[0]
    tensor._shape = (None, 7)
    assert tuple(tensor.shape) == (None, 7)


def test_compiled_functions(trained):
    """A model tells which functions it has compiled, and makes them anew when forced."""
    has(trained, "train_function", "test_function", "predict_function")
    assert private.functions(trained) == ["train"]
    before = trained.train_function
    private.remake_functions(trained)
    assert trained.train_function is not before
    assert private.models_of(trained) == [trained]


def test_slots(trained):
    """Optimizers keep lists in the order of the variables that they train."""
    optimizer = trained.optimizer
    has(optimizer, "_trainable_variables", "_variables", "_trainable_variables_indices")
    found = list(private.slots(optimizer))
    assert len(found) == 4 and not any(weights for _, _, _, weights in found)
    for slot, variable, axes, _ in found:
        assert tuple(slot.shape) == tuple(variable.shape[axis] for axis in axes)
    assert "_trainable_variables_indices" in private.keyed_by_variable(optimizer)
    has(optimizer, "_var_key")


@pytest.mark.parametrize(
    ("optimizer", "lists"),
    [
        (keras.optimizers.Adafactor(), ["_r", "_c", "_v"]),
        (keras.optimizers.Adam(use_ema=True), ["_model_variables_moving_average"]),
        (keras.optimizers.Adam(gradient_accumulation_steps=2), ["_accumulated_gradients"]),
        (keras.optimizers.AdamW(), ["_exclude_from_weight_decay_cache"]),
    ],
)
def test_state_of_optimizers(model, optimizer, lists):
    """Special state has the names and shapes that are relied upon."""
    if "_exclude_from_weight_decay_cache" in lists:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(model.trainable_variables)
    has(optimizer, *lists)
    for slot, variable, axes, _ in private.slots(optimizer):
        assert tuple(slot.shape) == tuple(variable.shape[axis] for axis in axes)
    averages = [weights for *_, weights in private.slots(optimizer)]
    assert sum(averages) == (2 if optimizer.use_ema else 0)


def test_optimizers_inside_optimizers(model):
    """Wrappers tell which optimizers they hand variables to."""
    inner = keras.optimizers.SGD()
    scaled = keras.optimizers.LossScaleOptimizer(inner)
    assert private.inner_optimizers(scaled) == [scaled, inner]
    if hasattr(keras.optimizers, "MultiOptimizer"):
        several = keras.optimizers.MultiOptimizer(lambda v: inner)
        several.build(model.trainable_variables)
        has(several, "_inner_optimizers", "_var_to_optimizer_idx")
        assert inner in private.inner_optimizers(several)


def test_steps_that_an_optimizer_has_seen(model):
    """Updates or not, and inside other optimizers."""
    inner = keras.optimizers.SGD(gradient_accumulation_steps=2)
    model.compile(keras.optimizers.LossScaleOptimizer(inner), "mse")
    assert private.steps_taken(None) == 0
    model.fit({"numbers": ops.ones((3, 4))}, {"y": ops.ones((3, 3))}, batch_size=1, verbose=0)
    has(inner, "_iterations")
    assert private.steps_taken(model.optimizer) == 3


@pytest.mark.any_backend
def test_lent_state(model):
    """An optimizer carries variables that are not saved with it, nor loaded; it gives them back."""
    inner = keras.optimizers.Adam()
    model.compile(keras.optimizers.LossScaleOptimizer(inner), "mse")
    private.build_optimizer(model)
    outer, before = model.optimizer, list(model.optimizer.variables)
    lent = keras.Variable(ops.ones(3))
    take_back = private.lend_state(outer, inner, [lent])
    assert any(lent is variable for variable in outer.variables)
    for one in (outer, inner):
        store = {}
        one.save_own_variables(store)
        assert len(store) == len(one.variables) - 1
        one.load_own_variables(store)
    take_back()
    for one in (outer, inner):
        store = {}
        one.save_own_variables(store)
        assert len(store) == len(one.variables)
    assert [id(v) for v in outer.variables] == [id(v) for v in before]
    model.fit({"numbers": ops.ones((2, 4))}, {"y": ops.ones((2, 3))}, verbose=0)
    assert len(outer.variables) == len(before)


def test_dtypes_that_variables_are_kept_in():
    """Whatever they are computed with."""
    kept = []

    class Look(layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=())

        def call(self, x):
            kept.append((private.stored_dtype(self.scale), self.scale.dtype))
            return x * self.scale

    Look(dtype="mixed_float16")(ops.ones((1, 3)))
    assert kept[-1] == ("float32", "float16")


@pytest.mark.any_backend
def test_state_that_is_kept_where_evaluate_fails():
    """On JAX it takes the weights out of the model before the first step is traced."""
    failing = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    failing.compile("adam", "sparse_categorical_crossentropy")
    before = failing.get_weights()
    with pytest.raises(ValueError, match="None"), private.state_kept(failing):
        failing.evaluate(ops.ones((2, 4)), verbose=0)  # without labels
    for a, b in zip(failing.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.any_backend
def test_state_that_is_rescued_from_a_failing_step(model):
    """On JAX `fit` takes the weights out of the model before the first step is traced."""

    class Fails(layers.Layer):
        def call(self, x, training=False):
            if training and not isinstance(x, keras.KerasTensor):
                private.rescue_state()
                raise ArithmeticError
            return x

    failing = keras.Sequential([keras.Input((4,)), layers.Dense(2), Fails()])
    failing.compile("adam", "mse")
    before = failing.get_weights()
    with pytest.raises(ArithmeticError):
        failing.fit(ops.ones((2, 4)), ops.ones((2, 2)), verbose=0)
    for a, b in zip(failing.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_states_of_recurrent_layers():
    """Stateful layers keep variables that are not among their weights."""
    layer = layers.LSTM(3, stateful=True)
    layer(ops.ones((2, 4, 5)))
    has(layer, "states")
    assert [tuple(v.shape) for v in private.remembered(layer)] == [(2, 3), (2, 3)]
    assert private.remembered(layers.Dense(2)) == []


def test_state_of_training_on_jax(trained):
    """Only the JAX trainer takes the state out of the variables, and it can put it back."""
    assert hasattr(trained, "jax_state_sync") == (keras.backend.backend() == "jax")
    private.synchronize(trained)


# -- nobody else reaches in --


PACKAGES = [pathlib.Path(package.__file__).parent for package in (keras_iplt, keras_iplt_cli)]


def reaches_into_keras(modules):
    """`file:line: what` for all that takes from the inside of Keras, in modules by their name.

    An attribute that begins with an underscore is ours if a class of ours has it: of `self`, a
    class anywhere, of another object one in the same module.
    """
    trees = {name: ast.parse(text) for name, text in modules.items()}
    members = {name: set(own_members(tree)) for name, tree in trees.items()}
    everywhere = set().union(*members.values())
    for name, tree in trees.items():
        for node in ast.walk(tree):
            found = attribute_of(node)
            if found is not None:
                owner, attribute = found
                known = everywhere if owner in ("self", "cls", "super()") else members[name]
                if is_private(attribute) and attribute not in known:
                    yield f"{name}:{node.lineno}: {owner}.{attribute}"
            for module in imported_by(node):
                if module.startswith("keras.src"):
                    yield f"{name}:{node.lineno}: import of {module}"


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def own_members(tree):
    """What classes have: methods, what stands in their bodies, what is assigned to `self`."""
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        yield from (node.name for node in kind.body if isinstance(node, ast.FunctionDef))
        for node in ast.walk(kind):
            if isinstance(getattr(node, "ctx", None), ast.Store):
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls"):
                    yield node.attr
                elif isinstance(node, ast.Name):
                    yield node.id


def attribute_of(node):
    """`(owner, attribute)` of `owner.attribute`, of `getattr(owner, "attribute")` and the like, and
    of `vars(owner)["attribute"]`."""
    if isinstance(node, ast.Attribute):
        return ast.unparse(node.value), node.attr
    call = node.value if isinstance(node, ast.Subscript) else node
    if not isinstance(call, ast.Call):
        return None
    function, owner, name = ast.unparse(call.func), None, None
    if function == "vars" and call is not node:
        (owner,), name = call.args, node.slice
    elif function in ("getattr", "hasattr", "setattr", "delattr"):
        owner, name, *_ = call.args
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        return ast.unparse(owner), name.value
    return None


def imported_by(node):
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def test_nothing_else_reaches_into_keras():
    """Whatever begins with an underscore and is Keras's is named in `keras_iplt/_keras` alone."""
    modules = {
        f"{package.name}/{path.relative_to(package)}": path.read_text()
        for package in PACKAGES
        for path in package.rglob("*.py")
        if "_keras" not in path.relative_to(package).parts
    }
    assert len(modules) > 100
    assert list(reaches_into_keras(modules)) == []


def test_reaching_into_keras_is_noticed():
    """In whatever form it is written; what is ours is let pass."""
    ours = """
import keras.ops
class Ours:
    _limit = 3
    def __init__(self, other):
        self._own = other
    def _step(self):
        return self._own, self._step, self._elsewhere, super()._step(), type(self).__name__
def helper(ours):
    return ours._own, getattr(ours, "_own"), vars(ours)["_own"], Ours._limit
"""
    theirs = """
import keras.src.layers
from keras.src import ops
from keras import src
def helper(layer, ours):
    layer._kernel, layer.inner[0]._layers
    getattr(layer, "_kernel", None), hasattr(layer, "_built"), vars(layer)["_value"]
    return ours._own
class Layer:
    def call(self):
        self._elsewhere = 1
        return self._trainable_variables
"""
    lines = collections.Counter(
        found.partition(": ")[0] for found in reaches_into_keras({"ours": ours, "theirs": theirs})
    )
    assert lines == {"theirs:2": 1, "theirs:3": 1, "theirs:4": 1, "theirs:6": 2,
                     "theirs:7": 3, "theirs:8": 1, "theirs:12": 1}  # fmt: skip
