"""Single operations, to be put between channels that go and something that counts channels.

What stands behind them (a sum over channels, an RMS norm, a product) is exact only where a masked
channel holds zero, and a dense layer only where it holds a finite number. So these are what an
operation must not be believed lightly.

    OPERATIONS["subtract from the input"](x, image)

takes a tensor of channels and the model's input, which has as many positions.
"""

import functools

import keras
import numpy as np
from keras import layers, ops

__all__ = ["ENDS", "IMAGES", "OPERATIONS", "SOURCES", "build"]

CHANNELS = 6
TOKENS, PICTURE = (5, 4), (6, 5, 3)


class Shift(layers.Layer):
    """Adds a variable of some shape."""

    def __init__(self, shape, **kwargs):
        super().__init__(**kwargs)
        self.shape = tuple(shape)

    def build(self, shape):
        self.p = self.add_weight(shape=self.shape, name="p")

    def call(self, x):
        return x + self.p

    def get_config(self):
        return {**super().get_config(), "shape": self.shape}


class ScaledByWidth(layers.Layer):
    def call(self, x):
        return x * float(x.shape[-1]) ** 0.5


class MeanByHand(layers.Layer):
    def call(self, x):
        return ops.sum(x, axis=-1, keepdims=True) / x.shape[-1]


class WideOnly(layers.Layer):
    """Does something else where there are few channels."""

    def call(self, x):
        return ops.relu(x) if x.shape[-1] > 4 else ops.sigmoid(x)


class Counting(layers.Layer):
    """Assigns to a variable whenever it is called."""

    def build(self, shape):
        self.n = self.add_weight(shape=(), name="n", initializer="zeros", trainable=False)

    def call(self, x, training=False):
        self.n.assign_add(1.0)
        return ops.tanh(x)


def _dense(x, **options):
    """As many channels as `x` has."""
    return layers.Dense(x.shape[-1], **options)


def _parts(x):
    """Into how many groups its channels can be cut."""
    return next(n for n in (3, 2, 1) if x.shape[-1] % n == 0)


def _unary():
    names = """abs arctan arcsinh cbrt ceil cos cosh erf exp expm1 floor log1p logical_not negative
        nan_to_num ones_like relu relu6 round rsqrt sigmoid sign silu sin sinh softplus softsign
        sqrt square tan tanh trunc zeros_like log reciprocal arccos arcsin arccosh arctanh elu selu
        gelu celu hard_sigmoid hard_silu hard_tanh leaky_relu log_sigmoid soft_shrink hard_shrink
        tanh_shrink threshold sparse_plus sparse_sigmoid squareplus isnan isfinite""".split()
    for name in names:
        function = getattr(ops, name, None)
        if name == "threshold":
            yield name, lambda x, i: ops.threshold(x, 0.1, 0.4)
        elif function is not None:
            yield name, lambda x, i, f=function: ops.cast(f(x), "float32")
    yield "clip above zero", lambda x, i: ops.clip(x, 0.5, 2.0)
    yield "clip of a numpy number", lambda x, i: ops.clip(x, np.float32(-0.5), np.float32(1))
    yield "clip per channel", lambda x, i: ops.clip(x, np.linspace(-1, 0, x.shape[-1]), 2.0)
    yield "log of a square", lambda x, i: ops.log(ops.square(x))
    yield "exp minus one", lambda x, i: ops.exp(x) - 1.0
    yield "sigmoid minus a half", lambda x, i: ops.sigmoid(x) - 0.5
    yield "twice clipped", lambda x, i: ops.clip(x, 0.5, 2.0) - ops.clip(x, 0.5, 1.0)


