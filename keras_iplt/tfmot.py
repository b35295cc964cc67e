"""The one door to tensorflow-model-optimization (tfmot), for users of the TensorFlow backend.

tfmot prunes single weights of Keras 2 models. What is here carries over both ways:

- `EpochSchedule` lets tfmot's own `prune_low_magnitude` follow a schedule of `keras_iplt`
  (`keras_iplt.schedules.get` takes tfmot's schedules the other way round);
- `PruneFilters` is a tfmot `PrunableLayer` for Keras 3 that zeroes whole filters while a model
  trains; `prune_filters` wraps a model's layers, `UpdateFilters` drives them in `fit`, and
  `strip_filters` takes out what is zero.

Importing tfmot switches `tf.keras` to Keras 2 for this process and its children; importing it
through this module does not.

>>> import keras
>>> import numpy as np
>>> from keras_iplt import schedules, tfmot
>>> model = keras.Sequential([
...     keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2)])
>>> model.compile("sgd", "mse")
>>> wrapped = tfmot.prune_filters(model, schedules.OneShot(0.5, epoch=1))
>>> x, y = np.ones((8, 4)), np.ones((8, 2))
>>> _ = wrapped.fit(x, y, epochs=2, callbacks=[tfmot.UpdateFilters()], verbose=0)
>>> tfmot.strip_filters(wrapped).layers[0].units
4
"""

import os
import warnings
from typing import Any

import keras
import numpy as np

from keras_iplt import criteria, schedules
from keras_iplt import keras_private as private
from keras_iplt.cost import parameters, share_removed
from keras_iplt.errors import OptionError
from keras_iplt.filters import Filters, Part
from keras_iplt.graph.channels import SOLID
from keras_iplt.graph.trace import trace
from keras_iplt.graph.weights import numbers_of
from keras_iplt.plan import finished
from keras_iplt.selection import as_list, check_count, name_of, paths_of
from keras_iplt.surgery.compile import carry_compilation
from keras_iplt.surgery.rewrite import rewrite

__all__ = [
    "EpochSchedule",
    "PrunableLayer",
    "PruneFilters",
    "PruningSchedule",
    "UpdateFilters",
    "prune_filters",
    "strip_filters",
]

_LEGACY = "TF_USE_LEGACY_KERAS"


def _classes_of_tfmot():
    """tfmot's `PruningSchedule` and `PrunableLayer`; what importing it changes is put back."""
    before = os.environ.get(_LEGACY)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # tfmot uses distutils
            import tensorflow as tf

            getattr(tf.keras, "__version__", None)  # settles it, before tfmot asks for Keras 2
            from tensorflow_model_optimization.sparsity.keras import (
                PrunableLayer,
                PruningSchedule,
            )
    except ImportError as error:
        raise ImportError(
            "keras_iplt.tfmot needs tensorflow-model-optimization, which cannot be imported "
            f"({error}): pip install tensorflow tensorflow-model-optimization tf-keras, and "
            "setuptools from Python 3.12 on"
        ) from error
    finally:
        if before is None:
            os.environ.pop(_LEGACY, None)
        else:
            os.environ[_LEGACY] = before
    return PruningSchedule, PrunableLayer


PruningSchedule: Any
PrunableLayer: Any
PruningSchedule, PrunableLayer = _classes_of_tfmot()


# -- our schedules in tfmot --


class EpochSchedule(PruningSchedule):
    """A schedule of `keras_iplt` as one of tfmot's, for its `prune_low_magnitude`.

    It prunes at the first step of every epoch, up to the first epoch at which the target holds.

    Args:
        schedule: whatever `keras_iplt.schedules.get` takes, except what counts in steps itself.
        steps_per_epoch: how many batches an epoch has.

    Example:

    >>> schedule = EpochSchedule({1: 0.25, 3: 0.5}, steps_per_epoch=10)
    >>> [(step, bool(prunes), float(share)) for step in (1, 11, 12, 31)
    ...     for prunes, share in [schedule(step)]]
    [(1, True, 0.0), (11, True, 0.25), (12, False, 0.25), (31, True, 0.5)]
    """

    def __init__(self, schedule, steps_per_epoch):
        self.schedule = schedules.get(schedule)
        last = self.schedule.last_epoch
        if last is None:
            raise OptionError(
                "schedule: expected one in epochs that says when it ends (last_epoch), received: "
                f"{schedule!r}"
            )
        self.steps_per_epoch = check_count("steps_per_epoch", steps_per_epoch)
        self.end_step = last * self.steps_per_epoch + 1
        self._shares = [self.schedule(epoch) for epoch in range(last + 1)]

    def __call__(self, step):
        import tensorflow as tf

        since = tf.cast(step, tf.int64) - 1  # tfmot's first step is 1
        epoch = tf.clip_by_value(since // self.steps_per_epoch, 0, len(self._shares) - 1)
        prunes = self._should_prune_in_step(since, 0, self.end_step - 1, self.steps_per_epoch)
        return prunes, tf.gather(tf.constant(self._shares, tf.float32), epoch)

    def get_config(self):
        """What tfmot writes into the config of a wrapped layer."""
        return {
            "class_name": type(self).__name__,
            "config": {
                "schedule": keras.saving.serialize_keras_object(self.schedule),
                "steps_per_epoch": self.steps_per_epoch,
            },
        }

    @classmethod
    def from_config(cls, config):
        """The schedule from the inner "config" of what `get_config` returns."""
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["steps_per_epoch"])


