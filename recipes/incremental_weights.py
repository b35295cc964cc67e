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
from keras_iplt import plots
from keras_iplt.errors import OptionError

from . import zoo
from .common.command import (
    add_data,
    answering,
    command_parser,
    common_settings,
    parsed,
    positive,
    share,
)
from .common.page import Page, Spread, spread
from .common.study import Run, Study
from .common.training import Hardware, check_data, compiled, fit, loaded, percent, saved

FULL = {
    "tables": [1, 2, 3, 4, 5], "seeds": 3, "batch": 128,
    "epochs": 20, "k": 2, "target": 0.9, "step": 0.1, "lenet_5": "caffe", "vgg_width": 1.0,
    "mnist": "mnist", "cifar10": "cifar10", "cifar100": "cifar100",
}  # fmt: skip
QUICK = {
    "seeds": 1, "batch": 16, "epochs": 2, "k": 1, "step": 0.9, "vgg_width": 0.125,
    "mnist": "digits", "mnist_size": 16, "cifar10": "digits", "cifar100": "digits",
    "cifar_size": 8,
} | {f"{data}_{take}": 16 for data in ("mnist", "cifar10", "cifar100")
     for take in ("take", "take_test")}  # fmt: skip

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
# Network, of whom, epochs, accuracy.
PUBLISHED = {
    1: [
        ("LeNet-300-100", "Han [2]", None, 98.36), ("LeNet-300-100", OURS, 20, 99.60),
        ("LeNet-5", "Han [2]", None, 99.20), ("LeNet-5", OURS, 20, 99.76),
        ("Simple", "Li [14]", 20, 99.35), ("VGG-Lite", OURS, 20, 99.83),
    ],
    2: [
        ("LeNet-300-100", "Han [2]", None, 98.41), ("LeNet-300-100", "Molchanov [3]", 200, 99.08),
        ("LeNet-300-100", OURS, 20, 99.94), ("LeNet-5", "Han [2]", None, 99.20),
        ("LeNet-5", "Molchanov [3]", 200, 99.25), ("LeNet-5", OURS, 20, 99.45),
        ("Simple CNN", "Li [14]", 20, 99.35), ("VGG-Lite", OURS, 20, 99.75),
    ],
    3: [
        ("VGG-like", "Molchanov [3]", 200, 92.70), ("VGG-19", "Li [14]", 40, 94.20),
        ("VGG-Lite", OURS, 20, 93.71),
    ],
    4: [("VGG-like", "Molchanov [3]", 200, 92.70), ("VGG-Lite", OURS, 20, 99.00)],
}  # fmt: skip
# Data, network -> epochs to a pruned model: this paper's, of [3], of [9].
TABLE_5 = {
    ("mnist", "LeNet-300-100"): (20, 200, None), ("mnist", "LeNet-5"): (20, 200, None),
    ("mnist", "Simple CNN"): (20, None, None), ("cifar10", "VGG-Lite"): (20, 200, 40),
    ("cifar100", "VGG-Lite"): (20, 200, None),
}  # fmt: skip
REMARKS = {
    1: "The paper says of its Fig. 7 that training and testing accuracies of the unpruned networks "
    "are all above 99 %.",
    2: "The 99.94 % of LeNet-300-100 cannot be test accuracy: the best that is known of this "
    "network is far below.",
    3: "The row of [14] is not in that paper, which prunes VGG-16, prints 94.35 and 94.05 %, and "
    "trains for 300 epochs: it prunes in the first 20 to 40 of them.",
    4: "The 92.70 % of VGG-like [3] is the figure of CIFAR-10 in Table III again. 99.00 % for "
    "VGG-Lite cannot be test accuracy: the best that is known of CIFAR-100 is far below, and of "
    "the ten classes of CIFAR-10, which are easier, Table III has 93.71 %.",
}


# -- one run ---------------------------------------------------------------------------------------


def train(place, network, shape, seed, batch, hardware, epochs, pruning=None, **source):
    """Trains one network: its accuracy, how it went, what it took, and how small it is then.

    Args:
        place: where its files go.
        network, shape: of the zoo: a name and options.
        pruning: what `SparsityCallback` is told; None for a network that stays as it is.
        **source: the data, see `loaded`.
    """
    hardware = Hardware(**hardware)
    with hardware.ready(seed):
        data = loaded(seed=seed, batch=batch, **source)
        model = zoo.build(network, data.input_shape, len(data.classes), **shape)
        # What Adam's `decay` did when the paper was written.
        rate = keras.optimizers.schedules.InverseTimeDecay(1e-3, decay_steps=1, decay_rate=1e-5)
        compiled(model, keras.optimizers.Adam(rate), hardware)
        callbacks = []
        if pruning:
            callback = iplt.SparsityCallback(**pruning, backup_dir=place.backup, verbose=0)
            callbacks.append(callback)
        trained = fit(model, data, epochs, place, hardware, callbacks, validation=data.test)
        saved(model, place)
        zeros, size = iplt.sparsity.measure(model), iplt.sparsity.compressed_size(model)
        return {
            "train": percent(model, data.batches("train", training=False)),
            "test": 100 * trained.history["val_accuracy"][-1], "history": trained.history,
            "weights": zeros.weights, "zeros": 100 * zeros.sparsity,
            "layers": {row.name: 100 * row.sparsity for row in zeros.layers},
            "bytes": size.dense, "csr": size.csr, "gzip": size.gzip,
            "seconds": trained.seconds, "cpu": trained.cpu,
        }  # fmt: skip


