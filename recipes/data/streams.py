"""Images that do not fit into memory, as TensorFlow reads them: for every backend."""

import dataclasses
from typing import Any

import numpy as np

from .decoding import tensorflow
from .images import Handling
from .source import Arrays

__all__ = ["Stream"]

_BUFFER = 4096  # images, still encoded, that are shuffled among themselves


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """Examples of a split, from one to another.

    Attributes:
        tfds: the module tensorflow_datasets.
        builder: the builder of the data set, prepared.
        source: the name of the split.
        shape: the shape of the images that come out.
        start: the first example that belongs to it.
        stop: the first one after it that does not.
    """

    tfds: Any
    builder: Any
    source: str
    shape: tuple[int, int, int]
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def least(self) -> int:
        return 1

    def taken(self, count: int, seed: int) -> "Stream":
        """The first ones: they were shuffled when the data set was prepared."""
        return dataclasses.replace(self, stop=self.start + count)

    def split(self, share: float, seed: int) -> tuple["Stream", "Stream"]:
        middle = self.stop - round(share * len(self))
        return dataclasses.replace(self, stop=middle), dataclasses.replace(self, start=middle)

    def batches(self, handling: Handling, train: bool, epoch: int, drop_remainder: bool) -> Any:
        """A `tf.data.Dataset`."""
        tf = tensorflow()
        seed = int(np.random.SeedSequence((handling.seed, epoch)).generate_state(1)[0])
        augment = handling.augment if train else None
        with tf.device("CPU"):
            examples = self._encoded(train, seed)
            if train:
                examples = examples.shuffle(min(_BUFFER, len(self)), seed=seed)
            chance = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
            chance = chance.batch(2).batch(3)  # a seed for each of three decisions
            examples = tf.data.Dataset.zip((examples, chance)).map(
                lambda example, chance: self._example(example, augment, chance),
                num_parallel_calls=tf.data.AUTOTUNE, deterministic=True,
            )  # fmt: skip
            examples = examples.batch(handling.batch_size, drop_remainder=drop_remainder)
            return examples.map(
                lambda images, labels: (handling.scaling(tf.cast(images, tf.float32)), labels),
                num_parallel_calls=tf.data.AUTOTUNE, deterministic=True,
            ).prefetch(tf.data.AUTOTUNE)  # fmt: skip

    def arrays(self, handling: Handling, take: int | None) -> Arrays:
        batches = self.batches(handling, False, 0, False).unbatch()
        examples = list(batches.take(take or len(self)).as_numpy_iterator())
        images, labels = (np.stack(arrays) for arrays in zip(*examples, strict=True))
        return images, labels

    def _encoded(self, train: bool, seed: int) -> Any:
        """Examples whose images are files still, which is small enough to shuffle many."""
        return self.builder.as_dataset(
            split=f"{self.source}[{self.start}:{self.stop}]",
            shuffle_files=train,
            decoders={"image": self.tfds.decode.SkipDecoding()},
            read_config=self.tfds.ReadConfig(
                shuffle_seed=seed if train else None, enable_ordering_guard=not train
            ),
        )

    def _example(self, example: Any, augment: str | None, chance: Any) -> tuple[Any, Any]:
        """What of an example goes into a batch."""
        label = tensorflow().cast(example["label"], "int32")
        return self._image(example["image"], augment, chance), label

    def _image(self, encoded: Any, augment: str | None, chance: Any) -> Any:
        """An image as it was, or with chance at work, of the shape that is asked for.

        It is float32 from 0 to 255; `chance` is three seeds.
        """
        tf = tensorflow()
        image = self.builder.info.features["image"].decode_example(encoded)
        augment, size = augment or "", self.shape[:2]
        image = _zoomed(tf, image, chance[0]) if "zoom" in augment else _middle(tf, image, size)
        image = tf.cast(image, tf.float32)
        image = tf.clip_by_value(tf.image.resize(image, size, antialias=True), 0, 255)
        if "crop" in augment:
            margin = max(1, min(size) // 8)
            image = tf.pad(image, [[margin, margin], [margin, margin], [0, 0]])
            image = tf.image.stateless_random_crop(image, self.shape, chance[1])
        if "flip" in augment:
            image = tf.image.stateless_random_flip_left_right(image, chance[2])
        return tf.ensure_shape(image, self.shape)


def _zoomed(tf: Any, image: Any, chance: Any) -> Any:
    """A part of any size from 8 % of the image, as networks for ImageNet are trained with."""
    corner, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image), tf.zeros((1, 0, 4)), chance, area_range=(0.08, 1.0),
        aspect_ratio_range=(3 / 4, 4 / 3), use_image_if_no_bounding_boxes=True,
    )  # fmt: skip
    return tf.slice(image, corner, extent)


def _middle(tf: Any, image: Any, size: tuple[int, int]) -> Any:
    """Seven eighths of the image, as wide and high as `size` is, from its middle: 224 of 256."""
    extent = tf.cast(tf.shape(image)[:2], tf.float32)
    wanted = tf.constant(size, tf.float32)
    inner = tf.cast(tf.round(wanted * tf.reduce_min(extent / wanted) * 0.875), tf.int32)
    corner = (tf.shape(image)[:2] - inner) // 2
    return tf.slice(image, [corner[0], corner[1], 0], [inner[0], inner[1], -1])
