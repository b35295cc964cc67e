"""The graphs people write, by name: small models that the tests read, prune and compare."""

import keras
from keras import layers, ops

__all__ = ["GRAPHS", "build"]

GRAPHS = {}


def graph(build):
    GRAPHS[build.__name__] = build
    return build


def build(name):
    return GRAPHS[name]()


def conv(x, filters, size=3, **options):
    x = layers.Conv2D(filters, size, padding="same", **options)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def head(x, classes=3):
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D()(x)
    elif len(x.shape) == 3:
        x = layers.GlobalAveragePooling1D()(x)
    return layers.Dense(classes, name="head")(x)


def image(size=8, channels=3):
    return keras.Input((size, size, channels))


@graph
def plain():
    i = image()
    return keras.Model(i, head(conv(conv(i, 8), 12)))


@graph
def sequential_flatten():
    return keras.Sequential(
        [
            image(), layers.Conv2D(6, 3, activation="relu"), layers.MaxPooling2D(),
            layers.Flatten(), layers.Dense(10, activation="tanh"), layers.Dropout(0.5),
            layers.Dense(3, name="head"),
        ]
    )  # fmt: skip


@graph
def flatten_channels_last_padded():
    i = image(5)
    x = layers.ZeroPadding2D(1)(layers.Conv2D(6, 3)(i))
    return keras.Model(i, layers.Dense(3)(layers.Flatten()(x)))


@graph
def residual():
    i = image()
    s = conv(i, 8)
    x = layers.Add()([s, conv(conv(s, 6), 8)])
    return keras.Model(i, head(layers.Add()([x, conv(x, 8)])))


@graph
def shared_layer_siamese():
    a, b = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    tower = keras.Sequential(
        [image(), layers.Conv2D(8, 3, activation="relu"), layers.GlobalMaxPooling2D(),
         layers.Dense(6)], name="tower")  # fmt: skip
    distance = ops.sum(ops.square(tower(a) - tower(b)), axis=-1, keepdims=True)
    return keras.Model([a, b], layers.Dense(2)(distance))


@graph
def shared_conv_on_two_tensors():
    i = image()
    shared = layers.Conv2D(6, 3, padding="same")
    x = shared(conv(i, 8)) + shared(conv(i, 8))
    return keras.Model(i, head(x))


@graph
def one_relu_for_all():
    i = image()
    relu = layers.ReLU()
    x = relu(layers.Conv2D(8, 3)(i))
    return keras.Model(i, head(relu(layers.Conv2D(5, 3)(x))))


@graph
def several_inputs_and_outputs():
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((4,), name="b")
    x = layers.GlobalAveragePooling2D()(conv(a, 8))
    y = layers.Dense(6, activation="relu")(b)
    z = layers.Dense(7, activation="relu")(layers.Concatenate()([x, y]))
    return keras.Model({"a": a, "b": b}, {"one": layers.Dense(2)(z), "two": layers.Dense(3)(y)})


@graph
def transfer_in_sequential():
    i = image()
    backbone = keras.Model(i, conv(conv(i, 8), 6), name="backbone")
    backbone.trainable = False
    return keras.Sequential([image(), backbone, layers.GlobalAveragePooling2D(), layers.Dense(3)])


@graph
def transfer_with_training_false():
    i = keras.Input((None, None, 3))
    backbone = keras.Model(i, conv(conv(i, 8), 6), name="backbone")
    j = image()
    x = layers.Rescaling(1 / 127.5, -1)(j)
    return keras.Model(j, head(backbone(x, training=False)))


@graph
def nested_called_twice():
    i = keras.Input((8, 8, 4))
    block = keras.Model(i, conv(conv(i, 6), 4), name="block")
    j = image()
    return keras.Model(j, head(block(block(conv(j, 4)))))


@graph
def nested_in_nested():
    i = keras.Input((8, 8, 3))
    inner = keras.Model(i, conv(i, 6), name="inner")
    j = keras.Input((8, 8, 3))
    outer = keras.Model(j, conv(inner(j), 5), name="outer")
    k = image()
    return keras.Model(k, head(outer(k)))


@graph
def nested_with_own_outputs_unused():
    i = image()
    a = conv(i, 6)
    b = conv(a, 5)
    two = keras.Model(i, [a, b])
    j = image()
    _, y = two(j)
    return keras.Model(j, head(y))