def _binary():
    both = {
        "add": ops.add, "subtract": ops.subtract, "multiply": ops.multiply, "divide": ops.divide,
        "divide_no_nan": ops.divide_no_nan, "maximum": ops.maximum, "minimum": ops.minimum,
        "power": lambda a, b: ops.power(ops.abs(a), b), "mod": ops.mod, "arctan2": ops.arctan2,
        "logaddexp": ops.logaddexp,
        "greater": lambda a, b: ops.cast(ops.greater(a, b), "float32"),
        "less_equal": lambda a, b: ops.cast(ops.less_equal(a, b), "float32"),
        "equal": lambda a, b: ops.cast(ops.equal(a, b), "float32"),
        "where": lambda a, b: ops.where(a > 0.2, a, b), "or": lambda a, b: ops.cast(
            ops.logical_or(a > 0, b > 0), "float32"),
    }  # fmt: skip
    others = {
        "a negative number": lambda x, i: -0.7, "a positive number": lambda x, i: 1.5,
        "numbers per channel": lambda x, i: np.linspace(-1, 1, x.shape[-1]).astype("float32"),
        "the input": lambda x, i: i[..., :1], "one channel": lambda x, i: layers.Dense(1)(i),
        "other channels": lambda x, i: _dense(x, activation="sigmoid")(i), "itself": lambda x, i: x,
    }  # fmt: skip
    for name, function in both.items():
        for other, make in others.items():
            yield f"{name}, {other}", lambda x, i, f=function, m=make: f(x, m(x, i))
            if name in ("subtract", "divide", "greater", "arctan2", "where", "power"):
                yield f"{name} reversed, {other}", lambda x, i, f=function, m=make: f(m(x, i), x)
    for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"):
        for other in ("one channel", "other channels"):
            make = others[other]
            yield (
                f"{name}, {other}",
                lambda x, i, n=name, m=make: getattr(layers, n)()([x, m(x, i)]),
            )
    yield "Average of three", lambda x, i: layers.Average()(
        [ops.sigmoid(x), x, -ops.sigmoid(x)])  # fmt: skip
    yield "where, a number", lambda x, i: ops.where(i[..., :1] > 0, x, -1.0)
    yield "where, zero", lambda x, i: ops.where(i[..., :1] > 0, x, 0.0)
    yield (
        "numbers per position",
        lambda x, i: x + np.linspace(-1, 1, x.shape[1])[:, None].astype("float32"),
    )
    yield "Rescaling", lambda x, i: layers.Rescaling(2.0, -1.0)(x)
    yield "Rescaling back", lambda x, i: layers.Rescaling(2.0, -1.0)(ops.sigmoid(x))


def _reductions():
    for name in ("mean", "max", "min", "sum", "prod", "std", "var", "logsumexp", "median",
                 "argmax", "count_nonzero", "any"):  # fmt: skip
        function = getattr(ops, name)
        axis = (1,) if name == "logsumexp" else 1  # for which Keras 3.10 takes no number
        yield f"{name} over positions", lambda x, i, f=function, a=axis: ops.cast(
            f(x, axis=a), "float32")  # fmt: skip
    for name in ("cumsum", "cumprod", "sort"):
        function = getattr(ops, name)
        yield f"{name} over positions", lambda x, i, f=function: f(x, axis=1)
    yield "softmax over positions", lambda x, i: ops.softmax(x, axis=1)
    yield "pooled", lambda x, i: layers.GlobalAveragePooling1D()(x)
    yield "max pooled", lambda x, i: layers.MaxPooling1D(2, padding="same")(x)
    yield "average pooled", lambda x, i: layers.AveragePooling1D(2, padding="same")(x)
    yield "padded", lambda x, i: layers.ZeroPadding1D(1)(x)
    yield "padded with a number", lambda x, i: ops.pad(
        x, ((0, 0), (1, 0), (0, 0)), constant_values=0.7)  # fmt: skip
    yield "padded with what is there", lambda x, i: ops.pad(
        x, ((0, 0), (1, 0), (0, 0)), mode="reflect")  # fmt: skip
    yield "channels padded with a number", lambda x, i: ops.pad(
        x, ((0, 0), (0, 0), (1, 0)), constant_values=0.7)  # fmt: skip
    yield "lower triangle", lambda x, i: ops.tril(x)
    yield "beside a sigmoid", lambda x, i: ops.concatenate([x, ops.sigmoid(x)], axis=1)
    yield "sigmoids side by side", lambda x, i: ops.concatenate([ops.sigmoid(x)] * 2, axis=1) - 0.5
    yield "split in one", lambda x, i: ops.split(x, 1, axis=-1)[0]


