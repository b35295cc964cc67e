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
without a limit). Four methods prune:

    norms      the smallest l1 norms of each layer ("Pruning filters for efficient ConvNets"); of a
               residual block the first convolution only
    sfp        soft filter pruning: zeroed after each epoch, gone after the last; in a ResNet the
               streams keep their width
    slimming   network slimming: an l1 penalty on the scales of batch norm, the smallest of which
               go, all layers together; in a ResNet the streams keep their width
    weights    single weights of convolutions by magnitude (Han et al.), all layers together or each
               by itself; zeros are held in fine-tuning and from scratch

ThiNet and channel pruning are refused: they choose channels, and correct what is left, by fitting
the outputs of one layer after the other to those of the large network, and neither this criterion
nor the least squares are here. Huang et al.'s sparse structure selection is refused as well: it
needs scale factors of whole blocks and an optimizer of its own. (The report's list of references
gives it the title of network slimming.)

The report prints no number at all, so what stands beside the figures is what it says in words. It
writes "Scratch-B" for both budgets; the first is taken to be Scratch-E. It tells no settings: 160
epochs of SGD from 0.1, a tenth after 1/2 and 3/4 of them, weight decay 1e-4 (of kernels only, here
as an L2 penalty of half that), 40 epochs of fine-tuning at the lowest rate. Shares of filters, the
penalty (too small for short trainings, see --penalty) and that scales start from 1 are chosen.
A channel that several batch norms read, in a DenseNet, goes by the mean of their scales and from
all of them. Zeros make nothing faster; for Scratch-B they count as if multiplications with them
were left out. Values from scratch are drawn with another seed than the large network's: with the
same one, a masked network would begin as that began.

--quick: a few of scikit-learn's digits and a ResNet-8 for an epoch or two, which is too little to
learn anything: it shows that all of it runs.
"""

import argparse
import inspect
import re

import keras

import keras_iplt as iplt
from keras_iplt.errors import OptionError

from . import zoo
from .common.claims import COMPARED
from .common.command import add_data, command_parser, data_settings, positive, share, start
from .common.grid import Case, Grid
from .common.page import Page
from .common.published import published
from .common.spread import Spread, paired, spread
from .common.training import at_workbench, milestones, percent

METHODS = ("norms", "sfp", "slimming", "weights")
# What is trained before pruning, and what a pruned network is compared with.
LARGE = {"norms": "plain", "sfp": "sfp", "slimming": "slimming", "weights": "plain"}
UNPRUNED = {**LARGE, "sfp": "plain"}
REFUSED = {
    "thinet": "ThiNet chooses channels by how well the next layer's outputs can be fitted without",
    "channel": "channel pruning fits the outputs of layer after layer to the large network's",
    "sss": "sparse structure selection needs scale factors of blocks and an optimizer of its own",
}
DECAY = 5e-5  # Keras's L2 is not halved: the gradient is that of a weight decay of 1e-4
RENEWED = 1000  # seeds of new values begin here
BUDGETS = {"tuned": "fine-tuned", "e": "Scratch-E", "b": "Scratch-B"}
KINDS = {"all methods": METHODS, "structured": METHODS[:3], "unstructured": ("weights",)}
CLAIMS = published("rethinking")["claims"]


# -- networks --------------------------------------------------------------------------------------


def shape(network, width):
    """The name in the zoo and the options of a network with a share of its filters."""
    name, options = network, {}
    found = re.fullmatch(r"(resnet|densenet)(\d+)", network)
    if found and network not in ("resnet50", "densenet121"):  # those are ImageNet's
        name = {"resnet": "cifar_resnet", "densenet": "densenet40"}[found[1]]
        options["depth"] = int(found[2])
    if name not in zoo.names():
        raise OptionError(
            "networks: expected resnet<depth>, densenet<depth> or one of "
            f"{', '.join(zoo.names())}, received: {network!r}"
        )
    known = inspect.signature(getattr(zoo, name)).parameters
    widths = [key for key in ("filters", "widths", "growth", "first", "units") if key in known]
    if width != 1 and not widths:
        raise OptionError(f"width: expected 1 for {network}, received: {width:g}")
    for key in widths:
        whole = known[key].default
        scaled = [max(1, round(width * n)) for n in ([whole] if isinstance(whole, int) else whole)]
        options[key] = scaled[0] if isinstance(whole, int) else scaled
    if "l2" in known:
        options["l2"] = DECAY
    return name, options


def anew(model, penalty=0.0):
    """The same architecture with new values, drawn by the layers' own initializers.

    Args:
        model: the network, which stays as it is.
        penalty: the factor of an l1 penalty on the scales of batch norm; there is none by default,
            whatever the model has.
    """

    def again(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["gamma_regularizer"] = keras.regularizers.L1(penalty) if penalty else None
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=again)


def masked_anew(model):
    """The same with the zeros of the model's convolutions."""
    new = anew(model)
    for old, fresh in zip(model.layers, new.layers, strict=True):
        if isinstance(old, keras.layers.Conv2D):
            stays = keras.ops.not_equal(old.kernel, 0)
            fresh.kernel.assign(fresh.kernel * keras.ops.cast(stays, fresh.kernel.dtype))
    return new


