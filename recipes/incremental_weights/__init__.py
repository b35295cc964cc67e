"""Sarkar et al., incremental pruning of single weights: Tables I to V, Fig. 7 and 8.

    python -m recipes.incremental_weights --quick       # all of it on digits: seconds
    python -m recipes.incremental_weights --only LeNet-300-100 --mnist mnist.npz
                                                        # a quarter of an hour of two cores
    python -m recipes.incremental_weights --only LeNet-5 --mnist mnist.npz
                                                        # an hour; with --lenet-5 1998 half of it
    python -m recipes.incremental_weights --precision mixed_bfloat16      # all: a GPU, hours

Single weights go, not whole filters, and from the first epochs on: after every k = 2 epochs of 20
another 10 % of them, to 90 %; the two epochs left are the paper's training phase. Table I:
LeNet-300-100, LeNet-5 and VGG-Lite on MNIST, unpruned; Table II: pruned; Tables III and IV:
VGG-Lite on CIFAR-10 and CIFAR-100, pruned; Table V: epochs to a pruned model. Beside them: accuracy
and loss after each epoch, training time of the pruned over that of the unpruned, and what zeros
save in bytes. Rows of other papers are printed as published, and not run.

The text allows two readings, and both are run: "weights_per_filter", each filter loses its smallest
weights (Fig. 5, and "removing the filter weights rather than removing the entire filter"); and
"filters", those of the smallest l2 norm are emptied ("the weights of the filters with small
L2-values are discarded"), here in all layers but the last, since an emptied unit of that is a class
that is never found. Adam starts at 0.001 with a decay of 1e-5 a batch, as told.

Eq. 1 adds "10% of N_j" to a pruning rate, with N_j "the number of parameters of j-th iterations":
the text's 10 % to 90 % is of all parameters, and of those that are left (--share-of left) it would
be 10, 19, 27.1 %, and no more than 65 % within 20 epochs.

Not told, and chosen here: batches of 128; L2 of 1e-4 and dropout of 0.2 for the LeNets, 5e-4 and
0.3 for VGG-Lite; pixels in [0, 1]; no augmentation, as none is among the techniques that the paper
names; the LeNet-5 of Caffe, as in the papers it compares with (--lenet-5). VGG-Lite is a
reconstruction, as its figure is missing: see docs/zoo.md. Nor does the paper say on what accuracy
is measured: here both are given, of all training images, without dropout, and of the test images.

--quick: a few of scikit-learn's digits and an eighth of VGG-Lite's filters, for two epochs, which
is too little to learn anything: it shows that all of it runs.
"""

from collections.abc import Sequence
from typing import Any

from ..common.command import RecipeParser, failing_in_a_line, positive, share

__all__ = ["main"]

NETWORKS = ("LeNet-300-100", "LeNet-5", "VGG-Lite")


def main(arguments: Sequence[Any] | None = None, prog: str | None = None) -> dict[str, Any]:
    """Does what a command says; help is given, and mistakes are found, without Keras."""
    options = parser(prog).parsed(arguments)
    with failing_in_a_line(options.out):
        from .tables import reproduce

        return reproduce(options)


def parser(prog: str | None = None) -> RecipeParser:
    """What the command takes: in full, and with --quick."""
    parser = RecipeParser("incremental_weights", __doc__, prog, seeds=(3, 1), batch=(128, 16))
    add, numbers = parser.option, [1, 2, 3, 4, 5]
    add("--tables", int, numbers, None, "which (all)", nargs="+", choices=tuple(numbers))
    add("--only", None, None, None, "train these networks only", nargs="+", choices=NETWORKS)
    for data, what in (("mnist", "s I and II"), ("cifar10", " III"), ("cifar100", " IV")):
        parser.data(data, f"the data of Table{what}", data, ("digits", 16, 16))
    for data, size in (("mnist", 16), ("cifar", 8)):
        add(f"--{data}-size", positive, None, size, "what its images are resized to")
    add("--augment", None, None, None, "of training images (none)",
        choices=("crop", "flip", "crop_flip"))  # fmt: skip
    add("--epochs", positive, 20, 2, "of all trainings (20)")
    add("--k", positive, 2, 1, "epochs between two steps of pruning (2)")
    add("--target", share, 0.9, None, "the share of the weights that goes (0.9)")
    add("--step", share, 0.1, 0.9, "what goes at a time (0.1)")
    add("--share-of", None, "all", None, "what --step is a share of: all weights, "
        "or, as Eq. 1 can be read, those that are left", choices=("all", "left"))  # fmt: skip
    add("--l2", float, None, None, "factor of the penalty on kernels, of all networks")
    add("--dropout", float, None, None, "rate, of all networks")
    add("--lenet-5", None, "caffe", None, "which one (caffe)", choices=("caffe", "1998"))
    add("--vgg-width", float, 1.0, 0.125, "the share of VGG-Lite's filters to begin with (1)")
    return parser
