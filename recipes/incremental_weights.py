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

Not told, and chosen here: batches of 128; L2 of 1e-4 and dropout of 0.2 for the LeNets, 5e-4 and
0.3 for VGG-Lite; pixels in [0, 1]; no augmentation, as none is among the techniques that the paper
names; the LeNet-5 of Caffe, as in the papers it compares with (--lenet-5). VGG-Lite is a
reconstruction, as its figure is missing: see docs/zoo.md. Nor does the paper say on what accuracy
is measured: here both are given, of all training images, without dropout, and of the test images.

--quick: a few of scikit-learn's digits and an eighth of VGG-Lite's filters, for two epochs, which
is too little to learn anything: it shows that all of it runs.
"""

import keras
import numpy as np

import keras_iplt as iplt
from keras_iplt.errors import OptionError

from .common.claims import NOISE, NOT_WORSE, holds
from .common.command import add_data, command_parser, data_settings, positive, share, start
from .common.grid import Case, Grid
from .common.page import Page
from .common.published import published
from .common.spread import Spread, quotient, spread
from .common.training import at_workbench, check_data, percent

# Name in the paper -> name in the zoo, and what it is made with: rates and factors are not told.
NETWORKS = {
    "LeNet-300-100": ("lenet_300_100", {"batch_norm": True, "dropout": 0.2, "l2": 1e-4}),
    "LeNet-5": ("lenet_5", {"batch_norm": True, "dropout": 0.2, "l2": 1e-4}),
    "VGG-Lite": ("vgg_lite", {"dropout": 0.3, "l2": 5e-4}),
}
VGG_LITE = (64, 64, 128, 128, 256, 256, 256, 256)
NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
TRAINED = {"mnist": tuple(NETWORKS), "cifar10": ("VGG-Lite",), "cifar100": ("VGG-Lite",)}
READINGS = ("weights_per_filter", "filters")
METHODS = ("unpruned", *READINGS)
TABLE_DATA = {1: "mnist", 2: "mnist", 3: "cifar10", 4: "cifar100"}

OURS = "this paper"
PUBLISHED = published("incremental_weights")


# -- one run ---------------------------------------------------------------------------------------


@at_workbench
def train(bench, network, shape, epochs, pruning=None):
    """Trains one network: its accuracy, how it went, what it took, and how small it is then.

    Args:
        network, shape: the name of a network of the zoo, and its options.
        epochs: how many.
        pruning: what `SparsityCallback` is told; None for a network that stays as it is.
    """
    model = bench.build(network, shape)
    # What Adam's `decay` did when the paper was written.
    rate = keras.optimizers.schedules.InverseTimeDecay(1e-3, decay_steps=1, decay_rate=1e-5)
    bench.compile(model, keras.optimizers.Adam(rate))
    own = {"backup_dir": bench.place.backup, "verbose": 0}
    callbacks = [iplt.SparsityCallback(**pruning, **own)] if pruning else []
    trained = bench.fit(model, epochs, callbacks, validation=bench.data.test)
    zeros, size = iplt.sparsity.measure(model), iplt.sparsity.compressed_size(model)
    return {
        "train": percent(model, bench.data.batches("train", training=False)),
        "test": 100 * trained.history["val_accuracy"][-1], "history": trained.history,
        "weights": zeros.weights, "zeros": 100 * zeros.sparsity,
        "layers": {row.name: 100 * row.sparsity for row in zeros.layers},
        "bytes": size.dense, "csr": size.csr, "gzip": size.gzip,
        "seconds": trained.seconds, "cpu": trained.cpu,
    }  # fmt: skip


# -- all runs --------------------------------------------------------------------------------------


def wanted(tables, only=None):
    """What tables need, as (data, network, method).

    Table V needs all that the others are about, or everything if it stands alone.
    """
    shown = {TABLE_DATA[table] for table in tables if table != 5} or set(TRAINED)
    pruned = {TABLE_DATA[table] for table in tables if table in (2, 3, 4)}
    pruned |= shown if 5 in tables else set()
    return [
        (data, network, method)
        for data, networks in TRAINED.items() if data in shown
        for network in networks if not only or network in only
        for method in (METHODS if data in pruned else METHODS[:1])
    ]  # fmt: skip


def cases(options):
    """What has to be run: (data, network, method) -> case."""
    needed = wanted(options.tables, options.only)
    if not needed:
        raise OptionError(
            f"--only {' '.join(options.only)}: expected a network that one of the tables "
            f"{options.tables} is about"
        )
    found = {}
    for data, network, method in needed:
        name, shape = built(options, network)
        found[data, network, method] = Case(f"{data}/{name}-{method}", train, {
            **data_settings(options, data), "augment": options.augment,
            "size": options.mnist_size if data == "mnist" else options.cifar_size,
            "network": name, "shape": shape, "epochs": options.epochs,
            "pruning": pruning(options, method),
        })  # fmt: skip
    return found


def built(options, network):
    """Its name in the zoo, and what it is built with."""
    name, shape = NETWORKS[network]
    given = {key: getattr(options, key) for key in ("dropout", "l2")}
    shape = shape | {key: value for key, value in given.items() if value is not None}
    if network == "VGG-Lite":
        shape["filters"] = [max(1, round(options.vgg_width * count)) for count in VGG_LITE]
    if network == "LeNet-5" and options.lenet_5 == "1998":
        name = "lenet_5_1998"
    return name, shape


def pruning(options, method):
    """What the callback is told."""
    if method == "unpruned":
        return None
    return {
        "target": options.target, "step": options.step, "every": options.k, "pattern": method,
        "ignore": ["head"] if method == "filters" else [],
    }  # fmt: skip


# -- Tables I to IV --------------------------------------------------------------------------------


def accuracies(options, page, found, number):
    """One of Tables I to IV, published and obtained."""
    data, table = TABLE_DATA[number], PUBLISHED[f"table {number}"]
    kind, numeral = "unpruned" if number == 1 else "pruned", ("I", "II", "III", "IV")[number - 1]
    page.heading(f"Table {numeral}: {kind} networks on {NAMES[data]}")
    was_run = any(data == name for name, *_ in found)
    page.text(setting(options, data, kind) if was_run else "As published: nothing of it was run.")
    page.table(f"Table {numeral}", rows(found, number), table.remarks["all"])
    if was_run:
        check_accuracies(page, found, number)


def setting(options, data, kind):
    """What was done to whom."""
    steps = (
        f" After every {options.k} of them another {100 * options.step:g} % of the weights went, "
        f"to {100 * options.target:g} %."
    )
    networks = [network for network in TRAINED[data] if not options.only or network in options.only]
    return (
        f"On {getattr(options, data)}: {options.epochs} epochs of batches of {options.batch}; "
        f"seeds: {options.seeds}.{steps if kind == 'pruned' else ''}\n\n"
        + "\n".join(f"- {network}: {described(options, network)}" for network in networks)
    )


def described(options, network):
    """What it was built with, of which the paper tells neither rates nor factors."""
    name, shape = built(options, network)
    made = f"`{name}`, batch norm, dropout of {shape['dropout']:g}, L2 of {shape['l2']:g}"
    if network != "VGG-Lite":
        return f"{made}."
    return (
        f"{made}, {options.vgg_width:g} of its filters. It is a reconstruction: the paper's figure "
        "of it is missing (docs/zoo.md)."
    )


def rows(found, number):
    """Those of other papers as published, those of this one with what was obtained."""
    made, pruned = [], number > 1
    for (network, whose), theirs in PUBLISHED[f"table {number}"].rows.items():
        for method in (READINGS if pruned else METHODS[:1]) if whose == OURS else (None,):
            runs = found.get((TABLE_DATA[number], network, method), [])
            row = {"network": network, "of": whose}
            if pruned:
                row |= {"what goes": method, "zeros, %": spread(runs, "zeros", 1)}
            made.append({
                **row, "epochs (published)": theirs["epochs"],
                "epochs (obtained)": len(runs[0]["history"]["loss"]) if runs else None,
                "accuracy, % (published)": theirs["accuracy, %"],
                "training accuracy, % (obtained)": spread(runs, "train"),
                "test accuracy, % (obtained)": spread(runs, "test"),
            })  # fmt: skip
    return made


def check_accuracies(page, found, number):
    """What the published figures are near to, and whether what the paper claims of them holds."""
    data, table = TABLE_DATA[number], PUBLISHED[f"table {number}"]
    ours = [network for network, whose in table.rows if whose == OURS]
    told = {
        (network, method): found[data, network, method]
        for network in ours for method in (METHODS[:1] if number == 1 else READINGS)
        if (data, network, method) in found
    }  # fmt: skip

    def findings(claim, verdict):
        page.findings(claim, (f"{', '.join(one)}: {verdict(*one)}" for one in told))

    def near(network, method):
        return distances(table.row(network, OURS)["accuracy, %"], told[network, method])

    def costs_nothing(network, method):
        before = spread(found[data, network, "unpruned"], "test")
        return spread(told[network, method], "test").minus(before).judged(NOT_WORSE)

    findings("What the published accuracy is near to.", near)
    if number == 1:
        claim = "The claim that both training and testing accuracies are above 99 %."
        findings(claim, lambda *one: above_99(told[one]))
    else:
        claim = "The claim that pruning while training does not cost accuracy: of test images, "
        findings(f"{claim}pruned less unpruned. {NOISE}", costs_nothing)


def distances(published, runs):
    """How far a figure is from accuracy on training and on test images."""
    train, test = (published - spread(runs, key).mean for key in ("train", "test"))
    return f"{published:.2f} is training accuracy {train:+.2f}, test accuracy {test:+.2f}."


def above_99(runs):
    """Whether accuracy on training and on test images is above 99 %."""
    means = [spread(runs, key).mean for key in ("train", "test")]
    return f"{means[0]:.2f} % and {means[1]:.2f} %: {holds(min(means) > 99)}."


# -- Table V: epochs, time and bytes ---------------------------------------------------------------


def table_5(page, found):
    page.heading("Table V: what a pruned model takes, and what it saves")
    page.table(
        "Table V: epochs to a pruned model",
        epoch_rows(found), PUBLISHED["table 5"].remarks["all"],
    )  # fmt: skip
    page.table(
        "What zeros save",
        savings(found),
        "Times are those of training over that of the unpruned network of the same seed, with "
        "tracing, pruning and an evaluation of the test images after each epoch: 1.00 means that "
        "zeros save none. Processors multiply by zero as by any other number. Wall seconds depend "
        "on what else a machine does, CPU seconds hardly; the first training of a process, an "
        "unpruned one, takes a few seconds more than the others. Bytes are those of all weights as "
        "float32, of the same with compressed rows (CSR) where these are smaller, and of the "
        "gzipped weight file: zeros save them where a model is stored. The paper prints neither "
        "seconds nor bytes.",
    )


def epoch_rows(found):
    """Table V; what was trained besides follows."""
    table, made = PUBLISHED["table 5"], []
    trained_too = ((data, network) for data, network, method in found if method == READINGS[0])
    for data, network in dict.fromkeys([*table.rows, *trained_too]):
        theirs = table.row(data, network)
        runs = found.get((data, network, READINGS[0]))
        history = runs[0]["history"] if runs else None
        made.append({
            "data": NAMES[data], "network": network,
            **{f"{whose} (published)": epochs for whose, epochs in theirs.items()},
            "epochs (obtained)": len(history["loss"]) if runs else None,
            "of them before the last weights go": reached(history["sparsity"]) if runs else None,
        })  # fmt: skip
    return made


def reached(sparsity):
    """How many epochs are over when the most zeros are set, from how many there are in each."""
    return sparsity.index(max(sparsity))


def savings(found):
    """Time over the unpruned network's, and bytes."""
    made = []
    for (data, network, method), runs in found.items():
        base = found[data, network, "unpruned"]
        pruned = method != "unpruned"
        made.append({
            "data": NAMES[data], "network": network, "what goes": method if pruned else None,
            "weights": runs[0]["weights"], "zeros, %": spread(runs, "zeros", 1),
            "s an epoch": Spread.of(run["seconds"] / len(run["history"]["loss"]) for run in runs),
            "time, wall": quotient(runs, base, "seconds") if pruned else None,
            "time, CPU": quotient(runs, base, "cpu") if pruned else None,
            **{f"{name}, kB": Spread.of([run[key] / 1000 for run in runs], 1)
               for name, key in (("float32", "bytes"), ("CSR", "csr"), ("gzip", "gzip"))},
        })  # fmt: skip
    return made