def is_residual(model):
    return any(isinstance(layer, keras.layers.Add) for layer in model.layers)


def streams(model):
    """Convolutions that write to the residual streams of the zoo's ResNets."""
    names = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    ends = ("stem", "_conv2", "_shortcut")
    return [name for name in names if is_residual(model) and name.endswith(ends)]


def pruned(model, method, ratio, allocation):
    """What a method leaves of a large network; an allocation is for single weights only."""
    own = {"convolutions_only": True}
    if method == "norms":
        ignored = streams(model)
        return iplt.prune(model, ratio, criterion="l1", scope="layer", ignore=ignored, **own)
    if method == "slimming":
        model = iplt.baselines.full_width(model) if is_residual(model) else model
        return iplt.prune(model, ratio, criterion="bn_scale", scope="global", **own)
    if method == "weights":
        iplt.sparsity.prune_weights(model, ratio, allocation, **own)
    return model  # of soft filter pruning as it is: smaller since its training ended


def costs(model):
    """Multiply-adds and parameters without those of weights that are zero."""
    whole = iplt.profile(model)
    table = {row.name: row for row in iplt.sparsity.measure(model, convolutions_only=True).layers}
    idle = sum(row.macs * table[row.name].sparsity for row in whole.layers if row.name in table)
    zeros = sum(row.zeros for row in table.values())
    return {"macs": round(whole.macs - idle), "params": whole.params - zeros}


def budget(epochs, before, after):
    """Epochs of Scratch-B: the small network computes as much as the large one did."""
    return max(1, round(epochs * before / after))


# -- one run ---------------------------------------------------------------------------------------


@at_workbench
def large(bench, network, width, kind, epochs, rate, penalty=0.0, ratio=None):
    """Trains a large network.

    Args:
        network, width: the name and the share of the filters, see `shape`.
        kind: "plain", "slimming" for the penalty on scales, or "sfp", after which it is pruned.
        epochs, rate: how many, and the learning rate at first.
        penalty, ratio: the factor for "slimming", and the share of the filters for "sfp".
    """
    model, callbacks = bench.build(*shape(network, width)), []
    if kind == "slimming":
        model = anew(model, penalty)
    if kind == "sfp":
        model = iplt.baselines.full_width(model) if is_residual(model) else model
        callbacks = [iplt.baselines.soft(ratio, backup_dir=bench.place.backup, verbose=0)]
    rates = milestones(rate, epochs, len(bench.data.train))
    return trained(bench, model, epochs, rates, callbacks)


@at_workbench
def tuned(bench, start, method, ratio, allocation, epochs, rate):
    """Prunes the large network that another run left, and fine-tunes what is left of it."""
    left = pruned(bench.load(start), method, ratio, allocation)
    model = anew(left)  # without the penalty of network slimming, which has done its work
    model.set_weights(left.get_weights())
    return trained(bench, model, epochs, rate, held(bench.place, method))


@at_workbench
def scratch(bench, start, method, epochs, rate):
    """Trains the architecture that a run of `tuned` left, from new values."""
    keras.utils.set_random_seed(RENEWED + bench.seed)
    model = bench.load(start)
    model = masked_anew(model) if method == "weights" else anew(model)
    rates = milestones(rate, epochs, len(bench.data.train))
    return trained(bench, model, epochs, rates, held(bench.place, method))


def held(place, method):
    """What keeps zeros zero while a network is trained."""
    if method != "weights":
        return []
    none = iplt.schedules.OneShot(0.0, epoch=0)  # no other weights go
    own = {"keep_zeros": True, "backup_dir": place.backup, "verbose": 0}
    return [iplt.SparsityCallback(none, convolutions_only=True, **own)]


def trained(bench, model, epochs, rates, callbacks):
    """Trains and saves; how good the model is then, and what it costs."""
    bench.compile(model, keras.optimizers.SGD(rates, momentum=0.9))
    course = bench.fit(model, epochs, callbacks)
    return {
        "accuracy": percent(model, bench.data.test), "epochs": epochs, "seconds": course.seconds,
        **costs(model),
    }  # fmt: skip


# -- all runs --------------------------------------------------------------------------------------


