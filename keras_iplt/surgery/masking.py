"""A plan carried out as zeros."""

import keras

from keras_iplt.graph.silence import silenced
from keras_iplt.graph.slices import numbers_of, zeroed
from keras_iplt.planning.plan import Plan, bound, bound_graph
from keras_iplt.support.arguments import checked

__all__ = ["mask"]


@checked
def mask(model: keras.Model, plan: Plan) -> None:
    """Sets to zero whatever `rewrite` would take away, in place.

    The masked model gives the same outputs as the rewritten one. Every slice that belongs to a
    removed channel is zeroed: filters, biases, normalisation, and what later layers multiply it
    with. Of a residual branch that goes it is what puts out its end.

    Args:
        model: the model that the plan was made for, or one of the same architecture.
        plan: a `Plan`.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    >>> iplt.mask(model, iplt.plan(model, ratio=0.5))
    >>> kernel = keras.ops.convert_to_numpy(model.layers[0].kernel)
    >>> int((kernel == 0).all(axis=0).sum())
    4
    """
    plan = bound(plan, model)
    graph = bound_graph(plan)
    changed = [change for branch in graph.without for change in silenced(branch)]
    for pieces in graph.by_variable.values():
        variable = pieces[0].variable
        kept = plan.kept(variable)
        if any(indices is not None for indices in kept):
            changed.append((variable, zeroed(numbers_of(variable), kept)))
    for variable, value in changed:
        variable.assign(value)