# -- all runs --------------------------------------------------------------------------------------


def wanted(tables, only=None):
    """What these tables need, as (data, network, method): Table V all that the others are about, or
    everything if it stands alone."""
    shown = {TABLE_DATA[table] for table in tables if table != 5} or set(TRAINED)
    pruned = {TABLE_DATA[table] for table in tables if table in (2, 3, 4)}
    pruned |= shown if 5 in tables else set()
    return [
        (data, network, method)
        for data, networks in TRAINED.items() if data in shown
        for network in networks if not only or network in only
        for method in (METHODS if data in pruned else METHODS[:1])
    ]  # fmt: skip


def trained(options, study):
    """Does all runs: (data, network, method) -> a result per seed."""
    common, where = common_settings(options)
    needed = wanted(options.tables, options.only)
    if not needed:
        raise OptionError(
            f"--only {' '.join(options.only)}: expected a network that one of the tables "
            f"{options.tables} is about"
        )
    sources = [getattr(options, data) for data, *_ in needed]
    check_data(sources, options.data_dir, options.download)
    runs = []
    for data, network, method in needed:
        name, shape = built(options, network)
        settings = {
            **common, "network": name, "shape": shape, "source": getattr(options, data),
            "size": options.mnist_size if data == "mnist" else options.cifar_size,
            "augment": options.augment, "take": getattr(options, f"{data}_take"),
            "take_test": getattr(options, f"{data}_take_test"), "epochs": options.epochs,
            "pruning": pruning(options, method),
        }  # fmt: skip
        runs += [
            Run(f"{data}/{name}-{method}-seed{seed}", train, {**settings, "seed": seed}, where)
            for seed in range(options.seeds)
        ]
    results = iter(study.do(runs))
    return {one: [next(results) for _ in range(options.seeds)] for one in needed}


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
    data = TABLE_DATA[number]
    kind = "unpruned" if number == 1 else "pruned"
    numeral = roman(number)
    page.heading(f"Table {numeral}: {kind} networks on {NAMES[data]}")
    was_run = any(data == name for name, *_ in found)
    page.text(setting(options, data, kind) if was_run else "As published: nothing of it was run.")
    page.table(f"Table {numeral}", rows(found, number), REMARKS[number])
    if was_run:
        check_accuracies(page, found, number)


def roman(number):
    return ("I", "II", "III", "IV", "V")[number - 1]


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
    for network, whose, epochs, accuracy in PUBLISHED[number]:
        for method in (READINGS if pruned else METHODS[:1]) if whose == OURS else (None,):
            runs = found.get((TABLE_DATA[number], network, method), [])
            row = {"network": network, "of": whose}
            if pruned:
                row |= {"what goes": method, "zeros, %": spread(runs, "zeros", 1)}
            made.append({
                **row, "epochs (published)": epochs,
                "epochs (obtained)": len(runs[0]["history"]["loss"]) if runs else None,
                "accuracy, % (published)": accuracy,
                "training accuracy, % (obtained)": spread(runs, "train"),
                "test accuracy, % (obtained)": spread(runs, "test"),
            })  # fmt: skip
    return made


def check_accuracies(page, found, number):
    """What the published figures are near to, and whether what the paper claims of them holds."""
    data, methods = TABLE_DATA[number], METHODS[:1] if number == 1 else READINGS
    ours = {network: value for network, whose, _, value in PUBLISHED[number] if whose == OURS}
    told = {
        (network, method): found[data, network, method]
        for network in ours for method in methods if (data, network, method) in found
    }  # fmt: skip

    def lines(verdict):
        return "\n".join(f"- {', '.join(one)}: {verdict(*one)}" for one in told)

    page.text(
        "What the published accuracy is near to.\n\n"
        + lines(lambda network, method: distances(ours[network], told[network, method]))
    )
    if number == 1:
        page.text(
            "The claim that both training and testing accuracies are above 99 %.\n\n"
            + lines(lambda network, method: above_99(told[network, method]))
        )
    else:
        page.text(
            "The claim that pruning while training does not cost accuracy: of test images, pruned "
            "less unpruned. Noise is twice the standard error of the difference.\n\n"
            + lines(
                lambda network, method: spread(told[network, method], "test").not_worse_than(
                    spread(found[data, network, "unpruned"], "test")
                )
            )
        )


