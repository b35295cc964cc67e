"""A layer around a layer whose filters are zeroed by schedule."""

from typing import Any

import keras

from keras_iplt import schedules
from keras_iplt.errors import OptionError
from keras_iplt.support.arguments import checked
from keras_iplt.tfmot_bridge.door import PrunableLayer

__all__ = ["KINDS", "SUPPORTED", "PruneFilters", "wrappers_in"]

KINDS = (
    "Dense Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose "
    "DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D"
).split()
SUPPORTED = tuple(getattr(keras.layers, name) for name in KINDS)
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

    @checked
    def __init__(
        self, layer: keras.Layer, schedule: Any, criterion: str = "l2", **kwargs: Any
    ) -> None:
        if not isinstance(layer, SUPPORTED):
            raise OptionError(f"layer: expected one of {', '.join(KINDS)}, received: {layer!r}")
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

    def call(self, inputs: Any, training: bool = False) -> Any:
        # Not while the graph is only being read, on symbolic tensors.
        if training and not self.driven and not isinstance(inputs, keras.KerasTensor):
            raise OptionError(
                f"callbacks: expected keras_iplt.tfmot_bridge.UpdateFilters() among them, without "
                f"which no filter of {self.layer.name!r} is pruned, received: none"
            )
        return self.layer(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def get_prunable_weights(self) -> list[keras.Variable]:
        """The kernel that holds the filters and, if there is one, their bias."""
        kernel = getattr(self.layer, "pointwise_kernel", None)
        kernel = self.layer.kernel if kernel is None else kernel
        return [kernel] if self.layer.bias is None else [kernel, self.layer.bias]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "criterion": self.criterion,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "PruneFilters":
        config = dict(config)
        for name in ("layer", "schedule"):
            config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)


def wrappers_in(model: keras.Model) -> list[PruneFilters]:
    """The `PruneFilters` layers of a model and of those in it."""
    found: list[PruneFilters] = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += wrappers_in(layer)
        elif isinstance(layer, PruneFilters):
            found.append(layer)
    return list({id(layer): layer for layer in found}.values())
