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

The paper tells neither the CNN of Table 1 nor learning rates: the network is `zoo.mnist_cnn`, the
rates are cosines from 0.05 (see the options). In Table 1 hidden units count as filters, as only so
84.7 % of the parameters can go with 60 % of the filters; in the others convolutions are counted.

--quick: a few of scikit-learn's digits, a small CNN, an eighth of VGG-16 and ResNet-8, for two or
three epochs, which is too little to learn anything: it shows that all of it runs.
"""

import dataclasses

import keras

import keras_iplt as iplt
from keras_iplt import baselines, plots

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
from .common.training import (
    Hardware,
    check_data,
    compiled,
    cosine,
    fit,
    loaded,
    percent,
    saved,
)
from .zoo.vgg import VGG16

FULL = {
    "tables": [1, 2, 3], "seeds": 3, "batch": 128, "step": 0.1,
    "mnist": "mnist", "mnist_epochs": 20, "mnist_tuning": 6, "mnist_k": 2,
    "mnist_filters": [16, 32, 64], "mnist_units": 128, "initializer": "torch",
    "cifar": "cifar10", "scaling": "torch", "augment": "usual",
    "vgg_width": 1.0, "vgg_epochs": 300, "vgg_tuning": 40, "vgg_k": 5,
    "resnet_depth": 110, "resnet_epochs": 200, "resnet_k": 5, "resnet_rate": 0.1,
    "ratios_1": [0.6, 0.65, 0.7], "ratios_2": [0.6, 0.7], "ratios_3": [0.1, 0.2, 0.3],
}  # fmt: skip
QUICK = {
    "seeds": 1, "batch": 16, "step": 0.35, "mnist": "digits", "mnist_take": 160,
    "mnist_take_test": 100, "mnist_epochs": 3, "mnist_tuning": 1, "mnist_k": 1,
    "mnist_filters": [8, 8, 16], "mnist_units": 32,
    "cifar": "digits", "cifar_take": 32, "cifar_take_test": 50, "cifar_size": 32,
    "scaling": "scale", "vgg_width": 0.125, "vgg_epochs": 3, "vgg_tuning": 1, "vgg_k": 1,
    "resnet_depth": 8, "resnet_epochs": 2, "resnet_k": 1,
    "ratios_1": [0.7], "ratios_2": [0.7], "ratios_3": [0.3],
}  # fmt: skip

# (method, filters gone in percent) -> parameters gone in percent, accuracy
TABLE_1 = {
    ("baseline", 0): (0.0, 99.35), ("PMT", 60): (83.05, 99.32), ("PMT", 65): (83.05, 99.36),
    ("PMT", 70): (90.65, 99.17), ("IPLT", 60): (84.72, 99.35), ("IPLT", 65): (87.89, 99.31),
    ("IPLT", 70): (95.47, 99.28),
}  # fmt: skip
# -> size in MB, multiply-adds, of which gone in percent, accuracy
TABLE_2 = {
    ("baseline", 0): (58.9, 3.13e8, 0.0, 94.33), ("norms", None): (None, 2.06e8, 34.2, 93.40),
    ("IPLT", 60): (9.7, 1.52e8, 51.36, 94.35), ("IPLT", 70): (6.0, 1.27e8, 59.54, 94.05),
}  # fmt: skip
# -> multiply-adds gone in percent, accuracy
TABLE_3 = {
    ("baseline", 0): (0.0, 95.17), ("SFP", 10): (14.6, 95.07), ("SFP", 20): (28.2, 94.89),
    ("SFP", 30): (40.8, 94.93), ("IPLT", 10): (14.6, 95.18), ("IPLT", 20): (28.2, 95.09),
    ("IPLT", 30): (40.8, 94.96),
}  # fmt: skip
METHODS = {"norms": "Pruning filters", "PMT": "PMT", "IPLT": "IPLT"}
LAYERS = [  # of VGG-16
    f"block{b}_conv{i}" for b, size in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, size + 1)
]
# What "Pruning filters for efficient ConvNets" takes from it: half of these.
HALVED = ["block1_conv1", *(f"block4_conv{i}" for i in (1, 2, 3)),
          *(f"block5_conv{i}" for i in (1, 2, 3))]  # fmt: skip

ON_TIMES = "Times are those of training, tracing and pruning included, over the baseline's."


# -- one run ---------------------------------------------------------------------------------------


def train(
    place, network, shape, method, seed, batch, hardware, epochs, rate, start=None, layout=None,
    pruning=None, **source,
):  # fmt: skip
    """Trains one network by one method: how good it is then, what is left of it, what it took.

    Args:
        place: where its files go.
        network, shape: of the zoo: a name and options.
        method: "baseline", "PMT", "IPLT", "norms", "SFP" or "IPLT, soft".
        start: a model to begin with, a run of this study or a `.keras` file, instead of a new one.
        layout: "full width" for residual streams that stay as wide as they are.
        pruning: what the callback of the method is told.
        **source: the data, see `loaded`.
    """
    hardware = Hardware(**hardware)
    with hardware.ready(seed):
        data = loaded(seed=seed, batch=batch, **source)
        if start is None:
            model = zoo.build(network, data.input_shape, len(data.classes), **shape)
        else:
            file = start if start.endswith(".keras") else place.model(start)
            model = keras.models.load_model(file, compile=False)
        if layout == "full width":
            model = baselines.full_width(model)
        whole = iplt.profile(model)
        rates = cosine(rate, epochs, len(data.train))
        compiled(model, keras.optimizers.SGD(rates, momentum=0.9), hardware)
        trained = fit(model, data, epochs, place, hardware, callbacks(method, place, pruning))
        saved(model, place)
        found = iplt.compare(whole, model)
        left = found.after
        return {
            "accuracy": percent(model, data.test), "fpr": 100 * found.fpr, "ppr": 100 * found.ppr,
            "params": left.params, "macs": left.macs,
            "macs_gone": 100 * (1 - left.macs / whole.macs),
            "seconds": trained.seconds, "cpu": trained.cpu,
            "filters": {layer.name: layer.filters for layer in left.layers if layer.filters},
        }  # fmt: skip


def callbacks(method, place, pruning):
    """What makes `fit` prune by a method."""
    if method == "baseline":
        return []
    own = {**pruning, "backup_dir": place.backup, "verbose": 0}
    make = {
        "PMT": lambda: baselines.pmt(after=0, **own),
        "norms": lambda: baselines.one_shot(after=0, **own),
        "IPLT": lambda: iplt.IPLTCallback(**own),
        "SFP": lambda: baselines.soft(**own),
        "IPLT, soft": lambda: baselines.iplt_soft(**own),
    }
    return [make[method]()]


# -- Tables 1 and 2 --------------------------------------------------------------------------------


def table_1(options, study, page):
    found = against_pmt(
        options, study, "table1", options.ratios_1, options.mnist_epochs, options.mnist_tuning,
        options.mnist_k, {"convolutions_only": False, "min_channels": 1},
        network="mnist_cnn", source=options.mnist, take=options.mnist_take,
        take_test=options.mnist_take_test, size=None, scaling="scale", augment=None,
        shape={
            "filters": options.mnist_filters, "units": options.mnist_units,
            "initializer": options.initializer,
        },
    )  # fmt: skip
    page.heading("Table 1: a CNN on MNIST")
    page.text(
        f"`mnist_cnn` with {options.mnist_filters} filters and {options.mnist_units} units on "
        f"{options.mnist}: {options.mnist_epochs} epochs, k = {options.mnist_k}, "
        f"{options.mnist_tuning} epochs of tuning for PMT; seeds: {options.seeds}."
    )
    rows = []
    for (method, gone), runs in found.items():
        ppr, accuracy = TABLE_1.get((method, gone), (None, None))
        rows.append({
            "method": method, "FPR, %": spread(runs, "fpr", 1),
            "PPR, % (published)": ppr, "PPR, % (obtained)": spread(runs, "ppr"),
            "accuracy, % (published)": accuracy, "accuracy, % (obtained)": spread(runs, "accuracy"),
            **times(found, runs, method),
        })  # fmt: skip
    page.table("Table 1", rows, ON_TIMES)
    check_claims(page, found)
    page.picture("table1", lambda: tradeoff(found, "ppr", TABLE_1, "parameters gone, %"))


def table_2(options, study, page):
    filters = [max(1, round(options.vgg_width * count)) for count in VGG16]
    found = against_pmt(
        options, study, "table2", options.ratios_2, options.vgg_epochs, options.vgg_tuning,
        options.vgg_k, {"convolutions_only": True}, halved=True,
        network="vgg16", source=options.cifar, take=options.cifar_take,
        take_test=options.cifar_take_test, size=options.cifar_size, scaling=options.scaling,
        augment=options.augment,
        shape={"filters": filters, "l2": 2.5e-4},
    )  # fmt: skip
    page.heading("Table 2: VGG-16 on CIFAR-10")
    page.text(
        f"`vgg16` with {options.vgg_width:g} of its filters on {options.cifar}: "
        f"{options.vgg_epochs} epochs, k = {options.vgg_k}, {options.vgg_tuning} epochs of tuning "
        f"for the others; seeds: {options.seeds}. Sizes are those of float32 weights, FLOPs are "
        "multiply-adds, as the paper counts both."
    )
    rows = []
    for (method, gone), runs in found.items():
        size, macs, macs_gone, accuracy = TABLE_2.get((method, gone), (None,) * 4)
        rows.append({
            "method": METHODS.get(method, method), "FPR, %": spread(runs, "fpr", 1),
            "MB (published)": size, "MB (obtained)": Spread.of(4e-6 * r["params"] for r in runs),
            "FLOPs (published)": macs and f"{macs:.3g}",
            "FLOPs (obtained)": f"{spread(runs, 'macs').mean:.3g}",
            "of them gone, % (published)": macs_gone,
            "gone, % (obtained)": spread(runs, "macs_gone"),
            "accuracy, % (published)": accuracy, "accuracy, % (obtained)": spread(runs, "accuracy"),
            **times(found, runs, method),
        })  # fmt: skip
    page.table("Table 2", rows, ON_TIMES)
    page.text(
        "The paper gives VGG-16's training on one GPU as 7254 s, and 5319 s with IPLT: 0.73 of it."
    )
    check_claims(page, found)
    page.picture("table2", lambda: tradeoff(found, "macs_gone", TABLE_2, "multiply-adds gone, %"))


def against_pmt(
    options, study, table, ratios, epochs, tuning, every, counted, halved=False, **setting
):  # fmt: skip
    """Runs the baseline, PMT and IPLT: (method, filters gone in percent) -> a result per seed."""
    common, where = common_settings(options)
    setting |= common

    def runs(name, **own):
        return [
            Run(f"{table}/{name}-seed{seed}", train, {**setting, "seed": seed, **own}, where)
            for seed in range(options.seeds)
        ]

    def after(name, method, **pruning):  # the baseline of the same seed
        tuned = {"method": method, "epochs": tuning, "rate": 0.01, "pruning": pruning}
        return [
            dataclasses.replace(
                run, settings={**run.settings, "start": f"{table}/baseline-seed{seed}"}
            )
            for seed, run in enumerate(runs(name, **tuned))
        ]

    dense = {"epochs": epochs, "rate": 0.05}
    found = {("baseline", 0): study.do(runs("baseline", method="baseline", **dense))}
    wanted = {}
    if halved:  # of all other layers nothing goes
        others = [name for name in LAYERS if name not in HALVED]
        wanted["norms", None] = after("norms", "norms", target=0.5, ignore=others)
    for ratio in ratios:
        wanted["PMT", round(100 * ratio)] = after(f"pmt-{ratio:g}", "PMT", target=ratio, **counted)
    for ratio in ratios:
        wanted["IPLT", round(100 * ratio)] = runs(
            f"iplt-{ratio:g}", method="IPLT", **dense,
            pruning={"target": ratio, "every": every, "step": options.step, **counted},
        )  # fmt: skip
    study.do(run for runs in wanted.values() for run in runs)
    return found | {
        what: [study.results[run.name] for run in runs] for what, runs in wanted.items()
    }


def times(found, runs, method):
    """Wall and CPU seconds of training over those of the baseline of the same seed; what PMT
    tunes has been trained before."""
    before = found["baseline", 0]
    extra = 0 if method in ("baseline", "IPLT") else 1
    pairs = list(zip(runs, before, strict=True))
    return {
        f"time, {what}": Spread.of(extra + run[key] / base[key] for run, base in pairs)
        for what, key in (("wall", "seconds"), ("CPU", "cpu"))
    }


def check_claims(page, found):
    """Whether the paper's two claims hold here."""
    steps = {gone: runs for (method, gone), runs in found.items() if method == "IPLT"}
    lines = [
        f"- {gone} % of the filters: "
        + spread(runs, "accuracy").not_worse_than(spread(found["PMT", gone], "accuracy"))
        for gone, runs in steps.items()
    ]
    page.text(
        "The claim that IPLT is not worse than PMT with as many filters gone. Noise is twice the "
        "standard error of the difference.\n\n" + "\n".join(lines)
    )
    lines = []
    for gone, runs in steps.items():
        ratios = [times(found, runs, "IPLT")[f"time, {what}"].mean for what in ("wall", "CPU")]
        below = "holds" if max(ratios) < 1 else "does not hold"
        lines.append(
            f"- {gone} % of the filters: less time than the baseline {below} ({ratios[0]:.2f} of "
            f"its wall seconds, {ratios[1]:.2f} of its CPU seconds)."
        )
    page.text("The claim that IPLT saves training time.\n\n" + "\n".join(lines))


