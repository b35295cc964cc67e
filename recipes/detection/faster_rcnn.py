"""Faster R-CNN of Ren et al., on any network."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_iplt.support.arguments import check_count

from ..zoo.building_blocks import check_counts
from .anchors import RATIOS, per_place
from .features import STYLE, feature_maps, frame_of
from .heads import anchored, head, precise
from .loss import DetectionLoss
from .regions import Proposals, RegionAlign

__all__ = ["TwoStageLoss", "faster_rcnn"]


def faster_rcnn(
    backbone: keras.Model, classes: int, stride: int = 16, proposals: int = 64, width: int = 256,
    hidden: Sequence[int] = (256, 256), scales: int = 3, smallest: float = 0.1,
    ratios: Sequence[float] = RATIOS, size: int = 7,
) -> keras.Model:  # fmt: skip
    """A detector of two stages: it proposes boxes, and then looks at each of them again.

    Its output, `(batch, anchors + proposals, 9 + classes)`, is what `TwoStageLoss` takes: what is
    said of the anchors, whose only class is "something", and then what is said of the proposals.
    There are always as many of these, so that all shapes are known. The layers of the backbone are
    taken over, with their weights.

    Args:
        backbone: a network of the zoo or of `keras.applications`, of images of one size.
        classes: how many there are.
        stride: pixels of the image to one of the map that everything is seen in.
        proposals: how many boxes are looked at again.
        width: filters of the convolution that proposes.
        hidden: units of the dense layers that look again.
        scales: how many sizes anchors have.
        smallest: the side of the smallest, as a share of the shorter side of the image.
        ratios: widths by heights of the anchors.
        size: how many parts a box is cut into, both ways, when it is looked at again.

    Returns:
        A `keras.Model` called "faster_rcnn".

    Example:

    >>> from recipes import detection, zoo
    >>> backbone = zoo.mobilenet(10, (96, 96, 3), alpha=0.25)
    >>> detection.faster_rcnn(backbone, classes=3, proposals=32).output_shape
    (None, 464, 12)
    """
    classes, proposals = check_count("classes", classes), check_count("proposals", proposals)
    frame, (features,) = frame_of(backbone), feature_maps(backbone, (stride,))
    x = STYLE.conv(features, width, 3, "rpn")
    heads = [head(per_place(ratios), 1, f"rpn{index}_", size=1) for index in range(scales)]
    first = anchored(heads, [x] * scales, frame, smallest, ratios, "rpn_anchors")
    boxes = Proposals(frame, proposals, name="proposals", **precise())(first)
    x = RegionAlign(frame, size, name="regions")(features, boxes)
    x = layers.Reshape((proposals, -1), name="regions_flat")(x)
    for index, units in enumerate(check_counts("hidden", hidden)):
        x = layers.Dense(units, "relu", name=f"hidden{index}")(x)
    said = [
        layers.Dense(count, name=f"region_{what}", kernel_initializer=_start(), **precise())(x)
        for what, count in (("boxes", 4), ("classes", 1 + classes))
    ]
    second = layers.Concatenate(axis=-1, name="detections", **precise())([boxes, *said])
    first = ops.pad(first, ((0, 0), (0, 0), (0, classes - 1)))
    both = layers.Concatenate(axis=1, name="both", **precise())([first, second])
    return keras.Model(backbone.inputs[0], both, name="faster_rcnn")


def _start() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.01)


@keras.saving.register_keras_serializable("keras_iplt")
class TwoStageLoss(keras.losses.Loss):
    """The losses of the proposals and of what is made of them.

    Both are of the kind of `DetectionLoss`. In the first stage there is but one class, "something",
    and each box has an anchor; in the second a box that no proposal overlaps with is overlooked.

    Args:
        proposals: how many there are.
    """

    def __init__(
        self, proposals: int = 64, reduction: str = "sum_over_batch_size",
        name: str = "two_stage_loss", **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=name, reduction=reduction, **options)
        self.proposals = proposals
        self._first = DetectionLoss(objects=True)
        self._second = DetectionLoss(every=False)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image."""
        first, second = y_pred[:, : -self.proposals, :10], y_pred[:, -self.proposals :]
        return self._first.call(y_true, first) + self._second.call(y_true, second)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "proposals": self.proposals}