def _normalisations():
    for scale in (True, False):
        for center in (True, False):
            options = dict(scale=scale, center=center)
            text = f"scale={scale}, center={center}"
            yield f"batch norm, {text}", lambda x, i, o=options: layers.BatchNormalization(**o)(x)
            yield (
                f"group norm, {text}",
                lambda x, i, o=options: layers.GroupNormalization(_parts(x), **o)(x),
            )
            yield f"one group each, {text}", lambda x, i, o=options: layers.GroupNormalization(
                -1, **o)(x)  # fmt: skip
            yield (
                f"layer norm over positions, {text}",
                lambda x, i, o=options: layers.LayerNormalization(axis=1, **o)(x),
            )
            yield f"layer norm, {text}", lambda x, i, o=options: layers.LayerNormalization(**o)(x)
    yield "RMS norm", lambda x, i: layers.RMSNormalization()(x)
    yield (
        "RMS norm over positions",
        lambda x, i: layers.RMSNormalization(axis=1)(layers.Dense(x.shape[1])(x)),
    )
    yield "unit norm", lambda x, i: layers.UnitNormalization()(x)
    yield "unit norm over positions", lambda x, i: layers.UnitNormalization(axis=1)(x)
    yield "normalize over positions", lambda x, i: ops.normalize(x, axis=1)
    yield "no epsilon", lambda x, i: layers.BatchNormalization(epsilon=0.0)(x)
    yield "PReLU", lambda x, i: layers.PReLU()(x)
    yield "PReLU, shared", lambda x, i: layers.PReLU(shared_axes=[1])(x - 0.3)
    yield "PReLU, one slope", lambda x, i: layers.PReLU(shared_axes=[1, 2])(x - 0.3)
    yield "spectral norm", lambda x, i: layers.SpectralNormalization(_dense(x))(x)


def _layers():
    own = dict(return_sequences=True)
    for kind in (layers.LSTM, layers.GRU, layers.SimpleRNN):
        for name in ("tanh", "sigmoid", "relu"):
            yield f"{kind.__name__}, {name}", lambda x, i, k=kind, n=name: k(
                x.shape[-1], activation=n, **own)(x)  # fmt: skip
    yield "two lambdas", lambda x, i: layers.LSTM(
        x.shape[-1], activation=lambda v: ops.sigmoid(v), **own)(
        layers.LSTM(x.shape[-1], activation=lambda v: ops.tanh(v), **own)(x))  # fmt: skip
    yield "LSTM from a state", lambda x, i: layers.LSTM(x.shape[-1], **own)(
        i, initial_state=[ops.sigmoid(x[:, 0]), x[:, 1]])  # fmt: skip
    for mode in ("concat", "sum", "mul", "ave"):
        yield f"both directions, {mode}", lambda x, i, m=mode: layers.Bidirectional(
            layers.LSTM(4, **own), merge_mode=m)(x)  # fmt: skip
    yield "both directions apart", lambda x, i: ops.multiply(
        *layers.Bidirectional(layers.GRU(4, **own), merge_mode=None)(x))  # fmt: skip
    for axes in ("b", "d", "bd", None):
        yield f"einsum, bias {axes}", lambda x, i, a=axes: layers.EinsumDense(
            "abc,cd->abd", (x.shape[1], 6), bias_axes=a)(x)  # fmt: skip
    yield "einsum along positions", lambda x, i: layers.EinsumDense(
        "abc,bd->adc", (4, x.shape[-1]), bias_axes="d")(x)  # fmt: skip
    yield "einsum, as many", lambda x, i: layers.EinsumDense(
        "abc,bd->adc", (x.shape[-1], x.shape[-1]), bias_axes="d")(x)  # fmt: skip
    yield "einsum, half as many", lambda x, i: layers.EinsumDense(
        "abc,bd->adc", (3, x.shape[-1]), bias_axes="d")(x)  # fmt: skip
    for gate in (False, True):
        if "use_gate" not in layers.MultiHeadAttention.__init__.__code__.co_varnames and gate:
            continue
        options = dict(use_gate=True) if gate else {}
        yield f"attention, gate={gate}", lambda x, i, o=options: layers.MultiHeadAttention(
            2, 4, value_dim=3, **o)(x, x)  # fmt: skip
        yield f"grouped attention, gate={gate}", lambda x, i, o=options: layers.GroupQueryAttention(
            4, 4, 2, **o)(x, _dense(x)(i))  # fmt: skip
    yield "dot attention", lambda x, i: layers.Attention()([x, _dense(x)(i)])
    yield "additive attention", lambda x, i: layers.AdditiveAttention()([x, _dense(x)(i)])
    yield "PReLU as activation", lambda x, i: _dense(x, activation=layers.PReLU())(x)
    yield "LeakyReLU as activation", lambda x, i: _dense(x, activation=layers.LeakyReLU(0.3))(x)
    yield "one dense", lambda x, i: layers.Dense(1)(x)
    yield "embedding", lambda x, i: x + layers.Embedding(7, x.shape[-1])(
        ops.cast(ops.abs(i[..., 0]), "int32"))  # fmt: skip
    shapes = {
        "(1)": lambda p, c: (1,), "(channels)": lambda p, c: (c,), "()": lambda p, c: (),
        "(positions, 1)": lambda p, c: (p, 1), "(positions, channels)": lambda p, c: (p, c),
    }  # fmt: skip
    for name, shape in shapes.items():
        yield f"variable {name}", lambda x, i, s=shape: Shift(s(*x.shape[1:]))(x)
    yield "variable as long as half", lambda x, i: Shift((3, 1))(x[:, :3])
    for kind in (ScaledByWidth, MeanByHand, WideOnly, Counting):
        yield kind.__name__, lambda x, i, k=kind: k()(x)
    yield "lambda of its width", lambda x, i: layers.Lambda(lambda v: v / v.shape[-1])(x)
    yield "masked", lambda x, i: layers.Masking()(x)
    yield (
        "time distributed",
        lambda x, i: layers.TimeDistributed(_dense(x, activation="sigmoid"))(x),
    )


