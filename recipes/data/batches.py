"""Batches of examples in memory, the same on every backend."""

from collections.abc import Iterator

import keras
import numpy as np

from .images import Scaling, cropped, flipped

__all__ = ["Batches"]


class Batches(keras.utils.PyDataset):
    """Batches `(images, labels)` of arrays, as `fit` and `evaluate` take them.

    Order, crops and flips of an epoch follow from the seed and the epoch's number alone, whatever
    the backend and the size of a batch.

    Args:
        images: as stored.
        labels: their classes.
        scaling: a `Scaling`.
        batch_size: how many examples a batch has; the last may have fewer.
        shuffle: whether every epoch has an order of its own.
        augment: "crop", "flip", "crop_flip" or None.
        seed: an integer.
        epoch: the number of the epoch to start with: when a training goes on.
        drop_remainder: whether to leave out what does not fill a batch.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, scaling: Scaling, batch_size: int, *,
        shuffle: bool = False, augment: str | None = None, seed: int = 0, epoch: int = 0,
        drop_remainder: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.epoch = epoch
        self._images, self._labels = images, labels
        self._scaling, self._batch_size = scaling, batch_size
        self._shuffle, self._augment, self._seed = shuffle, augment or "", seed
        self._drop_remainder = drop_remainder
        self._drawn: tuple[int, list[np.ndarray]] | None = None
        self._within, self._served = False, set[int]()
        # A crop may move by an eighth of the side: 4 pixels of 32.
        self._margin = max(1, min(images.shape[1:3]) // 8)

    def __len__(self) -> int:
        whole, rest = divmod(len(self._labels), self._batch_size)
        return whole + (rest > 0 and not self._drop_remainder)

    @property
    def num_batches(self) -> int:
        return len(self)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return (self._batch(index) for index in range(len(self)))

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        index = range(len(self))[index]
        if self._within:
            self._served.add(index)
        return self._batch(index)

    def on_epoch_begin(self) -> None:
        self._within = True

    def on_epoch_end(self) -> None:
        # Keras also says so when it has only looked at a batch, or has gone some steps.
        self._within = False
        if len(self._served) == len(self):
            self._served.clear()
            self.epoch += 1

    def _batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        start = index * self._batch_size
        order, corners, mirrored = (a[start : start + self._batch_size] for a in self._draw())
        images = self._images[order]
        if "crop" in self._augment:
            images = cropped(images, corners, self._margin)
        if "flip" in self._augment:
            images = flipped(images, mirrored)
        return self._scaling(images), self._labels[order]

    def _draw(self) -> list[np.ndarray]:
        """What chance decides for the current epoch: order, corners, mirrored."""
        epoch = self.epoch
        if self._drawn is None or self._drawn[0] != epoch:
            random, count = np.random.default_rng((self._seed, epoch)), len(self._labels)
            order = random.permutation(count) if self._shuffle else np.arange(count)
            corners = random.integers(0, 2 * self._margin + 1, (count, 2))
            self._drawn = epoch, [order, corners, random.random(count) < 0.5]
        return self._drawn[1]
