"""Hubens et al., the impact of pre-training on pruning: Tables 1 to 4, Fig. 1 and 3 to 6.

    python -m recipes.pretraining --quick
    python -m recipes.pretraining --download            # a GPU, days: two networks, four data sets
    python -m recipes.pretraining --networks mobilenet --alpha 0.75 --weights FILE.weights.h5 \\
        --data cifar10.npz --size 32 --take 4000 --epochs 50 --drop-every 25 --share 0.25 \\
        --retraining 3                                  # half an hour of two cores

Network-A has been trained on ImageNet and is tuned on the data set, Network-B is trained on it from
scratch; the same Adam for both, 0.001 and a tenth of that after every 40 epochs. Then one layer
after the other, the least sensitive one first, loses filters of the smallest l1 norm; 5 epochs of
retraining at the lowest rate reached follow each time, and it goes on as long as the accuracy is
within a point of the baseline's. VGG16 loses filters of its convolutions, MobileNet of the
pointwise ones and of the first: section 4.2 says pointwise only, but Table 3 prunes both.

Two kinds of figures, never mixed. *Arithmetic*: the filters that the paper prints for CIFAR-10, and
its baselines, determine parameters, operations and the size of the file of weights. *Obtained*:
what really running the method gave here. The paper tells neither how many filters go at a time
(--share) nor for how many epochs it trains (--epochs), nor what its validation set is: here it is a
tenth of the training images, and accuracy is told on the test images as well. Nor does it say
whether images were shifted and flipped (--augment).

Where there are no weights of ImageNet (offline, or for another shape), --pretrain-on trains
Network-A on another data set first.

--quick: a VGG16 with an eighth of the filters and some digits, one epoch of everything, one layer
pruned; pre-trained on the same digits. All of the arithmetic.
"""

from collections.abc import Sequence
from typing import Any

from ..common.command import RecipeParser, failing_in_a_line, positive, share

__all__ = ["main"]

NETWORKS = ["vgg16_hubens", "mobilenet"]
DATA = ["cifar10", "cifar100", "svhn_cropped", "caltech101"]


def main(arguments: Sequence[Any] | None = None, prog: str | None = None) -> dict[str, Any]:
    """Does what a command says; help is given, and mistakes are found, without Keras."""
    options = parser(prog).parsed(arguments)
    with failing_in_a_line(options.out):
        from .tables import reproduce

        return reproduce(options)


def parser(prog: str | None = None) -> RecipeParser:
    """What the command takes: in full, and with --quick."""
    parser = RecipeParser("pretraining", __doc__, prog, seeds=(1, 1), batch=(128, 16))
    add, ratios = parser.option, [0.1 * i for i in range(1, 10)]
    add("--networks", None, NETWORKS, NETWORKS[:1], "which (both)", nargs="+", choices=NETWORKS)
    parser.data("", "the data", DATA, (["digits"], 32, 16))
    add("--size", positive, None, 32, "what images are resized to")
    add("--augment", None, "usual", None, "of training images: usual is crop_flip for CIFAR "
        "by name, and nothing for data without a name (usual)",
        choices=("usual", "none", "crop", "flip", "crop_flip"))  # fmt: skip
    add("--validation", share, 0.1, None, "the share of the training images to judge by (0.1)")
    add("--weights", None, None, None, "of Network-A: a file, or imagenet, the default",
        metavar="FILE")  # fmt: skip
    add("--pretrain-on", None, None, "digits", "instead: train Network-A on this data set first",
        metavar="DATA")  # fmt: skip
    add("--alpha", float, 1.0, None, "the share of MobileNet's filters to begin with (1)")
    add("--width", float, 1.0, 0.125, "the same of VGG16 (1)")
    add("--epochs", positive, 100, 1, "of the baselines (100)")
    add("--drop-every", positive, 40, 1, "epochs until the rate falls to a tenth (40)")
    add("--rate", float, 1e-3, None, "at first (0.001)")
    add("--retraining", positive, 5, 1, "epochs after each pruning (5)")
    add("--tolerance", share, 0.01, None, "how much accuracy may go (0.01)")
    add("--share", share, 0.125, 0.5, "of a layer's filters that go at a time (0.125)")
    add("--ratios", share, ratios, [0.5], "of the sensitivity analysis", nargs="+")
    add("--layers", positive, None, 1, "prune no more than so many layers (all)")
    return parser
