"""Every attribute of Keras that is not public API and that keras_iplt relies on, in one place.

When Keras changes one of them, `tests/test__keras` fails and names it.
"""

import contextlib
import inspect
import sys
import threading
import types

import keras
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.models.functional import Functional
from keras.src.utils.python_utils import is_default

__all__ = [
    "BUILT_SHAPES",
    "INPUT_SHAPE",
    "TENSOR_SHAPE",
    "all_layers",
    "key_of",
    "own_state",
    "Functional",
    "arguments",
    "attention_denses",
    "attention_gates",
    "batches_per_update",
    "build_optimizer",
    "builds_from_one_shape",
    "companions",
    "compile_arguments",
    "content",
    "copied",
    "driving_slots",
    "forget_plateau",
    "function_of",
    "functions",
    "has_several_workers",
    "inner_optimizers",
    "input_spec_of",
    "input_structure",
    "is_symbolic",
    "is_keras_operation",
    "is_lent",
    "is_chief",
    "keyed_by_variable",
    "lend_state",
    "mixes_weights",
    "models_of",
    "nodes",
    "output_structure",
    "optimizer_of",
    "own_variables",
    "producer_of",
    "remade",
    "remembered",
    "remake_functions",
    "replace_value",
    "rescue_state",
    "restored_nodes",
    "set_content",
    "set_initial_epoch",
    "shapes_built_with",
    "slots",
    "sublayers",
    "steps_taken",
    "stored_dtype",
    "synchronize",
    "take_inputs_like",
    "variable_scope",
    "weight_called",
    "with_arguments",
    "without_values",
]


# Attributes that shapes are recorded in: of a symbolic tensor, of an input layer, and of any layer
# (by the argument of its `build`).
TENSOR_SHAPE, INPUT_SHAPE, BUILT_SHAPES = "_shape", "_batch_shape", "_build_shapes_dict"


def function_of(model):
    """The `keras.Function` behind a Functional or built Sequential model, else None."""
    if isinstance(model, keras.Sequential):
        return model._functional if model.built else None
    return model if hasattr(model, "_nodes_by_depth") else None


def nodes(function):
    """The nodes of this graph (not of others over the same layers), inputs first."""
    by_depth = function._nodes_by_depth
    return [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if node.operation is not None and not node.is_input
    ]


def arguments(node):
    """What a node's operation was called with: `(args, kwargs)`, symbolic tensors included."""
    return node.arguments.args, node.arguments.kwargs


def input_structure(function):
    """The inputs of the graph in the structure the user gave them (list, dict …)."""
    return function._inputs_struct


def output_structure(function):
    """The outputs of the graph in the structure the user gave them."""
    return function._outputs_struct


def is_keras_operation(operation):
    """Whether this is one of Keras's own `keras.ops` (not a layer)."""
    return not isinstance(operation, keras.Layer) and type(operation).__module__.startswith(
        ("keras.src.ops", "keras.ops")
    )


def compile_arguments(model):
    """What `compile` was called with, as it was given."""
    return dict(model._compile_config.config)


def producer_of(tensor):
    """The operation that a symbolic tensor comes from."""
    return tensor._keras_history.operation


def mask_of(tensor):
    """The mask that a tensor carries from layer to layer, or None."""
    return getattr(tensor, "_keras_mask", None)


LOGITS = "_keras_logits"  # what a probability was computed from, which losses prefer to it


def copied(operation):
    """The same operation (not a layer) without the nodes it stands at."""
    new = object.__new__(type(operation))  # copy.copy would write it to a file and read it again
    vars(new).update(vars(operation))
    vars(new).update(_inbound_nodes=[], _outbound_nodes=[])
    return new


def remade(operation, changes):
    """The same operation (not a layer) made with other arguments.

    Keras remembers those it was made with unless there are arrays, NumPy numbers … among them; then
    they are looked up under their names.
    """
    if not changes:
        return copied(operation)
    known = getattr(operation, "_auto_config", None)
    names = [n for n in inspect.signature(type(operation).__init__).parameters if n != "self"]
    given = vars(operation) if known is None else known.config
    arguments = {name: given[name] for name in names if name in given}
    return type(operation)(**{**arguments, **changes})


def sublayers(layer):
    """The layers directly inside a layer."""
    return list(layer._layers)


def own_variables(layer):
    """The variables a layer holds itself: not those of its sublayers, not random seeds."""
    return list(layer._trainable_variables) + list(layer._non_trainable_variables)