@graph
def time_distributed():
    i = keras.Input((3, 8, 8, 3))
    x = layers.TimeDistributed(layers.Conv2D(6, 3, activation="relu"))(i)
    x = layers.TimeDistributed(layers.BatchNormalization())(x)
    x = layers.TimeDistributed(layers.Flatten())(x)
    x = layers.TimeDistributed(layers.Dense(5))(x)
    return keras.Model(i, layers.Dense(2)(layers.LSTM(4)(x)))


@graph
def time_distributed_model():
    i = image()
    frame = keras.Model(i, layers.GlobalAveragePooling2D()(conv(i, 6)))
    j = keras.Input((3, 8, 8, 3))
    return keras.Model(
        j, head(layers.GRU(5, return_sequences=True)(layers.TimeDistributed(frame)(j)))
    )


@graph
def recurrent_behind_convolutions():
    i = keras.Input((12, 3))
    x = layers.Conv1D(6, 3, activation="relu")(i)
    x = layers.Bidirectional(layers.LSTM(5, return_sequences=True))(x)
    x = layers.GRU(6, return_sequences=True, reset_after=False)(x)
    x = layers.Bidirectional(layers.SimpleRNN(4), merge_mode="sum")(x)
    return keras.Model(i, layers.Dense(2)(x))


@graph
def encoder_decoder_states():
    i = keras.Input((6, 3))
    x, h, c = layers.LSTM(5, return_state=True)(layers.Dense(4)(i))
    y = layers.LSTM(5, return_sequences=True)(i, initial_state=[h, c])
    return keras.Model(i, layers.Dense(2)(layers.Concatenate()([y[:, -1], x])))


@graph
def embedding_masked():
    i = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=True)(i)
    x = layers.LSTM(6, return_sequences=True)(x)
    return keras.Model(i, layers.Dense(2)(layers.LSTM(4)(x)))


@graph
def u_net():
    i = image()
    a = conv(i, 6)
    b = conv(layers.MaxPooling2D()(a), 8)
    c = layers.Conv2DTranspose(5, 2, strides=2, activation="relu")(b)
    d = conv(layers.Concatenate()([a, c]), 6)
    return keras.Model(i, layers.Conv2D(2, 1, activation="sigmoid")(d))


@graph
def depthwise_multiplier():
    i = image()
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(conv(i, 5))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(i, head(layers.Conv2D(6, 1)(x)))


@graph
def depthwise_on_the_image():
    i = image()
    x = layers.DepthwiseConv2D(3, depth_multiplier=4)(i)
    return keras.Model(i, head(conv(x, 6)))


@graph
def separable():
    i = image()
    x = layers.SeparableConv2D(8, 3, depth_multiplier=2, activation="relu")(conv(i, 4))
    return keras.Model(i, head(x))


@graph
def grouped():
    i = image()
    x = layers.Conv2D(8, 3, groups=2, padding="same", activation="relu")(conv(i, 12))
    return keras.Model(i, head(layers.Conv2D(6, 3, groups=3)(conv(x, 9))))


@graph
def grouped_as_depthwise():
    i = image()
    x = layers.Conv2D(6, 3, groups=6, padding="same")(conv(i, 6))
    return keras.Model(i, head(layers.Conv2D(10, 3, groups=5)(conv(x, 5))))


@graph
def dense_to_image():
    i = keras.Input((5,))
    x = layers.Reshape((4, 4, 6))(layers.Dense(4 * 4 * 6, activation="relu")(i))
    x = layers.Conv2DTranspose(5, 3, strides=2, padding="same")(layers.BatchNormalization()(x))
    return keras.Model(i, layers.Conv2D(1, 3)(x))


@graph
def pixel_shuffle():
    i = image(4)
    x = layers.Conv2D(12, 3, padding="same")(i)
    x = ops.reshape(x, (-1, 4, 4, 2, 2, 3))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 8, 8, 3))
    return keras.Model(i, layers.Conv2D(2, 3)(x))


@graph
def channel_shuffle():
    i = image()
    x = layers.Conv2D(12, 1, groups=3)(conv(i, 9))
    x = layers.Permute((1, 2, 4, 3))(layers.Reshape((8, 8, 3, 4))(x))
    x = layers.Reshape((8, 8, 12))(x)
    return keras.Model(i, head(layers.Conv2D(6, 3, groups=3)(x)))


