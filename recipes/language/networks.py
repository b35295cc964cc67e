"""A small decoder of plain Keras layers, and what may go from it."""

from typing import Any

import keras
from keras import layers

import keras_iplt as iplt

__all__ = ["Positions", "decoder", "planned"]


@keras.saving.register_keras_serializable("keras_iplt_recipes")
class Positions(layers.Layer):
    """Adds what is learnt of each place."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=shape[1:], initializer="random_normal", name="table")

    def call(self, x: Any) -> Any:
        return x + self.table


def decoder(letters: int, length: int, width: int, depth: int, heads: int) -> keras.Model:
    """A decoder before norms: attention to what was before, and an MLP, each added to a stream.

    Args:
        letters: how many there are.
        length: how many it sees.
        width, depth, heads: of the stream, in blocks, and in each attention.
    """
    tokens = keras.Input((length,), dtype="int32", name="text")
    x = Positions(name="places")(layers.Embedding(letters, width, name="letters")(tokens))
    for i in range(depth):
        y = layers.RMSNormalization(name=f"norm{i}a")(x)
        attention = layers.MultiHeadAttention(heads, width // heads, name=f"attention{i}")
        x = layers.Add(name=f"attended{i}")([x, attention(y, y, use_causal_mask=True)])
        y = layers.RMSNormalization(name=f"norm{i}b")(x)
        y = layers.Dense(4 * width, activation="gelu", name=f"up{i}")(y)
        x = layers.Add(name=f"added{i}")([x, layers.Dense(width, name=f"down{i}")(y)])
    x = layers.RMSNormalization(name="norm")(x)
    return keras.Model(tokens, layers.Dense(letters, name="next")(x), name="decoder")


CHANNELS: dict[str, dict[str, Any]] = {
    "mlp": {"only": "up*"},
    "heads": {"heads": True, "only": ["up*", "*/heads"]},
    "channels": {},
    "random": {"criterion": "random"},
}


def planned(model: keras.Model, way: str, left: float, texts: Any) -> iplt.Plan:
    """What goes until a share of the parameters is left.

    Args:
        model: a decoder.
        way: one of `CHANNELS`, or "blocks".
        left: the share of the parameters.
        texts: texts and the letters that follow, on which blocks are left out to see what it costs.
    """
    if way != "blocks":
        return iplt.plan(model, 1 - left, of="params", verbose=0, **CHANNELS[way])
    graph, gone = iplt.trace(model, verbose=0), list[str]()
    while graph.model.count_params() > left * model.count_params():
        scores = iplt.branch_scores(model, texts, without=gone, verbose=0)
        gone.append(next(iter(scores)).name)
        graph = iplt.trace(model, without=gone, verbose=0)
    return iplt.plan(model, branches=gone, verbose=0)
