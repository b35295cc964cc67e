"""Li et al., incremental pruning based on less training: Tables 1 to 3.

    python -m recipes.iplt --quick                      # all of it on digits: seconds
    python -m recipes.iplt --tables 1 --mnist mnist.npz # half an hour of two cores
    python -m recipes.iplt --cifar cifar10 --precision mixed_bfloat16    # a GPU, hours

Table 1: a plain CNN on MNIST loses 60, 65 and 70 % of its filters by l2, all layers together; "PMT"
(pruning based on much training: train, prune once, tune) against IPLT (another 10 % after every 2
epochs). Table 2: VGG-16 on CIFAR-10, the same with 5 epochs and 60 and 70 %, and the layers and
shares of "Pruning filters for efficient ConvNets". Table 3: soft filter pruning of ResNet-110 by
10, 20 and 30 % of each layer, against its IPLT form, which prunes in the first dozens of epochs
only; in the layout of that paper (streams keep their width) and coupled (streams shrink too).
"choices": what the paper says in words of 10 % a step, of k and of ranking all layers together, on
the network of Table 1.

The paper tells neither the CNN of Table 1 nor learning rates: the network is `zoo.mnist_cnn`, the
rates are cosines from 0.05 (see the options). In Table 1 hidden units count as filters, as only so
84.7 % of the parameters can go with 60 % of the filters; in the others convolutions are counted.

--quick: a few of scikit-learn's digits, a small CNN, an eighth of VGG-16 and ResNet-8, for two or
three epochs, which is too little to learn anything: it shows that all of it runs.
"""

from collections.abc import Sequence
from typing import Any

from ..common.command import RecipeParser, failing_in_a_line, positive, share

__all__ = ["main"]

PARTS = ("1", "2", "3", "choices")


def main(arguments: Sequence[Any] | None = None, prog: str | None = None) -> dict[str, Any]:
    """Does what a command says; help is given, and mistakes are found, without Keras."""
    options = parser(prog).parsed(arguments)
    with failing_in_a_line(options.out):
        from .tables import reproduce

        return reproduce(options)


def parser(prog: str | None = None) -> RecipeParser:
    """What the command takes: in full, and with --quick."""
    parser = RecipeParser("iplt", __doc__, prog, seeds=(3, 1), batch=(128, 16))
    add = parser.option
    add("--tables", None, [*PARTS], None, "which (all)", nargs="+", choices=PARTS)
    add("--step", share, 0.1, 0.35, "IPLT's step (0.1)")
    parser.data("mnist", "the data of Table 1", "mnist", ("digits", 160, 100))
    parser.data("cifar", "the data of Tables 2 and 3", "cifar10", ("digits", 32, 50))
    add("--cifar-size", positive, None, 32, "what its images are resized to")
    add("--scaling", None, "torch", "scale", "of Tables 2 and 3: see recipes.data",
        choices=("scale", "torch"))  # fmt: skip
    add("--augment", None, "usual", None, "of Tables 2 and 3; usual leaves data without a name as "
        "they are", choices=("usual", "crop_flip"))  # fmt: skip
    add("--ratios-1", share, [0.6, 0.65, 0.7], [0.7], "filters to remove in Table 1", nargs="+")
    add("--ratios-2", share, [0.6, 0.7], [0.7], "in Table 2", nargs="+")
    add("--ratios-3", share, [0.1, 0.2, 0.3], [0.3], "in Table 3, rising", nargs="+")
    for table, epochs, tuning, k in (("mnist", 20, 6, 2), ("vgg", 300, 40, 5)):
        add(f"--{table}-epochs", positive, epochs, 3, "of the baseline and of IPLT")
        add(f"--{table}-tuning", positive, tuning, 1, "epochs of tuning")
        add(f"--{table}-k", positive, k, 1, "epochs between two steps of IPLT")
    add("--mnist-filters", positive, [16, 32, 64], [8, 8, 16], "of the three convolutions", nargs=3)
    add("--mnist-units", positive, 128, 32, "of its hidden layer")
    add("--initializer", None, "torch", None, "what its kernels start from (torch: a ranking of "
        "all layers needs it)", choices=("torch", "glorot_uniform", "he_normal"))  # fmt: skip
    add("--vgg-width", float, 1.0, 0.125, "the share of VGG-16's filters to begin with (1)")
    add("--resnet", None, None, None, "a trained ResNet as .keras, instead of a new one",
        metavar="FILE")  # fmt: skip
    add("--resnet-depth", positive, 110, 8, "of a new one (110)")
    add("--resnet-epochs", positive, 200, 2, None)
    add("--resnet-k", positive, 5, 1, "epochs between two ratios of the IPLT form")
    add("--resnet-soft", positive, 30, 2, "epochs after which the IPLT form no longer prunes, and "
        "what is left is trained (30)")  # fmt: skip
    add("--resnet-rate", float, 0.1, None, "learning rate at first (0.1)")
    return parser
