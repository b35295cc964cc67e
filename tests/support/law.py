"""The law that everything rests on: masked equals rewritten. Used by many tests."""

import contextlib

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.costs import parameters, share_removed
from keras_iplt.graph.slices import kept_along, take
from keras_iplt.graph.trace import trace
from keras_iplt.planning.plan import bound, finished
from keras_iplt.surgery.masking import mask
from keras_iplt.surgery.rewriter import Rewriter

TOLERANCE = 1e-5


def randomize(model, seed=0):
    """Weights that make every channel matter: fresh networks hardly react to their input."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if not np.issubdtype(
            np.dtype(keras.backend.standardize_dtype(weight.dtype).replace("bfloat16", "float32")),
            np.floating,
        ):
            continue  # counters and seeds
        name, shape = weight.name, weight.shape
        if "variance" in name:
            value = random.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            fan_in = max(1, np.prod(shape[:-1]))
            value = random.normal(size=shape) / np.sqrt(fan_in)
        elif name in ("gamma", "scale"):
            value = random.uniform(0.5, 1.5, shape)
        else:
            value = random.normal(size=shape) * 0.5
        weight.assign(value.astype("float32"))
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state") and layer.weights:
            layer.finalize_state()


@contextlib.contextmanager
def double_precision():
    """Within it, models are made in float64, which tells errors from how numbers are rounded."""
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def random_plan(graph, seed=0, most=0.7):
    """A plan that takes a random, uneven number of channels from every group."""
    random = np.random.default_rng(seed)
    removed = []
    for group in graph.groups:
        count = int(random.integers(0, max(1, int(group.size * most)) + 1))
        count = max(0, min(count, group.size - group.least))
        removed.append(tuple(sorted(random.permutation(group.size)[:count])))
    filters = [group.filters for group in graph.groups]
    return finished(graph, removed, filters, {}, share_removed(parameters, graph))


def random_inputs(model, seed=0, unknown=8, batch=2):
    """Numbers that fit the inputs of a model."""
    random = np.random.default_rng(seed)
    values = []
    for x in model.inputs:
        shape = (batch, *(unknown if n is None else n for n in x.shape[1:]))
        if "int" in x.dtype:
            values.append(random.integers(0, 5, shape).astype(x.dtype))
        else:
            values.append(random.normal(size=shape).astype("float32"))
    return values


def difference(a, b):
    """Largest difference relative to the largest value."""
    a, b = (np.asarray(keras.ops.convert_to_numpy(x), "float64") for x in (a, b))
    assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
    infinite = ~np.isfinite(a)
    assert (a[infinite] == b[infinite]).all() and np.isfinite(b[~infinite]).all()
    a, b = a[~infinite], b[~infinite]
    return float(np.abs(a - b).max(initial=0) / max(0.05, np.abs(a).max(initial=0)))


def check_law(model, seed=0, plan=None, tolerance=TOLERANCE, inputs=None, spoil=None):
    """Masked equals rewritten, on the outputs and on every tensor in between.

    Returns the largest relative difference, the plan and the rewritten model. The model is masked
    afterwards. `spoil(rewritten)` may damage the rewritten model: then the check has to fail.
    """
    randomize(model, seed)
    plan = random_plan(trace(model), seed) if plan is None else bound(plan, model)
    graph, gone = plan.graph, plan.gone
    rewriter = Rewriter(graph, gone)
    small = rewriter.model(model)
    rewriter.carry_weights()
    if spoil is not None:
        spoil(small)
    inputs = (
        random_inputs(model if hasattr(model, "inputs") else small, seed)
        if inputs is None
        else inputs
    )
    packed = inputs[0] if len(inputs) == 1 else inputs
    graph_model = private.function_of(model) is not None
    whole = _run(model.inputs, model.outputs, inputs) if graph_model else model(packed)
    if not _is_finite(whole):
        return 0.0, plan, small  # the root of a negative input, say: nothing to compare
    mask(model, plan)
    assert parameters(graph, gone) == small.count_params()
    pairs = _pairs(model, small, rewriter) if private.function_of(model) else []
    old = (
        _run(model.inputs, [a for a, _, _ in pairs], inputs)
        if pairs
        else keras.tree.flatten(model(inputs[0] if len(inputs) == 1 else inputs, training=False))
    )
    new = (
        _run(small.inputs, [b for _, b, _ in pairs], inputs)
        if pairs
        else keras.tree.flatten(small(inputs[0] if len(inputs) == 1 else inputs, training=False))
    )
    worst = 0.0
    for i, (a, b) in enumerate(zip(old, new, strict=True)):
        a = keras.ops.convert_to_numpy(a)
        if pairs and pairs[i][2] is not None:
            x = pairs[i][2]
            a = take(a, [kept_along(x, axis, gone) for axis in range(a.ndim)])
            a = a if x.gain is None else a * x.gain.factor(gone)
        found = difference(a, b)
        where = pairs[i][0].name if pairs else "output"
        assert found <= tolerance, f"{where}: masked and rewritten differ by {found:.2e}"
        worst = max(worst, found)
    return worst, plan, small


def _is_finite(outputs):
    numbers = map(keras.ops.convert_to_numpy, keras.tree.flatten(outputs))
    return all(np.isfinite(y.astype("float32")).all() for y in numbers)


def _pairs(model, small, rewriter):
    """(old tensor, new tensor, channels) for the outputs and everything in between."""
    function, graph = private.function_of(model), rewriter.graph
    own = {id(n): n for n in private.nodes(function)}
    made = {id(t): new for old, news in rewriter.twins for t, new in zip(old, news, strict=True)}
    if isinstance(small, keras.Sequential):  # made layer by layer
        news = private.nodes(private.function_of(small))
        for node, new in zip(own.values(), news, strict=True):
            made.update((id(t), u) for t, u in zip(node.outputs, new.outputs, strict=True))
    reachable = {id(t) for node in private.nodes(private.function_of(small)) for t in node.outputs}
    pairs = []
    for node in own.values():
        for tensor, x in zip(
            node.outputs, keras.tree.flatten(graph.calls[id(node)].outputs), strict=True
        ):
            if (
                id(made[id(tensor)]) in reachable
                and "int" not in tensor.dtype
                and "bool" not in tensor.dtype
            ):
                pairs.append((tensor, made[id(tensor)], x))
    pairs += [(a, b, None) for a, b in zip(model.outputs, small.outputs, strict=True)]
    return pairs


def _run(inputs, outputs, values):
    # Not keras.Function: without `training`, a Resizing inside a layer switches batch norms after
    # it to training (Keras 3.15).
    return keras.tree.flatten(keras.Model(inputs, outputs)(values, training=False))
