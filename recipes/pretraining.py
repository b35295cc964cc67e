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
tenth of the training images, and accuracy is told on the test images as well.

Where there are no weights of ImageNet (offline, or for another shape), --pretrain-on trains
Network-A on another data set first.

--quick: a VGG16 with an eighth of the filters and some digits, one epoch of everything, one layer
pruned; pre-trained on the same digits. All of the arithmetic.
"""

import contextlib
import itertools
import pathlib
import sys
import tempfile

import keras

import keras_iplt as iplt

from . import zoo
from .common.command import add_data, command_parser, data_settings, positive, share, start
from .common.grid import Case, Grid, seeded
from .common.page import Page
from .common.published import published
from .common.spread import paired, spread
from .common.training import at_workbench, check_data, falling, percent
from .zoo.vgg import VGG16

# What keras.applications' weights of ImageNet have been trained with.
SCALING = {"vgg16_hubens": "caffe", "mobilenet": "tf"}
NETWORKS = ("A", "B")  # pre-trained, and from scratch

PUBLISHED = published("pretraining")
FILTERS, NETWORK_COSTS = PUBLISHED["tables 1, 3"], PUBLISHED["tables 2, 4"]
# data set -> classes and side of the images
SHAPES = {"cifar10": (10, 32), "cifar100": (100, 32), "svhn_cropped": (10, 32),
          "caltech101": (101, 224)}  # fmt: skip


# -- one run ---------------------------------------------------------------------------------------


@at_workbench
def train(bench, network, shape, epochs, rate, drop_every, weights=None, start=None):
    """Trains a baseline.

    Args:
        network, shape: the name of a network of the zoo, and its options.
        epochs, rate: how many, and the learning rate at first.
        drop_every: epochs until it falls to a tenth.
        weights: what Network-A begins with: a file, or "imagenet".
        start: instead of it, the run of this study that has been trained on other data.
    """
    weights = weights if start is None else bench.place.model(start)
    model = bench.build(network, shape, weights)
    at = range(drop_every, epochs, drop_every)
    rates, lowest = falling(rate, at, len(bench.data.train))
    bench.compile(model, keras.optimizers.Adam(rates))
    trained = bench.fit(model, epochs)
    return {
        "validation": percent(model, bench.data.validation),
        "test": percent(model, bench.data.test),
        "lowest_rate": lowest, "seconds": trained.seconds, **counted(model),
    }  # fmt: skip


@at_workbench
def prune(bench, start, rate, ratios, share, tolerance, retraining, layers=None):
    """Measures how sensitive the layers of a baseline are, then prunes one after the other.

    Args:
        start: the run of this study that trained the baseline.
        rate: the learning rate of retraining.
        ratios: the shares of filters of the sensitivity analysis.
        share: the share of a layer's filters that go at a time.
        tolerance: how much accuracy may be lost.
        retraining: epochs after each time.
        layers: how many layers to prune at most; all by default.
    """
    model, data = bench.load(start), bench.data
    bench.compile(model, keras.optimizers.Adam(rate))
    analysis = iplt.sensitivity(
        model, data.validation, ratios, criterion="l1", metric="accuracy", verbose=0,
        convolutions_only=True, path=bench.place.file(".sensitivity.json"),
    )  # fmt: skip
    with contextlib.redirect_stdout(sys.stderr):  # its lines are progress
        found = iplt.prune_guided(
            model, data.train, data.validation, step=share, tolerance=tolerance,
            epochs=retraining, metric="accuracy", layers=analysis.ranking()[:layers],
            convolutions_only=True, backup_dir=bench.place.backup, shuffle=False,
        )  # fmt: skip
    bench.save(found.model)
    return {
        "validation": 100 * found.value, "test": percent(found.model, data.test),
        "before": 100 * found.baseline,
        "filters_gone": 100 * iplt.compare(model, found.model).fpr,
        "steps": [[s.layer, s.left, s.size, s.value, s.kept] for s in found.steps],
        **counted(found.model),
    }  # fmt: skip


def counted(model):
    """What a network costs, in the paper's units.

    Parameters and FLOPs in millions, the file of its weights, as Keras writes it, in megabytes of
    2^20.
    """
    profile = iplt.profile(model)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.weights.h5"
        # Without the optimizer, which Keras writes into the file of a compiled model.
        keras.Model(model.inputs, model.outputs).save_weights(path)
        size = path.stat().st_size / 2**20
    return {
        "params": profile.params / 1e6, "flops": profile.flops / 1e6, "size": size,
        "filters": {name: model.get_layer(name).filters for name in pruned_layers(model)},
    }  # fmt: skip


# -- arithmetic ------------------------------------------------------------------------------------


def published_network(network, which="baseline", classes=10, side=32):
    """A network of the paper by its printed filters: "A" or "B" as pruned, or its baseline."""
    model = zoo.build(network, (side, side, 3), classes)
    if which == "baseline":
        return model
    filters = FILTERS.row(network, which)["filters"]
    left = dict(zip(pruned_layers(model), filters, strict=True))
    gone = {name: range(n, model.get_layer(name).filters) for name, n in left.items()}
    return iplt.rewrite(model, iplt.plan_channels(model, gone))


def pruned_layers(model):
    """The names of the convolutions that lose filters: all but depthwise ones."""
    return [layer.name for layer in model.layers if type(layer) is keras.layers.Conv2D]


def arithmetic(page):
    """What the paper prints of its networks, and what follows from the filters that it prints."""
    page.heading("Arithmetic: what the paper's own filters amount to")
    rows = []
    for (network, source, which), theirs in NETWORK_COSTS.rows.items():
        if which != "baseline" and source != "cifar10":  # whose filters alone are printed
            continue
        ours = counted(published_network(network, which, *SHAPES[source]))
        rows.append({
            "network": network, "data": source,
            "which": which if which == "baseline" else f"{which}, pruned",
            "parameters, M (published)": theirs["parameters, M"],
            "(by its filters)": f"{ours['params']:.3f}",
            "FLOPs, M (published)": theirs["FLOPs, M"],
            "(by its filters) ": f"{ours['flops']:.3f}",
            "MB (published)": theirs["size, MB"], "(file of weights)": f"{ours['size']:.2f}",
        })  # fmt: skip
    page.table("Tables 1 to 4, arithmetic", rows, FILTERS.remarks["all"])


# -- obtained --------------------------------------------------------------------------------------


def run_all(options, grid):
    """Stage by stage, each of all networks and data sets.

    Returns:
        (network, data) -> "A" or "B" -> (baselines, pruned), a result per seed in each.
    """
    common = {**data_settings(options), "size": options.size, "validation": options.validation}
    course = {"epochs": options.epochs, "rate": options.rate, "drop_every": options.drop_every}
    pruning = {
        "ratios": [round(ratio, 4) for ratio in options.ratios], "share": options.share,
        "tolerance": options.tolerance, "retraining": options.retraining, "layers": options.layers,
    }  # fmt: skip

    def data(network, source):
        return {**common, "source": source, "scaling": scaling_of(network, options)}

    def training(name, network, source, after=None, **begin):
        shape = {"network": network, "shape": shape_of(network, options)}
        return Case(name, train, {**data(network, source), **shape, **course, **begin}, after)

    def baseline(network, source, which):
        name = name_of(network, source, which)
        if which == "B":
            return training(name, network, source)
        if pretrained_here(options):
            return training(name, network, source, name_of(network, source, "pretrained"))
        return training(name, network, source, weights=options.weights or "imagenet")

    cases = list(itertools.product(options.networks, options.data))
    if pretrained_here(options):
        grid.run({
            case: training(name_of(*case, "pretrained"), case[0], options.pretrain_on)
            for case in cases
        })  # fmt: skip
    both = [(*case, which) for case in cases for which in NETWORKS]
    baselines = grid.run({key: baseline(*key) for key in both})
    pruned = grid.run({
        key: Case(
            name_of(*key), prune, {**data(*key[:2]), **pruning}, after=name_of(*key), end="-pruned",
            by_seed={"rate": [run["lowest_rate"] for run in baselines[key]]},
        )
        for key in both
    })  # fmt: skip
    return {
        case: {which: (baselines[(*case, which)], pruned[(*case, which)]) for which in NETWORKS}
        for case in cases
    }


def name_of(network, source, which):
    """The name of the files of a case."""
    return f"{network}/{pathlib.PurePath(str(source)).stem}/{which}"


def shape_of(network, options):
    if network == "mobilenet":
        return {"alpha": options.alpha}
    return {"filters": [max(1, round(options.width * count)) for count in VGG16]}


def show(options, study, page, network, source, results):
    """The rows of Tables 2 and 4, those of Tables 1 and 3, and the figures."""
    rows = []
    for which, number in itertools.product(NETWORKS, (0, 1)):
        title, runs = ("baseline", "pruned")[number], results[which][number]
        theirs = NETWORK_COSTS.row(network, source, (title, which)[number])
        rows.append({
            "network": f"{which}, {title}", "parameters, M (published)": theirs["parameters, M"],
            "(obtained)": spread(runs, "params", 3), "FLOPs, M (published)": theirs["FLOPs, M"],
            "(obtained) ": spread(runs, "flops"), "MB (published)": theirs["size, MB"],
            "(obtained)  ": spread(runs, "size"),
            "filters gone, %": spread(runs, "filters_gone", 1) if title == "pruned" else None,
            "validation, %": spread(runs, "validation"), "test, %": spread(runs, "test"),
        })  # fmt: skip
    page.table(
        f"{network} on {source}", rows,
        f"{options.epochs} epochs, a tenth of the rate after every {options.drop_every}; "
        f"{options.share:g} of a layer's filters at a time, {options.retraining} epochs of "
        f"retraining each time, {100 * options.tolerance:g} points of tolerance; seeds: "
        f"{options.seeds}. The paper prints no accuracies.",
    )  # fmt: skip
    per_layer(page, network, source, results)
    page.text(pruned_further(results))
    for which in NETWORKS:
        figures(study, page, seeded(name_of(network, source, which), 0))


def per_layer(page, network, source, results):
    """Filters left in each layer, of the first seed; the paper's, if it has such a table."""
    (base, *_), (one, *_), (other, *_) = results["A"][0], results["A"][1], results["B"][1]
    before, *after = (run["filters"] for run in (base, one, other))
    printed = NETWORK_COSTS.row(network, source, "baseline")["parameters, M"]
    whole = source == "cifar10" and base["params"] > 0.99 * printed
    theirs = [
        FILTERS.row(network, which)["filters"] if whole else [None] * len(before)
        for which in NETWORKS
    ]
    page.table(
        f"{network} on {source}: filters of each layer (seed 0)",
        [
            {
                "layer": name, "before": before[name], "A (published)": a, "A": after[0][name],
                "B (published)": b, "B": after[1][name],
            } for name, a, b in zip(before, *theirs, strict=True)
        ],
    )  # fmt: skip


