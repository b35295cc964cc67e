"""Random Keras graphs, for the tests that hold for every graph.

A graph is drawn as a `Recipe`: plain data, which Hypothesis shrinks and everyone can read, and from
which `build` makes the same model every time. Numbers in it are choices that the builder takes
modulo what is possible at that point, so any recipe is valid, and 0 is the plainest choice:

    Recipe(inputs=((0, 4, 3),), steps=(("convolve", 0, 4, 1), ("merge", 0, 2)), head=0, seed=7)

is a convolution of a 4 × 4 image and something merged with it. A step names a function below; its
first number says which tensor it takes. What no step took ends in the model's head.
"""

import functools
import math
from typing import NamedTuple

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers, ops

from support.operations import ENDS, OPERATIONS

__all__ = ["Recipe", "STEPS", "build", "load", "recipes", "sample"]

LARGEST = 60  # choices are below: divisible by 2, 3, 4, 5, 6, 10 and 12, so that all are alike
CHANNELS, SIDE = 16, 10  # steps that would exceed these leave their tensor alone
MOST_STEPS = 9
NAMES = [n for n in OPERATIONS if n != "PReLU as activation"]  # which is built when it first runs
STEPS = {}  # name -> (function, ranks it takes, numbers it reads)


class Recipe(NamedTuple):
    """A graph as data.

    Attributes:
        inputs: per input its kind (image, image of unknown size, tokens, vector), side, channels.
        steps: (name, *choices) each.
        head: how what is left over becomes outputs.
        seed: for weights, plan and inputs.
    """

    inputs: tuple
    steps: tuple
    head: int = 0
    seed: int = 0


def load(content):
    """A recipe from what JSON makes of one."""
    inputs, steps, head, seed = content
    return Recipe(tuple(map(tuple, inputs)), tuple(map(tuple, steps)), head, seed)


def recipes(most_steps=MOST_STEPS):
    """A Hypothesis strategy for recipes."""
    number = st.integers(0, LARGEST - 1)

    def step(name):
        return st.tuples(st.just(name), *[number] * STEPS[name][2])

    steps = st.lists(st.sampled_from(list(STEPS)).flatmap(step), min_size=2, max_size=most_steps)
    one = st.tuples(number, number, number)
    return st.builds(
        Recipe,
        st.lists(one, min_size=1, max_size=2).map(tuple),
        steps.map(tuple),
        number,
        st.integers(0, 2**16),
    )


def sample(random, most_steps=MOST_STEPS):
    """A recipe drawn with a `random.Random`, where Hypothesis would be too slow."""

    def numbers(count):
        return tuple(random.randrange(LARGEST) for _ in range(count))

    names = random.choices(list(STEPS), k=random.randint(2, most_steps))
    return Recipe(
        tuple(numbers(3) for _ in range(random.choice((1, 1, 2)))),
        tuple((name, *numbers(STEPS[name][2])) for name in names),
        *numbers(1),
        random.randrange(2**16),
    )


def build(recipe):
    """The model of a recipe."""
    inputs = [_input(*one) for one in recipe.inputs]
    open_ends = Tensors(inputs)
    for name, *numbers in recipe.steps:
        take = Choices(numbers)
        x = open_ends.source(take)
        y = STEPS[name][0](fit_rank(x, STEPS[name][1], take), take, open_ends)
        if y is not None:
            open_ends.used(x)
            open_ends.all += y if isinstance(y, list) else [y]
    head = _head(open_ends, Choices([recipe.head]))
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], head)


class Choices:
    """The numbers of a step, read one after the other; 0 when they have run out."""

    def __init__(self, numbers):
        self._numbers = iter(numbers)

    def __call__(self, options):
        """One of `options`, or a number below it."""
        number = next(self._numbers, 0)
        return number % options if isinstance(options, int) else options[number % len(options)]


class Tensors:
    """The tensors made so far, and which of them nothing has taken yet."""

    def __init__(self, tensors):
        self.all, self._used = list(tensors), set()

    def used(self, *tensors):
        self._used.update(id(x) for x in tensors)

    def leaves(self):
        return [x for x in self.all if id(x) not in self._used]

    def source(self, take):
        back = take((0, 0, 0, 0, 1, 2))
        return self.all[-1 - back % len(self.all)]

    def partner(self, x, take):
        """A tensor shaped like `x`: one there is, or one made from what has the same positions."""
        others = beside(x, self.all) or [x]
        y = others[take(len(others))]
        self.used(y)
        same = y.shape == x.shape and y is not x and take(3)
        return y if same else weigh(y, x.shape[-1], take)


def _input(kind, side, channels):
    kind, side, channels = kind % 5, 4 + side % 5, 1 + channels % 4
    return keras.Input(
        {2: (None, None, channels), 3: (side, channels + 1), 4: (channels + 3,)}.get(
            kind, (side, side, channels)
        )
    )