# -- whole filters of Keras 3 layers --

_KINDS = (
    "Dense Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose "
    "DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D"
).split()
_SUPPORTED = tuple(getattr(keras.layers, name) for name in _KINDS)
_GRAPHS = (keras.Sequential, private.Functional)
_CRITERIA = ("l2", "l1", "lp", "l2_mean", "l1_mean", "lp_mean", "fpgm", "lamp")


@keras.saving.register_keras_serializable("keras_iplt")
class PruneFilters(keras.layers.Wrapper, PrunableLayer):
    """A layer whose filters are zeroed by schedule, the least important ones first.

    The filters of the layer are ranked among themselves. `UpdateFilters` has to be among the
    callbacks of `fit`: it sets the filters to zero and holds them there. The zeros are all there
    is to save; a loaded model goes on from them with `fit(..., initial_epoch=…)`.

    Args:
        layer: a `Dense` layer or a convolution.
        schedule: whatever `keras_iplt.schedules.get` takes, tfmot's schedules included.
        criterion: "l2", or another criterion that ranks the filters of a layer by their weights:
            "l1", "lp", "fpgm", "lamp" …
        **kwargs: of the Keras layer; by default it is called "prune_filters_" and the name of
            the layer.
    """

    def __init__(self, layer, schedule, criterion="l2", **kwargs):
        if not isinstance(layer, _SUPPORTED):
            raise OptionError(f"layer: expected one of {', '.join(_KINDS)}, received: {layer!r}")
        if criterion not in _CRITERIA:
            raise OptionError(
                f"criterion: expected one of {', '.join(map(repr, _CRITERIA))}, received: "
                f"{criterion!r}"
            )
        kwargs.setdefault("name", f"prune_filters_{layer.name}")
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, **kwargs)
        self.supports_masking = layer.supports_masking
        self.schedule, self.criterion = schedules.get(schedule), criterion
        self.driven = False  # by an `UpdateFilters` of the `fit` that is going on

    def call(self, inputs, training=False):
        # Not while the graph is only being read, on symbolic tensors.
        if training and not self.driven and not isinstance(inputs, keras.KerasTensor):
            raise OptionError(
                f"callbacks: expected keras_iplt.tfmot.UpdateFilters() among them, without which "
                f"no filter of {self.layer.name!r} is pruned, received: none"
            )
        return self.layer(inputs)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def get_prunable_weights(self):
        """The kernel that holds the filters and, if there is one, their bias."""
        kernel = getattr(self.layer, "pointwise_kernel", None)
        kernel = self.layer.kernel if kernel is None else kernel
        return [kernel] if self.layer.bias is None else [kernel, self.layer.bias]

    def get_config(self):
        return {
            **super().get_config(),
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "criterion": self.criterion,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for name in ("layer", "schedule"):
            config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)


class UpdateFilters(keras.callbacks.Callback):
    """Drives the `PruneFilters` layers of the model that is trained.

    At the start of every epoch each of them is ranked anew and brought to the share that its
    schedule asks for (filters that are zero come first, so what is gone stays gone), and after
    every batch the zeros are put back. Where all filters of a channel are zero, so is everything
    else that belongs to it: normalisation, and what later layers multiply it with. It is then
    as good as removed, and `strip_filters` removes it without changing the outputs. Of channels
    that a residual stream adds up, only those can go whose filter is zero in every layer.

    Inside an execution of several steps (`steps_per_execution`) zeros are put back at its end.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    >>> wrapped = prune_filters(model, 0.5)
    >>> wrapped.compile("sgd", "mse")
    >>> x, y = np.ones((8, 4)), np.ones((8, 2))
    >>> _ = wrapped.fit(x, y, callbacks=[UpdateFilters()], verbose=0)
    """

    def __init__(self):
        super().__init__()
        if keras.backend.backend() != "tensorflow":
            raise OptionError(
                "keras_iplt.tfmot: expected the TensorFlow backend, received: "
                f"{keras.backend.backend()!r}"
            )
        self._masks: list = []

    def on_train_begin(self, logs=None):
        self._layers = wrappers_in(self.model)
        if not self._layers:
            raise OptionError(
                f"model {self.model.name!r} has no PruneFilters layer that UpdateFilters could "
                "drive: wrap its layers with keras_iplt.tfmot.prune_filters(model, schedule)"
            )
        self._graph = trace(self.model)
        self._ranked = [ranked_by(layer, self._graph) for layer in self._layers]
        self._masks = []
        for layer in self._layers:
            layer.driven = True

    def on_epoch_begin(self, epoch, logs=None):
        step = int(self.model.optimizer.iterations)
        dead = [
            least_important(layer, filters, self._graph, layer.schedule(epoch, step))
            for layer, filters in zip(self._layers, self._ranked, strict=True)
        ]
        self._masks = _masks(self._graph, self._layers, self._ranked, dead)
        self._hold()

    def on_train_batch_end(self, batch, logs=None):
        self._hold()

    def on_train_end(self, logs=None):
        for layer in self._layers:
            layer.driven = False
        self.model.train_function = None  # so that the next `fit` asks for its callback again

    def _hold(self):
        for variable, mask in self._masks:
            variable.assign(variable * mask)