OPERATIONS = dict([*_unary(), *_binary(), *_reductions(), *_normalisations(), *_layers()])


def _images():
    for name, options in (("", {}), (", padded", dict(pad_to_aspect_ratio=True, fill_value=3.0))):
        yield f"Resizing{name}", lambda x, i, o=options: layers.Resizing(5, 5, **o)(x)
        yield f"resize{name}", lambda x, i, o=options: ops.image.resize(x, (5, 5), **o)
    yield "affine transform", lambda x, i: ops.image.affine_transform(
        x, np.array([[1.0, 0, 3, 0, 1, 0, 0, 0]] * 2, "float32"), fill_mode="constant",
        fill_value=2.0)  # fmt: skip
    yield "pad images", lambda x, i: ops.image.pad_images(x, 1, 1, 1, 1)
    yield "ConvLSTM1D, sigmoid", lambda x, i: layers.ConvLSTM1D(6, 3, activation="sigmoid")(x)
    yield "ConvLSTM1D, tanh", lambda x, i: layers.ConvLSTM1D(6, 3)(x)
    yield "depthwise", lambda x, i: layers.DepthwiseConv2D(3, activation="sigmoid")(x)
    yield "separable", lambda x, i: layers.SeparableConv2D(6, 3, depth_multiplier=2)(x)
    yield "transposed", lambda x, i: layers.Conv2DTranspose(6, 3)(x)
    yield "grouped", lambda x, i: layers.Conv2D(6, 3, groups=3)(x)
    yield "up", lambda x, i: layers.UpSampling2D(2, interpolation="bilinear")(x)
    yield "crop", lambda x, i: layers.CenterCrop(3, 3)(x)
    yield "max pooled", lambda x, i: layers.MaxPooling2D(2, padding="same")(x)
    if hasattr(layers, "AdaptiveAveragePooling2D"):  # not in Keras 3.10
        yield "adaptive", lambda x, i: layers.AdaptiveAveragePooling2D(2)(x)
    yield "random flip", lambda x, i: layers.RandomFlip()(x)
    yield "random erasing", lambda x, i: layers.RandomErasing()(x)
    yield "channels first", lambda x, i: layers.BatchNormalization(axis=1, scale=False)(
        layers.Permute((3, 1, 2))(x))  # fmt: skip
    yield "moments", lambda x, i: ops.moments(x, axes=(1, 2))[1]
    yield "dropout", lambda x, i: layers.SpatialDropout2D(0.3)(x)


IMAGES = dict(_images())

SOURCES = {"linear": "linear", "sigmoid": "sigmoid"}


def _product(x):
    """Every position with every other, over channels."""
    x = ops.reshape(x, (-1, int(np.prod(x.shape[1:-1])), x.shape[-1]))
    return ops.matmul(x, ops.transpose(x, (0, 2, 1)))


ENDS = {
    "sum": lambda x: ops.sum(x, axis=-1, keepdims=True),
    "rms": lambda x: layers.RMSNormalization()(x),
    "product": _product,
    "dense": lambda x: x,
}


def build(name, source, end, images=False):
    """A model with one operation of the catalogue, or None where the parts do not fit."""
    i = keras.Input(PICTURE if images else TOKENS)
    kind = functools.partial(layers.Conv2D, kernel_size=1) if images else layers.Dense
    first = kind(CHANNELS, activation=SOURCES[source])
    y = (IMAGES if images else OPERATIONS)[name](first(i), i)
    y = y if isinstance(y, keras.KerasTensor) else y[0]
    if len(y.shape) < 3 and end == "product":
        return None
    return keras.Model(i, layers.Dense(2)(ENDS[end](y)))