# -- Table 3 ---------------------------------------------------------------------------------------


def table_3(options, study, page):
    wanted = soft_runs(options)
    study.do(run for runs in wanted.values() for run in runs)
    found = {what: [study.results[run.name] for run in runs] for what, runs in wanted.items()}
    page.heading("Table 3: soft filter pruning of ResNet-110 on CIFAR-10")
    start = f"from {options.resnet}" if options.resnet else f"of depth {options.resnet_depth}, new"
    page.text(
        f"A ResNet {start}, on {options.cifar}: {options.resnet_epochs} epochs, k = "
        f"{options.resnet_k}; seeds: {options.seeds}."
    )
    formula = [
        {
            "filters gone, %": percent_gone,
            "published, %": TABLE_3["SFP", percent_gone][0],
            "by the formula, %": round(100 * sfp_share(percent_gone / 100), 1),
        }
        for percent_gone in (10, 20, 30)
    ]
    page.table(
        "Multiply-adds of ResNet-110 that go, by the formula of soft filter pruning",
        formula,
        "It takes fractions of filters, and the first convolution as pruned. Built networks, "
        "below, have whole filters and count what they have. The paper prints 3.9e8 multiply-adds "
        "for the baseline, which contradicts its own pruned columns: 2.16e8 is 14.6 % less than "
        "2.53e8.",
    )
    page.table("Table 3", soft_rows(found))
    page.picture("table3", lambda: soft_tradeoff(found))