def prune_filters(model, schedule, layers=None, criterion="l2"):
    """Wraps layers of a model in `PruneFilters`.

    Args:
        model: a Functional or Sequential model; it stays as it is.
        schedule: whatever `keras_iplt.schedules.get` takes, tfmot's schedules included.
        layers: layers or their names (a nested model stands for all layers in it); by default
            all dense layers and convolutions with filters that can be removed.
        criterion: see `PruneFilters`.

    Returns:
        A new model with the same weights and, if the model is compiled, the same settings and a
        fresh optimizer. Train it with `UpdateFilters` among the callbacks.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, name="hidden"), keras.layers.Dense(2)])
    >>> [layer.name for layer in prune_filters(model, 0.5, layers="hidden").layers][0]
    'prune_filters_hidden'
    """
    schedule, graph = schedules.get(schedule), trace(model)
    wanted = _prunable(graph) if layers is None else _named(graph, layers)
    pairs = []

    def copied(layer):
        if not isinstance(layer, keras.Layer):
            return private.copied(layer)
        copy = type(layer).from_config(layer.get_config())
        pairs.append((layer, copy))
        return PruneFilters(copy, schedule, criterion) if id(layer) in wanted else copy

    wrapped = _cloned(model, copied)
    if not wrappers_in(wrapped):
        raise OptionError(
            f"layers: expected dense layers or convolutions of model {model.name!r} that can be "
            f"wrapped, received: {layers if layers is None else [*map(name_of, as_list(layers))]}"
        )
    for layer, copy in pairs:
        copy.set_weights(layer.get_weights())
        if hasattr(copy, "finalize_state") and copy.weights:
            copy.finalize_state()  # preprocessing layers compute constants from their weights
    carry_compilation(model, wrapped)
    return wrapped


def strip_filters(model):
    """The model without its wrappers, and without the channels that are zero throughout.

    Args:
        model: a model with `PruneFilters` layers; it stays as it is.

    Returns:
        A new, smaller model with the same outputs.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    >>> strip_filters(prune_filters(model, 0.5)).layers[0].name == model.layers[0].name
    True
    """
    with private.restored_nodes(model):
        bare = _cloned(model, lambda x: x.layer if isinstance(x, PruneFilters) else x)
        graph = trace(bare)
        removed = _zero_channels(graph)
        filters = [group.filters for group in graph.groups]
        plan = finished(graph, removed, filters, {}, share_removed(parameters, graph))
        small = rewrite(bare, plan)
    carry_compilation(model, small)
    return small


# -- which layers --


def wrappers_in(model):
    """The `PruneFilters` layers of a model and of those in it."""
    found: list[PruneFilters] = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += wrappers_in(layer)
        elif isinstance(layer, PruneFilters):
            found.append(layer)
    return list({id(layer): layer for layer in found}.values())


def _prunable(graph):
    """ids of the layers with filters that can be removed."""
    return {
        id(p.layer)
        for p in graph.producers
        if isinstance(p.layer, _SUPPORTED) and (graph.classes[p.ids] != SOLID).any()
    }


def _named(graph, layers):
    """ids of the layers that were asked for."""
    wanted = set()
    for key in as_list(layers):
        paths = paths_of(graph, key)
        found = {
            id(call.operation)
            for call in graph.calls.values()
            if call.path in paths and isinstance(call.operation, _SUPPORTED)
        }
        if not found:
            raise OptionError(
                f"layers: expected one of {', '.join(_KINDS)}, received: {name_of(key)!r}"
            )
        wanted |= found
    return wanted


def _input_like(x):
    return keras.Input(batch_shape=x.shape, dtype=x.dtype, name=private.producer_of(x).name)


