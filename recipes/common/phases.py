"""Epochs of another length: training data cut into equal phases, whatever an epoch of them is."""

from typing import Any

import keras

__all__ = ["Phases"]


class Phases(keras.utils.PyDataset):
    """Training data whose epochs have a length of their own.

    They have the batches of as many real epochs as it takes, one after another. Any phase can be
    the first: a training goes on with what comes next.

    Args:
        data: a `recipes.data` Data.
        length: how many batches a phase has.
        drop_remainder: whether to leave out what does not fill a batch.
    """

    def __init__(self, data: Any, length: int, drop_remainder: bool = False) -> None:
        super().__init__()
        self.epoch, self._length = 0, length  # which phase it is
        self._make = lambda epoch: data.batches("train", epoch=epoch, drop_remainder=drop_remainder)
        self._real = self._make(0)
        self._stream: Any = None  # of data that are streamed: where it is, and
        self._next: int | None = None  # the number of the batch that comes next

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        number = self.epoch * self._length + index
        epoch, place = divmod(number, len(self._real))
        if hasattr(self._real, "epoch"):  # in memory: any batch is at hand
            self._real.epoch = epoch
            return self._real[place]
        if number != self._next or place == 0:
            batches = self._make(epoch)
            self._stream = (batches.skip(place) if place else batches).as_numpy_iterator()
        self._next = number + 1
        return next(self._stream)