def _head(tensors, take):
    style = take(5)
    last, *others = tensors.leaves()[::-1]
    if style == 1:
        return {f"out{i}": layers.Dense(2)(pooled(x)) for i, x in enumerate([last, *others])}
    if style == 2 and known(last) and math.prod(last.shape[1:]) < 400:
        last = layers.Flatten()(last)
    maps = [weigh(last, 2, take)] if style == 3 else []
    ends = [pooled(x) for x in ([*others] if maps else [last, *others])]
    joined = layers.Concatenate()(ends) if len(ends) > 1 else ends[0] if ends else None
    vectors = [] if joined is None else [layers.Dense(3)(joined)]
    return [*maps, *vectors, *([last] if style == 4 and len(others) > 1 else [])]


# -- helpers ---------------------------------------------------------------------------------------


def step(ranks, numbers=6):
    def register(function):
        STEPS[function.__name__] = function, ranks, numbers
        return function

    return register


def known(x):
    return None not in x.shape[1:]


def beside(x, tensors):
    """The other tensors that certainly have the positions of `x`."""
    return [y for y in tensors if y is not x and known(x) and y.shape[1:-1] == x.shape[1:-1]]


def divisors(n):
    return [k for k in range(1, n + 1) if n % k == 0]


def pooled(x):
    """One vector per example."""
    pools = {4: layers.GlobalAveragePooling2D, 3: layers.GlobalAveragePooling1D}
    return pools[len(x.shape)]()(x) if len(x.shape) > 2 else x


def fit_rank(x, ranks, take):
    """`x` as an image (4), tokens (3) or a vector (2), whichever a step takes."""
    if len(x.shape) in ranks:
        return x
    if max(ranks) < len(x.shape):
        if 3 in ranks and known(x):
            return layers.Reshape((math.prod(x.shape[1:3]), x.shape[-1]))(x)
        return pooled(x) if 2 in ranks else layers.Reshape((1, x.shape[-1]))(pooled(x))
    if len(x.shape) == 3 and known(x):
        return layers.Reshape((x.shape[1], 1, x.shape[-1]))(x)
    x, rank = pooled(x), min(ranks)
    positions = (3, 2)[: rank - 2]
    x = layers.Dense(math.prod(positions) * 4, activation=take(("relu", "sigmoid")))(x)
    return layers.Reshape((*positions, 4))(x)


ACTIVATIONS = ("linear", "relu", "sigmoid", "softplus", "gelu", "tanh", "silu", "elu",
               "hard_sigmoid", "relu6", "leaky_relu", "softsign")  # fmt: skip


def weigh(x, units, take):
    """Another tensor of these positions."""
    activation, bias = take(ACTIVATIONS), take((True, True, False))
    if len(x.shape) == 4 and take(2):
        size = take((1, 3))
        return layers.Conv2D(units, size, padding="same", activation=activation, use_bias=bias)(x)
    return layers.Dense(units, activation=activation, use_bias=bias)(x)


def units_of(take):
    return 2 + take(11)


def room(x, size):
    """Whether every position axis is certainly longer than `size`."""
    return all(n is not None and n > size for n in x.shape[1:-1])


def head_count(x, take):
    """How many heads to split tokens into: not as many as there are tokens, because Keras on
    TensorFlow adds the bias (heads, 1) of heads pruned to size 1 along the tokens instead (its
    `ops.add` takes any vector as long as axis 1 for a bias of channels first)."""
    return take([n for n in (1, 2, 3, 4) if x.shape[1] not in (n, 2 * n)])


def scaled(x, factor):
    return x.shape[1] is not None and factor * max(x.shape[1:-1]) <= SIDE


# -- convolutions and dense layers -----------------------------------------------------------------