def _cloned(model, function, made=None):
    """The graph of a model, uncompiled, over the layers that a function puts in place of its own:
    each once, in nested models too."""
    if not isinstance(model, _GRAPHS):
        raise OptionError(f"model: expected a Functional or Sequential model, received: {model!r}")
    made = {} if made is None else made

    def again(layer):
        if id(layer) not in made:
            nested = isinstance(layer, _GRAPHS)
            made[id(layer)] = _cloned(layer, function, made) if nested else function(layer)
        return made[id(layer)]

    inputs = None  # clone_model would name those of a Functional model otherwise
    if not isinstance(model, keras.Sequential):
        inputs = keras.tree.map_structure(_input_like, model.input)
    compiled, model.compiled = model.compiled, False  # what is compiled may have no config
    try:
        return keras.models.clone_model(model, inputs, clone_function=again)
    finally:
        model.compiled = compiled


# -- which filters --


def ranked_by(layer, graph):
    """The `Filters` of a wrapped layer, one for each position of its kernel that counts them."""
    kernel, *bias = layer.get_prunable_weights()
    for piece in graph.by_variable.get(id(kernel), ()):
        if piece.role != "input":
            parts = [Part(kernel, piece.axis, None)]
            return Filters(piece.path, piece.ids, parts, [Part(b, 0, None) for b in bias])
    raise OptionError(
        f"layer: expected one whose filters can be told apart, received: {layer.layer.name!r}, "
        "which works on the input of the model or is not understood. Do not wrap it"
    )


def least_important(layer, filters, graph, share):
    """A mask over the filters of a layer: True for the share of them that goes.

    Filters that can only be removed together (in grouped and gated layers) go together.
    """
    classes = graph.classes[filters.ids]
    own = -1 - np.arange(len(filters))  # what is never removed goes one by one
    _, units, sizes = np.unique(
        np.where(classes == SOLID, own, classes), return_inverse=True, return_counts=True
    )
    scores = criteria.get(layer.criterion).score(filters)
    means = np.bincount(units, scores) / sizes
    alive = np.bincount(units, filters.power_sums(1)) > 0
    order = np.lexsort((means, alive))
    wanted = min(int(share * len(filters) + 0.5), len(filters) - 1)
    chosen = order[np.cumsum(sizes[order]) <= wanted]
    return np.isin(units, chosen)


def _masks(graph, layers, ranked, dead):
    """`(variable, ones and zeros to multiply it with)` for all that is to be zero: dead filters,
    and everything that belongs to channels of which no filter is alive."""
    lost: dict[tuple[int, int], tuple] = {}  # (id(variable), axis) -> (variable, mask)

    def lose(variable, axis, mask):
        if mask.any():
            _, before = lost.get((id(variable), axis), (None, False))
            lost[id(variable), axis] = variable, before | mask

    for filters, mask in zip(ranked, dead, strict=True):
        for part in filters.parts:
            lose(part.variable, part.axis, mask)
        for part in filters.bias_parts:
            lose(part.variable, part.axis, np.repeat(mask, part.variable.shape[0] // len(mask)))
    gone = _channels_without(graph, layers, ranked, dead)
    for piece in graph.slices:
        lose(piece.variable, piece.axis, gone[piece.ids])
    return [(v, _ones_and_zeros(v, axis, mask)) for (_, axis), (v, mask) in lost.items()]


def _channels_without(graph, layers, ranked, dead):
    """A mask over all ids: True for channels of which every filter is dead."""
    of_layer = {
        id(layer.layer): np.unique(graph.classes[filters.ids[mask]])
        for layer, filters, mask in zip(layers, ranked, dead, strict=True)
    }
    alive = np.zeros(len(graph.classes), bool)
    for producer in graph.producers:
        classes = graph.classes[producer.ids]
        alive[np.setdiff1d(classes, of_layer.get(id(producer.layer), ()))] = True
    return graph.gone([_removable(group, ~alive[group.classes]) for group in graph.groups])


def _zero_channels(graph):
    """Per group the channels of which every slice of every variable is zero already."""
    alive = np.zeros(len(graph.classes), bool)
    for piece in graph.slices:
        value = numbers_of(piece.variable)
        others = tuple(axis for axis in range(value.ndim) if axis != piece.axis)
        alive[graph.classes[piece.ids[(value != 0).any(axis=others)]]] = True
    chosen = [_removable(group, ~alive[group.classes]) for group in graph.groups]
    return [
        tuple(np.flatnonzero(np.isin(group.classes, classes)).tolist())
        for group, classes in zip(graph.groups, chosen, strict=True)
    ]


def _removable(group, marked):
    """The marked channels of a group, less those that have to stay."""
    return group.classes[marked][: group.size - group.least]


def _ones_and_zeros(variable, axis, mask):
    shape = [1] * len(variable.shape)
    shape[axis] = -1
    return keras.ops.convert_to_tensor((~mask).astype("float32").reshape(shape), variable.dtype)
