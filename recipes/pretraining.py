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
import pathlib
import sys
import tempfile

import keras

import keras_iplt as iplt
from keras_iplt import plots

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
from .zoo.vgg import VGG16

FULL = {
    "networks": ["vgg16_hubens", "mobilenet"], "seeds": 1, "batch": 128,
    "data": ["cifar10", "cifar100", "svhn_cropped", "caltech101"], "alpha": 1.0, "width": 1.0,
    "epochs": 100, "drop_every": 40, "rate": 1e-3, "retraining": 5, "tolerance": 0.01,
    "share": 0.125, "validation": 0.1, "ratios": [0.1 * i for i in range(1, 10)],
}  # fmt: skip
QUICK = {
    "networks": ["vgg16_hubens"], "batch": 16, "data": ["digits"], "size": 32, "take": 32,
    "take_test": 16, "width": 0.125, "epochs": 1, "drop_every": 1, "retraining": 1, "share": 0.5,
    "layers": 1, "pretrain_on": "digits", "ratios": [0.5],
}  # fmt: skip

# What keras.applications' weights of ImageNet have been trained with.
SCALING = {"vgg16_hubens": "caffe", "mobilenet": "tf"}
NETWORKS = ("A", "B")  # pre-trained, and from scratch

# Tables 1 and 3, CIFAR-10: filters left of each convolution that is pruned; the rest of the network
# is as it was. They follow from the parameters of each layer that the tables print.
FILTERS = {
    ("vgg16_hubens", "A"): (64, 64, 128, 128, 256, 256, 256, 192, 192, 192, 128, 128, 128),
    ("vgg16_hubens", "B"): (64, 64, 128, 112, 160, 160, 160, 384, 384, 384, 384, 384, 384),
    ("mobilenet", "A"): (21, 64, 128, 128, 256, 256, 384, 384, 384, 384, 256, 256, 256, 128),
    ("mobilenet", "B"): (32, 64, 128, 128, 224, 224, 288, 288, 288, 288, 288, 272, 304, 320),
}
# Tables 2 and 4: data set -> millions of parameters, millions of FLOPs, megabytes, of the baseline,
# Network-A pruned and Network-B pruned.
PUBLISHED = {
    "vgg16_hubens": {
        "cifar10": ((14.98, 627.48, 57.22), (3.43, 421.20, 13.15), (8.26, 397.85, 31.57)),
        "cifar100": ((15.03, 627.57, 57.39), (8.26, 503.47, 31.57), (8.69, 444.56, 33.24)),
        "svhn_cropped": ((14.98, 627.48, 57.22), (3.15, 414.12, 12.10), (4.08, 311.04, 15.61)),
        "caltech101": ((15.03, 30720.99, 57.40), (8.44, 25402.11, 32.28), (13.59, 30171.17, 51.93)),
    },
    "mobilenet": {
        "cifar10": ((3.76, 24.23, 14.58), (1.05, 13.83, 4.26), (0.98, 12.26, 3.99)),
        "cifar100": ((3.80, 24.32, 14.76), (2.54, 21.42, 9.94), (3.12, 21.89, 12.14)),
        "svhn_cropped": ((3.76, 24.23, 14.58), (1.50, 17.66, 5.99), (1.75, 16.57, 6.94)),
        "caltech101": ((3.81, 1136.59, 14.76), (3.08, 1078.30, 11.99), (3.43, 1105.83, 13.32)),
    },
}  # fmt: skip
# data set -> classes and side of the images
SHAPES = {"cifar10": (10, 32), "cifar100": (100, 32), "svhn_cropped": (10, 32),
          "caltech101": (101, 224)}  # fmt: skip


# -- one run ---------------------------------------------------------------------------------------


