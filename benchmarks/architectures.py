"""What people build with Keras, small and in one's own words: pruned, and the law checked.

    python benchmarks/architectures.py --tflite
    python benchmarks/architectures.py --only unet swin nerf

Three dozen architectures as tutorials have them: classifiers, transformers, segmentation, audio,
text, tables, graphs, points, generators. Each is traced with random weights, random channels of
each group go, and it is checked as `benchmarks/kerashub.py` does; the columns are explained there.
The command leaves with 1 if a difference is above 1e-4.
"""

import argparse
import functools
import math
import pathlib
import sys

import keras
import kerashub
import numpy as np
import one_by_one
from keras import layers, ops
from keras.layers import Conv2D, Dense

Input = keras.Input
BUILDERS = {}  # name -> function that builds the model


def builds(function):
    BUILDERS[function.__name__] = function
    return function


class Own(layers.Layer):
    """A layer that files of models know by its name."""

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        keras.saving.register_keras_serializable("architectures")(cls)


class Sized(Own):
    """A layer that remembers the numbers that it was made with."""

    def __init__(self, *numbers, **options):
        super().__init__(**options)
        self.numbers = numbers

    @classmethod
    def from_config(cls, config):
        return cls(*config.pop("numbers"), **config)

    def get_config(self):
        return {**super().get_config(), "numbers": self.numbers}


# -- images --


@builds
def convmixer():
    x = image = Input((16, 16, 3))
    x = layers.BatchNormalization()(Conv2D(12, 2, 2, activation="gelu")(x))
    for _ in range(2):
        y = layers.DepthwiseConv2D(3, padding="same", activation="gelu")(x)
        x = layers.Add()([layers.BatchNormalization()(y), x])
        x = layers.BatchNormalization()(Conv2D(12, 1, activation="gelu")(x))
    return keras.Model(image, Dense(5)(layers.GlobalAveragePooling2D()(x)))


class Patches(Sized):
    """Squares of an image, one after the other."""

    def call(self, images):
        (size,) = self.numbers
        patches = ops.image.extract_patches(images, size)
        b, h, w, c = ops.shape(patches)
        return ops.reshape(patches, (b, h * w, c))


class Placed(Sized):
    """Adds what is learnt of each place, looked up in a table."""

    def build(self, shape):
        self.table = layers.Embedding(shape[1], shape[2])
        self.table.build((shape[1],))

    def call(self, x):
        return x + self.table(ops.arange(0, ops.shape(x)[1], 1))


def patches(width, size=4):
    """An image as patches of some width."""
    image = Input((16, 16, 3))
    return image, Placed()(Dense(width)(Patches(size)(image)))


def perceptron(x, width, units):
    return Dense(units)(Dense(width, activation="gelu")(x))


@builds
def mlp_mixer():
    image, x = patches(12)
    for _ in range(2):
        y = layers.Permute((2, 1))(layers.LayerNormalization()(x))
        x = x + layers.Permute((2, 1))(perceptron(y, 10, 16))
        x = x + perceptron(layers.LayerNormalization()(x), 24, 12)
    return keras.Model(image, Dense(5)(layers.GlobalAveragePooling1D()(x)))


@builds
def vit():
    image, x = patches(12)
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([layers.MultiHeadAttention(2, 6, dropout=0.1)(y, y), x])
        y = layers.Dropout(0.1)(perceptron(layers.LayerNormalization(epsilon=1e-6)(x), 24, 12))
        x = layers.Add()([y, x])
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(x))
    return keras.Model(image, Dense(5)(Dense(20, activation="gelu")(x)))


