"""Which box is meant by which anchor, and how one is written as a change of the other."""

from typing import Any, NamedTuple

from keras import ops
from keras.utils import bounding_boxes

__all__ = ["VARIANCE", "Matched", "changed", "changes", "matched"]

VARIANCE = (0.1, 0.1, 0.2, 0.2)  # of changes, so that they are about as large as logits


class Matched(NamedTuple):
    """What each of some references is to become.

    Attributes:
        boxes: (batch, references, 4).
        labels: (batch, references): 0 for the background, else one more than the class.
    """

    boxes: Any
    labels: Any


def matched(references: Any, truths: Any, overlap: float = 0.5, every: bool = True) -> Matched:
    """Assigns to each reference the box that it overlaps with most, or the background.

    Args:
        references: (batch, references, 4): anchors or proposals.
        truths: (batch, n, 5): boxes and classes; those of the class -1 are none.
        overlap: how much a reference has to have in common with a box to stand for it.
        every: whether each box gets the reference that fits it best, however badly.

    Returns:
        A `Matched`.
    """
    boxes, classes = truths[..., :4], truths[..., 4]
    real = ops.cast(classes >= 0, references.dtype)
    shared = bounding_boxes.compute_iou(references, boxes, "xyxy") * real[:, None]
    if every:
        # A reference that is the best of a box counts as fitting it more than any other can.
        best = ops.one_hot(ops.argmax(shared, axis=1), references.shape[1], dtype=shared.dtype)
        shared += 2 * ops.transpose(best * real[..., None], (0, 2, 1))
    which = ops.argmax(shared, axis=-1)
    fits = ops.max(shared, axis=-1) >= overlap
    labels = ops.where(fits, ops.take_along_axis(classes, which, axis=1) + 1, 0.0)
    return Matched(ops.take_along_axis(boxes, which[..., None], axis=1), ops.cast(labels, "int32"))


def changes(references: Any, boxes: Any) -> Any:
    """How references have to move and grow to become boxes."""
    return bounding_boxes.encode_box_to_deltas(
        references, boxes, "xyxy", "xyxy", "center_xywh", VARIANCE
    )


def changed(references: Any, change: Any) -> Any:
    """References that moved and grew: the boxes."""
    growth = ops.clip(change[..., 2:], -20, 20)  # whose exponential could be infinite
    change = ops.concatenate([change[..., :2], growth], axis=-1)
    return bounding_boxes.decode_deltas_to_boxes(
        references, change, "xyxy", "xyxy", "center_xywh", VARIANCE
    )