def train(
    place, network, shape, seed, batch, hardware, epochs, rate, drop_every, weights=None,
    start=None, **source,
):  # fmt: skip
    """Trains a baseline.

    Args:
        place: where its files go.
        network, shape: of the zoo: a name and options.
        weights: what Network-A begins with: a file, or "imagenet".
        start: instead of it, the run of this study that has been trained on other data.
        **source: the data, see `loaded`.
    """
    hardware = Hardware(**hardware)
    with hardware.ready(seed):
        data = loaded(seed=seed, batch=batch, **source)
        weights = weights if start is None else place.model(start)
        model = zoo.build(network, data.input_shape, len(data.classes), weights, **shape)
        batches = len(data.train)
        steps = [epoch * batches for epoch in range(drop_every, epochs, drop_every)]
        rates = [rate * 0.1**i for i in range(len(steps) + 1)]
        falling = keras.optimizers.schedules.PiecewiseConstantDecay(steps, rates) if steps else rate
        compiled(model, keras.optimizers.Adam(falling), hardware)
        trained = fit(model, data, epochs, place, hardware)
        saved(model, place)
        return {
            "validation": percent(model, data.validation), "test": percent(model, data.test),
            "lowest_rate": rates[-1], "seconds": trained.seconds, **counted(model),
        }  # fmt: skip


def prune(
    place, start, rate, seed, batch, hardware, ratios, share, tolerance, retraining, layers=None,
    **source,
):  # fmt: skip
    """Measures how sensitive the layers of a baseline are, then prunes one after the other.

    Args:
        place: where its files go, the analysis among them.
        start: the run of this study that trained the baseline.
        rate: the learning rate of retraining.
        ratios: of the sensitivity analysis.
        share: of a layer's filters, that go at a time.
        tolerance: how much accuracy may be lost.
        retraining: epochs after each time.
        layers: how many layers to prune at most; all by default.
        **source: the data, see `loaded`.
    """
    hardware = Hardware(**hardware)
    with hardware.ready(seed):
        data = loaded(seed=seed, batch=batch, **source)
        model = keras.models.load_model(place.model(start), compile=False)
        compiled(model, keras.optimizers.Adam(rate), hardware)
        analysis = iplt.sensitivity(
            model, data.validation, ratios, criterion="l1", metric="accuracy", verbose=0,
            convolutions_only=True, path=place.file(".sensitivity.json"),
        )  # fmt: skip
        with contextlib.redirect_stdout(sys.stderr):  # its lines are progress
            found = iplt.prune_guided(
                model, data.train, data.validation, step=share, tolerance=tolerance,
                epochs=retraining, metric="accuracy", layers=analysis.ranking()[:layers],
                convolutions_only=True, backup_dir=place.backup, shuffle=False,
            )  # fmt: skip
        saved(found.model, place)
        return {
            "validation": 100 * found.value, "test": percent(found.model, data.test),
            "before": 100 * found.baseline,
            "filters_gone": 100 * iplt.compare(model, found.model).fpr,
            "steps": [[s.layer, s.left, s.size, s.value, s.kept] for s in found.steps],
            **counted(found.model),
        }  # fmt: skip


def counted(model):
    """What a network costs, in the paper's units: millions, and megabytes (2^20) of its weights as
    Keras writes them."""
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


def published_network(network, which, classes=10, side=32):
    """A network of the paper by its printed filters; the baseline if `which` is None."""
    model = zoo.build(network, (side, side, 3), classes)
    if which is None:
        return model
    left = dict(zip(pruned_layers(model), FILTERS[network, which], strict=True))
    gone = {name: range(n, model.get_layer(name).filters) for name, n in left.items()}
    return iplt.rewrite(model, iplt.plan_channels(model, gone))


def pruned_layers(model):
    """The names of the convolutions that lose filters: all but depthwise ones."""
    return [layer.name for layer in model.layers if type(layer) is keras.layers.Conv2D]


def arithmetic(page):
    page.heading("Arithmetic: what the paper's own filters amount to")
    rows = []
    for network, data_sets in PUBLISHED.items():
        for source, figures in data_sets.items():
            classes, side = SHAPES[source]
            names = (None, *NETWORKS) if source == "cifar10" else (None,)
            for which, theirs in zip(names, figures, strict=False):
                ours = counted(published_network(network, which, classes, side))
                rows.append({
                    "network": network, "data": source,
                    "which": f"{which}, pruned" if which else "baseline",
                    "parameters, M (published)": theirs[0],
                    "(by its filters)": f"{ours['params']:.3f}",
                    "FLOPs, M (published)": theirs[1],
                    "(by its filters) ": f"{ours['flops']:.3f}",
                    "MB (published)": theirs[2], "(file of weights)": f"{ours['size']:.2f}",
                })  # fmt: skip
    page.table("Tables 1 to 4, arithmetic", rows,
               "The paper prints filters of pruned networks for CIFAR-10 only. FLOPs are 2 × "
               "(multiply-adds + bias additions), a megabyte is 2^20 bytes.")  # fmt: skip