class ClassToken(Own):
    """One more token in front."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")

    def call(self, x):
        return ops.concatenate([ops.repeat(self.token, ops.shape(x)[0], 0), x], axis=1)


@builds
def distilled_vit():
    image, x = patches(12)
    x = ClassToken()(ClassToken()(x))
    for _ in range(2):
        y = layers.RMSNormalization()(x)
        x = x + layers.MultiHeadAttention(2, 6)(y, y)
        x = x + perceptron(layers.RMSNormalization()(x), 24, 12)
    return keras.Model(image, [Dense(5)(x[:, 0]), Dense(5)(x[:, 1])])


class Windows(Sized):
    """Attention in windows of a map, which may be shifted."""

    def build(self, shape):
        heads, size, _ = self.numbers
        self.three = Dense(3 * shape[-1])
        self.three.build(shape)
        self.out = Dense(shape[-1])
        self.out.build(shape)
        self.bias = self.add_weight(shape=(heads, size**2, size**2), name="bias")

    def call(self, x):
        (heads, n, shift), (b, h, w, c) = self.numbers, ops.shape(x)
        x = ops.roll(x, (-shift, -shift), axis=(1, 2))
        x = ops.transpose(ops.reshape(x, (b, h // n, n, w // n, n, c)), (0, 1, 3, 2, 4, 5))
        y = ops.reshape(
            self.three(ops.reshape(x, (-1, n * n, c))), (-1, n * n, 3, heads, c // heads)
        )
        q, k, v = (y[:, :, i] for i in range(3))
        weights = ops.einsum("bqhd,bkhd->bhqk", q, k) * (c // heads) ** -0.5
        y = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(weights + self.bias), v)
        y = ops.reshape(self.out(ops.reshape(y, (-1, n * n, c))), (b, h // n, w // n, n, n, c))
        y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (b, h, w, c))
        return ops.roll(y, (shift, shift), axis=(1, 2))


@builds
def swin():
    image = Input((16, 16, 3))
    x = Conv2D(12, 2, 2)(image)
    for shift in (0, 2):
        x = x + Windows(2, 4, shift)(layers.LayerNormalization()(x))
        x = x + perceptron(layers.LayerNormalization()(x), 24, 12)
    y = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]  # patches are merged
    x = Dense(24, use_bias=False)(layers.LayerNormalization()(ops.concatenate(y, axis=-1)))
    return keras.Model(image, Dense(5)(layers.GlobalAveragePooling2D()(x)))


class Fourier(Own):
    """The real part of what is over tokens and channels."""

    def call(self, x):
        return ops.fft2((x, ops.zeros_like(x)))[0]


@builds
def fnet():
    image, x = patches(12)
    for _ in range(2):
        x = layers.LayerNormalization()(x + Fourier()(x))
        x = layers.LayerNormalization()(x + perceptron(x, 24, 12))
    return keras.Model(image, Dense(5)(layers.GlobalAveragePooling1D()(x)))


class SpatialGate(Own):
    """One half of the channels, mixed along the tokens, gates the other."""

    def build(self, shape):
        self.norm, self.mix = layers.LayerNormalization(), Dense(shape[1], bias_initializer="ones")
        self.norm.build((*shape[:-1], shape[-1] // 2))
        self.mix.build((shape[0], shape[-1] // 2, shape[1]))

    def call(self, x):
        u, v = ops.split(x, 2, axis=-1)
        v = ops.transpose(self.norm(v), (0, 2, 1))
        return u * ops.transpose(self.mix(v), (0, 2, 1))


@builds
def gmlp():
    image, x = patches(12)
    for _ in range(2):
        y = Dense(24, activation="gelu")(layers.LayerNormalization()(x))
        x = x + Dense(12)(SpatialGate()(y))
    return keras.Model(image, Dense(5)(layers.GlobalAveragePooling1D()(x)))


def external_attention(x, heads, size):
    n, c = x.shape[1:]
    y = layers.Permute((2, 1, 3))(layers.Reshape((n, heads, c // heads))(Dense(c)(x)))
    y = layers.Softmax(axis=2)(Dense(size)(y))
    y = y / (1e-9 + ops.sum(y, axis=-1, keepdims=True))
    y = layers.Permute((2, 1, 3))(Dense(c // heads)(y))
    return Dense(c)(layers.Reshape((n, c))(y))


@builds
def eanet():
    image, x = patches(12)
    for _ in range(2):
        x = x + external_attention(layers.LayerNormalization()(x), 2, 8)
        x = x + perceptron(layers.LayerNormalization()(x), 24, 12)
    return keras.Model(image, Dense(5)(layers.GlobalAveragePooling1D()(x)))


@builds
def compact_transformer():
    image = Input((16, 16, 3))
    x = Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = layers.Reshape((64, 12))(Conv2D(12, 3, padding="same", activation="relu")(x))
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(2, 6)(y, y)
        x = x + perceptron(layers.LayerNormalization()(x), 24, 12)
    weights = ops.transpose(ops.softmax(Dense(1)(x), axis=1), (0, 2, 1))  # how much each counts
    return keras.Model(image, Dense(5)(ops.squeeze(ops.matmul(weights, x), 1)))


@builds
def mobilevit():
    image = Input((16, 16, 3))
    x = Conv2D(8, 3, 2, padding="same", activation="silu")(image)
    y = Conv2D(16, 1, use_bias=False)(x)
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
    y = layers.Activation("silu")(layers.BatchNormalization()(y))
    x = x + layers.BatchNormalization()(Conv2D(8, 1, use_bias=False)(y))
    y = Conv2D(12, 1)(Conv2D(8, 3, padding="same", activation="silu")(x))
    y = layers.Reshape((4, 16, 12))(y)
    z = layers.LayerNormalization()(y)
    y = y + layers.MultiHeadAttention(2, 6)(z, z)
    y = y + perceptron(layers.LayerNormalization()(y), 24, 12)
    y = Conv2D(8, 1, activation="silu")(layers.Reshape((8, 8, 12))(y))
    x = Conv2D(16, 3, padding="same", activation="silu")(layers.Concatenate()([x, y]))
    return keras.Model(image, Dense(5)(layers.GlobalAveragePooling2D()(x)))


def convolved(x, filters, **options):
    x = Conv2D(filters, 3, padding="same", use_bias=False, **options)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


@builds
def unet():
    image = Input((16, 16, 3))
    x, kept = image, []
    for filters in (8, 12):
        x = convolved(convolved(x, filters), filters)
        kept.append(x)
        x = layers.MaxPooling2D()(x)
    x = convolved(x, 16)
    for filters in (12, 8):
        x = layers.Conv2DTranspose(filters, 2, 2, padding="same")(x)
        x = convolved(layers.Concatenate()([x, kept.pop()]), filters)
    return keras.Model(image, Conv2D(3, 1, activation="softmax")(x))


@builds
def deeplab():
    image = Input((32, 32, 3))
    low = convolved(image, 8, strides=2)
    x = convolved(convolved(low, 16, strides=2), 16, strides=2)
    y = ops.mean(x, axis=(1, 2), keepdims=True)
    y = layers.UpSampling2D(4, interpolation="bilinear")(Conv2D(8, 1, activation="relu")(y))
    y = layers.Concatenate()([y, *(convolved(x, 8, dilation_rate=r) for r in (1, 2, 3))])
    y = layers.UpSampling2D(4, interpolation="bilinear")(convolved(y, 12))
    x = convolved(layers.Concatenate()([y, convolved(low, 6)]), 12)
    return keras.Model(image, Conv2D(3, 1)(layers.UpSampling2D(2, interpolation="bilinear")(x)))


@builds
def autoencoder():
    image = Input((16, 16, 1))
    x = Conv2D(8, 3, activation="relu", padding="same")(image)
    x = Conv2D(8, 3, activation="relu", padding="same")(layers.MaxPooling2D()(x))
    x = layers.Conv2DTranspose(8, 3, 2, activation="relu", padding="same")(x)
    return keras.Model(image, Conv2D(1, 3, activation="sigmoid", padding="same")(x))


class Sampling(Own):
    """A point from a normal distribution."""

    def call(self, inputs):
        mean, log_variance = inputs
        return mean + ops.exp(0.5 * log_variance) * keras.random.normal(ops.shape(mean), seed=7)


@builds
def variational_encoder():
    image = Input((16, 16, 1))
    x = Conv2D(8, 3, 2, activation="relu", padding="same")(image)
    x = Conv2D(12, 3, 2, activation="relu", padding="same")(x)
    x = Dense(16, activation="relu")(layers.Flatten()(x))
    mean, log_variance = Dense(2)(x), Dense(2)(x)
    return keras.Model(image, [mean, log_variance, Sampling()([mean, log_variance])])


@builds
def variational_autoencoder():
    image = Input((16, 16, 1))
    x = Dense(16, activation="relu")(layers.Flatten()(Conv2D(8, 3, 2, activation="relu")(image)))
    z = Sampling()([Dense(6)(x), Dense(6)(x)])
    x = layers.Reshape((4, 4, 8))(Dense(128, activation="relu")(z))
    x = layers.Conv2DTranspose(8, 3, 2, activation="relu", padding="same")(x)
    return keras.Model(image, layers.Conv2DTranspose(1, 3, 2, padding="same")(x))


class Distance(Own):
    """Between two vectors."""

    def call(self, a, b):
        return ops.sqrt(ops.maximum(ops.sum(ops.square(a - b), axis=1, keepdims=True), 1e-7))


@builds
def siamese():
    inner = Input((16, 16, 1))
    x = layers.AveragePooling2D(2)(
        Conv2D(6, 5, activation="tanh")(layers.BatchNormalization()(inner))
    )
    x = layers.Flatten()(layers.AveragePooling2D(2)(Conv2D(8, 3, activation="tanh")(x)))
    tower = keras.Model(inner, Dense(10, activation="tanh")(layers.BatchNormalization()(x)))
    a, b = Input((16, 16, 1)), Input((16, 16, 1))
    y = layers.BatchNormalization()(Distance()(tower(a), tower(b)))
    return keras.Model([a, b], Dense(1, activation="sigmoid")(y))


@builds
def contrastive():
    image = Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D()(convolved(convolved(image, 8, strides=2), 12, strides=2))
    x = layers.UnitNormalization()(Dense(8)(Dense(16, activation="relu")(x)))
    return keras.Model(image, x)


@builds
def keypoints():
    image = Input((32, 32, 3))
    x = layers.Rescaling(1 / 127.5, -1)(image)
    for filters in (8, 12, 16):
        x = convolved(x, filters, strides=2)
    x = layers.Dropout(0.3)(x)
    x = layers.SeparableConv2D(12, 3, activation="relu")(x)
    return keras.Model(image, layers.SeparableConv2D(8, 2, activation="sigmoid")(x))


@builds
def super_resolution():
    image = Input((None, None, 1))
    x = Conv2D(12, 5, activation="relu", padding="same")(image)
    x = Conv2D(8, 3, activation="relu", padding="same")(x)
    x = Conv2D(9, 3, activation="relu", padding="same")(x)
    return keras.Model(image, ops.depth_to_space(x, 3) if hasattr(ops, "depth_to_space") else x)


class Curves(Own):
    """Brightens an image several times, by a curve of its own each."""

    def call(self, image, curves):
        for curve in ops.split(curves, 4, axis=-1):
            image = image + curve * (ops.square(image) - image)
        return image


@builds
def low_light():
    image = Input((None, None, 3))
    conv = functools.partial(Conv2D, kernel_size=3, padding="same", activation="relu")
    first = conv(8)(image)
    second = conv(8)(first)
    third = conv(8)(second)
    x = conv(8)(layers.Concatenate()([third, second]))
    curves = Conv2D(12, 3, padding="same", activation="tanh")(layers.Concatenate()([x, first]))
    return keras.Model(image, Curves()(image, curves))


@builds
def generator():
    noise, label = Input((10,)), Input((3,))
    x = Dense(4 * 4 * 8)(layers.Concatenate()([noise, label]))
    x = layers.Reshape((4, 4, 8))(layers.LeakyReLU(negative_slope=0.2)(x))
    for filters in (12, 8):
        x = layers.Conv2DTranspose(filters, 4, 2, padding="same", use_bias=False)(x)
        x = layers.LeakyReLU(negative_slope=0.2)(layers.BatchNormalization()(x))
    return keras.Model([noise, label], Conv2D(1, 5, padding="same", activation="sigmoid")(x))


class Reflected(Sized):
    """Padding with what is inside."""

    def call(self, x):
        (n,) = self.numbers
        return ops.pad(x, ((0, 0), (n, n), (n, n), (0, 0)), mode="reflect")


@builds
def cycle_generator():
    image = Input((16, 16, 3))
    x = layers.GroupNormalization(groups=-1)(Conv2D(8, 3)(Reflected(1)(image)))
    for _ in range(2):
        y = layers.ReLU()(layers.GroupNormalization(groups=-1)(Conv2D(8, 3)(Reflected(1)(x))))
        x = layers.Add()([x, layers.GroupNormalization(groups=-1)(Conv2D(8, 3)(Reflected(1)(y)))])
    return keras.Model(image, Conv2D(3, 3, activation="tanh")(Reflected(1)(x)))


# -- video, volumes --


@builds
def next_frame():
    video = Input((None, 8, 8, 1))
    x = layers.ConvLSTM2D(6, 3, padding="same", return_sequences=True, activation="relu")(video)
    x = layers.ConvLSTM2D(6, 1, padding="same", return_sequences=True)(
        layers.BatchNormalization()(x)
    )
    return keras.Model(video, layers.Conv3D(1, 3, activation="sigmoid", padding="same")(x))


@builds
def volumes():
    scan = Input((8, 8, 8, 1))
    x = scan
    for filters in (6, 8):
        x = layers.Conv3D(filters, 3, padding="same", activation="relu")(x)
        x = layers.BatchNormalization()(layers.MaxPooling3D(2)(x))
    x = Dense(12, activation="relu")(layers.GlobalAveragePooling3D()(x))
    return keras.Model(scan, Dense(1, activation="sigmoid")(layers.Dropout(0.3)(x)))


@builds
def video_transformer():
    video = Input((4, 16, 16, 1))
    x = layers.Conv3D(12, (2, 8, 8), (2, 8, 8))(video)
    x = Placed()(layers.Reshape((-1, 12))(x))
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 6)(y, y)])
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Add()([x, keras.Sequential([Dense(24, activation="gelu"), Dense(12)])(y)])
    return keras.Model(video, Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


# -- sound, series --


@builds
def wavenet():
    sound = Input((32, 1))
    x, skips = layers.Conv1D(8, 2, padding="causal")(sound), []
    for rate in (1, 2, 4):
        conv = functools.partial(layers.Conv1D, 8, 2, padding="causal", dilation_rate=rate)
        y = conv(activation="tanh")(x) * conv(activation="sigmoid")(x)
        skips.append(layers.Conv1D(10, 1)(y))
        x = x + layers.Conv1D(8, 1)(y)
    x = layers.Conv1D(12, 1, activation="relu")(layers.ReLU()(layers.Add()(skips)))
    return keras.Model(sound, layers.Conv1D(6, 1)(x))


@builds
def temporal_convolution():
    series = Input((None, 3))
    x = series
    for rate, filters in ((1, 8), (2, 8), (4, 12)):
        y = layers.Conv1D(filters, 3, padding="causal", dilation_rate=rate, activation="relu")(x)
        y = layers.Conv1D(filters, 3, padding="causal", dilation_rate=rate)(
            layers.SpatialDropout1D(0.1)(y)
        )
        x = layers.ReLU()(y + layers.Conv1D(filters, 1)(x))
    return keras.Model(series, Dense(2)(x[:, -1]))


@builds
def series_transformer():
    series = Input((20, 4))
    x = series
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + layers.Dropout(0.2)(layers.MultiHeadAttention(2, 6, dropout=0.2)(y, y))
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + layers.Conv1D(4, 1)(layers.Dropout(0.2)(layers.Conv1D(12, 1, activation="relu")(y)))
    x = layers.GlobalAveragePooling1D(data_format="channels_last")(x)
    return keras.Model(series, Dense(2, activation="softmax")(Dense(16, activation="relu")(x)))


@builds
def speakers():
    x = sound = Input((64, 1))
    for filters in (8, 12):
        y = layers.Conv1D(filters, 3, padding="same", activation="relu")(x)
        y = layers.Conv1D(filters, 3, padding="same")(y)
        x = layers.Add()([y, layers.Conv1D(filters, 1, padding="same")(x)])
        x = layers.MaxPooling1D()(layers.Activation("relu")(x))
    x = Dense(16, activation="relu")(layers.Flatten()(layers.AveragePooling1D(3, 3)(x)))
    return keras.Model(sound, Dense(5, activation="softmax")(x))


@builds
def deep_speech():
    spectrum = Input((None, 16))
    x = layers.Reshape((-1, 16, 1))(spectrum)
    x = layers.ReLU()(layers.BatchNormalization()(Conv2D(4, 3, 2, padding="same")(x)))
    x = layers.Reshape((-1, x.shape[-2] * x.shape[-1]))(x)
    for _ in range(2):
        x = layers.Bidirectional(layers.GRU(6, return_sequences=True, reset_after=True))(x)
    return keras.Model(spectrum, Dense(9, activation="softmax")(Dense(16, activation="relu")(x)))


class Transcription(Own):
    """Puts out what it takes in; adds how well that fits a text, while it is trained."""

    def call(self, labels, said):
        b, n = ops.shape(said)[0], ops.shape(said)[1]
        lengths = ops.ones((b,), "int32")
        loss = ops.ctc_loss(labels, said, lengths * ops.shape(labels)[1], lengths * n)
        self.add_loss(ops.mean(loss))
        return said


@builds
def captcha():
    image, label = Input((32, 16, 1), name="image"), Input((4,), dtype="int32", name="label")
    x = layers.MaxPooling2D()(Conv2D(8, 3, activation="relu", padding="same")(image))
    x = layers.MaxPooling2D()(Conv2D(12, 3, activation="relu", padding="same")(x))
    x = Dense(16, activation="relu")(layers.Reshape((8, 48))(x))
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(x)
    return keras.Model([image, label], Transcription()(label, Dense(9, activation="softmax")(x)))


# -- text --


class TokenAndPosition(Sized):
    """What is learnt of each word and of each place."""

    def build(self, shape):
        words, length, width = self.numbers
        self.token, self.place = layers.Embedding(words, width), layers.Embedding(length, width)
        self.token.build(shape)
        self.place.build(shape)

    def call(self, tokens):
        return self.token(tokens) + self.place(ops.arange(0, ops.shape(tokens)[-1], 1))


class Block(Sized):
    """Attention and an MLP, each followed by a norm."""

    def build(self, shape):
        heads, inside = self.numbers
        self.attention = layers.MultiHeadAttention(heads, shape[-1] // heads)
        self.attention.build(shape, shape)
        self.mlp = keras.Sequential([Input(shape[1:]), Dense(inside, "relu"), Dense(shape[-1])])
        self.norms = [layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]
        for norm in self.norms:
            norm.build(shape)

    def call(self, x):
        first, second = self.norms
        x = first(x + self.attention(x, x))
        return second(x + self.mlp(x))


@builds
def text_transformer():
    tokens = Input((12,), dtype="int32")
    x = Block(2, 24)(TokenAndPosition(30, 12, 12)(tokens))
    x = Dense(10, activation="relu")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(tokens, Dense(2, activation="softmax")(x))


class Experts(Sized):
    """Several MLPs, weighed by a softmax."""

    def build(self, shape):
        count, inside = self.numbers
        self.gate = Dense(count, activation="softmax")
        self.gate.build(shape)
        self.experts = [
            keras.Sequential([Input(shape[1:]), Dense(inside, "relu"), Dense(shape[-1])])
            for _ in range(count)
        ]

    def call(self, x):
        weights, said = self.gate(x), ops.stack([one(x) for one in self.experts], axis=-2)
        return ops.sum(said * weights[..., None], axis=-2)


@builds
def experts():
    tokens = Input((12,), dtype="int32")
    x = TokenAndPosition(30, 12, 12)(tokens)
    x = x + Experts(3, 16)(layers.RMSNormalization()(x))
    return keras.Model(tokens, Dense(2)(layers.GlobalAveragePooling1D()(x)))


class WordsAgain(Own):
    """Scores of words, by the table that embeds them."""

    def __init__(self, table, **options):
        super().__init__(**options)
        self.table = table

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.table.embeddings))

    def get_config(self):
        return {**super().get_config(), "table": keras.saving.serialize_keras_object(self.table)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("table")), **config)


@builds
def masked_language_model():
    tokens, table = Input((12,), dtype="int32"), layers.Embedding(30, 12)
    x = Placed()(table(tokens))
    y = layers.RMSNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 6)(y, y)
    x = x + perceptron(layers.RMSNormalization()(x), 24, 12)
    return keras.Model(tokens, WordsAgain(table)(Dense(12, activation="gelu")(x)))


@builds
def translation():
    source, target = Input((10,), dtype="int32"), Input((8,), dtype="int32")
    memory = Block(2, 24)(TokenAndPosition(30, 10, 12)(source))
    x = TokenAndPosition(20, 8, 12)(target)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 6)(x, x, use_causal_mask=True))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 6)(x, memory))
    x = layers.LayerNormalization()(x + perceptron(x, 24, 12))
    return keras.Model([source, target], Dense(20, activation="softmax")(layers.Dropout(0.5)(x)))


@builds
def sequence_to_sequence():
    source, target = Input((None, 7)), Input((None, 9))
    _, *states = layers.LSTM(8, return_state=True)(source)
    said = layers.LSTM(8, return_sequences=True)(target, initial_state=states)
    return keras.Model([source, target], Dense(9, activation="softmax")(said))


@builds
def tagger():
    tokens = Input((None,), dtype="int32")
    x = layers.Embedding(30, 10)(tokens)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(6))(x)
    return keras.Model(tokens, Dense(1, activation="sigmoid")(x))


@builds
def captions():
    features, words = Input((16, 10)), Input((8,), dtype="int32")
    y = Dense(12, activation="relu")(layers.LayerNormalization()(features))
    y = layers.LayerNormalization()(y + layers.MultiHeadAttention(1, 12)(y, y))
    x = TokenAndPosition(20, 8, 12)(words) * math.sqrt(12)
    x = layers.LayerNormalization()(
        x + layers.MultiHeadAttention(2, 12)(x, x, use_causal_mask=True)
    )
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 12)(x, y))
    x = layers.LayerNormalization()(x + perceptron(x, 16, 12))
    return keras.Model([features, words], Dense(20, activation="softmax")(x))


# -- tables, graphs, points --


def columns(numbers=4, categories=2, width=6):
    """A table: columns of numbers as one input, and each column of names as one, embedded."""
    first = Input((numbers,), name="numbers")
    named = [Input((), dtype="int32", name=f"names{i}") for i in range(categories)]
    return [first, *named], first, [layers.Embedding(9, width)(each) for each in named]


@builds
def wide_and_deep():
    inputs, numbers, named = columns()
    deep = wide = layers.concatenate([numbers, *named])
    for units in (16, 12):
        deep = layers.Dropout(0.1)(layers.ReLU()(layers.BatchNormalization()(Dense(units)(deep))))
    x = layers.concatenate([layers.BatchNormalization()(wide), deep])
    return keras.Model(inputs, Dense(3, activation="softmax")(x))


@builds
def deep_and_cross():
    inputs, numbers, named = columns()
    cross = first = layers.BatchNormalization()(layers.concatenate([numbers, *named]))
    for _ in range(2):
        cross = first * Dense(first.shape[-1])(cross) + cross
    deep = Dense(12, activation="relu")(Dense(16, activation="relu")(first))
    return keras.Model(inputs, Dense(3)(layers.concatenate([cross, deep])))


@builds
def tab_transformer():
    inputs, numbers, named = columns(width=8)
    x = ops.stack(named, axis=1)
    for _ in range(2):
        x = layers.LayerNormalization()(layers.Add()([layers.MultiHeadAttention(2, 8)(x, x), x]))
        x = layers.LayerNormalization()(layers.Add()([perceptron(x, 16, 8), x]))
    x = layers.concatenate([layers.Flatten()(x), layers.LayerNormalization()(numbers)])
    x = Dense(12, activation="selu")(layers.BatchNormalization()(x))
    return keras.Model(inputs, Dense(1, activation="sigmoid")(x))


class Gated(Sized):
    """A gated residual network, which may change the width."""

    def build(self, shape):
        (units,) = self.numbers
        self.elu, self.linear = Dense(units, activation="elu"), Dense(units)
        self.value, self.gate = Dense(units), Dense(units, activation="sigmoid")
        self.project, self.norm = Dense(units), layers.LayerNormalization()
        for layer in (self.elu, self.project):
            layer.build(shape)
        for layer in (self.linear, self.value, self.gate, self.norm):
            layer.build((*shape[:-1], units))

    def call(self, x):
        y = self.linear(self.elu(x))
        y = self.value(y) * self.gate(y)
        x = self.project(x) if x.shape[-1] != self.numbers[0] else x
        return self.norm(x + y)


@builds
def variable_selection():
    inputs, numbers, named = columns(width=8)
    each = [Gated(8)(x) for x in (Dense(8)(numbers), *named)]
    weights = Dense(len(each), activation="softmax")(Gated(8)(layers.concatenate(each)))
    x = ops.matmul(ops.expand_dims(weights, 1), ops.stack(each, axis=1))
    return keras.Model(inputs, Dense(1, activation="sigmoid")(ops.squeeze(x, 1)))


class Recommender(keras.Model):
    """Users and films, embedded, and how near they are."""

    def __init__(self, users=9, films=12, width=8, **options):
        super().__init__(**options)
        regular = keras.regularizers.l2(1e-6)
        self.user = layers.Embedding(users, width, embeddings_regularizer=regular)
        self.user_bias = layers.Embedding(users, 1)
        self.film = layers.Embedding(films, width, embeddings_regularizer=regular)
        self.film_bias = layers.Embedding(films, 1)

    def call(self, pairs):
        users, films = pairs[:, 0], pairs[:, 1]
        near = ops.sum(self.user(users) * self.film(films), axis=-1, keepdims=True)
        return ops.sigmoid(near + self.user_bias(users) + self.film_bias(films))


@builds
def recommender():
    model = Recommender()
    model(np.zeros((2, 2), "int32"))
    return model


@builds
def neural_collaborative_filtering():
    user, film = (Input((), dtype="int32", name=name) for name in ("user", "film"))
    product = layers.Embedding(9, 8)(user) * layers.Embedding(9, 8)(film)
    x = layers.concatenate([layers.Embedding(9, 8)(user), layers.Embedding(9, 8)(film)])
    x = Dense(8, activation="relu")(Dense(16, activation="relu")(x))
    x = Dense(1, activation="sigmoid")(layers.concatenate([product, x]))
    return keras.Model({"user": user, "film": film}, x)


class GraphConvolution(Sized):
    """Each node by its neighbours."""

    def build(self, shapes):
        self.dense = Dense(self.numbers[0], use_bias=False)
        self.dense.build(shapes[0])

    def call(self, inputs):
        nodes, edges = inputs
        return ops.relu(ops.matmul(edges, self.dense(nodes)))


@builds
def graph_convolution():
    nodes, edges = Input((10, 6)), Input((10, 10))
    x = GraphConvolution(12)([nodes, edges])
    x = GraphConvolution(8)([layers.Dropout(0.5)(x), edges])
    return keras.Model([nodes, edges], Dense(3, activation="softmax")(x))


@builds
def graph_attention():
    nodes, edges = Input((10, 6)), Input((10, 10))
    heads = []
    for _ in range(2):
        x = Dense(8, use_bias=False)(nodes)
        scores = Dense(1)(x) + ops.transpose(Dense(1)(x), (0, 2, 1))
        scores = ops.leaky_relu(scores) - 1e9 * (1 - edges)
        heads.append(ops.elu(ops.matmul(ops.softmax(scores), x)))
    return keras.Model([nodes, edges], Dense(3)(layers.concatenate(heads)))


@builds
def points():
    cloud = Input((32, 3))

    def dense_norm(x, units, layer=Dense, *size):
        return layers.ReLU()(layers.BatchNormalization(momentum=0.0)(layer(units, *size)(x)))

    def turned(x, count):
        y = dense_norm(dense_norm(x, 8, layers.Conv1D, 1), 12, layers.Conv1D, 1)
        y = dense_norm(layers.GlobalMaxPooling1D()(y), 10)
        y = Dense(count**2, kernel_initializer="zeros")(y)
        return layers.Dot(axes=(2, 1))([x, layers.Reshape((count, count))(y)])

    x = turned(dense_norm(turned(cloud, 3), 6, layers.Conv1D, 1), 6)
    x = layers.GlobalMaxPooling1D()(dense_norm(x, 16, layers.Conv1D, 1))
    return keras.Model(
        cloud, Dense(4, activation="softmax")(layers.Dropout(0.3)(dense_norm(x, 12)))
    )


@builds
def nerf():
    rays = Input((20, 3))
    x = ops.concatenate(
        [rays, *(f(2.0**i * rays) for i in range(3) for f in (ops.sin, ops.cos))], axis=-1
    )
    first = x
    for i in range(4):
        x = Dense(16, activation="relu")(x)
        if i == 2:
            x = layers.concatenate([x, first], axis=-1)
    return keras.Model(rays, Dense(4)(x))


@builds
def instances():
    bag = [Input((8,), name=f"instance{i}") for i in range(3)]
    shared = keras.Sequential(
        [Input((8,)), Dense(16, activation="relu"), Dense(10, activation="relu")]
    )
    value, gate, weigh = Dense(8, activation="tanh"), Dense(8, activation="sigmoid"), Dense(1)
    each = [shared(one) for one in bag]
    weights = ops.softmax(ops.stack([weigh(value(x) * gate(x)) for x in each]), axis=0)
    x = layers.concatenate([x * weights[i] for i, x in enumerate(each)])
    return keras.Model(bag, Dense(2, activation="softmax")(x))


@builds
def actor_critic():
    state = Input((4,))
    x = Dense(16, activation="relu")(state)
    return keras.Model(state, [Dense(2, activation="softmax")(x), Dense(1)(x)])


class Latents(Sized):
    """A few vectors of its own, which attend to all that there is."""

    def build(self, shape):
        count, width = self.numbers
        self.latents = self.add_weight(shape=(count, width), name="latents")
        self.attention = layers.MultiHeadAttention(2, width // 2)
        self.attention.build((shape[0], count, width), shape)

    def call(self, x):
        latents = ops.repeat(ops.expand_dims(self.latents, 0), ops.shape(x)[0], axis=0)
        return latents + self.attention(latents, x)


@builds
def perceiver():
    image, x = patches(12)
    x = Latents(6, 12)(layers.LayerNormalization()(x))
    x = Block(2, 24)(x)
    return keras.Model(image, Dense(5)(layers.GlobalAveragePooling1D()(x)))


def row(name, tflite):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    return kerashub.measure(BUILDERS[name], tflite)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these architectures")
    parser.add_argument("--tflite", action="store_true", help="export the smaller models, too")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="figures, to go on from")
    arguments = parser.parse_args()
    names = one_by_one.wanted(parser, arguments.only, list(BUILDERS))
    rows = one_by_one.kept(names, lambda name: row(name, arguments.tflite), arguments.json)
    kerashub.report(rows)
    return int(any(row.get("exact", math.inf) > kerashub.TOLERANCE for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