@graph
def shuffle_net_split():
    i = image()
    x = conv(i, 8)
    a, b = ops.split(x, 2, axis=-1)
    x = ops.concatenate([a, conv(b, 4)], axis=-1)
    x = layers.Reshape((8, 8, 2, 4))(x)
    x = layers.Reshape((8, 8, 8))(ops.transpose(x, (0, 1, 2, 4, 3)))
    return keras.Model(i, head(conv(x, 5)))


@graph
def uneven_splits_and_slices():
    i = image()
    x = conv(i, 12)
    a, b, c = ops.split(x, [3, 7], axis=-1)
    y = layers.Concatenate()([conv(a, 4), b, layers.Conv2D(2, 1)(c)])
    z = y[..., 2:9] + layers.Conv2D(7, 1)(x)
    return keras.Model(i, head(z[:, 1:, :-1, ::-1]))


@graph
def squeeze_excite_reshape():
    i = image()
    x = conv(i, 8)
    s = layers.GlobalAveragePooling2D()(x)
    s = layers.Dense(4, activation="relu")(s)
    s = layers.Reshape((1, 1, 8))(layers.Dense(8, activation="sigmoid")(s))
    return keras.Model(i, head(layers.Multiply()([x, s])))


@graph
def squeeze_excite_convolutions():
    i = image()
    x = conv(i, 8)
    s = layers.GlobalAveragePooling2D(keepdims=True)(x)
    s = layers.Conv2D(3, 1, activation="relu")(s)
    s = layers.Activation("hard_sigmoid")(layers.Conv2D(8, 1)(s))
    return keras.Model(i, head(x * s))


@graph
def squeeze_excite_ops():
    i = image()
    x = conv(i, 8)
    s = ops.mean(x, axis=(1, 2))
    s = ops.sigmoid(layers.Dense(8)(ops.relu(layers.Dense(4)(s))))
    return keras.Model(i, head(x * s[:, None, None, :]))


@graph
def one_channel_gate():
    i = image()
    x = conv(i, 8)
    gate = layers.Conv2D(1, 1, activation="sigmoid")(conv(x, 4))
    return keras.Model(i, head(x * gate))


@graph
def spatial_attention():
    i = image()
    x = conv(i, 8)
    mean = ops.mean(x, axis=-1, keepdims=True)
    most = ops.max(x, axis=-1, keepdims=True)
    gate = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(
        layers.Concatenate()([mean, most])
    )
    return keras.Model(i, head(conv(x * gate, 6)))


@graph
def multi_head_attention():
    i = keras.Input((6, 5))
    x = layers.Dense(8)(i)
    y = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.Add()([x, y])
    return keras.Model(i, head(layers.Dense(8, activation="gelu")(x)))


@graph
def multi_head_attention_of_two_widths():
    i = keras.Input((6, 5))
    x = layers.Dense(8)(i)
    return keras.Model(i, head(layers.MultiHeadAttention(2, 4, value_dim=3, use_bias=False)(i, x)))


@graph
def grouped_query_attention():
    i = keras.Input((6, 5))
    x = layers.Dense(8)(i)
    x = x + layers.GroupQueryAttention(4, 4, 2)(x, x)
    return keras.Model(i, head(x))


@graph
def attention_by_hand():
    i = keras.Input((6, 5))
    q, k, v = (layers.Dense(8)(i) for _ in range(3))

    def heads(x):
        return ops.transpose(ops.reshape(x, (-1, 6, 2, 4)), (0, 2, 1, 3))

    scores = ops.softmax(heads(q) @ ops.transpose(heads(k), (0, 1, 3, 2)) / 2.0)
    x = ops.reshape(ops.transpose(scores @ heads(v), (0, 2, 1, 3)), (-1, 6, 8))
    return keras.Model(i, head(layers.Dense(5)(x)))


@graph
def attention_with_einsum():
    i = keras.Input((6, 5))
    q, k, v = (
        layers.EinsumDense("btd,dhk->bthk", (None, 2, 4), bias_axes="hk")(i) for _ in range(3)
    )
    scores = ops.softmax(ops.einsum("bqhk,bshk->bhqs", q, k))
    x = ops.einsum("bhqs,bshk->bqhk", scores, v)
    x = layers.EinsumDense("bthk,hkd->btd", (None, 7), bias_axes="d")(x)
    return keras.Model(i, head(x))


@graph
def attention_layers():
    i = keras.Input((6, 5))
    q, v = layers.Dense(8)(i), layers.Dense(8)(i)
    x = layers.Attention()([q, v])
    y = layers.AdditiveAttention()([layers.Dense(4)(i), layers.Dense(4)(i)])
    return keras.Model(i, head(layers.Concatenate()([x, y])))


