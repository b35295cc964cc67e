"""Zuo et al., how sparse each layer should be: Tables I to IV, Fig. 3 to 11.

    python -m recipes.structure_aware --quick                    # all of it on digits: seconds
    python -m recipes.structure_aware --data-dir DIR --precision mixed_bfloat16     # GPU, days
    python -m recipes.structure_aware --model resnet56.keras --data cifar10.npz --scaling torch \\
        --augment crop_flip --batches 300 --every 15 --batch 128 --rate 0.01    # 2 cores, 1.5 hours

Single weights of convolutions go, 5 % of all after every phase of training, from which layers one
of three rules says: Prune_fixed (all layers alike), Prune_param (the smallest layers stop once the
loss rises) and Prune_depth (one threshold for the whole network). Tables III and IV: 50 and 75 % of
InceptionV3 and ResNet50, 40,000 batches of 32. Tables I and II: 95 % of one layer, two that are
neighbours and differ in size, and two of one size that are far apart. Fig. 7: Prune_fixed at 50 %
of three networks. All have the same batches, and so has a control that loses nothing. Beside them:
the accuracy after one cut without any training, and e^-loss, the paper's measure of accuracy
(Eq. 1).

Fig. 8: SSD and Faster R-CNN on InceptionV2 (--backbone), half of whose weights go by Prune_fixed,
beside a classifier on the same network that learns what is in the boxes; and the same with half of
the filters. --detection is a made-up set unless told: a folder in the format of Pascal VOC or COCO
has more to say. With --model there is no Fig. 8.

A phase (the paper's τ batches, --every) is an epoch for Keras: its mean loss is in the log, a
backup is made after it, and a run that was interrupted goes on there. The first phase comes before
the first step. --batches is rounded up to whole phases; data sets are read round and round.

The paper tells neither the optimizer nor its rate, nor Δs, τ, ζ and η: it is SGD with a momentum of
0.9 and a constant rate, in twenty phases; see --step, --every, --rate, --zeta and --eta. For ζ look
at the control first: the page says how much its loss rises from phase to phase. Probed layers lose
10 % at a time (--probe-step), to have as many batches as the others. In networks that the paper
does not probe, layers are chosen by rule: of neighbours, without the convolution that sees the
image, the two whose sizes differ most by factor, of equals the largest; of layers of one size the
two that are farthest apart, again of equals the largest. In VGG16 that finds the paper's.

ImageNet's weights (--weights imagenet) expect images scaled as --scaling says for each network
unless told. Keras has none of GoogLeNet (InceptionV1): without --weights imagenet googlenet=FILE
Fig. 7 leaves it out. From a fresh start (--weights none) everything runs, and no accuracy says
anything: that takes networks that have been trained.

--quick: a few of scikit-learn's digits and a new ResNet-8, two batches for each run, which is too
little to learn anything: it shows that all of it runs.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from ..common.command import NETWORKS, RecipeParser, failing_in_a_line, positive, share

__all__ = ["main"]

FIGURES = (3, 4, 5, 6, 7, 8, 9, 10, 11)
DETECTORS = ("ssd", "faster_rcnn")


def main(arguments: Sequence[Any] | None = None, prog: str | None = None) -> dict[str, Any]:
    """Does what a command says; help is given, and mistakes are found, without Keras."""
    options = parser(prog).parsed(arguments)
    with failing_in_a_line(options.out):
        from .results import reproduce

        return reproduce(options)


def parser(prog: str | None = None) -> RecipeParser:
    """What the command takes: in full, and with --quick."""
    parser = RecipeParser("structure_aware", __doc__, prog, seeds=(1, 1), batch=(32, 16))
    add, small = parser.option, ["cifar_resnet"]
    parser.data("", "the data", "imagenet2012", ("digits", 32, 16))
    add("--size", positive, None, None, "what images are resized to (299 for inception_v3, 224 for "
        "others that are made for ImageNet, what a --model takes)")  # fmt: skip
    add("--scaling", None, None, "scale", "see recipes.data (what ImageNet's weights of the "
        "network expect)", choices=("scale", "tf", "torch", "caffe"))  # fmt: skip
    add("--augment", None, "usual", None, "what is done to training images (usual)",
        choices=("usual", "crop", "flip", "crop_flip", "zoom_flip"))  # fmt: skip
    for flag, full, what in (
        ("networks", "inception_v3 resnet50", "of the zoo, for Tables III and IV and pictures"),
        ("probe-networks", "inception_v3 vgg16_imagenet", "for Tables I and II"),
        ("typical", "googlenet resnet50 vgg16_imagenet", "for Fig. 7"),
    ):
        add(f"--{flag}", None, full.split(), small, f"{what} ({full})", nargs="*", metavar="NAME",
            choices=NETWORKS)  # fmt: skip
    add("--depth", positive, None, 8, "of the network cifar_resnet (20)")
    add("--weights", None, ["imagenet"], ["none"], "imagenet, none, a file, or NETWORK=FILE "
        "(imagenet)", nargs="+", metavar="WHICH")  # fmt: skip
    add("--model", pathlib.Path, None, None, "a trained network as .keras whose outputs are "
        "logits, for all tables", metavar="FILE")  # fmt: skip
    add("--targets", share, [0.5, 0.75], [0.75], "sparsities (0.5 0.75)", nargs="+")
    add("--batches", positive, 40_000, 2, "of training in each run (40,000)")
    add("--every", positive, 2000, 1, "batches between steps, the paper's τ (2,000)")
    add("--step", share, 0.05, 0.75, "what goes at a time, the paper's Δs (0.05)")
    add("--rate", float, 0.001, None, "learning rate (0.001)")
    add("--zeta", float, 0.02, None, "of Prune_param: how much the loss may rise (0.02)")
    add("--eta", float, None, None, "how high it may be (twice that without pruning, and ζ)")
    parser.add_argument("--probes", action=argparse.BooleanOptionalAction, default=True,
                        help="whether to make Tables I and II")  # fmt: skip
    add("--probe-sparsity", share, 0.95, None, "of the layer (0.95)")
    add("--probe-step", share, 0.1, 0.95, "what goes of it at a time (0.1)")
    parser.data("detection", "the images with boxes of Fig. 8", "digits", ("digits", 16, 8))
    add("--detection-size", positive, 96, 32, "what they are fitted into (96)")
    add("--detectors", None, list(DETECTORS), None, "which, for Fig. 8 (both)", nargs="+",
        choices=DETECTORS)  # fmt: skip
    add("--backbone", None, "inception_v2", "cifar_resnet", "of the zoo, for Fig. 8 (inception_v2)",
        metavar="NAME", choices=NETWORKS)  # fmt: skip
    add("--backbone-weights", None, None, None, "what it begins with: imagenet, or a file (a fresh "
        "start)", metavar="WHICH")  # fmt: skip
    add("--alpha", float, 0.25, None, "the share of the filters of mobilenet (0.25)")
    add("--strides", positive, [8, 16, 32], [2, 4], "of the maps that detectors look at (8 16 32)",
        nargs="+")  # fmt: skip
    add("--train-epochs", positive, 40, 1, "before Fig. 8 prunes (40)")
    add("--prune-epochs", positive, 20, 2, "in which it does (20)")
    add("--detection-rate", float, 0.001, None, "learning rate of Fig. 8, with Adam (0.001)")
    add("--figures", int, list(FIGURES), None, "which (all)", nargs="*", choices=FIGURES)
    return parser
