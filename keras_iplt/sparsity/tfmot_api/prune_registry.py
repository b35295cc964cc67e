"""Which weights of Keras's layers are pruned.

Kernels are: of convolutions, dense and recurrent layers, embeddings and attention. Biases,
normalisations and depthwise kernels are not; they are small, and accuracy depends on them.
"""

import functools
from typing import Any

import keras
from keras import layers

from keras_iplt import _keras as private
from keras_iplt.errors import OptionError

__all__ = ["PruneRegistry", "prunable_weights"]

_WEIGHTLESS = """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
    AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add
    AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average AveragePooling1D
    AveragePooling2D AveragePooling3D BatchNormalization CategoryEncoding CenterCrop Concatenate
    ContrastLimitedAdaptiveHistogramEqualization Cropping1D Cropping2D Cropping3D CutMix
    DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU Equalization Flatten
    GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupNormalization HashedCrossing Hashing Identity IntegerLookup Lambda LayerNormalization
    LeakyReLU Masking MaxNumBoundingBoxes MaxPooling1D MaxPooling2D MaxPooling3D Maximum
    MelSpectrogram Minimum MixUp Multiply Normalization PReLU Permute RMSNormalization RandAugment
    RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop
    RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue
    RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation
    RandomSharpness RandomShear RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape
    Resizing STFTSpectrogram Softmax Solarization SpatialDropout1D SpatialDropout2D
    SpatialDropout3D StringLookup Subtract TextVectorization UnitNormalization UpSampling1D
    UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
""".split()
_WITH_A_KERNEL = """
    Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose Dense EinsumDense
""".split()
_WEIGHTS = {
    **dict.fromkeys(_WEIGHTLESS, ()),
    **dict.fromkeys(_WITH_A_KERNEL, ("kernel",)),
    "SeparableConv1D": ("pointwise_kernel",),
    "SeparableConv2D": ("pointwise_kernel",),
    "Embedding": ("embeddings",),
    "ReversibleEmbedding": ("embeddings", "reverse_embeddings"),
}
_CELLS = {
    getattr(layers, kind): ["kernel", "recurrent_kernel"]
    for kind in ("GRUCell", "LSTMCell", "SimpleRNNCell")
}
_ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention)


class PruneRegistry:
    """Keras's own layers and their weights.

    Only these very classes: a class derived from one of them may use its weights in any way, so
    that it has to name them itself, with a method `get_prunable_weights`.

    Example:

    >>> PruneRegistry.supports(layers.Dense(2)), PruneRegistry.supports(layers.ConvLSTM2D(2, 3))
    (True, False)
    """

    _LAYERS_WEIGHTS_MAP = {
        getattr(layers, kind): list(names)
        for kind, names in _WEIGHTS.items()
        if hasattr(layers, kind)  # older versions of Keras have fewer
    }
    _RNN_CELLS_WEIGHTS_MAP = _CELLS
    _RNN_LAYERS = frozenset({layers.GRU, layers.LSTM, layers.RNN, layers.SimpleRNN})

    @classmethod
    def supports(cls, layer: keras.Layer) -> bool:
        """Whether this is a layer of Keras whose weights are known here.

        And so are those of the layers or cells in it."""
        inner = cls._inside(layer)
        if inner is not None:
            return all(map(cls._known, inner))
        return type(layer) in cls._LAYERS_WEIGHTS_MAP or type(layer) in _ATTENTION

    @classmethod
    def make_prunable(cls, layer: keras.Layer) -> keras.Layer:
        """Gives a layer of Keras the method `get_prunable_weights`.

        Returns:
            The layer.

        Raises:
            OptionError: the layer is not supported; a `ValueError`.
        """
        if not cls.supports(layer):
            raise OptionError(
                f"layer: expected one whose weights are known, or with a method "
                f"get_prunable_weights, received: {layer!r}, which is not supported"
            )
        layer.get_prunable_weights = functools.partial(cls._weights, layer)
        return layer

    @classmethod
    def _inside(cls, layer: keras.Layer) -> list[keras.Layer] | None:
        """The layers or cells that a layer is made of, if it is one around others."""
        kind = type(layer)
        if kind in cls._RNN_LAYERS:
            return [layer.cell]
        if kind is layers.StackedRNNCells:
            return layer.cells
        if kind is layers.Bidirectional:
            return [layer.forward_layer, layer.backward_layer]
        return [layer.layer] if kind is layers.TimeDistributed else None

    @classmethod
    def _known(cls, layer: keras.Layer) -> bool:
        own = hasattr(layer, "get_prunable_weights")
        return own or type(layer) in cls._RNN_CELLS_WEIGHTS_MAP or cls.supports(layer)

    @classmethod
    def _weights(cls, layer: keras.Layer) -> list[Any]:
        inner = cls._inside(layer)
        if inner is None and type(layer) in _ATTENTION:
            inner = [*private.attention_denses(layer), *private.attention_gates(layer)]
        if inner is not None:
            return [weight for each in inner for weight in cls._own_or_known(each)]
        kind = type(layer)
        names = cls._RNN_CELLS_WEIGHTS_MAP.get(kind) or cls._LAYERS_WEIGHTS_MAP[kind]
        if getattr(layer, "tie_weights", False):
            names = [name for name in names if name != "reverse_embeddings"]
        return [private.weight_called(layer, name) for name in names]

    @classmethod
    def _own_or_known(cls, layer: keras.Layer) -> list[Any]:
        own = getattr(layer, "get_prunable_weights", None)
        return cls._weights(layer) if own is None else list(own())


def prunable_weights(layer: keras.Layer) -> list[Any]:
    """The weights of a layer that are pruned, whether Keras's or one that names them itself.

    Args:
        layer: any built layer; it stays as it is.

    Returns:
        A list of variables; empty if there are none or the layer is not known.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    >>> [weight.name for weight in prunable_weights(model.layers[0])]
    ['kernel']
    """
    known = hasattr(layer, "get_prunable_weights") or PruneRegistry.supports(layer)
    return PruneRegistry._own_or_known(layer) if known else []