# -- obtained --------------------------------------------------------------------------------------


def obtained(options, study, page):
    page.heading("Obtained")
    for (network, source), results in run_all(options, study).items():
        show(options, study, page, network, source, results)


def run_all(options, study):
    """Stage by stage, each of all networks, data sets and seeds.

    Returns:
        (network, data) -> "A" or "B" -> (baselines, pruned), a result per seed in each.
    """
    common, where = common_settings(options)
    common |= {
        "take": options.take, "take_test": options.take_test, "size": options.size,
        "validation": options.validation,
    }  # fmt: skip
    course = {"epochs": options.epochs, "rate": options.rate, "drop_every": options.drop_every}
    pruning = {
        "ratios": [round(ratio, 4) for ratio in options.ratios], "share": options.share,
        "tolerance": options.tolerance, "retraining": options.retraining, "layers": options.layers,
    }  # fmt: skip
    cases = [(network, source) for network in options.networks for source in options.data]
    seeds = range(options.seeds)
    keys = [(*case, which, seed) for case in cases for which in NETWORKS for seed in seeds]

    def training(network, source, seed, **begin):
        shape = {"network": network, "shape": shape_of(network, options)}
        data = {"source": source, "scaling": scaling_of(network, options), "seed": seed}
        return {**common, **shape, **data, **course, **begin}

    def begin(network, source, which, seed):
        if which == "B":
            return {}
        if pretrained_here(options):
            return {"start": name_of(network, source, "pretrained", seed)}
        return {"weights": options.weights or "imagenet"}

    if pretrained_here(options):
        study.do(
            Run(name_of(network, source, "pretrained", seed), train,
                training(network, options.pretrain_on, seed), where)
            for network, source in cases for seed in seeds
        )  # fmt: skip
    study.do(
        Run(name_of(*key), train, training(key[0], key[1], key[3], **begin(*key)), where)
        for key in keys
    )
    study.do(
        Run(f"{name_of(*key)}-pruned", prune, {
            **common, **pruning, "source": key[1], "scaling": scaling_of(key[0], options),
            "start": name_of(*key), "seed": key[3],
            "rate": study.results[name_of(*key)]["lowest_rate"],
        }, where)
        for key in keys
    )  # fmt: skip
    return {
        case: {
            which: tuple(
                [study.results[name_of(*case, which, seed) + end] for seed in seeds]
                for end in ("", "-pruned")
            )
            for which in NETWORKS
        }
        for case in cases
    }


def name_of(network, source, which, seed):
    return f"{network}/{pathlib.PurePath(str(source)).stem}/{which}-seed{seed}"


def shape_of(network, options):
    if network == "mobilenet":
        return {"alpha": options.alpha}
    return {"filters": [max(1, round(options.width * count)) for count in VGG16]}


