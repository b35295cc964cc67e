"""What happens to images between a file and a network, in NumPy: a whole batch at a time."""

import dataclasses
import functools
from typing import Any

import numpy as np

from keras_iplt.errors import DataError, OptionError

__all__ = [
    "AUGMENTATIONS", "Handling", "Scaling", "check_images", "cropped", "flipped", "resized",
    "scaled",
]  # fmt: skip

AUGMENTATIONS = ("crop", "flip", "crop_flip", "zoom_flip")

# As keras.applications does: mean and standard deviation of what lies in [0, 1].
_MODES = {
    "scale": (0.0, 1.0),
    "tf": (0.5, 0.5),
    "torch": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": (tuple(v / 255 for v in (103.939, 116.779, 123.68)), 1 / 255),
}


@dataclasses.dataclass(frozen=True)
class Scaling:
    """From what is stored to what a network takes: `(images - offset) / divisor`.

    Attributes:
        offset: a number, or one per channel.
        divisor: a number, or one per channel.
        reverse: whether blue comes first.
    """

    offset: np.ndarray
    divisor: np.ndarray
    reverse: bool = False

    def __call__(self, images: Any) -> Any:
        """Scales NumPy arrays, or float32 tensors of any framework."""
        images = images[..., ::-1] if self.reverse else images
        if not isinstance(images, np.ndarray):
            return (images - self.offset) / self.divisor
        result = images.astype("float32")
        result -= self.offset  # in place: several times as fast
        result /= self.divisor
        return result


@dataclasses.dataclass(frozen=True)
class Handling:
    """How examples become batches: what `load` was told."""

    scaling: Scaling
    augment: str | None
    batch_size: int
    seed: int


def scaled(scaling: Any, channels: int | None, top: int) -> Scaling:
    """The `Scaling` for an option.

    Args:
        scaling: "scale", "tf", "torch", "caffe", a pair of mean and standard deviation, or None.
        channels: the channels of the images; None if that is not known yet.
        top: what stands for white: 255, or 1.
    """
    if scaling is None:
        return Scaling(np.zeros((), "float32"), np.ones((), "float32"))
    if isinstance(scaling, str) and scaling in ("torch", "caffe") and channels not in (3, None):
        raise OptionError(
            f"scaling: {scaling!r} expects images of 3 channels, received: {channels}"
        )
    mean, deviation = _pair(scaling, channels)
    offset, divisor = (np.asarray(values * top, "float32") for values in (mean, deviation))
    return Scaling(offset, divisor, isinstance(scaling, str) and scaling == "caffe")


def _pair(scaling: Any, channels: int | None) -> tuple[np.ndarray, np.ndarray]:
    expected = (
        f"scaling: expected {', '.join(map(repr, _MODES))}, None, or (mean, standard deviation) of "
        "pixels in [0, 1], each a number or one per channel"
    )
    if isinstance(scaling, str):
        if scaling not in _MODES:
            raise OptionError(f"{expected}; received: {scaling!r}")
        scaling = _MODES[scaling]
    try:
        mean, deviation = (np.asarray(values, float) for values in scaling)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{expected}; received: {scaling!r}") from error
    if (
        not {mean.shape, deviation.shape}
        <= {(), (1,), (channels or max(mean.size, deviation.size),)}
        or not (np.isfinite(mean).all() and np.isfinite(deviation).all())
        or not (deviation > 0).all()
    ):
        here = f" (here {channels})" if channels else ""
        raise OptionError(f"{expected}{here}; received: {scaling!r}")
    return mean, deviation


def check_images(where: str, images: np.ndarray, scaling: Any) -> tuple[np.ndarray, int]:
    """Images as (examples, rows, columns, channels), and what stands for white in them."""
    if images.dtype.kind not in "biuf" or images.ndim not in (3, 4) or 0 in images.shape[1:]:
        raise DataError(
            f"{where}: expected images of shape (examples, rows, columns[, channels]), received: "
            f"shape {images.shape}, {images.dtype}"
        )
    if not len(images):
        raise DataError(f"{where}: expected images, received: none")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise DataError(f"{where}: expected finite numbers, received: NaN or infinity")
    top = 1 if images.dtype.kind in "bf" else 255
    if scaling is not None and images.dtype.kind != "b":
        lowest, highest = images.min(), images.max()
        if lowest < 0 or highest > top:
            raise DataError(
                f"{where}: expected integers from 0 to 255, or floats from 0 to 1, received: "
                f"{images.dtype} from {lowest:g} to {highest:g}; scaling=None takes them as they "
                "are"
            )
    return images if images.ndim == 4 else images[..., None], top


# -- resizing --------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _weights(old: int, new: int) -> np.ndarray:
    """(new, old): what each old pixel gives to each new one; a triangle as wide as both need."""
    ratio = old / new
    width = max(ratio, 1.0)
    centres = (np.arange(new) + 0.5) * ratio - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(old) - centres[:, None]) / width)
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")


def resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images of another size: bilinear, smoothed where they become smaller. The aspect may change.

    Args:
        images: (examples, rows, columns, channels).
        size: (rows, columns).
    """
    if images.shape[1:3] == tuple(size):
        return images
    rows, columns = (_weights(o, n) for o, n in zip(images.shape[1:3], size, strict=True))
    integers = images.dtype.kind in "iu"
    result = np.empty(
        (len(images), *size, images.shape[3]), images.dtype if integers else "float32"
    )
    for start in range(0, len(images), 256):  # what is in between takes four times the memory
        part = images[start : start + 256].astype("float32")
        part = np.einsum("rh,nhwc->nrwc", rows, part, optimize=True)
        part = np.einsum("sw,nrwc->nrsc", columns, part, optimize=True)
        result[start : start + 256] = np.rint(part) if integers else part
    return result


# -- augmentation ----------------------------------------------------------------------------------


def cropped(images: np.ndarray, corners: np.ndarray, margin: int) -> np.ndarray:
    """Each image moved by up to `margin` pixels, and black where nothing was.

    Args:
        images: (examples, rows, columns, channels).
        corners: (examples, 2): where the new image starts in the padded one; (margin, margin)
            leaves it as it is.
        margin: how many black pixels are put on every side.
    """
    size = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(1, 2))
    chosen = windows[np.arange(len(images)), corners[:, 0], corners[:, 1]]
    return np.moveaxis(chosen, 1, -1)


def flipped(images: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Left and right exchanged where `mirrored` is true."""
    result = images.copy()
    result[mirrored] = images[mirrored, :, ::-1]
    return result