def pruned_further(results):
    """Whether Network-A can be pruned further, as the paper claims."""
    gone = {
        which: paired(*results[which], lambda one, left: 100 * (1 - left["params"] / one["params"]))
        for which in NETWORKS
    }
    difference = gone["A"].minus(gone["B"])
    return (
        "The paper's claim is that a pre-trained network can be pruned further. Of the parameters "
        f"of Network-A {gone['A']} % go, of Network-B's {gone['B']} %: {difference.points:+.2f} "
        f"points ({difference.certainty})."
    )


def figures(study, page, name):
    """Sensitivity, ranked norms and the first filters of a baseline (Fig. 1 and 3 to 6)."""
    model = keras.models.load_model(study.folder / f"{name}.keras", compile=False)
    text = (study.folder / f"{name}-pruned.sensitivity.json").read_text(encoding="utf-8")
    analysis, layers = iplt.Sensitivity.from_json(text), pruned_layers(model)
    for what, draw in {
        "sensitivity": lambda: iplt.plots.sensitivity(analysis),
        "norms": lambda: iplt.plots.norms(model, "l1", layers=layers),
        "filters": lambda: iplt.plots.kernels(model),
    }.items():
        page.picture(f"{name}-{what}", draw)


def pretrained_here(options):
    """Whether Network-A is trained on other data here; a file of weights takes the place of it."""
    return options.pretrain_on is not None and options.weights is None