def shapes_built_with(layer):
    """The input shapes that the layer was built with, as a dict by argument name, or None."""
    return getattr(layer, "_build_shapes_dict", None)


def input_spec_of(layer):
    """`(attribute, spec)`: what a layer demands of its inputs, and where it keeps that."""
    name = "_input_spec" if "_input_spec" in vars(layer) else "input_spec"
    return name, vars(layer).get(name)


def attention_denses(layer):
    """The query, key, value and output projections of an attention layer."""
    return layer._query_dense, layer._key_dense, layer._value_dense, layer._output_dense


def attention_gates(layer):
    """The projection that gates an attention layer's output, as a list: empty if there is none."""
    gate = getattr(layer, "_gate_dense", None)
    return [] if gate is None else [gate]


def weight_called(layer, name):
    """The variable of a built layer behind a property that may dress it up (with LoRA, say)."""
    bare = getattr(layer, f"_{name}", None)
    return getattr(layer, name) if bare is None else bare


def builds_from_one_shape(layer):
    """Whether a layer has a `build` method that takes the shape of its first input and no more."""
    return not is_default(layer.build) and len(inspect.signature(layer.build).parameters) == 1


def take_inputs_like(wrapper, layer):
    """Lets a wrapper convert its inputs as the layer in it does, and stand first in a Sequential
    model where that one could."""
    wrapper._convert_input_args = layer._convert_input_args
    wrapper._allow_non_tensor_positional_args = layer._allow_non_tensor_positional_args
    shape = getattr(layer, "_input_shape_arg", None)
    if shape is not None and getattr(wrapper, "_input_shape_arg", None) is None:
        wrapper._input_shape_arg = shape


def is_symbolic(*tensors):
    """Whether a layer is called only to learn shapes, not to compute."""
    flat = keras.tree.flatten(tensors)
    return in_symbolic_scope() or any(isinstance(x, keras.KerasTensor) for x in flat)


@contextlib.contextmanager
def restored_nodes(layer):
    """Forgets, at the end, the nodes that symbolic calls recorded on `layer` and inside it. Threads
    take turns: each would forget what the other has just recorded."""
    operations = list(layer._flatten_layers()) if isinstance(layer, keras.Layer) else []
    for inner in list(operations):
        operations += getattr(inner, "operations", [])
    with _RECORDING:
        before = [(op, len(op._inbound_nodes), len(op._outbound_nodes)) for op in operations]
        try:
            yield
        finally:
            for op, inbound, outbound in before:
                del op._inbound_nodes[inbound:]
                del op._outbound_nodes[outbound:]


_RECORDING = threading.RLock()


# -- live models -----------------------------------------------------------------------------------


def remembered(layer):
    """The states that a stateful recurrent layer carries from one batch to the next."""
    states = keras.tree.flatten(getattr(layer, "states", None))
    return [state for state in states if isinstance(state, keras.Variable)]


def content(variable):
    """What a variable holds, for `set_content`."""
    return variable._value, variable._shape, variable._ndim


def set_content(variable, saved):
    """Makes a variable hold again what `content` returned."""
    variable._value, variable._shape, variable._ndim = saved


def stored_dtype(variable):
    """The dtype that a variable is kept in; what it is computed with may be another."""
    return variable._dtype


@contextlib.contextmanager
def without_values():
    """Variables that are made inside have a shape and take no memory. Yields the list of them."""
    waiting = get_global_attribute("uninitialized_variables", [], set_to_default=True)
    before = list(waiting)
    waiting.clear()
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield waiting
    finally:
        waiting[:] = before  # nobody is going to give the others values


def replace_value(variable, value):
    """Gives a variable a value of any shape. On TensorFlow that is a new `tf.Variable` inside."""
    if value.dtype.name != variable._dtype or keras.backend.backend() != "tensorflow":
        value = keras.ops.convert_to_tensor(value, dtype=variable._dtype)
    variable._initialize(value)
    variable._shape = variable._validate_shape(value.shape)
    variable._ndim = len(variable._shape)


