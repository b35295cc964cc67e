"""What detectors are trained by: boxes are matched, and hard negatives chosen, inside the loss."""

from typing import Any

import keras
from keras import ops

from .matching import changes, matched

__all__ = ["DetectionLoss"]


@keras.saving.register_keras_serializable("keras_iplt")
class DetectionLoss(keras.losses.Loss):
    """SSD's loss: the classes of references, and the boxes of those that stand for one.

    What a detector says is `(batch, references, 4 + 4 + 1 + classes)`: the reference (an anchor, or
    a proposal), how it moves and grows, and logits of the background and of the classes. What is
    there is `(batch, n, 5)`, see `recipes.detection.load`.

    Of the references that stand for no box those count that are taken for one the most, so that
    there are `negatives` of them for each that does.

    Args:
        overlap: how much a reference has to have in common with a box to stand for it.
        every: whether each box gets the reference that fits it best, however badly.
        negatives: how many references of the background count for each other one.
        objects: whether only "something" and "nothing" are told apart, as by proposals.
    """

    def __init__(
        self, overlap: float = 0.5, every: bool = True, negatives: int = 3, objects: bool = False,
        reduction: str = "sum_over_batch_size", name: str = "detection_loss",
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=name, reduction=reduction, **options)
        self.overlap, self.every, self.negatives = overlap, every, negatives
        self.objects = objects

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image, as a share of the batch's boxes."""
        truths, said = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        references, change, logits = said[..., :4], said[..., 4:8], said[..., 8:]
        references = ops.stop_gradient(references)
        boxes, labels = matched(references, truths, self.overlap, self.every)
        labels = ops.minimum(labels, 1) if self.objects else labels
        found = ops.cast(labels > 0, "float32")
        place = _smooth_l1(changes(references, boxes) - change) * found
        surprise = -ops.take_along_axis(ops.log_softmax(logits), labels[..., None], axis=-1)[..., 0]
        hard = self._hard(surprise, found)
        per_image = ops.sum(place + surprise * (found + hard), axis=-1)
        return per_image / ops.maximum(ops.mean(ops.sum(found, axis=-1)), 1.0)

    def _hard(self, surprise: Any, found: Any) -> Any:
        """(batch, references): 1 for those of the background that count."""
        own = ops.stop_gradient(surprise) * (1 - found)
        order = ops.flip(ops.sort(own, axis=-1), axis=-1)
        count = self.negatives * ops.maximum(ops.sum(found, axis=-1), 1)
        last = ops.cast(ops.minimum(count, own.shape[-1]) - 1, "int32")
        least = ops.take_along_axis(order, last[:, None], axis=-1)
        return ops.cast(own >= least, "float32") * (1 - found)

    def get_config(self) -> dict[str, Any]:
        own = ("overlap", "every", "negatives", "objects")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def _smooth_l1(difference: Any) -> Any:
    size = ops.abs(difference)
    return ops.sum(ops.where(size < 1, 0.5 * ops.square(size), size - 0.5), axis=-1)