@graph
def attention_on_sigmoid():
    i = keras.Input((6, 5))
    q = layers.Dense(8, activation="sigmoid")(i)
    k = layers.Dense(8, activation="sigmoid")(i)
    return keras.Model(i, head(layers.Dense(4)(layers.Dot(axes=(2, 2))([q, k]))))


@graph
def einsum_dense():
    i = keras.Input((6, 5))
    x = layers.EinsumDense("...x,xy->...y", 8, bias_axes="y", activation="relu")(i)
    x = layers.EinsumDense("abc,cd->abd", (None, 7))(x)
    return keras.Model(i, head(x))


@graph
def conv_1d_and_3d():
    a, b = keras.Input((12, 3)), keras.Input((4, 4, 4, 2))
    x = layers.Conv1D(6, 3, activation="relu")(a)
    x = layers.Conv1DTranspose(5, 3)(layers.ZeroPadding1D(2)(layers.MaxPooling1D()(x)))
    x = layers.SeparableConv1D(4, 3)(layers.Cropping1D(1)(layers.UpSampling1D()(x)))
    y = layers.Conv3D(6, 2, activation="relu")(b)
    y = layers.Conv3DTranspose(4, 2)(layers.MaxPooling3D()(y))
    z = layers.Concatenate()([layers.Flatten()(x), layers.GlobalMaxPooling3D()(y)])
    return keras.Model([a, b], layers.Dense(2)(z))


@graph
def unknown_sizes():
    i = keras.Input((None, None, 3))
    x = conv(i, 8)
    y = layers.UpSampling2D()(layers.MaxPooling2D()(x))
    x = conv(layers.Concatenate()([x, y]), 6)
    return keras.Model(i, head(layers.Add()([x, conv(x, 6)])))


@graph
def unknown_sequence_length():
    i = keras.Input((None, 4))
    x = layers.Conv1D(8, 3, padding="causal")(i)
    x = ops.reshape(x, (-1, ops.shape(x)[1] or -1, 8)) if x.shape[1] else x
    return keras.Model(i, head(layers.LSTM(5, return_sequences=True)(x)))


@graph
def group_norm():
    i = image()
    x = layers.GroupNormalization(4)(layers.Conv2D(12, 3)(i))
    x = layers.GroupNormalization(-1)(layers.Conv2D(6, 3)(layers.Activation("silu")(x)))
    return keras.Model(i, head(x))


@graph
def layer_norm_and_rms_norm():
    i = keras.Input((6, 5))
    x = layers.LayerNormalization()(layers.Dense(8)(i))
    x = layers.Dense(6, activation="relu")(x)
    x = layers.RMSNormalization()(x)
    return keras.Model(i, head(layers.UnitNormalization()(layers.Dense(7)(x))))


@graph
def layer_norms_of_a_stream():
    i = keras.Input((6, 5))
    x = layers.Dense(8)(i)
    for options in ({}, {"scale": False}, {"center": False, "axis": [2]}):
        y = layers.LayerNormalization(**options)(x)
        x = x + layers.Dense(8)(layers.Dense(5, activation="relu")(y))
    x = layers.Permute((2, 1))(x)  # channels first
    x = layers.LayerNormalization(axis=1)(x)
    norm = layers.LayerNormalization(scale=False, center=False, name="shared")
    x = norm(layers.Dense(7)(layers.Permute((2, 1))(x))) + norm(layers.Dense(7)(i))
    half = layers.LayerNormalization(name="late")(layers.Dense(6, "sigmoid", name="half")(i))
    return keras.Model(i, head(ops.concatenate([x, half], axis=-1)))


@graph
def p_relu():
    i = image()
    x = layers.PReLU()(layers.Conv2D(6, 3)(i))
    x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(5, 3)(x))
    return keras.Model(i, head(x))


@graph
def activations():
    i = image()
    x = layers.LeakyReLU()(layers.Conv2D(6, 3, activation="softplus")(i))
    x = layers.ELU()(layers.Conv2D(6, 1, activation="sigmoid")(x))
    x = layers.Activation(lambda v: ops.tanh(v) + 1)(layers.Conv2D(6, 1)(x))
    x = layers.Conv2D(6, 1, activation=lambda v: ops.exp(v))(x)
    return keras.Model(i, head(layers.Softmax()(layers.Conv2D(6, 1)(x))))