# -- Fig. 7 and 8 ----------------------------------------------------------------------------------


def figures(page, found):
    """A picture per network and data, unpruned and pruned."""
    page.heading("Fig. 7 and 8: accuracy and loss")
    page.text(
        'After each epoch, means of the seeds; test images dashed ("validation"). Training '
        "figures are those that Keras adds up during an epoch, with dropout, so that they may be "
        "below those of the test images; losses include the L2 penalty. The paper shows the "
        "unpruned networks on MNIST only."
    )
    for data, network in dict.fromkeys((data, network) for data, network, _ in found):
        own = {method: found[data, network, method] for method in METHODS
               if (data, network, method) in found}  # fmt: skip
        page.picture(f"curves-{data}-{network}", lambda own=own: iplt.plots.history(curves(own)))


def curves(own):
    """Accuracy and loss by epoch of each method, means of the seeds, as `plots.history` draws."""
    return {
        f"{prefix}{metric}, {method}": np.mean(
            [run["history"][prefix + metric] for run in runs], axis=0
        ).tolist()
        for method, runs in own.items()
        for metric in ("accuracy", "loss")
        for prefix in ("", "val_")
    }


def reproduce(options):
    needed = cases(options)
    sources = [getattr(options, data) for data, *_ in needed]
    check_data(sources, options.data_dir, options.download)
    grid = Grid(options)
    page = Page("An incremental pruning strategy for fast training", grid.study, options.command)
    found = grid.run(needed)
    for number in sorted(set(options.tables) & set(TABLE_DATA)):
        accuracies(options, page, found, number)
    if 5 in options.tables:
        table_5(page, found)
    figures(page, found)
    return page.write()