def distances(published, runs):
    """How far a figure is from accuracy on training and on test images."""
    train, test = (published - spread(runs, key).mean for key in ("train", "test"))
    return f"{published:.2f} is training accuracy {train:+.2f}, test accuracy {test:+.2f}."


def above_99(runs):
    means = [spread(runs, key).mean for key in ("train", "test")]
    verdict = "holds" if min(means) > 99 else "does not hold"
    return f"{means[0]:.2f} % and {means[1]:.2f} %: {verdict}."


# -- Table V: epochs, time and bytes ---------------------------------------------------------------


def table_5(page, found):
    page.heading("Table V: what a pruned model takes, and what it saves")
    page.table(
        "Table V: epochs to a pruned model",
        epoch_rows(found),
        'The claim "10x faster" divides the 200 epochs of [3] by 20. These are epochs that '
        "somebody chose to train, of other methods and networks: neither seconds, nor epochs until "
        "some accuracy is reached. The unpruned networks of Table I are trained for 20 epochs as "
        "well, so that pruning shortens nothing. By the list of references [3] is another paper "
        "than the one on sparse variational dropout that the text describes, and the 40 epochs of "
        "[9] are what Table III says of [14].",
    )
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
    trained_too = [one for *one, method in found if method == READINGS[0]]
    made = []
    for data, network in dict.fromkeys([*TABLE_5, *map(tuple, trained_too)]):
        published = TABLE_5.get((data, network), (None,) * 3)
        runs = found.get((data, network, READINGS[0]))
        history = runs[0]["history"] if runs else None
        made.append({
            "data": NAMES[data], "network": network,
            **dict(zip(("this method (published)", "[3] (published)", "[9] (published)"),
                       published, strict=True)),
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
            "time, wall": times(runs, base, "seconds") if pruned else None,
            "time, CPU": times(runs, base, "cpu") if pruned else None,
            **{f"{name}, kB": Spread.of([run[key] / 1000 for run in runs], 1)
               for name, key in (("float32", "bytes"), ("CSR", "csr"), ("gzip", "gzip"))},
        })  # fmt: skip
    return made


def times(runs, base, key):
    """Seconds over those of the runs of the same seeds."""
    return Spread.of(run[key] / before[key] for run, before in zip(runs, base, strict=True))


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
        page.picture(f"curves-{data}-{network}", lambda own=own: plots.history(curves(own)))


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


# -- all of it -------------------------------------------------------------------------------------


def reproduce(options):
    study = Study(options.out, options.workers, options.recipe)
    page = Page("An incremental pruning strategy for fast training", study, options.command)
    found = trained(options, study)
    for number in sorted(set(options.tables) & set(TABLE_DATA)):
        accuracies(options, page, found, number)
    if 5 in options.tables:
        table_5(page, found)
    figures(page, found)
    return page.write()


def main(arguments=None, prog=None):
    parser = command_parser("incremental_weights", __doc__, prog)
    add = parser.add_argument
    add("--tables", type=int, nargs="+", choices=(1, 2, 3, 4, 5), help="which (all)")
    add("--only", nargs="+", choices=tuple(NETWORKS), help="train these networks only")
    add_data(parser, "mnist", what="the data of Tables I and II")
    add_data(parser, "cifar10", what="the data of Table III")
    add_data(parser, "cifar100", what="the data of Table IV")
    for data in ("mnist", "cifar"):
        add(f"--{data}-size", type=positive, help="what its images are resized to")
    add("--augment", choices=("crop", "flip", "crop_flip"), help="of training images (none)")
    add("--epochs", type=positive, help="of all trainings (20)")
    add("--k", type=positive, help="epochs between two steps of pruning (2)")
    add("--target", type=share, help="the share of the weights that goes (0.9)")
    add("--step", type=share, help="what goes at a time (0.1)")
    add("--l2", type=float, help="factor of the penalty on kernels, of all networks")
    add("--dropout", type=float, help="rate, of all networks")
    add("--lenet-5", choices=("caffe", "1998"), help="which one (caffe)")
    add("--vgg-width", type=float, help="the share of VGG-Lite's filters to begin with (1)")
    options = parsed(parser, arguments, FULL, QUICK)
    with answering(options):
        return reproduce(options)


if __name__ == "__main__":
    main()
