"""What `load` returns: a training, a validation and a test part."""

import dataclasses
import functools
from typing import Any, ClassVar, TypeAlias

import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.support.arguments import check_count, is_integer

from .batches import Batches
from .images import Handling
from .source import Arrays
from .splitting import picked, split_off
from .streams import Stream

__all__ = ["PARTS", "Data", "Memory", "Part", "check_take"]

PARTS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Memory:
    """A part whose images are in memory, as they are stored."""

    images: np.ndarray
    labels: np.ndarray

    batch_class: ClassVar[type[Batches]] = Batches

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, handling: Handling, train: bool, epoch: int, drop_remainder: bool) -> Batches:
        return self.batch_class(
            self.images, self.labels, handling.scaling, handling.batch_size, shuffle=train,
            augment=handling.augment if train else None, seed=handling.seed, epoch=epoch,
            drop_remainder=drop_remainder,
        )  # fmt: skip

    @property
    def strata(self) -> np.ndarray:
        """What every cut has the same share of: for each example a number."""
        return self.labels

    def arrays(self, handling: Handling, take: int | None) -> Arrays:
        own = slice(None) if take is None else picked(self.strata, take, handling.seed)
        return handling.scaling(self.images[own]), self.labels[own]

    def least(self) -> int:
        """The fewest examples that can be taken from it: one of each class."""
        return len(np.unique(self.strata))

    def taken(self, count: int, seed: int) -> "Memory":
        return self._of(picked(self.strata, count, seed))

    def split(self, share: float, seed: int) -> tuple["Memory", "Memory"]:
        stays, goes = split_off(self.strata, share, seed)
        return self._of(stays), self._of(goes)

    def _of(self, own: np.ndarray) -> "Memory":
        return dataclasses.replace(self, images=self.images[own], labels=self.labels[own])


Part: TypeAlias = Memory | Stream


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Data:
    """Images with a class each, in parts.

    Attributes:
        name: the name of the data set.
        classes: the names of the classes; labels are indices into them.
        input_shape: rows, columns and channels of an image.
        parts: the parts by name; see `counts`.
        handling: scaling, augmentation, size of a batch and seed.

    Example:

    >>> from recipes import data
    >>> digits = data.load("digits", validation=0)
    >>> digits.counts
    {'train': 1438, 'test': 359}
    >>> digits.input_shape, len(digits.classes), len(digits.train)
    ((8, 8, 1), 10, 12)
    >>> images, labels = digits.arrays("test", take=20)
    >>> images.shape
    (20, 8, 8, 1)
    """

    name: str
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    parts: dict[str, Part]
    handling: Handling

    @property
    def counts(self) -> dict[str, int]:
        """How many examples each part has."""
        return {name: len(part) for name, part in self.parts.items()}

    # Kept, so that one `fit` after another goes on with the epochs that have not been seen.
    @functools.cached_property
    def train(self) -> Any:
        """Batches for `fit`: augmented, and in another order every epoch."""
        return self.batches("train")

    @functools.cached_property
    def validation(self) -> Any:
        """Batches for `validation_data`: in order, as they are."""
        return self.batches("validation")

    @functools.cached_property
    def test(self) -> Any:
        """Batches for `evaluate`: in order, as they are."""
        return self.batches("test")

    def batches(
        self, part: str, training: bool | None = None, epoch: int = 0, drop_remainder: bool = False
    ) -> Any:
        """New batches of a part.

        Args:
            part: "train", "validation" or "test".
            training: whether to shuffle and augment; only "train" unless told.
            epoch: the epoch to start with, for a training that goes on where one stopped.
            drop_remainder: whether to leave out what does not fill a batch.

        Returns:
            What `fit` and `evaluate` take: a `keras.utils.PyDataset`, or a `tf.data.Dataset` for
            data that do not fit into memory.
        """
        if not is_integer(epoch) or epoch < 0:
            raise OptionError(f"epoch: expected an integer from 0, received: {epoch!r}")
        training = part == "train" if training is None else training
        return self._part(part).batches(self.handling, training, epoch, drop_remainder)

    def arrays(self, part: str = "train", take: int | None = None) -> Arrays:
        """A part as arrays, scaled but not augmented.

        Args:
            part: "train", "validation" or "test".
            take: how many examples, with about the same share of every class, or, of data that do
                not fit into memory, the first; all by default.

        Returns:
            `(images, labels)`.
        """
        chosen = self._part(part)
        if take is not None:
            check_take("take", take, chosen)
        return chosen.arrays(self.handling, take)

    def _part(self, name: str) -> Part:
        if name not in self.parts:
            raise OptionError(
                f"{self.name}: expected one of the parts {', '.join(self.parts)}, received: "
                f"{name!r}"
            )
        return self.parts[name]

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        return f"<{self.name}: {counts}; images {self.input_shape}, {len(self.classes):,} classes>"


def check_take(name: str, take: int, part: Part) -> None:
    """Refuses to take more examples than a part has, or fewer than one per class."""
    least = part.least()
    if not least <= check_count(name, take) <= len(part):
        raise OptionError(
            f"{name}: expected from {least} (one of each class) to {len(part)} examples, received: "
            f"{take}"
        )