@graph
def padded_shortcut():
    i = image()
    x = conv(i, 6)
    y = layers.Conv2D(10, 3, strides=2, padding="same")(x)
    short = ops.pad(layers.AveragePooling2D(2)(x), [[0, 0], [0, 0], [0, 0], [2, 2]])
    return keras.Model(i, head(layers.ReLU()(y + short)))


@graph
def padded_shortcut_layer():
    i = image()
    x = conv(i, 6)
    y = layers.Conv2D(10, 3, padding="same")(x)
    short = layers.ZeroPadding2D(((0, 0), (1, 3)), data_format="channels_first")(x)
    return keras.Model(i, head(layers.ReLU()(y + short)))


@graph
def padded_shortcut_lambda():
    i = image()
    x = conv(i, 6)
    y = layers.Conv2D(10, 3, strides=2, padding="same")(x)
    short = layers.Lambda(lambda v: ops.pad(v[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [2, 2]]))(x)
    return keras.Model(i, head(layers.ReLU()(y + short)))


@graph
def lambdas():
    i = image()
    x = layers.Lambda(lambda v: v * 2 + 1)(conv(i, 6))
    x = layers.Lambda(lambda v: ops.concatenate([v, -v], axis=-1))(x)
    return keras.Model(i, head(layers.Lambda(lambda v: v[..., 2:])(x)))


@graph
def constants():
    i = image()
    x = conv(i, 4) * ops.array([1.0, 2.0, 3.0, 4.0]) + 0.5
    x = ops.maximum(x, 0.25)
    return keras.Model(i, head(ops.clip(conv(x, 5), 0.0, 6.0)))


@graph
def stack_and_take():
    i = image()
    x, y = conv(i, 6), conv(i, 6)
    z = ops.max(ops.stack([x, y], axis=1), axis=1)
    w = ops.repeat(conv(z, 4), 2, axis=-1)
    w = ops.tile(w, (1, 1, 1, 2))
    return keras.Model(i, head(ops.flip(w, axis=-1)))


@graph
def concatenated_positions():
    i = keras.Input((6, 5))
    x, y = layers.Dense(8)(i), layers.Dense(8)(i)
    z = layers.Concatenate(axis=1)([x, y])
    return keras.Model(i, layers.Dense(3)(layers.Flatten()(z)))


@graph
def mixer():
    i = keras.Input((6, 8))
    x = layers.Dense(10)(i)
    y = layers.Permute((2, 1))(x)
    y = layers.Dense(6)(layers.Dense(7, activation="gelu")(y))
    x = x + layers.Permute((2, 1))(y)
    return keras.Model(i, head(layers.Dense(5)(x)))


@graph
def inner_product():
    a, b = keras.Input((5,)), keras.Input((5,))
    x, y = layers.Dense(8)(a), layers.Dense(8)(b)
    return keras.Model([a, b], layers.Dot(axes=1, normalize=True)([x, y]))


@graph
def scatter_of_reductions():
    i = image()
    x = conv(i, 6)
    y = layers.Concatenate()(
        [layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x), ops.var(x, (1, 2))]
    )
    return keras.Model(i, layers.Dense(3)(layers.Dense(6, activation="relu")(y)))


@graph
def resizing_and_noise():
    i = image()
    x = layers.Resizing(6, 6)(conv(i, 6))
    x = layers.SpatialDropout2D(0.2)(layers.GaussianNoise(0.1)(x))
    x = layers.UpSampling2D(interpolation="bilinear")(layers.Cropping2D(1)(x))
    return keras.Model(i, head(layers.ActivityRegularization(0.1)(conv(x, 5))))


@graph
def conv_lstm():
    i = keras.Input((3, 6, 6, 2))
    x = layers.ConvLSTM2D(5, 3, padding="same", return_sequences=True)(i)
    x = layers.ConvLSTM2D(4, 3, padding="same")(x)
    return keras.Model(i, head(x))


@graph
def conv_to_tokens():
    i = image()
    x = layers.Reshape((16, 6))(layers.Conv2D(6, 2, strides=2)(i))
    x = x + layers.MultiHeadAttention(2, 3)(x, x)
    return keras.Model(i, head(layers.Dense(5, activation="relu")(x)))


@graph
def mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return residual()
    finally:
        keras.config.set_dtype_policy("float32")


# -- custom layers --