def run_all(options, grid):
    """(network, method) -> name -> a result per seed: "unpruned", "tuned", "e" and "b"."""
    own = {"size": options.size, "scaling": options.scaling, "augment": options.augment}
    setting = {**data_settings(options), **own}
    course = {"epochs": options.epochs, "rate": options.rate}
    ratios = {method: getattr(options, f"{method}_ratio") for method in METHODS}
    by_kind = {
        "plain": {},
        "slimming": {"penalty": options.penalty},
        "sfp": {"ratio": ratios["sfp"]},
    }

    def of_large(network, kind):
        name = "-".join([f"large-{kind}", *(f"{value:g}" for value in by_kind[kind].values())])
        told = {"network": network, "width": options.width, "kind": kind, **by_kind[kind]}
        return Case(f"{network}/{name}", large, {**setting, **course, **told})

    def of_small(network, method, kind, function, after, by_seed=None, **told):
        name = f"{network}/{method}-{ratios[method]:g}-{kind}"
        told = {**setting, **course, "method": method, **told}
        return Case(name, function, told, after.name, by_seed or {})

    wanted = [(network, method) for network in options.networks for method in options.methods]
    whole = {
        (network, kind): of_large(network, kind)
        for network, method in wanted for kind in (UNPRUNED[method], LARGE[method])
    }  # fmt: skip
    left = {
        (network, method): of_small(
            network, method, "tuned", tuned, whole[network, LARGE[method]],
            ratio=ratios[method], allocation=options.allocation, epochs=options.tuning,
            rate=options.rate * 0.01,
        )
        for network, method in wanted
    }  # fmt: skip
    unpruned, small = grid.run(whole), grid.run(left)

    def longer(network, method):
        """Epochs of Scratch-B, seed by seed."""
        pairs = zip(unpruned[network, UNPRUNED[method]], small[network, method], strict=True)
        return [budget(options.epochs, one["macs"], other["macs"]) for one, other in pairs]

    e = grid.run({case: of_small(*case, "scratch-e", scratch, left[case]) for case in wanted})
    b = grid.run({
        case: of_small(*case, "scratch-b", scratch, left[case], {"epochs": longer(*case)})
        for case in wanted
    })  # fmt: skip
    return {
        (network, method): {
            "unpruned": unpruned[network, UNPRUNED[method]], "tuned": small[network, method],
            "e": e[network, method], "b": b[network, method],
        }
        for network, method in wanted
    }  # fmt: skip


# -- what is found ---------------------------------------------------------------------------------


def show(options, page, found):
    """The table of accuracies, the claims, and a picture of each network."""
    page.heading("Fine-tuned, and from scratch")
    page.text(
        f"{options.data}: {options.epochs} epochs at first and for Scratch-E, {options.tuning} of "
        f"fine-tuning at {0.01 * options.rate:g}; {options.width:g} of the filters of each network "
        f"to begin with; seeds: {options.seeds}. The report prints no numbers to put beside these, "
        "and calls both budgets Scratch-B: the first is taken to be Scratch-E."
    )
    rows = [row(options, network, method, runs) for (network, method), runs in found.items()]
    page.table(
        "Accuracy on the test part", rows,
        "Gone are multiply-adds and parameters; of `weights`, what zeros would save if "
        "multiplications with them were left out, which no layer here does. Unpruned are the plain "
        "network or, of `slimming`, that with its penalty. Scratch-B is epochs × multiply-adds "
        f"before / after. Not done: {'; '.join(REFUSED.values())}.",
    )  # fmt: skip
    check_claims(page, found)
    for network in options.networks:
        own = {method: runs for (n, method), runs in found.items() if n == network}
        page.picture(network, lambda own=own: picture(own))


def row(options, network, method, runs):
    def gone(key):
        both = runs["tuned"], runs["unpruned"]
        return paired(*both, lambda left, whole: 100 * (1 - left[key] / whole[key]), 1)

    return {
        "network": network, "method": method, "multiply-adds gone, %": gone("macs"),
        "parameters gone, %": gone("params"), "unpruned, %": spread(runs["unpruned"], "accuracy"),
        **{f"{title}, %": spread(runs[name], "accuracy") for name, title in BUDGETS.items()},
        "epochs, fine-tuned": f"{options.epochs} + {options.tuning}",
        **{f"epochs, {BUDGETS[name]}": spread(runs[name], "epochs", 0)
           for name in ("e", "b")},
    }  # fmt: skip


def points_above(runs, others):
    """How many points of accuracy runs are above others: seeds share architecture and data."""
    return paired(runs, others, lambda run, other: run["accuracy"] - other["accuracy"]).difference


def tally(differences):
    """How often what is the case."""
    if not differences:
        return "not run"
    said = [one.verdict(COMPARED) for one in differences]
    counted = [f"{said.count(word)} {word}" for word in dict.fromkeys(said)]
    listed = ", ".join(f"{one.points:+.2f}" for one in differences)
    return f"{', '.join(counted)} (points: {listed})"