def parser(prog=None):
    """What the command takes: in full, and with --quick."""
    parser = command_parser("incremental_weights", __doc__, prog, seeds=(3, 1), batch=(128, 16))
    add, numbers = parser.option, [1, 2, 3, 4, 5]
    add("--tables", int, numbers, None, "which (all)", nargs="+", choices=tuple(numbers))
    add("--only", None, None, None, "train these networks only", nargs="+", choices=tuple(NETWORKS))
    for data, what in (("mnist", "s I and II"), ("cifar10", " III"), ("cifar100", " IV")):
        add_data(parser, data, f"the data of Table{what}", data, ("digits", 16, 16))
    for data, size in (("mnist", 16), ("cifar", 8)):
        add(f"--{data}-size", positive, None, size, "what its images are resized to")
    add("--augment", None, None, None, "of training images (none)",
        choices=("crop", "flip", "crop_flip"))  # fmt: skip
    add("--epochs", positive, 20, 2, "of all trainings (20)")
    add("--k", positive, 2, 1, "epochs between two steps of pruning (2)")
    add("--target", share, 0.9, None, "the share of the weights that goes (0.9)")
    add("--step", share, 0.1, 0.9, "what goes at a time (0.1)")
    add("--l2", float, None, None, "factor of the penalty on kernels, of all networks")
    add("--dropout", float, None, None, "rate, of all networks")
    add("--lenet-5", None, "caffe", None, "which one (caffe)", choices=("caffe", "1998"))
    add("--vgg-width", float, 1.0, 0.125, "the share of VGG-Lite's filters to begin with (1)")
    return parser


def main(arguments=None, prog=None):
    return start(parser(prog), arguments, reproduce)


if __name__ == "__main__":
    main()