def scaling_of(network, options):
    """How images are scaled: as ImageNet's weights expect, where they are used."""
    return "scale" if pretrained_here(options) else SCALING[network]


def reproduce(options):
    others = [options.pretrain_on] if pretrained_here(options) else []
    check_data([*options.data, *others], options.data_dir, options.download)
    grid = Grid(options)
    page = Page("The impact of pre-training on pruning", grid.study, options.command)
    arithmetic(page)
    page.heading("Obtained")
    for case, results in run_all(options, grid).items():
        show(options, grid.study, page, *case, results)
    return page.write()


def parser(prog=None):
    """What the command takes: in full, and with --quick."""
    parser = command_parser("pretraining", __doc__, prog, seeds=(1, 1), batch=(128, 16))
    add, ratios = parser.option, [0.1 * i for i in range(1, 10)]
    add("--networks", None, ["vgg16_hubens", "mobilenet"], ["vgg16_hubens"], "which (both)",
        nargs="+", choices=sorted(SCALING))  # fmt: skip
    add_data(parser, "", "the data", list(SHAPES), (["digits"], 32, 16))
    add("--size", positive, None, 32, "what images are resized to")
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


def main(arguments=None, prog=None):
    return start(parser(prog), arguments, reproduce)


if __name__ == "__main__":
    main()
