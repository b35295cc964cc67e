"""The text that comes with Python, letter by letter: what is learnt, judged and written."""

import pydoc_data.topics
from typing import Any

import keras
import numpy as np

from keras_iplt.errors import OptionError

__all__ = ["ALPHABET", "HELD", "LEARNT", "Texts", "generate", "perplexity"]

TEXT = "".join(text for _, text in sorted(pydoc_data.topics.topics.items()))
ALPHABET = "".join(sorted(set(TEXT)))
NUMBERS = {letter: number for number, letter in enumerate(ALPHABET)}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def numbers_of(text: str) -> np.ndarray:
    """Letters as numbers."""
    if unknown := sorted({*text} - {*ALPHABET}):
        raise OptionError(f"expected letters of {ALPHABET!r}, received: {''.join(unknown)!r}")
    return np.array([NUMBERS[letter] for letter in text], "int32")


LEARNT, HELD = np.split(numbers_of(TEXT), [len(TEXT) * 9 // 10])


class Texts(keras.utils.PyDataset):
    """Pieces of text, drawn at random, and the letters that follow each of their letters.

    Args:
        length, batch, count: letters of a piece, pieces of a batch, batches of an epoch.
        seed: what is drawn follows from it, and from the number of the epoch.
        teacher: a model that says half of what is to follow, as a probability of each letter.
    """

    def __init__(
        self, length: int, batch: int, count: int, seed: int, teacher: keras.Model | None = None
    ) -> None:
        super().__init__()
        self.epoch = 0
        self._length, self._batch, self._count = length, batch, count
        self._seed, self._teacher = seed, teacher

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([self._seed, self.epoch, index])
        starts = random.integers(0, len(LEARNT) - self._length, (self._batch, 1))
        several = LEARNT[starts + np.arange(self._length + 1)]
        x, y = several[:, :-1], several[:, 1:]
        if self._teacher is None:
            return x, y
        said = keras.ops.softmax(self._teacher(x, training=False))
        right = np.eye(len(ALPHABET), dtype="float32")[y]
        return x, (right + keras.ops.convert_to_numpy(said)) / 2

    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """One epoch, as a pair of arrays."""
        x, y = zip(*(self[index] for index in range(len(self))), strict=True)
        return np.concatenate(x), np.concatenate(y)


def perplexity(model: keras.Model, most: int | None = None, batch: int = 64) -> float:
    """Between how many letters, all alike, a model is in doubt: e to the cross-entropy.

    Args:
        model: what gives logits of the next letter, for each letter of texts as long as it takes.
        most: of how many texts of the last tenth; all by default.
    """
    length = model.input_shape[1]
    several = HELD[: len(HELD) // (length + 1) * (length + 1)].reshape(-1, length + 1)[:most]
    losses = [
        float(LOSS(some[:, 1:], model(some[:, :-1], training=False))) * len(some)
        for some in np.split(several, range(batch, len(several), batch))
    ]
    return float(np.exp(sum(losses) / len(several)))


def generate(
    model: keras.Model, prompt: str, count: int, temperature: float = 0.5, seed: int = 0
) -> str:
    """What a model writes: letters, each drawn from what it says after those before.

    Args:
        model: what gives logits of the next letter, for each letter of a text.
        prompt: what it goes on from.
        count: how many letters.
        temperature: logits are divided by it: near 0 the likeliest letter is taken.
        seed: the draws follow from it, so that models that say the same write the same.

    Returns:
        The letters, without the prompt.
    """
    random, length = np.random.default_rng(seed), model.input_shape[1]
    numbers: list[Any] = [*numbers_of(prompt)]
    for _ in range(count):
        seen = numbers[-length:]
        text = np.array([seen + [0] * (length - len(seen))], "int32")  # no letter sees what follows
        logits = keras.ops.convert_to_numpy(model(text, training=False))[0, len(seen) - 1]
        numbers.append(int(np.argmax(logits / temperature + random.gumbel(size=logits.shape))))
    return "".join(ALPHABET[number] for number in numbers[len(prompt) :])
