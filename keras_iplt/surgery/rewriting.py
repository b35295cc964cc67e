"""A plan carried out as a new, smaller model: the graph is called again on edited configs."""

import keras

from keras_iplt.errors import ModelError, PruningError
from keras_iplt.graph.compilation import carry_compilation
from keras_iplt.planning.plan import Plan, bound, bound_graph
from keras_iplt.support.arguments import Verbosity, checked
from keras_iplt.support.progress import silent
from keras_iplt.surgery.refitting import Compensate, refitted
from keras_iplt.surgery.rewriter import Rewriter
from keras_iplt.surgery.trial_run import check_runs

__all__ = ["rewrite", "rewritten"]


@checked
def rewrite(
    model: keras.Model, plan: Plan, compensate: Compensate = None, verbose: Verbosity = 1
) -> keras.Model:
    """The model with fewer channels, as a new model; the old one stays as it is.

    Layers keep their names, trainable flags, regularisers, constraints and dtype policies; a
    compiled model comes back compiled, with a fresh optimizer of the same settings. Functional,
    Sequential and nested models keep their structure; a subclassed model becomes a functional one.

    Args:
        model: the model that the plan was made for, or one of the same architecture.
        plan: a `Plan`.
        compensate: data without labels, or a `Refit`: the weights that stay are fitted anew to what
            the whole model computes on them. Without it, the new model computes what the masked
            model does.
        verbose: 0 for no progress bar, which only terminals and notebooks get.

    Returns:
        A new `keras.Model`.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    >>> small = iplt.rewrite(model, iplt.plan(model, ratio=0.5))
    >>> small.count_params(), model.count_params()
    (30, 58)
    """
    with silent(when=not verbose):
        small, _ = rewritten(model, bound(plan, model), compensate)
    return small


def rewritten(
    model: keras.Model, plan: Plan, compensate: Compensate
) -> tuple[keras.Model, Rewriter]:
    """As `rewrite`, by a bound plan; and what made it, which knows what became of each weight."""
    graph = bound_graph(plan)
    fitted = {} if compensate is None else refitted(graph, plan.gone, compensate)
    rewriter = Rewriter(graph, plan.gone, fitted)
    try:
        small = rewriter.model(graph.model)
        rewriter.carry_weights()
        check_runs(small, model)
    except (PruningError, Warning):
        raise
    except Exception as error:  # layers of others on sizes they may not be made for
        raise ModelError(
            f"model {model.name!r} cannot be made again with fewer channels "
            f"({type(error).__name__}: {error}). Leave the layer out with `ignore`, or teach it "
            "with keras_iplt.register_rule"
        ) from error
    rewriter.carry_flags()
    carry_compilation(model, small)
    return small, rewriter