@step((3, 4), 10)
def convolve(x, take, _):
    units, size, stride = units_of(take), take((3, 1, 2, (1, 3))), take((1, 1, 2))
    padding = take(("same", "valid")) if room(x, 3) else "same"
    # Grouped ones are few: TensorFlow compiles each of them anew on a CPU.
    groups = take((1, 1, take([g for g in divisors(x.shape[-1]) if g <= 12])))
    units = groups * max(1, units // groups)
    if len(x.shape) == 3:
        size = size if isinstance(size, int) else 3
        if take(4) == 1:
            padding = "causal"
    options = dict(padding=padding, groups=groups, activation=take(ACTIVATIONS),
                   use_bias=take((True, False)))  # fmt: skip
    if stride == 1 and take(6) == 1:
        options["dilation_rate"] = 2 if padding == "same" else 1
    conv = layers.Conv2D if len(x.shape) == 4 else layers.Conv1D
    return conv(units, size, stride, **options)(x)


@step((3, 4))
def depthwise(x, take, _):
    multiplier = take([m for m in (1, 2, 3) if m * x.shape[-1] <= CHANNELS] or [1])
    conv = layers.DepthwiseConv2D if len(x.shape) == 4 else layers.DepthwiseConv1D
    return conv(take((3, 1, 2)), padding="same", depth_multiplier=multiplier,
                activation=take(ACTIVATIONS), use_bias=take((True, False)))(x)  # fmt: skip


@step((3, 4))
def separable(x, take, _):
    conv = layers.SeparableConv2D if len(x.shape) == 4 else layers.SeparableConv1D
    return conv(units_of(take), take((3, 1)), padding="same", depth_multiplier=1 + take(2),
                activation=take(ACTIVATIONS), use_bias=take((True, False)))(x)  # fmt: skip


@step((3, 4))
def transposed(x, take, _):
    conv = layers.Conv2DTranspose if len(x.shape) == 4 else layers.Conv1DTranspose
    stride = take((1, 2)) if scaled(x, 2) else 1
    return conv(units_of(take), take((3, 2)), stride, padding="same",
                activation=take(ACTIVATIONS), use_bias=take((True, False)))(x)  # fmt: skip


@step((2, 3, 4), 3)
def dense(x, take, _):
    return layers.Dense(units_of(take), activation=take(ACTIVATIONS))(x)


@step((3, 4), 3)
def flatten_dense(x, take, _):
    if not known(x) or math.prod(x.shape[1:]) > 400:
        return None
    return layers.Dense(units_of(take), activation=take(ACTIVATIONS))(layers.Flatten()(x))


@step((2, 3, 4), 7)
def dense_to_image(x, take, _):
    h, w, c = 2 + take(3), 2 + take(2), 2 + take(5)
    x = layers.Dense(h * w * c, activation=take(ACTIVATIONS))(pooled(x))
    if take(2):
        x = layers.BatchNormalization()(x)
    return layers.Reshape((h, w, c))(x) if take(2) else ops.reshape(x, (-1, h, w, c))


@step((3, 4), 8)
def einsum_dense(x, take, _):
    activation, units = take(ACTIVATIONS), units_of(take)
    style = take(4)
    if style == 0:
        return layers.EinsumDense("...x,xy->...y", units, bias_axes="y",
                                  activation=activation)(x)  # fmt: skip
    x = fit_rank(x, (3,), take)
    if style == 1:
        return layers.EinsumDense("abc,cd->abd", (None, units), activation=activation)(x)
    if style == 2 and x.shape[1]:  # along the tokens
        steps = x.shape[1] if take(2) else 3
        shape = steps, x.shape[-1]
        return layers.EinsumDense("abc,bd->adc", shape, activation=activation)(x)
    heads, size = head_count(x, take), 1 + take(4)
    x = layers.EinsumDense("btd,dhk->bthk", (None, heads, size), bias_axes="hk",
                           activation=activation)(x)  # fmt: skip
    return layers.EinsumDense("bthk,hkd->btd", (None, units), bias_axes=take(("d", None)))(x)


# -- normalisation and activations -----------------------------------------------------------------


@step((2, 3, 4), 4)
def batch_norm(x, take, _):
    return layers.BatchNormalization(scale=take((True, True, False)),
                                     center=take((True, True, False)))(x)  # fmt: skip


@step((3, 4), 4)
def group_norm(x, take, _):
    groups = take([-1, *divisors(x.shape[-1])])
    return layers.GroupNormalization(groups, scale=take((True, False)),
                                     center=take((True, False)))(x)  # fmt: skip


@step((2, 3, 4), 4)
def rms_norm(x, take, _):
    if take(6) == 1:
        return layers.UnitNormalization()(x)
    return layers.RMSNormalization()(x)


@step((2, 3, 4), 4)
def layer_norm(x, take, _):
    options = dict(scale=take((True, False)), center=take((True, False)))
    if len(x.shape) > 2 and known(x) and take(2):
        return layers.LayerNormalization(axis=1, **options)(x)
    return layers.LayerNormalization(**options)(x)


@step((2, 3, 4), 3)
def parametric_relu(x, take, _):
    positions = list(range(1, len(x.shape) - 1))
    shared = positions if not known(x) else take((positions, None, positions[:1]))
    return layers.PReLU(shared_axes=shared or None)(x)


@step((2, 3, 4), 4)
def activation(x, take, _):
    return take((
        layers.Activation(take(ACTIVATIONS)), layers.ReLU(take((None, 3.0))), layers.LeakyReLU(),
        layers.ELU(), layers.Activation("softmax"), lambda x: ops.tanh(x) + 1, ops.square,
        lambda x: ops.sin(x) * 2.0, lambda x: ops.clip(x, 0.5, 2.0), lambda x: ops.abs(x - 0.3),
    ))(x)  # fmt: skip


@step((2, 3, 4), 3)
def noise(x, take, _):
    if len(x.shape) == 4 and take(2):
        return layers.SpatialDropout2D(0.3)(x)
    return take((layers.Dropout(0.5), layers.GaussianNoise(0.3)))(x)


# -- positions -------------------------------------------------------------------------------------


@step((3, 4), 5)
def pool(x, take, _):
    dims = len(x.shape) - 2
    kind = take(("Max", "Average"))
    padding = take(("valid", "same")) if room(x, 1) else "same"
    return getattr(layers, f"{kind}Pooling{dims}D")(2, take((2, 1)), padding=padding)(x)


@step((3, 4), 4)
def enlarge(x, take, _):
    dims = len(x.shape) - 2
    style = take(3)
    if style == 2:
        return getattr(layers, f"ZeroPadding{dims}D")(1)(x) if scaled(x, 1) else None
    if not scaled(x, 2):
        return None
    if dims == 2 and style == 1:
        return layers.UpSampling2D(interpolation="bilinear")(x)
    return getattr(layers, f"UpSampling{dims}D")(2)(x)


@step((3, 4), 3)
def crop(x, take, _):
    dims = len(x.shape) - 2
    if not room(x, 2):
        return None
    return getattr(layers, f"Cropping{dims}D")(take((1, (0, 1) if dims == 1 else (1, 0))))(x)


@step((3, 4), 4)
def cut_positions(x, take, _):
    style = take(4)
    if style == 1:
        return x[:, ::-1]
    if not room(x, 2):
        return None
    if style == 0:
        return x[:, 1:]
    if style == 2:
        return x[:, -1]
    return ops.flip(x, axis=1) if len(x.shape) == 3 else x[:, ::2, :-1]


@step((2, 3, 4), 4)
def reduce_positions(x, take, _):
    axes = tuple(range(1, len(x.shape) - 1))
    if not axes:
        return None
    reduction = take((ops.mean, ops.max, ops.sum, ops.var, ops.min))
    return reduction(x, axis=axes) if take(2) else pooled(x)


@step((3, 4), 3)
def tokens_or_image(x, take, _):
    """Tokens become an image and an image tokens."""
    if not known(x):
        return None
    if len(x.shape) == 3:
        side = take(divisors(x.shape[1]))
        shape = (side, x.shape[1] // side, x.shape[-1])
    else:
        shape = (math.prod(x.shape[1:3]), x.shape[-1])
    return layers.Reshape(shape)(x) if take(2) else ops.reshape(x, (-1, *shape))


# -- several tensors -------------------------------------------------------------------------------


@step((2, 3, 4), 9)
def merge(x, take, tensors):
    how = take(("Add", "Add", "Multiply", "Maximum", "Average", "Subtract", "Minimum"))
    operator = take(3)
    y = tensors.partner(x, take)
    if operator == 1:
        return {"Add": ops.add, "Multiply": ops.multiply, "Maximum": ops.maximum,
                "Subtract": ops.subtract, "Minimum": ops.minimum,
                "Average": lambda a, b: ops.where(a > b, a, 0.5 * b)}[how](x, y)  # fmt: skip
    return getattr(layers, how)()([x, y])


@step((2, 3, 4), 9)
def residual(x, take, _):
    """x + f(x), the commonest join, with something between the two weights."""
    y = weigh(x, units_of(take), take)
    if len(x.shape) > 2 and take(2):
        y = layers.BatchNormalization()(y)
    return layers.Add()([x, layers.Dense(x.shape[-1], activation=take(ACTIVATIONS))(y)])


@step((2, 3, 4), 8)
def concatenate(x, take, tensors):
    y = weigh(x, units_of(take), take)
    others = beside(x, tensors.all)
    if others and take(2):
        y = others[take(len(others))]
        tensors.used(y)
    if x.shape[-1] + y.shape[-1] > 2 * CHANNELS:
        return None
    return layers.Concatenate()([x, y]) if take(2) else ops.concatenate([y, x], axis=-1)


@step((3, 4), 8)
def concatenate_positions(x, take, tensors):
    if not known(x) or 2 * x.shape[1] > 20:
        return None
    return layers.Concatenate(axis=1)([x, tensors.partner(x, take)])


@step((2, 3, 4), 8)
def stack(x, take, tensors):
    y, axis = tensors.partner(x, take), take((1, -1, len(x.shape) - 1))
    return take((ops.max, ops.mean, ops.sum))(ops.stack([x, y], axis=axis), axis=axis)


# -- channels --------------------------------------------------------------------------------------


def cuts_of(x, take, count):
    """Sorted, distinct indices inside the channels."""
    return sorted({1 + take(x.shape[-1] - 1) for _ in range(count)})


@step((2, 3, 4), 6)
def split(x, take, _):
    if x.shape[-1] < 2:
        return None
    if x.shape[-1] % 2 == 0 and take(3) == 0:
        return ops.split(x, 2, axis=-1)
    return ops.split(x, cuts_of(x, take, 2), axis=-1)


@step((2, 3, 4), 4)
def cut_channels(x, take, _):
    c = x.shape[-1]
    if c < 3:
        return None
    a, b = take(c - 1), take(c - 1)
    low, high = min(a, b), max(a, b) + 1
    return take((
        lambda: x[..., low:high], lambda: x[..., low - c : high - c], lambda: x[..., ::-1],
        lambda: x[..., -1 - low :], lambda: x[..., : -1 - low], lambda: x[..., low : low + 1],
        lambda: x[..., high : (low - 1 if low else None) : -1], lambda: x[..., ::2],
        lambda: ops.expand_dims(x[..., low], -1),
    ))()  # fmt: skip


@step((2, 3, 4), 4)
def pad_channels(x, take, _):
    widths = [[0, 0]] * (len(x.shape) - 1) + [[take(3), take(4)]]
    if x.shape[-1] + sum(widths[-1]) > CHANNELS:
        return None
    return ops.pad(x, widths, constant_values=take((None, None, 0.5)))


@step((2, 3, 4), 4)
def shuffle_channels(x, take, _):
    """(g, C / g) -> (C / g, g), as ShuffleNet does, or put back after work on the parts."""
    *positions, c = x.shape[1:]
    groups = take(divisors(c)[1:] or [1])
    if not known(x):
        return None
    swap, style = list(range(1, len(x.shape) + 1)), take(3)
    swap[-1], swap[-2] = swap[-2], swap[-1]
    if style == 0:
        y = layers.Permute(swap)(layers.Reshape((*positions, groups, c // groups))(x))
        return layers.Reshape((*positions, c))(y)
    y = ops.transpose(ops.reshape(x, (-1, *positions, groups, c // groups)), [0, *swap])
    if style == 2:
        y = ops.tanh(y) + 0.5
    return ops.reshape(y, (-1, *positions, c))


@step((4,), 4)
def shuffle_pixels(x, take, _):
    h, w, c = x.shape[1:]
    style = take(4)
    if style == 3 and known(x) and h % 2 == w % 2 == 0 and 4 * c <= 2 * CHANNELS:
        return ops.space_to_depth(x, 2) if hasattr(ops, "space_to_depth") else None
    if c % 4:
        x, c = layers.Conv2D(4 * (1 + take(3)), 1, activation=take(ACTIVATIONS))(x), None
        c = x.shape[-1]
    if not scaled(x, 2):
        return None
    if style == 1 and hasattr(ops, "depth_to_space"):
        return ops.depth_to_space(x, 2)
    if style == 2:  # channels outermost
        y = ops.transpose(ops.reshape(x, (-1, h, w, c // 4, 2, 2)), (0, 1, 4, 2, 5, 3))
    else:
        y = ops.transpose(ops.reshape(x, (-1, h, w, 2, 2, c // 4)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(y, (-1, 2 * h, 2 * w, c // 4))


@step((2, 3, 4), 3)
def repeat_channels(x, take, _):
    if 2 * x.shape[-1] > 2 * CHANNELS:
        return None
    times = (1,) * (len(x.shape) - 1)
    return take((
        lambda: ops.repeat(x, 2, axis=-1), lambda: ops.tile(x, (*times, 2)),
        lambda: ops.flip(x, axis=-1), lambda: ops.concatenate([x, -x], axis=-1),
        lambda: ops.roll(x, 1, axis=-1),
    ))()  # fmt: skip


@step((2, 3, 4), 4)
def reduce_channels(x, take, _):
    """A reduction over channels, put beside what it came from or in its place."""
    y = take((ops.mean, ops.max, ops.sum))(x, axis=-1, keepdims=True)
    return take((y, layers.Concatenate()([x, y]), x - y, x * y))


@step((2, 3, 4), 5)
def constants(x, take, _):
    values = np.linspace(-1.0, 1.5, x.shape[-1]).astype("float32")
    how = take((ops.multiply, ops.add, ops.maximum, ops.subtract))
    x = how(x, values) if take(2) else how(values, x)
    return layers.Rescaling(0.5, take((0.0, 0.3)))(x)


@step((3,), 3)
def single_operation(x, take, tensors):
    """One of the catalogue, where a masked channel is often not zero afterwards."""
    if not known(x) or x.shape[1] < 4:
        return None
    others = beside(x, tensors.all) or [x]
    y = OPERATIONS[NAMES[(LARGEST * take(LARGEST) + take(LARGEST)) % len(NAMES)]](
        x, others[take(len(others))])  # fmt: skip
    y = y if isinstance(y, keras.KerasTensor) else y[0]
    return None if y.shape[-1] is None or y.shape[-1] > 2 * CHANNELS else y


@step((3, 4), 1)
def counted(x, take, _):
    """What is exact only where masked channels are zero."""
    if not known(x) or math.prod(x.shape[1:-1]) > 40:
        return None
    return ENDS[take(("sum", "rms", "product"))](x)


# -- gates -----------------------------------------------------------------------------------------


@step((4,), 8)
def squeeze_excite(x, take, _):
    c, units = x.shape[-1], 1 + take(5)
    gate, inner = take(("sigmoid", "hard_sigmoid", "tanh")), take(("relu", "softplus", "silu"))
    style = take(3)
    if style == 1:
        s = layers.GlobalAveragePooling2D(keepdims=True)(x)
        s = layers.Conv2D(c, 1, activation=gate)(layers.Conv2D(units, 1, activation=inner)(s))
        return x * s
    s = ops.mean(x, axis=(1, 2)) if style == 2 else layers.GlobalAveragePooling2D()(x)
    s = layers.Dense(c, activation=gate)(layers.Dense(units, activation=inner)(s))
    if style == 2:
        return x * s[:, None, None, :]
    return layers.Multiply()([x, layers.Reshape((1, 1, c))(s)])


@step((2, 3, 4), 6)
def gate(x, take, _):
    """One number per position that all channels are multiplied with."""
    if len(x.shape) == 4 and take(2):
        many = [ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)]
        y = layers.Concatenate()(many)
    else:
        y = weigh(x, units_of(take), take)
    return layers.Multiply()([x, layers.Dense(1, activation="sigmoid")(y)])


@step((2, 3, 4), 8)
def gated_linear(x, take, _):
    """Two halves of one projection, one of them the gate of the other."""
    y = weigh(x, 2 * (1 + take(6)), take)
    a, b = ops.split(y, 2, axis=-1)
    return a * take((ops.sigmoid, ops.silu, ops.tanh))(b)


# -- shared and nested -----------------------------------------------------------------------------


@step((2, 3, 4), 10)
def shared_layer(x, take, tensors):
    """One layer on two tensors, on its own output, or on the same tensor twice."""
    c, style = x.shape[-1], take(3)
    if style == 0:
        layer = layers.Dense(c, activation=take(ACTIVATIONS))
        return layer(layer(x))
    units = units_of(take)
    if len(x.shape) == 4 and take(2):
        layer = layers.Conv2D(units, 3, padding="same", activation=take(ACTIVATIONS))
    else:
        layer = layers.Dense(units, activation=take(ACTIVATIONS))
    y = tensors.partner(x, take)
    return [layer(x), layer(y)] if style == 1 else layers.Add()([layer(x), layer(y)])


PLAIN = ("convolve", "batch_norm", "activation", "residual", "dense", "squeeze_excite",
         "depthwise", "group_norm", "split", "shuffle_channels", "cut_channels", "concatenate",
         "merge", "gate", "parametric_relu", "shared_layer", "constants")  # fmt: skip


def _submodel(shape, take, ending=None):
    """A model of its own with one or two plain steps, and maybe a last layer that fits."""
    x = inner = keras.Input(shape)
    for _ in range(1 + take(2)):
        function, ranks, numbers = STEPS[take(PLAIN)]
        choices = Choices([take(LARGEST) for _ in range(numbers)])
        y = function(fit_rank(x, ranks, take), choices, Tensors([inner]))
        x = x if y is None else y[0] if isinstance(y, list) else y
    if ending:
        x = ending(x)
    return keras.Model(inner, x) if x is not inner else None


@step((2, 3, 4), 24)
def nested(x, take, _):
    model = _submodel(x.shape[1:], take)
    return None if model is None else model(x)


@step((2, 3, 4), 24)
def nested_twice(x, take, tensors):
    """A model called on two tensors, or on its own output."""
    style = take(2)
    ending = layers.Dense(x.shape[-1]) if style == 0 else None
    y = x if style == 0 else tensors.partner(x, take)
    model = _submodel(x.shape[1:], take, ending)
    if model is None:
        return None
    if style == 0:
        same = model.output.shape == x.shape
        return model(model(x)) if same else model(x)
    return [model(x), model(y)]


@step((3, 4), 4)
def time_distributed(x, take, _):
    """The first axis of positions taken for time."""
    activation = take(ACTIVATIONS)
    if len(x.shape) == 3:
        return layers.TimeDistributed(layers.Dense(units_of(take), activation=activation))(x)
    if not known(x):
        return None
    inner = take((
        lambda: layers.Conv1D(units_of(take), 3, padding="same", activation=activation),
        lambda: layers.LSTM(units_of(take)), lambda: layers.GlobalMaxPooling1D(),
        lambda: layers.BatchNormalization(),
    ))()  # fmt: skip
    return layers.TimeDistributed(inner)(x)


# -- layers that people write ----------------------------------------------------------------------


class Written(layers.Layer):
    """A layer of some units, whose config tells them."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("random graphs")
class ShapedByHand(Written):
    """The batch and the number of positions are asked for; channels are what is left."""

    def build(self, shape):
        self.dense = layers.Dense(self.units)
        self.dense.build(shape)

    def call(self, x):
        y, shape = self.dense(x), ops.shape(x)
        flat = ops.reshape(y, (shape[0], math.prod(shape[1:-1]), -1))
        return ops.reshape(ops.sigmoid(flat), (*shape[:-1], -1))

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.units)


@keras.saving.register_keras_serializable("random graphs")
class Beside(Written):
    """Variables that meet each other, numbers and the batch before they meet a tensor."""

    def build(self, shape):
        self.row, self.scale = (
            self.add_weight(shape=(1,) * k + (shape[-1],), name=name, initializer="normal")
            for k, name in ((1, "row"), (0, "scale"))
        )

    def call(self, x):
        rows = ops.broadcast_to(self.row, (ops.shape(x)[0], ops.shape(x)[-1]))
        rows = ops.reshape(rows, (-1, *[1] * (len(x.shape) - 2), ops.shape(x)[-1]))
        return (x + rows * 0.5) * (1.0 + self.scale)


@keras.saving.register_keras_serializable("random graphs")
class Marked(Written):
    """Embeddings of a range, looked up with no tensor at hand."""

    def build(self, shape):
        self.table = layers.Embedding(3, shape[-1])
        self.table.build(())

    def call(self, x):
        return x + ops.sum(self.table(ops.arange(3)), axis=0)


@keras.saving.register_keras_serializable("random graphs")
class RootMeanSquare(layers.Layer):
    """Normalisation by the mean of squares, in one of several ways to write it.

    With the mean taken off before, it is layer normalisation by hand.
    """

    def __init__(self, way, epsilon, centred=False, **options):
        super().__init__(**options)
        self.way, self.epsilon, self.centred = way, epsilon, centred

    def build(self, shape):
        # Without a scale, what comes behind has to make good for the mean.
        shape = shape[-1:] if self.way else ()
        self.scale = self.add_weight(shape=shape, name="scale", initializer="normal")

    def call(self, x):
        epsilon, scale = self.epsilon, ops.cast(self.scale, "float32")
        if self.centred:
            x = x - ops.mean(x, axis=-1, keepdims=True)
        mean = ops.mean(ops.square(x), axis=-1, keepdims=True)
        match self.way:
            case 0:
                return x * ops.rsqrt(mean + epsilon)
            case 1:
                return x * ops.rsqrt(mean + epsilon) * self.scale
            case 2:
                return (1 + scale) * (x / ops.sqrt(epsilon + mean))
            case 3:
                return x * (self.scale * ops.reciprocal(ops.sqrt(ops.maximum(mean, epsilon))))
            case 4:
                y = ops.cast(x, "float32") * ops.power(mean + epsilon, -0.5) * (scale - 0.5)
                return ops.cast(y, x.dtype)
        return self.scale * x / ops.sqrt(mean + epsilon)

    def get_config(self):
        own = {"way": self.way, "epsilon": self.epsilon, "centred": self.centred}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("random graphs")
class Backwards(layers.Layer):
    """Through the kernel or the table of another layer the other way."""

    def __init__(self, other, **options):
        super().__init__(**options)
        self.other = other

    def call(self, x):
        table = isinstance(self.other, layers.Embedding)
        weights = self.other.embeddings if table else self.other.kernel
        return ops.matmul(x, ops.transpose(weights))

    def get_config(self):
        other = keras.saving.serialize_keras_object(self.other)
        return {**super().get_config(), "other": other}

    @classmethod
    def from_config(cls, config):
        other = keras.saving.deserialize_keras_object(config.pop("other"))
        return cls(other=other, **config)


@keras.saving.register_keras_serializable("random graphs")
class Attending(Written):
    """Attention in one layer: one projection, taken apart in one of several ways to write it."""

    def __init__(self, units, heads, way, **options):
        super().__init__(units, **options)
        self.heads, self.way = heads, way

    def build(self, shape):
        c = self.units * self.heads
        self.inside, self.out = layers.Dense(3 * c), layers.Dense(shape[-1])
        self.inside.build(shape)
        self.out.build((*shape[:-1], c))

    def call(self, x):
        b, n, _ = ops.shape(x)
        y = self.inside(x)
        if self.way % 3 == 0:
            three = [ops.reshape(z, (b, n, self.heads, -1)) for z in ops.split(y, 3, axis=-1)]
        else:
            y = ops.reshape(y, (b, n, 3, self.heads, -1))
            three = ops.unstack(y, axis=2) if self.way % 3 == 1 else [y[:, :, i] for i in range(3)]
        q, k, v = three
        if self.way < 3:
            y = ops.dot_product_attention(q, k, v, scale=0.5)
        else:
            weights = ops.softmax(0.5 * ops.einsum("bqhd,bkhd->bhqk", q, k))
            y = ops.einsum("bhqk,bkhd->bqhd", weights, v)
        return self.out(ops.reshape(y, (b, n, -1)))

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "way": self.way}


@keras.saving.register_keras_serializable("random graphs")
class Grid(keras.regularizers.Regularizer):
    """Wants as many channels as it was made for."""

    def __init__(self, units):
        self.units = units

    def __call__(self, x):
        return ops.sum(ops.square(ops.reshape(x, (-1, self.units))))

    def get_config(self):
        return {"units": self.units}


@step((2, 3, 4), 4)
def written(x, take, _):
    """A layer of one's own. (Behind a sum with an array Keras says that there is one example.)"""
    if not known(x) or x.shape[0] == 1:
        return None
    kind = take((ShapedByHand, Beside, Marked))
    return kind(units_of(take))(x)


@step((2, 3, 4), 6)
def by_root_mean_square(x, take, _):
    """Normalised by hand, which is exact but for what cannot make good for the mean."""
    return RootMeanSquare(take(6), take((1e-2, 1e-6)), take((False, False, True)))(x)


@step((2, 3, 4), 4)
def tied(x, take, _):
    """Down through a dense layer, and back up through its kernel."""
    dense = layers.Dense(units_of(take), activation=take(ACTIVATIONS))
    return Backwards(dense)(dense(x))


@step((3,), 4)
def tied_words(x, take, _):
    """The place of the largest channel as a word, embedded, and words again by the same table."""
    words = layers.Embedding(x.shape[-1], units_of(take))
    y = words(ops.argmax(x, axis=-1))
    if take(2):
        y = layers.Dense(y.shape[-1], activation=take(ACTIVATIONS))(y)
    return Backwards(words)(y) if take((True, True, False)) else y


@step((3,), 4)
def attention_in_a_layer(x, take, _):
    y = Attending(2 + take(3), 1 + take(3), take(6))(x) if known(x) and x.shape[0] != 1 else None
    return y if y is None or take(2) else layers.Add()([x, y])


@step((2, 3), 4)
def penalised(x, take, _):
    """A regulariser that is made for a size."""
    units = units_of(take)
    grid, name = Grid(units), take(("kernel_regularizer", "activity_regularizer"))
    return layers.Dense(units, activation=take(ACTIVATIONS), **{name: grid})(x)


@step((2, 3, 4), 6)
def by_name(x, take, tensors):
    """A model inside that takes a dict, and a sum that has an array in it."""
    y = tensors.partner(x, take)
    a, b = (keras.Input(t.shape[1:], name=name) for t, name in ((x, "a"), (y, "b")))
    inside = layers.Dense(units_of(take))(layers.Add()([a, b]))
    if take(2):
        inside = layers.Add()([inside, np.full((1,) * len(x.shape), 0.5, "float32")])
    return keras.Model({"a": a, "b": b}, inside)({"a": x, "b": y})


# -- tokens ----------------------------------------------------------------------------------------


@step((3,), 6)
def recurrent(x, take, _):
    units, sequences = units_of(take), take((True, False))
    kind = take((layers.LSTM, layers.GRU, layers.SimpleRNN,
                 functools.partial(layers.GRU, reset_after=False)))  # fmt: skip
    if x.shape[1] is None or x.shape[1] > 40:
        return None
    layer = kind(units, return_sequences=sequences)
    both = take((None, None, "concat", "sum", "ave"))
    return layer(x) if both is None else layers.Bidirectional(layer, merge_mode=both)(x)


@step((3,), 8)
def attention(x, take, tensors):
    heads, size, c = head_count(x, take), 2 + take(4), x.shape[-1]
    other = tensors.partner(x, take) if take(2) else x
    options = {"value_dim": 1 + take(4)} if take(2) else {}
    if keras.backend.backend() == "jax":  # Keras cannot run other sizes of values there
        options = {}
    if take(3) == 1:
        y = layers.GroupQueryAttention(size, 2 * heads, heads)(x, other)
    else:
        y = layers.MultiHeadAttention(heads, size, **options)(x, other)
    return layers.Add()([x, y]) if c == y.shape[-1] and take(2) else y


@step((3,), 8)
def attention_by_hand(x, take, _):
    heads, size, activation = 1 + take(3), 2 + take(3), take(ACTIVATIONS)
    if not known(x):
        return None
    steps, c = x.shape[1], heads * size

    def split_heads(x):
        return ops.transpose(ops.reshape(x, (-1, steps, heads, size)), (0, 2, 1, 3))

    if take(3) == 0:  # one projection for all three
        q, k, v = ops.split(layers.Dense(3 * c, use_bias=take((True, False)))(x), 3, axis=-1)
    else:
        q, k, v = layers.Dense(c, activation=activation)(x), layers.Dense(c)(x), layers.Dense(c)(x)
    q, k, v = split_heads(q), split_heads(k), split_heads(v)
    if take(2):
        weights = ops.softmax(q @ ops.transpose(k, (0, 1, 3, 2)) * size**-0.5)
        y = weights @ v
    else:
        weights = ops.softmax(ops.einsum("bhqd,bhkd->bhqk", q, k) * 0.5)
        y = ops.einsum("bhqk,bhkd->bhqd", weights, v)
    return ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (-1, steps, c))


@step((3,), 6)
def mix_tokens(x, take, _):
    if not known(x) or x.shape[1] > 36:
        return None
    y = layers.Dense(units_of(take), activation=take(ACTIVATIONS))(layers.Permute((2, 1))(x))
    y = layers.Permute((2, 1))(layers.Dense(x.shape[1])(y))
    return x + y if take(2) else y


# -- layouts ---------------------------------------------------------------------------------------


@step((4,), 8)
def channels_first(x, take, _):
    """A stretch with channels first; convolutions only where the backend runs them."""
    first = dict(data_format="channels_first")
    y = ops.transpose(x, (0, 3, 1, 2)) if take(2) else layers.Permute((3, 1, 2))(x)
    if keras.backend.backend() != "tensorflow":
        y = layers.Conv2D(units_of(take), 3, padding="same", activation=take(ACTIVATIONS),
                          **first)(y)  # fmt: skip
        y = layers.DepthwiseConv2D(3, padding="same", **first)(y)
    if take(2):
        y = layers.BatchNormalization(axis=1)(y)
    if take(2) and scaled(x, 2):
        y = layers.UpSampling2D(2, **first)(y)
    if take(3) == 1:
        return layers.GlobalMaxPooling2D(**first)(y)
    if take(3) == 1 and known(y) and math.prod(y.shape[1:]) < 400:
        return layers.Dense(units_of(take))(layers.Flatten(**first)(y))
    return layers.Permute((2, 3, 1))(y)