def soft_runs(options):
    """Both methods in both layouts: (method, layout, filters gone in percent) -> a run per seed."""
    common, where = common_settings(options)
    setting = {
        **common, "network": "cifar_resnet", "shape": {"depth": options.resnet_depth},
        "source": options.cifar, "size": options.cifar_size, "scaling": options.scaling,
        "augment": options.augment,
        "take": options.cifar_take, "take_test": options.cifar_take_test,
        "epochs": options.resnet_epochs, "rate": options.resnet_rate,
        "start": None if options.resnet is None else str(options.resnet),
    }  # fmt: skip

    def runs(name, **own):
        return [
            Run(f"table3/{name}-seed{seed}", train, {**setting, "seed": seed, **own}, where)
            for seed in range(options.seeds)
        ]

    wanted = {("baseline", "–", 0): runs("baseline", method="baseline")}
    for layout in ("full width", "coupled"):
        for method in ("SFP", "IPLT, soft"):
            for ratio in options.ratios_3:
                rising = [r for r in options.ratios_3 if r <= ratio]
                own = {"target": ratio} if method == "SFP" else {
                    "ratios": rising, "every": options.resnet_k}  # fmt: skip
                name = f"{method.lower().replace(', ', '-')}-{ratio:g}-{layout.replace(' ', '-')}"
                wanted[method, layout, round(100 * ratio)] = runs(
                    name, method=method, layout=layout, pruning=own
                )
    return wanted


