"""Small detectors, and images for them."""

import keras
import numpy as np
from keras import layers

SIZE = 32


def backbone(size=SIZE, width=8, head=True):
    """Four convolutions to a stride of 8, as networks for classes have them."""
    image = x = keras.Input((size, size, 3), name="image")
    for index in range(4):
        x = layers.Conv2D(width * (1 + index), 3, 2 if index < 3 else 1, padding="same",
                          use_bias=False, name=f"conv{index}")(x)  # fmt: skip
        x = layers.BatchNormalization(momentum=0.8, name=f"norm{index}")(x)
        x = layers.Activation("relu", name=f"relu{index}")(x)
    if head:
        x = layers.Dense(5, name="head")(layers.GlobalAveragePooling2D(name="pool")(x))
    return keras.Model(image, x, name="backbone")


def scenes(count, seed=0, size=SIZE):
    """Dark images with a red or a green square, and their boxes: (n, 2, 5)."""
    random = np.random.default_rng(seed)
    images = random.uniform(0, 0.2, (count, size, size, 3)).astype("float32")
    boxes = np.zeros((count, 2, 5), "float32")
    boxes[:, 1, 4] = -1
    for image, (box, _) in zip(images, boxes, strict=True):
        side, label = random.integers(size // 4, size // 2), random.integers(0, 2)
        left, top = random.integers(0, size - side, 2)
        image[top : top + side, left : left + side, label] = 1
        box[:] = left, top, left + side, top + side, label
    return images, boxes
