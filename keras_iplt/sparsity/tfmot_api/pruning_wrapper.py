"""A layer around a layer whose smallest weights are set to zero by schedule."""

import functools
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import OptionError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.sparsity.patterns import Pair, Pooling
from keras_iplt.sparsity.tfmot_api import prune_registry
from keras_iplt.sparsity.tfmot_api import pruning_schedule as schedules
from keras_iplt.sparsity.tfmot_api.pruning_impl import Pruning
from keras_iplt.support.arguments import Kind, checked
from keras_iplt.support.around import Around

__all__ = ["MbyN", "PruneLowMagnitude", "collect_prunable_layers"]

MbyN: TypeAlias = Annotated[
    Pair, Kind("two positive integers (m, n), m less than n", lambda x: x[0] < x[1])
]

_HALF = schedules.ConstantSparsity(0.5, 0)


@keras.saving.register_keras_serializable("keras_iplt")
class PruneLowMagnitude(Around):
    """A layer whose smallest weights are zero, as many of them as a schedule says.

    It computes what the layer computes. `UpdatePruningStep` has to be among the callbacks of `fit`:
    it finds the masks, sets weights to zero and holds them there. Masks are weights of the
    wrapper, so that a model that is saved and loaded goes on where it was.

    Args:
        layer: a layer of Keras, or one with a method `get_prunable_weights`; built or not.
        pruning_schedule: a `PruningSchedule` of `keras_iplt.sparsity` or of tfmot.
        block_size: `(height, width)` of what is pruned together, in matrices only.
        block_pooling_type: "AVG" or "MAX": what stands for a block, its mean or its largest
            magnitude.
        sparsity_m_by_n: `(m, n)` for m zeros in every n consecutive weights along the inputs, found
            at the first step, in weights of rank 2 and 4; or None.
        **kwargs: of the Keras layer. It is called "prune_low_magnitude_" and the name of the layer.

    Attributes:
        pruning_vars: a list of `(weight, mask, threshold)`.
        pruning_step: how many batches have been trained, -1 before the first; it is written when
            masks change, when an epoch ends and into what is saved.

    Example:

    >>> wrapper = PruneLowMagnitude(keras.layers.Dense(2, name="head"))
    >>> wrapper.build((None, 3))
    >>> wrapper.name, [tuple(mask.shape) for _, mask, _ in wrapper.pruning_vars]
    ('prune_low_magnitude_head', [(3, 2)])
    """

    comes_off = True

    @checked
    def __init__(
        self,
        layer: keras.Layer,
        pruning_schedule: Any = _HALF,
        block_size: Pair = (1, 1),
        block_pooling_type: Pooling = "AVG",
        sparsity_m_by_n: MbyN | None = None,
        **kwargs: Any,
    ) -> None:
        if not hasattr(layer, "get_prunable_weights"):
            prune_registry.PruneRegistry.make_prunable(layer)
        kwargs["name"] = f"prune_low_magnitude_{layer.name}"
        super().__init__(layer, **kwargs)
        self.pruning_schedule = schedules.get(pruning_schedule)
        self.block_size, self.block_pooling_type = block_size, block_pooling_type
        self.sparsity_m_by_n = sparsity_m_by_n
        self.driver: Any = None  # the `UpdatePruningStep` of the training that is going on
        self.pruning_obj: Any = None
        self._masks: list[Any] = []
        self._thresholds: list[Any] = []

    # -- as a layer --

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        for i, weight in enumerate(self._masked_weights()):
            dtype, number = private.stored_dtype(weight), f"_{i}" if i else ""
            add = functools.partial(self.add_weight, dtype=dtype, trainable=False)
            self._masks.append(add(weight.shape, "ones", name=f"mask{number}"))  # differ, for HDF5
            self._thresholds.append(add((), "zeros", name=f"threshold{number}"))
        self.pruning_step = self.add_weight(
            (), keras.initializers.Constant(-1), "int32", trainable=False, name="pruning_step"
        )
        self.pruning_obj = Pruning(
            self._masked_weights(), self.block_size, self.block_pooling_type, self.sparsity_m_by_n
        )

    def call(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        if training and self.driver is None and not private.is_symbolic(args, kwargs):
            private.rescue_state()
            raise OptionError(
                "callbacks: expected keras_iplt.sparsity.UpdatePruningStep() among them, received: "
                f"none. The PruneLowMagnitude wrapper of {self.layer.name!r} requires the "
                "UpdatePruningStep callback to be provided during training"
            )
        return super().call(*args, training=training, **kwargs)

    # -- what is pruned --

    @property
    def prunable_weights(self) -> list[Any]:
        """The weights of the layer that can be pruned."""
        return prune_registry.prunable_weights(self.layer)

    @property
    def pruning_vars(self) -> list[tuple[Any, Any, Any]]:
        weights = self._masked_weights() if self._masks else []
        return list(zip(weights, self._masks, self._thresholds, strict=True))

    def _masked_weights(self) -> list[Any]:
        weights = self.prunable_weights
        for weight in weights:
            if not isinstance(weight, keras.Variable):
                raise OptionError(
                    f"get_prunable_weights: expected variables of layer {self.layer.name!r}, "
                    f"received: {weight!r}"
                )
        if self.sparsity_m_by_n:
            weights = [weight for weight in weights if len(weight.shape) in (2, 4)]
        return weights

    def steps_taken(self) -> int:
        """The number of the last step: that of the training that is going on, if there is one."""
        counted = None if self.driver is None else self.driver.step
        return int(numbers_of(self.pruning_step)) if counted is None else counted

    # -- saving --

    def get_weights(self) -> list[np.ndarray]:
        return self.layer.get_weights()

    def set_weights(self, weights: Sequence[Any]) -> None:
        self.layer.set_weights(weights)

    def save_own_variables(self, store: Any) -> None:
        for i, variable in enumerate(private.own_variables(self)):
            counts = variable is self.pruning_step
            store[f"{i}"] = np.int32(self.steps_taken()) if counts else variable

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pruning_schedule": _config_of(self.pruning_schedule),
            "block_size": self.block_size,
            "block_pooling_type": self.block_pooling_type,
            "sparsity_m_by_n": self.sparsity_m_by_n,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "PruneLowMagnitude":
        config, known = dict(config), {**_OURS, **(custom_objects or {})}
        for name in ("layer", "pruning_schedule"):
            config[name] = keras.saving.deserialize_keras_object(config[name], known)
        return cls(**config)


def collect_prunable_layers(model: keras.Model) -> list[PruneLowMagnitude]:
    """The `PruneLowMagnitude` layers of a model, those deep inside it as well.

    Args:
        model: any Keras model.

    Returns:
        A list of layers, each once.

    Example:

    >>> model = keras.Sequential([PruneLowMagnitude(keras.layers.Dense(2)), keras.layers.ReLU()])
    >>> len(collect_prunable_layers(model))
    1
    """
    found = (layer for layer in private.all_layers(model) if isinstance(layer, PruneLowMagnitude))
    return list({id(layer): layer for layer in found}.values())


_OURS = {kind.__name__: kind for kind in (schedules.ConstantSparsity, schedules.PolynomialDecay)}


def _config_of(schedule: Any) -> dict[str, Any]:
    """What tfmot writes, and the name that a schedule is registered by, if it is."""
    name, kind = keras.saving.get_registered_name(type(schedule)), type(schedule).__name__
    return {**schedule.get_config(), **({} if name == kind else {"registered_name": name})}