def soft_rows(found):
    """Table 3: a row for each method, layout and share."""
    baseline, rows = found["baseline", "–", 0], []
    for (method, layout, gone), results in found.items():
        _, accuracy = TABLE_3.get((method.partition(",")[0], gone), (None, None))
        rows.append({
            "method": method, "layout": layout, "filters, %": spread(results, "fpr", 1),
            "multiply-adds": f"{spread(results, 'macs').mean:.3g}",
            "gone, %": spread(results, "macs_gone", 1),
            "accuracy, % (published, ResNet-110)": accuracy,
            "accuracy, % (obtained)": spread(results, "accuracy"), "time, CPU": Spread.of(
                r["cpu"] / b["cpu"] for r, b in zip(results, baseline, strict=True)),
        })  # fmt: skip
    return rows


def soft_tradeoff(found):
    """Accuracy against multiply-adds gone, a line for each method and layout."""
    lines = {f"{method}, {layout}": [] for method, layout, gone in found if gone}
    for (method, layout, _), results in found.items():
        for name in [f"{method}, {layout}"] if method != "baseline" else lines:
            accuracy = spread(results, "accuracy")
            lines[name].append(
                (spread(results, "macs_gone").mean, accuracy.mean, accuracy.deviation)
            )
    return plots.tradeoff(lines, xlabel="multiply-adds gone, %", ylabel="accuracy, %")