def check_claims(page, found):
    """What the report says, and what came out."""
    compared = {
        case: {
            f"{BUDGETS[one]} over {BUDGETS[other]}": points_above(runs[one], runs[other])
            for one, other in (("b", "e"), ("e", "tuned"), ("b", "tuned"))
        }
        for case, runs in found.items()
    }
    page.table("Differences, points", [
        {"network": network, "method": method,
         **{key: f"{one.points:+.2f}: {one.verdict(COMPARED)}" for key, one in own.items()}}
        for (network, method), own in compared.items()
    ], "Seeds are paired; the noise is twice the standard error. Within the noise is not the same "
       "as equal: few seeds tell only large differences.")  # fmt: skip
    page.table("The report's claims", [
        {"claim": key, "of": kind, "published, in words": theirs["in words"], "obtained": tally(
            [own[key] for (_, method), own in compared.items() if method in KINDS[kind]])}
        for (key, kind), theirs in CLAIMS.rows.items()
    ])  # fmt: skip


def picture(found):
    """Accuracy against what all training costs; left to right: Scratch-E, Scratch-B, fine-tuned."""
    lines = {}
    for method, runs in found.items():
        whole = spread(runs["unpruned"], "macs").mean
        points = []
        for name in ("e", "b", "tuned"):
            spent = Spread.of([run["epochs"] * run["macs"] / whole for run in runs[name]]).mean
            spent += runs["unpruned"][0]["epochs"] if name == "tuned" else 0
            accuracy = spread(runs[name], "accuracy")
            points.append((spent, accuracy.mean, accuracy.deviation))
        lines[method] = points
    return iplt.plots.tradeoff(
        lines, ylabel="accuracy, %",
        xlabel="training, in epochs of the unpruned network: Scratch-E, Scratch-B, fine-tuned",
    )  # fmt: skip


def reproduce(options):
    for network in options.networks:  # what cannot work is said before anything is trained
        shape(network, options.width)
    grid = Grid(options)
    page = Page("Rethinking the value of network pruning", grid.study, options.command)
    show(options, page, run_all(options, grid))
    return page.write()


def method(text):
    """One of those that are here."""
    if text in REFUSED:
        raise argparse.ArgumentTypeError(f"{text} is not here: {REFUSED[text]}")
    if text not in METHODS:
        raise argparse.ArgumentTypeError(f"expected {', '.join(METHODS)}, received: {text}")
    return text


def parser(prog=None):
    """What the command takes: in full, and with --quick."""
    parser = command_parser("rethinking", __doc__, prog, seeds=(3, 1), batch=(64, 16))
    add = parser.option
    add("--networks", None, ["vgg19", "resnet56", "densenet40"], ["resnet8"], "of the zoo; "
        "resnet<depth>, densenet<depth> (vgg19 resnet56 densenet40)", nargs="+",
        metavar="NETWORK")  # fmt: skip
    add("--methods", method, list(METHODS), None, f"of {', '.join(METHODS)} (all)", nargs="+",
        metavar="METHOD")  # fmt: skip
    add("--width", float, 1.0, 0.5, "the share of the networks' filters to begin with (1)")
    add_data(parser, "", "the data", "cifar10", ("digits", 16, 16))
    add("--size", positive, None, None, "what images are resized to")
    add("--scaling", None, "torch", "scale", "see recipes.data", choices=("scale", "torch"))
    add("--augment", None, "usual", None, "see recipes.data",
        choices=("usual", "crop", "flip", "crop_flip"))  # fmt: skip
    add("--epochs", positive, 160, 1, "of the large network and of Scratch-E (160)")
    add("--tuning", positive, 40, 1, "epochs of fine-tuning (40)")
    add("--rate", float, 0.1, None, "learning rate at first; a hundredth of it in the end (0.1)")
    for name, full, quick in (
        ("norms", 0.5, None), ("sfp", 0.3, 0.2), ("slimming", 0.6, 0.2), ("weights", 0.8, 0.4)
    ):  # fmt: skip
        what = "weights" if name == "weights" else "filters"
        add(f"--{name}-ratio", share, full, quick, f"{what} to remove by {name} ({full:g})",
            metavar="SHARE")  # fmt: skip
    add("--penalty", float, 1e-4, 1e-2, "on the scales of batch norm, for slimming (1e-4; 1e-3 for "
        "a tenth of the epochs)", metavar="L1")  # fmt: skip
    add("--allocation", None, "depth", None, "of single weights: all convolutions together, or "
        "each alike (depth)", choices=("depth", "uniform"))  # fmt: skip
    return parser


def main(arguments=None, prog=None):
    return start(parser(prog), arguments, reproduce)


if __name__ == "__main__":
    main()