def synchronize(model):
    """In the middle of an epoch on JAX, brings the state of training back into the variables."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def rescue_state():
    """For an error in a step of `fit` on JAX, to be called before it is raised: `fit` has taken the
    state out of the variables, and would put none back after its first step failed."""
    if keras.backend.backend() != "jax":
        return
    kinds = [f"{kind}_variables" for kind in ("trainable", "non_trainable", "optimizer", "metrics")]
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        state, caller = frame.f_locals.get("state"), frame.f_locals.get("self")
        if frame.f_code.co_name == "fit" and hasattr(caller, "jax_state_sync") and state:
            vars(caller)["_jax_state"] = dict(zip(kinds, state, strict=True))
        frame = frame.f_back


def variable_scope(model):
    """Where variables of the model are created: on every replica of a TensorFlow strategy."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


_OF_SEVERAL_WORKERS = {"CollectiveAllReduceStrategy", "ParameterServerStrategyV2"}


def has_several_workers(model):
    """Whether the model is trained by a TensorFlow strategy for several machines."""
    strategy = getattr(model, "distribute_strategy", None)
    return bool(_OF_SEVERAL_WORKERS & {kind.__name__ for kind in type(strategy).__mro__})


_FUNCTIONS = ("train", "test", "predict")


def functions(model):
    """Which compiled functions a model has: they hold on to the variables that they were traced
    with."""
    return [kind for kind in _FUNCTIONS if getattr(model, f"{kind}_function", None) is not None]


def remake_functions(model):
    """Makes the compiled functions that a model has anew; they are traced when they are next
    called. `fit` calls `make_train_function` only once, before the first epoch."""
    for kind in functions(model):
        getattr(model, f"make_{kind}_function")(force=True)
    for layer in model._flatten_layers():
        if hasattr(layer, "_track_variables"):  # PyTorch: the module's list of parameters
            layer._track_variables()


def all_layers(model):
    """The model and every layer in it, however deep."""
    return model._flatten_layers()


def models_of(model):
    """The model and those nested in it."""
    return [layer for layer in all_layers(model) if isinstance(layer, keras.Model)]


def with_arguments(node, args, kwargs):
    """The arguments of a node in the form that the node holds them in."""
    return type(node.arguments)(*args, **kwargs)


def inner_optimizers(optimizer):
    """The optimizer and those that it hands variables to."""
    inner = getattr(optimizer, "inner_optimizer", None)  # LossScaleOptimizer
    several = [inner] if inner is not None else getattr(optimizer, "_inner_optimizers", ())
    return [optimizer, *(each for one in several for each in inner_optimizers(one))]


def _slot_lists(optimizer):
    """`(attribute, slots)`: lists of as many variables as the optimizer trains, whatever they are
    called, so that optimizers of others work too."""
    trained = getattr(optimizer, "_trainable_variables", [])
    for name, several in vars(optimizer).items():
        if (
            name not in ("_trainable_variables", "_variables")
            and isinstance(several, list)
            and len(several) == len(trained)
            and all(slot is None or isinstance(slot, keras.Variable) for slot in several)
        ):
            yield name, several


# Lists of slots that hold weights themselves (averages of them), by class of optimizer.
_WEIGHTS_KEPT = {
    "Optimizer": {"_model_variables_moving_average"},
    "ScheduleFreeAdamW": {"_momentums"},
}


def slots(optimizer):
    """Tuples `(slot, variable, axes, weights)`: state that an optimizer keeps for a variable, which
    axes of the variable it has, and whether it is made of weights (not of gradients). Inner
    optimizers are asked on their own."""
    kinds = [kind.__name__ for kind in type(optimizer).__mro__]
    weights = set().union(*(_WEIGHTS_KEPT.get(kind, ()) for kind in kinds))
    for name, several in _slot_lists(optimizer):
        for slot, variable in zip(several, optimizer._trainable_variables, strict=True):
            if slot is None or slot is variable or not len(slot.shape):
                continue
            axes = list(range(len(variable.shape)))
            if isinstance(optimizer, keras.optimizers.Adafactor) and name in ("_r", "_c"):
                del axes[-1 if name == "_r" else -2]
            yield slot, variable, tuple(axes), name in weights


# Lists of slots that move a weight even where its gradient is zero.
_DRIVING = {
    "momentums",
    "_momentums",
    "_m",
    "_linears",
    "_accumulated_gradients",
    "_model_variables_moving_average",
}


def driving_slots(optimizer):
    """Triples `(slot, variable, axes)` of the slots that go on moving a variable whose gradient is
    zero: momentum, not the averages of squares that updates are divided by."""
    driving = {
        id(slot) for name, slots in _slot_lists(optimizer) if name in _DRIVING for slot in slots
    }
    return [(slot, variable, axes) for slot, variable, axes, _ in slots(optimizer)
            if id(slot) in driving]  # fmt: skip