@keras.saving.register_keras_serializable("graphs")
class LayerScale(layers.Layer):
    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim

    def build(self, shape):
        self.gamma = self.add_weight(shape=(self.dim,), name="gamma")

    def call(self, x):
        return x * self.gamma

    def get_config(self):
        return {**super().get_config(), "dim": self.dim}


@keras.saving.register_keras_serializable("graphs")
class LowRank(layers.Layer):
    def __init__(self, rank, units, **kwargs):
        super().__init__(**kwargs)
        self.rank, self.units = rank, units

    def build(self, shape):
        self.down = self.add_weight(shape=(shape[-1], self.rank), name="down")
        self.up = self.add_weight(shape=(self.rank, self.units), name="up")
        self.bias = self.add_weight(shape=(self.units,), name="bias")

    def call(self, x):
        return ops.matmul(ops.matmul(x, self.down), self.up) + self.bias

    def get_config(self):
        return {**super().get_config(), "rank": self.rank, "units": self.units}


@keras.saving.register_keras_serializable("graphs")
class Block(layers.Layer):
    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.one = layers.Conv2D(filters, 3, padding="same", name="one")
        self.norm = layers.BatchNormalization(name="norm")
        self.two = layers.Conv2D(filters, 3, padding="same", name="two")

    def call(self, x, training=None):
        return x + self.two(ops.relu(self.norm(self.one(x), training=training)))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable("graphs")
class DropPath(layers.Layer):
    def __init__(self, rate=0.2, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, x, training=None):
        if not training:
            return x
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        return x * ops.floor(1 - self.rate + keras.random.uniform(shape, seed=self.seed_generator))

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("graphs")
class NumbersOnly(layers.Layer):
    """Cannot be followed on symbolic tensors, yet works channel by channel."""

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("numbers only")
        return ops.tanh(x) * 2

    def compute_output_shape(self, shape):
        return shape


@keras.saving.register_keras_serializable("graphs")
class Sorted(layers.Layer):
    """Cannot be followed, and mixes channels: has to be frozen."""

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("numbers only")
        return ops.sort(x, axis=-1)

    def compute_output_shape(self, shape):
        return shape


@graph
def custom_layer_scale():
    i = image()
    x = conv(i, 8)
    return keras.Model(i, head(x + LayerScale(8)(layers.Conv2D(8, 3, padding="same")(x))))


@graph
def custom_low_rank():
    i = keras.Input((5,))
    x = LowRank(6, 9)(layers.Dense(8, activation="relu")(i))
    return keras.Model(i, head(LowRank(4, 4)(ops.relu(x))))


@graph
def custom_blocks():
    i = image()
    x = Block(6)(conv(i, 6))
    return keras.Model(i, head(Block(6)(DropPath()(x))))


@graph
def custom_probed():
    i = image()
    x = NumbersOnly()(conv(i, 6))
    return keras.Model(i, head(Sorted()(conv(x, 5))))


class Net(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = layers.Conv2D(8, 3, padding="same", name="stem")
        self.norm = layers.BatchNormalization(name="norm")
        self.block = Block(8, name="block")
        self.pool = layers.GlobalAveragePooling2D()
        self.out = layers.Dense(3, name="out")

    def call(self, x, training=None):
        x = ops.relu(self.norm(self.stem(x), training=training))
        return self.out(self.pool(self.block(x)))


@graph
def subclassed():
    model = Net()
    model(ops.zeros((1, 8, 8, 3)))
    return model


@graph
def class_token():
    @keras.saving.register_keras_serializable("graphs")
    class Token(layers.Layer):
        def build(self, shape):
            self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")

        def call(self, x):
            token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
            return ops.concatenate([token, x], axis=1)

    i = keras.Input((6, 5))
    return keras.Model(i, head(layers.Dense(4)(Token()(layers.Dense(8)(i)))))


@graph
def position_embedding():
    @keras.saving.register_keras_serializable("graphs")
    class Position(layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=shape[1:], name="table")

        def call(self, x):
            return x + self.table

    i = keras.Input((6, 5))
    return keras.Model(i, head(layers.Dense(4)(Position()(layers.Dense(8)(i)))))


@graph
def adapted_normalization():
    i = image()
    norm = layers.Normalization()
    norm.adapt(keras.random.normal((16, 8, 8, 3), 1.0, 2.0, seed=0))
    return keras.Model(i, head(conv(norm(i), 6)))
