"""What YOLOX is trained by: the places that tell a box best, as it stands, answer for it."""

from typing import Any

import keras
from keras import ops
from keras.utils import bounding_boxes

from .matching import changed

__all__ = ["ObjectnessLoss"]

_PLACES = 10  # of which the overlaps say how many answer for a box
_OVERLAP = 3.0  # how much it counts beside classes, where places are chosen
_BOXES = 5.0  # and in the loss
_FAR = 1e5  # more than what any place costs
_TINY = 1e-7


@keras.saving.register_keras_serializable("keras_iplt")
class ObjectnessLoss(keras.losses.Loss):
    """YOLOX's loss, with the assignment called SimOTA.

    A box is told by as many places as their ten best overlaps with it add up to: those which cost
    the least, in class and overlap together, of all whose middle is in it and near its own. What is
    said is `(batch, places, 4 + 4 + 1 + classes)`: the reference, how it moves and grows, whether
    there is something, and what. What is there is `(batch, n, 5)`, see `recipes.detection.load`.

    Args:
        radius: how many cells away from the middle of a box is near.
    """

    def __init__(
        self, radius: float = 2.5, reduction: str = "sum_over_batch_size",
        name: str = "objectness_loss", **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=name, reduction=reduction, **options)
        self.radius = radius

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image, as a share of the batch's places that answer for a box."""
        truths, said = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        boxes = changed(said[..., :4], said[..., 4:8])
        kinds = ops.one_hot(ops.cast(truths[..., 4], "int32"), said.shape[-1] - 9)
        chosen = ops.stop_gradient(self._chosen(truths, kinds, said, boxes))
        own = ops.max(chosen, axis=1)
        overlap = _overlap(boxes, ops.einsum("bnm,bnc->bmc", chosen, truths[..., :4]))
        kinds = ops.einsum("bnm,bnc->bmc", chosen, kinds) * ops.stop_gradient(overlap)[..., None]
        places = _BOXES * (1 - ops.square(overlap)) + _surprise(said[..., 9:], kinds)
        loss = ops.sum(own * places + _surprise(said[..., 8:9], own[..., None]), axis=-1)
        return loss / ops.maximum(ops.mean(ops.sum(own, axis=-1)), 1.0)

    def _chosen(self, truths: Any, kinds: Any, said: Any, boxes: Any) -> Any:
        """(batch, n, places): 1 where a place answers for a box, of which it has one at most."""
        real = ops.cast(truths[..., 4:] >= 0, "float32")
        shared = bounding_boxes.compute_iou(truths[..., :4], boxes, "xyxy") * real
        probable = ops.sqrt(ops.sigmoid(said[..., 8:9]) * ops.sigmoid(said[..., 9:]))
        right, wrong = ops.log(probable + _TINY), ops.log(1 - probable + _TINY)
        cost = -ops.einsum("bnc,bmc->bnm", kinds, right - wrong) - ops.sum(wrong, -1)[:, None]
        cost -= _OVERLAP * ops.log(shared + _TINY)
        cost += _FAR * self._outside(truths, said[..., :4])
        best = ops.top_k(shared, min(_PLACES, shared.shape[-1]))[0]
        count = ops.maximum(ops.floor(ops.sum(best, axis=-1, keepdims=True)), 1.0) * real
        rank = ops.cast(ops.argsort(ops.argsort(cost)), "float32")
        chosen = ops.cast(rank < count, "float32")
        cheapest = ops.argmin(cost + 100 * _FAR * (1 - chosen), axis=1)
        return chosen * ops.one_hot(cheapest, chosen.shape[1], axis=1)

    def _outside(self, truths: Any, references: Any) -> Any:
        """(batch, n, places): 0 where the middle of a cell is in a box and near its own, to 2."""
        middle = references[:, None, :, 2:4]  # see `cell_boxes`
        side = middle[..., 0] - references[:, None, :, 0]
        start, stop = truths[:, :, None, :2], truths[:, :, None, 2:4]
        inside = ops.all(ops.logical_and(start < middle, middle < stop), axis=-1)
        away = ops.max(ops.abs((start + stop) / 2 - middle), axis=-1)
        outside, far = ops.logical_not(inside), away >= self.radius * side
        return ops.cast(outside, "float32") + ops.cast(far, "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "radius": self.radius}


def _surprise(logits: Any, wanted: Any) -> Any:
    """Binary cross entropy, summed over the last axis."""
    return ops.sum(ops.softplus(logits) - wanted * logits, axis=-1)


def _overlap(boxes: Any, others: Any) -> Any:
    """The area that each box shares with its other over the area that both cover."""
    inner = ops.minimum(boxes[..., 2:], others[..., 2:]) - ops.maximum(
        boxes[..., :2], others[..., :2]
    )
    shared = ops.prod(ops.maximum(inner, 0.0), axis=-1)
    areas = [ops.prod(x[..., 2:] - x[..., :2], axis=-1) for x in (boxes, others)]
    return shared / (areas[0] + areas[1] - shared + _TINY)