def show(options, study, page, network, source, results):
    """The rows of Tables 2 and 4, those of Tables 1 and 3, and the figures."""
    theirs = PUBLISHED[network].get(source, (None,) * 3)
    rows = []
    for which, title, runs, published in (
        ("A", "baseline", results["A"][0], theirs[0]), ("A", "pruned", results["A"][1], theirs[1]),
        ("B", "baseline", results["B"][0], theirs[0]), ("B", "pruned", results["B"][1], theirs[2]),
    ):  # fmt: skip
        paper = dict(zip(("params", "flops", "size"), published or (None,) * 3, strict=True))
        rows.append({
            "network": f"{which}, {title}", "parameters, M (published)": paper["params"],
            "(obtained)": spread(runs, "params", 3), "FLOPs, M (published)": paper["flops"],
            "(obtained) ": spread(runs, "flops"), "MB (published)": paper["size"],
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
    page.text(verdict(results))
    for which in NETWORKS:
        figures(study, page, network, source, which)


def per_layer(page, network, source, results):
    """Filters left in each layer, of the first seed; the paper's, if it has such a table."""
    (base, *_), (one, *_), (other, *_) = results["A"][0], results["A"][1], results["B"][1]
    before, *after = (run["filters"] for run in (base, one, other))
    whole = source == "cifar10" and base["params"] > 0.99 * PUBLISHED[network][source][0][0]
    theirs = [FILTERS[network, which] if whole else [None] * len(before) for which in NETWORKS]
    page.table(
        f"{network} on {source}: filters of each layer (seed 0)",
        [
            {
                "layer": name, "before": before[name], "A (published)": a, "A": after[0][name],
                "B (published)": b, "B": after[1][name],
            } for name, a, b in zip(before, *theirs, strict=True)
        ],
    )  # fmt: skip


def verdict(results):
    """Whether Network-A can be pruned further."""
    gone = {
        which: Spread.of(
            100 * (1 - after["params"] / before["params"])
            for before, after in zip(*results[which], strict=True)
        )
        for which in NETWORKS
    }
    difference, noise = gone["A"].minus(gone["B"])
    said = "one seed does not tell the noise" if noise is None else f"noise {noise:.2f}"
    return (
        "The paper's claim is that a pre-trained network can be pruned further. Of the parameters "
        f"of Network-A {gone['A']} % go, of Network-B's {gone['B']} %: {difference:+.2f} points "
        f"({said})."
    )


def figures(study, page, network, source, which):
    """Sensitivity, ranked norms and the first filters of a baseline (Fig. 1 and 3 to 6)."""
    name = name_of(network, source, which, 0)
    model = keras.models.load_model(study.folder / f"{name}.keras", compile=False)
    text = (study.folder / f"{name}-pruned.sensitivity.json").read_text(encoding="utf-8")
    analysis = iplt.Sensitivity.from_json(text)
    layers = pruned_layers(model)
    for what, draw in {
        "sensitivity": lambda: plots.sensitivity(analysis),
        "norms": lambda: plots.norms(model, "l1", layers=layers),
        "filters": lambda: plots.kernels(model),
    }.items():
        page.picture(f"{name}-{what}", draw)


def pretrained_here(options):
    """Whether Network-A is trained on other data here; a file of weights takes the place of it."""
    return options.pretrain_on is not None and options.weights is None


def scaling_of(network, options):
    return "scale" if pretrained_here(options) else SCALING[network]


# -- all of it -------------------------------------------------------------------------------------


def reproduce(options):
    others = [options.pretrain_on] if pretrained_here(options) else []
    check_data([*options.data, *others], options.data_dir, options.download)
    study = Study(options.out, options.workers, options.recipe)
    page = Page("The impact of pre-training on pruning", study, options.command)
    arithmetic(page)
    obtained(options, study, page)
    return page.write()


def main(arguments=None, prog=None):
    parser = command_parser("pretraining", __doc__, prog)
    add = parser.add_argument
    add("--networks", nargs="+", choices=sorted(PUBLISHED), help="which (both)")
    add_data(parser, several=True)
    add("--size", type=positive, help="what images are resized to")
    add("--validation", type=share, help="the share of the training images to judge by (0.1)")
    add("--weights", metavar="FILE", help="of Network-A: a file, or imagenet, the default")
    add("--pretrain-on", metavar="DATA", help="instead: train Network-A on this data set first")
    add("--alpha", type=float, help="the share of MobileNet's filters to begin with (1)")
    add("--width", type=float, help="the same of VGG16 (1)")
    add("--epochs", type=positive, help="of the baselines (100)")
    add("--drop-every", type=positive, help="epochs until the rate falls to a tenth (40)")
    add("--rate", type=float, help="at first (0.001)")
    add("--retraining", type=positive, help="epochs after each pruning (5)")
    add("--tolerance", type=share, help="how much accuracy may go (0.01)")
    add("--share", type=share, help="of a layer's filters that go at a time (0.125)")
    add("--ratios", type=share, nargs="+", help="of the sensitivity analysis")
    add("--layers", type=positive, help="prune no more than so many layers (all)")
    options = parsed(parser, arguments, FULL, QUICK)
    with answering(options):
        return reproduce(options)


if __name__ == "__main__":
    main()