def build_optimizer(model):
    """Makes the slots of the optimizer if there are none yet."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        with variable_scope(model):
            optimizer.build(model.trainable_variables)


def batches_per_update(optimizer):
    """After how many batches the weights have changed for certain."""
    return max(getattr(one, "gradient_accumulation_steps", None) or 1
               for one in inner_optimizers(optimizer))  # fmt: skip


def steps_taken(optimizer):
    """How many training steps an optimizer has seen, whether or not each was an update."""
    counted = getattr(inner_optimizers(optimizer)[-1], "_iterations", 0)
    return int(keras.ops.convert_to_numpy(counted))


def mixes_weights(optimizer):
    """Whether an update of one weight depends on others beside it, by their number (Adafactor,
    Muon) or by the norm of all gradients (clipping, Lamb): training a model with zeros is then not
    always training the smaller one."""
    return any(
        type(one).__name__ in ("Adafactor", "Lamb", "Muon")
        or getattr(one, "clipnorm", None)
        or getattr(one, "global_clipnorm", None)
        for one in inner_optimizers(optimizer)
    )


def optimizer_of(optimizer, variable):
    """The innermost optimizer that trains a variable, or None."""
    training = [
        one
        for one in inner_optimizers(optimizer)
        if any(variable is other for other in getattr(one, "_trainable_variables", ()))
    ]
    return training[-1] if training else None


def lend_state(outermost, optimizer, variables):
    """Lets an optimizer carry variables through its steps as if they were its own, which is how
    they get into a training step on JAX. They are neither saved with it nor loaded.

    Args:
        outermost: the optimizer of the model.
        optimizer: it, or one inside it, that the variables are lent to.
        variables: a list.

    Returns:
        A function that takes them back.
    """
    for variable in variables:
        vars(variable)["_is_lent"] = True
    own = optimizer._variables
    undo = [_patched(optimizer, "_variables", [*own, *variables])]

    def without(method):
        def same(store):
            put_back = _patched(optimizer, "_variables", own)
            try:
                return method(store)
            finally:
                put_back()

        return same

    for one in inner_optimizers(outermost):
        if any(optimizer is other for other in inner_optimizers(one)):
            for name in ("save_own_variables", "load_own_variables"):
                undo.append(_patched(one, name, without(getattr(one, name))))

    def take_back():
        for step in reversed(undo):
            step()

    return take_back


def is_lent(variable):
    """Whether an optimizer carries this variable for somebody else."""
    return "_is_lent" in vars(variable)


def _patched(thing, name, value):
    """Sets an attribute past Keras, which would go on tracking variables in it; a function that
    undoes it."""
    missing = object()
    before = vars(thing).get(name, missing)
    object.__setattr__(thing, name, value)

    def undo():
        if before is missing:
            object.__delattr__(thing, name)
        else:
            object.__setattr__(thing, name, before)

    return undo


_KEYED = (
    "_trainable_variables_indices",
    "_exclude_from_weight_decay",
    "_exclude_from_weight_decay_cache",
    "_var_to_optimizer_idx",
)


def key_of(optimizer, variable):
    """What stands for a variable in these dicts and sets."""
    return optimizer._var_key(variable) if hasattr(optimizer, "_var_key") else id(variable)


def own_state(optimizer):
    """The variables that an optimizer made, without those of inner ones."""
    return getattr(optimizer, "_variables", ())


def keyed_by_variable(optimizer):
    """Names of attributes that are dicts or sets keyed by variable; on TensorFlow the key changes
    with the variable's value."""
    return [name for name in _KEYED if getattr(optimizer, name, None)]


# -- training --------------------------------------------------------------------------------------


def companions(callback):
    """The list of all callbacks of the `fit` that is calling this one, to be changed in place.
    Empty if the caller is not `fit`: nothing else knows the list."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList) and callback in caller.callbacks:
            return caller.callbacks
        frame = frame.f_back
    return []


def forget_plateau(callback):
    """Lets a `ReduceLROnPlateau` start to watch anew."""
    callback._reset()


def set_initial_epoch(model, epoch):
    """Lets the `fit` that has just begun start at another epoch (None: at the one asked for)."""
    model._initial_epoch = epoch


def is_chief():
    """Whether this process is the first (and as a rule the only one) of the training."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.process_index() == 0
    return True
