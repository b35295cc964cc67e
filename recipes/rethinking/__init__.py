"""Liu et al., "Rethinking the value of network pruning": pruned networks, from scratch again.

Is what pruning leaves worth more than its architecture? The paper is taken as Lee reports it.

    python -m recipes.rethinking --quick    # all of it, small, on digits: seconds
    python -m recipes.rethinking --data images.npz --augment crop_flip --networks vgg16 \\
        --width 0.125 --methods norms --norms-ratio 0.3 --epochs 10 --tuning 3
                            # 16,000 images of 32 x 32: a quarter of an hour of two cores
    python -m recipes.rethinking --precision mixed_bfloat16     # a GPU, days

A large network is trained and pruned. What is left is fine-tuned, and beside that trained from new
values: for as many epochs as the large network was (Scratch-E), and for as many multiply-adds
(Scratch-B: epochs × multiply-adds before / after, milestones of the learning rate stretched alike,
without a limit). Seven methods prune:

    norms      the smallest l1 norms of each layer ("Pruning filters for efficient ConvNets"); of a
               residual block the first convolution only
    sfp        soft filter pruning: zeroed after each epoch, gone after the last; in a ResNet the
               streams keep their width
    slimming   network slimming: an l1 penalty on the scales of batch norm, the smallest of which
               go, all layers together; in a ResNet the streams keep their width
    thinet     ThiNet: from each layer, greedily, what the next ones' outputs change least without;
               what stays is fitted to those outputs; of a residual block the first convolution only
    channel    channel pruning (He et al.): what a LASSO lets go that tells the next layers' outputs
               from few channels; the rest as with thinet
    sss        sparse structure selection (Huang & Wang): a scale on what each residual block adds,
               taken to zero by a soft threshold at each step of training; blocks whose scale is
               zero go as a whole, other scales into the batch norms before them
    weights    single weights of convolutions by magnitude (Han et al.), all layers together or each
               by itself; zeros are held in fine-tuning and from scratch

ThiNet and channel pruning look at 1,024 training images, without labels; channels of all layers are
chosen in the large network, then layer after layer is fitted, where the papers go through both for
a layer at a time.

Huang and Wang select groups and single filters, too; here those are left to the other methods, and
networks without residual blocks to them alone. (The report's list of references gives their paper
the title of network slimming.)

The report prints no number at all, so what stands beside the figures is what it says in words. It
writes "Scratch-B" for both budgets; the first is taken to be Scratch-E. It tells no settings: 160
epochs of SGD from 0.1, a tenth after 1/2 and 3/4 of them, weight decay 1e-4 (of kernels only, here
as an L2 penalty of half that), 40 epochs of fine-tuning at the lowest rate. Shares of filters, the
penalties (too small for short trainings, see --penalty) and that scales start from 1 are chosen.
A channel that several batch norms read, in a DenseNet, goes by the mean of their scales and from
all of them. Zeros make nothing faster; for Scratch-B they count as if multiplications with them
were left out. Values from scratch are drawn with another seed than the large network's: with the
same one, a masked network would begin as that began.

--quick: a few of scikit-learn's digits and a ResNet-8 for an epoch or two, which is too little to
learn anything: it shows that all of it runs.
"""

from collections.abc import Sequence
from typing import Any

from ..common.command import RecipeParser, failing_in_a_line, positive, share
from .names import METHODS, method, network

__all__ = ["main"]


def main(arguments: Sequence[Any] | None = None, prog: str | None = None) -> dict[str, Any]:
    """Does what a command says; help is given, and mistakes are found, without Keras."""
    options = parser(prog).parsed(arguments)
    with failing_in_a_line(options.out):
        from .tables import reproduce

        return reproduce(options)


def parser(prog: str | None = None) -> RecipeParser:
    """What the command takes: in full, and with --quick."""
    parser = RecipeParser("rethinking", __doc__, prog, seeds=(3, 1), batch=(64, 16))
    add = parser.option
    add("--networks", network, ["vgg19", "resnet56", "densenet40"], ["resnet8"], "of the zoo; "
        "resnet<depth>, densenet<depth> (vgg19 resnet56 densenet40)", nargs="+",
        metavar="NETWORK")  # fmt: skip
    add("--methods", method, list(METHODS), None, f"of {', '.join(METHODS)} (all)", nargs="+",
        metavar="METHOD")  # fmt: skip
    add("--width", float, 1.0, 0.5, "the share of the networks' filters to begin with (1)")
    parser.data("", "the data", "cifar10", ("digits", 16, 16))
    add("--size", positive, None, None, "what images are resized to")
    add("--scaling", None, "torch", "scale", "see recipes.data", choices=("scale", "torch"))
    add("--augment", None, "usual", None, "see recipes.data",
        choices=("usual", "crop", "flip", "crop_flip"))  # fmt: skip
    add("--epochs", positive, 160, 1, "of the large network and of Scratch-E (160)")
    add("--tuning", positive, 40, 1, "epochs of fine-tuning (40)")
    add("--rate", float, 0.1, None, "learning rate at first; a hundredth of it in the end (0.1)")
    for name, full, quick in (
        ("norms", 0.5, None), ("sfp", 0.3, 0.2), ("slimming", 0.6, 0.2), ("thinet", 0.5, None),
        ("channel", 0.5, None), ("weights", 0.8, 0.4),
    ):  # fmt: skip
        what = "weights" if name == "weights" else "filters"
        add(f"--{name}-ratio", share, full, quick, f"{what} to remove by {name} ({full:g})",
            metavar="SHARE")  # fmt: skip
    add("--penalty", float, 1e-4, 1e-2, "on the scales of batch norm, for slimming (1e-4; 1e-3 for "
        "a tenth of the epochs)", metavar="L1")  # fmt: skip
    add("--sss-penalty", float, 0.01, 10.0, "on the scales of blocks, for sss: which of them go "
        "follows from it (0.01)", metavar="L1")  # fmt: skip
    add("--allocation", None, "depth", None, "of single weights: all convolutions together, or "
        "each alike (depth)", choices=("depth", "uniform"))  # fmt: skip
    return parser