def sfp_share(ratio, depth=110, widths=(16, 32, 64)):
    """The share of the multiply-adds of a CIFAR ResNet that soft filter pruning counts as gone:
    every convolution loses a fraction of its filters; streams stay whole, so that only the second
    convolution of a block, and what follows the first one of the network, have fewer inputs."""
    left, blocks = 1 - ratio, (depth - 2) // 6
    whole = pruned = 9 * 3 * widths[0] * 32**2
    pruned *= left
    side, inputs, before = 32, widths[0], left
    for stage, width in enumerate(widths):
        side = 32 >> stage
        for _ in range(blocks):
            first, second = (9 * side**2 * width * count for count in (inputs, width))
            whole += first + second
            pruned += first * left * before + second * left**2
            inputs, before = width, 1.0
    return 1 - pruned / whole


# -- all of it -------------------------------------------------------------------------------------


def tradeoff(found, key, published, xlabel):
    """Accuracy against what is gone, with the published points."""
    lines, theirs = {}, {}
    for (method, gone), runs in found.items():
        accuracy = spread(runs, "accuracy")
        point = spread(runs, key).mean, accuracy.mean, accuracy.deviation
        lines.setdefault(METHODS.get(method, method), []).append(point)
        if (method, gone) in published:
            *_, share_gone, value = published[method, gone]
            theirs.setdefault(METHODS.get(method, method), []).append((share_gone, value))
    return plots.tradeoff(lines, theirs, xlabel=xlabel, ylabel="accuracy, %")


def reproduce(options):
    sources = {1: options.mnist, 2: options.cifar, 3: options.cifar}
    check_data([sources[n] for n in options.tables], options.data_dir, options.download)
    study = Study(options.out, options.workers, options.recipe)
    page = Page("Incremental pruning based on less training", study, options.command)
    for number in options.tables:
        (table_1, table_2, table_3)[number - 1](options, study, page)
    return page.write()


def main(arguments=None, prog=None):
    parser = command_parser("iplt", __doc__, prog)
    add = parser.add_argument
    add("--tables", type=int, nargs="+", choices=(1, 2, 3), help="which (all)")
    add("--step", type=share, help="IPLT's step (0.1)")
    add_data(parser, "mnist", what="the data of Table 1")
    add_data(parser, "cifar", what="the data of Tables 2 and 3")
    add("--cifar-size", type=positive, help="what its images are resized to")
    add("--scaling", choices=("scale", "torch"), help="of Tables 2 and 3: see recipes.data")
    add("--augment", choices=("usual", "crop_flip"),
        help="of Tables 2 and 3; usual leaves data without a name as they are")  # fmt: skip
    add("--ratios-1", type=share, nargs="+", help="filters to remove in Table 1")
    add("--ratios-2", type=share, nargs="+", help="in Table 2")
    add("--ratios-3", type=share, nargs="+", help="in Table 3, rising")
    for table in ("mnist", "vgg"):
        add(f"--{table}-epochs", type=positive, help="of the baseline and of IPLT")
        add(f"--{table}-tuning", type=positive, help="epochs of tuning")
        add(f"--{table}-k", type=positive, help="epochs between two steps of IPLT")
    add("--mnist-filters", type=positive, nargs=3, help="of the three convolutions")
    add("--mnist-units", type=positive, help="of its hidden layer")
    add("--initializer", choices=("torch", "glorot_uniform", "he_normal"),
        help="what its kernels start from (torch: a ranking of all layers needs it)")  # fmt: skip
    add("--vgg-width", type=float, help="the share of VGG-16's filters to begin with (1)")
    add("--resnet", metavar="FILE", help="a trained ResNet as .keras, instead of a new one")
    add("--resnet-depth", type=positive, help="of a new one (110)")
    add("--resnet-epochs", type=positive)
    add("--resnet-k", type=positive, help="epochs between two ratios of the IPLT form")
    add("--resnet-rate", type=float, help="learning rate at first (0.1)")
    options = parsed(parser, arguments, FULL, QUICK)
    with answering(options):
        return reproduce(options)


if __name__ == "__main__":
    main()
