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

import functools
import itertools

import keras

import keras_iplt as iplt

from .common.claims import NOISE, NOT_WORSE, holds
from .common.command import add_data, command_parser, data_settings, positive, share, start
from .common.grid import Case, Grid
from .common.page import Page
from .common.published import published
from .common.spread import Spread, quotient, spread
from .common.training import at_workbench, check_data, cosine, percent
from .zoo.vgg import VGG16

PUBLISHED = published("iplt")
METHODS = {"norms": "Pruning filters", "PMT": "PMT", "IPLT": "IPLT"}
LAYERS = [  # of VGG-16
    f"block{b}_conv{i}" for b, size in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, size + 1)
]
# What "Pruning filters for efficient ConvNets" takes from it: half of these.
HALVED = ["block1_conv1", *(f"block4_conv{i}" for i in (1, 2, 3)),
          *(f"block5_conv{i}" for i in (1, 2, 3))]  # fmt: skip

ON_TIMES = "Times are those of training, tracing and pruning included, over the baseline's."


# -- one run ---------------------------------------------------------------------------------------


@at_workbench
def train(bench, network, shape, method, epochs, rate, start=None, layout=None, pruning=None):
    """Trains one network by one method: how good it is then, what is left of it, what it took.

    Args:
        network, shape: the name of a network of the zoo, and its options.
        method: "baseline", "PMT", "IPLT", "norms", "SFP" or "IPLT, soft".
        epochs, rate: how many, and the learning rate at first.
        start: a model to begin with, a run of this study or a `.keras` file, instead of a new one.
        layout: "full width" for residual streams that stay as wide as they are.
        pruning: what the callback of the method is told.
    """
    model = bench.build(network, shape) if start is None else bench.load(start)
    if layout == "full width":
        model = iplt.baselines.full_width(model)
    whole = iplt.profile(model)
    rates = cosine(rate, epochs, len(bench.data.train))
    bench.compile(model, keras.optimizers.SGD(rates, momentum=0.9))
    trained = bench.fit(model, epochs, callbacks(method, bench.place, pruning))
    found = iplt.compare(whole, model)
    left = found.after
    return {
        "accuracy": percent(model, bench.data.test),
        "fpr": 100 * found.fpr, "ppr": 100 * found.ppr,
        "params": left.params, "macs": left.macs, "macs_gone": 100 * (1 - left.macs / whole.macs),
        "seconds": trained.seconds, "cpu": trained.cpu,
        "filters": {layer.name: layer.filters for layer in left.layers if layer.filters},
    }  # fmt: skip


def callbacks(method, place, pruning):
    """What makes `fit` prune by a method."""
    if method == "baseline":
        return []
    make = {
        "PMT": functools.partial(iplt.baselines.pmt, after=0),
        "norms": functools.partial(iplt.baselines.one_shot, after=0),
        "IPLT": iplt.IPLTCallback,
        "SFP": iplt.baselines.soft,
        "IPLT, soft": iplt.baselines.iplt_soft,
    }
    return [make[method](**pruning, backup_dir=place.backup, verbose=0)]


# -- Tables 1 and 2 --------------------------------------------------------------------------------


def table_1(options, grid, page):
    """A plain CNN on MNIST."""
    shape = {"filters": options.mnist_filters, "units": options.mnist_units}
    shape["initializer"] = options.initializer
    setting = {
        **data_settings(options, "mnist"), "size": None, "scaling": "scale", "augment": None,
        "network": "mnist_cnn", "shape": shape, "epochs": options.mnist_epochs,
    }  # fmt: skip
    found = against_pmt(
        grid, "table1", setting, options.mnist_tuning, options.ratios_1,
        {"convolutions_only": False, "min_channels": 1},
        {"every": options.mnist_k, "step": options.step},
    )  # fmt: skip
    page.heading("Table 1: a CNN on MNIST")
    page.text(
        f"`mnist_cnn` with {options.mnist_filters} filters and {options.mnist_units} units on "
        f"{options.mnist}: {options.mnist_epochs} epochs, k = {options.mnist_k}, "
        f"{options.mnist_tuning} epochs of tuning for PMT; seeds: {options.seeds}."
    )
    table, rows = PUBLISHED["table 1"], []
    for (method, gone), runs in found.items():
        theirs = table.row(method, gone)
        rows.append({
            "method": method, "FPR, %": spread(runs, "fpr", 1),
            "PPR, % (published)": theirs["parameters gone, %"],
            "PPR, % (obtained)": spread(runs, "ppr"),
            "accuracy, % (published)": theirs["accuracy, %"],
            "accuracy, % (obtained)": spread(runs, "accuracy"), **times(found, runs, method),
        })  # fmt: skip
    page.table("Table 1", rows, ON_TIMES)
    check_claims(page, found)
    page.picture("table1", lambda: tradeoff(found, table, "ppr", "parameters gone, %"))


def table_2(options, grid, page):
    """VGG-16 on CIFAR-10, where the layers of another paper are pruned too."""
    filters = [max(1, round(options.vgg_width * count)) for count in VGG16]
    setting = {
        **cifar(options), "network": "vgg16", "shape": {"filters": filters, "l2": 2.5e-4},
        "epochs": options.vgg_epochs,
    }  # fmt: skip
    found = against_pmt(
        grid, "table2", setting, options.vgg_tuning, options.ratios_2, {"convolutions_only": True},
        {"every": options.vgg_k, "step": options.step}, halved=True,
    )  # fmt: skip
    page.heading("Table 2: VGG-16 on CIFAR-10")
    page.text(
        f"`vgg16` with {options.vgg_width:g} of its filters on {options.cifar}: "
        f"{options.vgg_epochs} epochs, k = {options.vgg_k}, {options.vgg_tuning} epochs of tuning "
        f"for the others; seeds: {options.seeds}. Sizes are those of float32 weights, FLOPs are "
        "multiply-adds, as the paper counts both."
    )
    table, rows = PUBLISHED["table 2"], []
    for (method, gone), runs in found.items():
        theirs = table.row(method, gone)
        macs = theirs["multiply-adds"]
        rows.append({
            "method": METHODS.get(method, method), "FPR, %": spread(runs, "fpr", 1),
            "MB (published)": theirs["size, MB"],
            "MB (obtained)": Spread.of(4e-6 * run["params"] for run in runs),
            "FLOPs (published)": macs and f"{macs:.3g}",
            "FLOPs (obtained)": f"{spread(runs, 'macs').mean:.3g}",
            "of them gone, % (published)": theirs["multiply-adds gone, %"],
            "gone, % (obtained)": spread(runs, "macs_gone"),
            "accuracy, % (published)": theirs["accuracy, %"],
            "accuracy, % (obtained)": spread(runs, "accuracy"), **times(found, runs, method),
        })  # fmt: skip
    page.table("Table 2", rows, ON_TIMES)
    page.text(table.remarks["all"])
    check_claims(page, found)
    page.picture("table2", lambda: tradeoff(found, table, "macs_gone", "multiply-adds gone, %"))


def cifar(options):
    """The data of Tables 2 and 3."""
    own = {"size": options.cifar_size, "scaling": options.scaling, "augment": options.augment}
    return {**data_settings(options, "cifar"), **own}


def against_pmt(grid, table, setting, tuning, ratios, counted, steps, halved=False):
    """Runs the baseline, PMT and IPLT: (method, filters gone in percent) -> a result per seed.

    Args:
        table: the folder of their files.
        setting: the data, the network and its epochs.
        tuning: epochs after pruning once, of what the baseline of the same seed has learned.
        ratios: shares of the filters to remove.
        counted: which filters those are shares of, as the callbacks are told.
        steps: how IPLT goes there, as its callback is told.
        halved: whether to remove what "Pruning filters for efficient ConvNets" does as well.
    """
    dense, baseline = {**setting, "rate": 0.05}, f"{table}/baseline"
    found = grid.run({("baseline", 0): Case(baseline, train, {**dense, "method": "baseline"})})

    def tuned(name, method, **pruning):
        own = {"method": method, "epochs": tuning, "rate": 0.01, "pruning": pruning}
        return Case(f"{table}/{name}", train, {**setting, **own}, after=baseline)

    cases = {}
    if halved:  # of all other layers nothing goes
        others = [name for name in LAYERS if name not in HALVED]
        cases["norms", None] = tuned("norms", "norms", target=0.5, ignore=others)
    for ratio in ratios:
        cases["PMT", round(100 * ratio)] = tuned(f"pmt-{ratio:g}", "PMT", target=ratio, **counted)
    for ratio in ratios:
        own = {"method": "IPLT", "pruning": {"target": ratio, **steps, **counted}}
        cases["IPLT", round(100 * ratio)] = Case(f"{table}/iplt-{ratio:g}", train, {**dense, **own})
    return found | grid.run(cases)


def times(found, runs, method):
    """Seconds of training over those of the baseline of the same seed, wall and CPU.

    What PMT tunes has been trained before.
    """
    extra = 0 if method in ("baseline", "IPLT") else 1
    return {
        f"time, {what}": Spread.of(
            extra + value for value in quotient(runs, found["baseline", 0], key).values
        )
        for what, key in (("wall", "seconds"), ("CPU", "cpu"))
    }


def check_claims(page, found):
    """Whether the paper's two claims hold here."""
    steps = {gone: runs for (method, gone), runs in found.items() if method == "IPLT"}

    def findings(claim, said):
        lines = (f"{gone} % of the filters: {said(gone, runs)}" for gone, runs in steps.items())
        page.findings(claim, lines)

    def accuracy(gone, runs):
        others = spread(found["PMT", gone], "accuracy")
        return spread(runs, "accuracy").minus(others).judged(NOT_WORSE)

    def time(gone, runs):
        wall, cpu = (one.mean for one in times(found, runs, "IPLT").values())
        return (
            f"less time than the baseline {holds(max(wall, cpu) < 1)} ({wall:.2f} of its wall "
            f"seconds, {cpu:.2f} of its CPU seconds)."
        )

    claim = "The claim that IPLT is not worse than PMT with as many filters gone."
    findings(f"{claim} {NOISE}", accuracy)
    findings("The claim that IPLT saves training time.", time)


# -- Table 3 ---------------------------------------------------------------------------------------


def table_3(options, grid, page):
    """Soft filter pruning of a ResNet, and its IPLT form."""
    found = grid.run(soft_cases(options))
    page.heading("Table 3: soft filter pruning of ResNet-110 on CIFAR-10")
    begun = f"from {options.resnet}" if options.resnet else f"of depth {options.resnet_depth}, new"
    page.text(
        f"A ResNet {begun}, on {options.cifar}: {options.resnet_epochs} epochs, k = "
        f"{options.resnet_k}; seeds: {options.seeds}."
    )
    table = PUBLISHED["table 3"]
    formula = [
        {
            "filters gone, %": gone,
            "published, %": table.row("SFP", gone)["multiply-adds gone, %"],
            "by the formula, %": round(100 * sfp_share(gone / 100), 1),
        }
        for gone in (10, 20, 30)
    ]
    title = "Multiply-adds of ResNet-110 that go, by the formula of soft filter pruning"
    page.table(title, formula, table.remarks["all"])
    page.table("Table 3", soft_rows(found))
    page.picture("table3", lambda: soft_tradeoff(found))


def soft_cases(options):
    """Both methods in both layouts, by method, layout and filters gone in percent."""
    setting = {
        **cifar(options), "network": "cifar_resnet", "shape": {"depth": options.resnet_depth},
        "epochs": options.resnet_epochs, "rate": options.resnet_rate,
        "start": None if options.resnet is None else str(options.resnet),
    }  # fmt: skip
    whole = Case("table3/baseline", train, {**setting, "method": "baseline"})
    cases = {("baseline", "–", 0): whole}
    for layout, method, ratio in itertools.product(
        ("full width", "coupled"), ("SFP", "IPLT, soft"), options.ratios_3
    ):
        rising = [r for r in options.ratios_3 if r <= ratio]
        soft = {"ratios": rising, "every": options.resnet_k}
        own = {"target": ratio} if method == "SFP" else soft
        name = f"{method.lower().replace(', ', '-')}-{ratio:g}-{layout.replace(' ', '-')}"
        cases[method, layout, round(100 * ratio)] = Case(
            f"table3/{name}", train, {**setting, "method": method, "layout": layout, "pruning": own}
        )
    return cases


def soft_rows(found):
    """Table 3: a row for each method, layout and share."""
    baseline, rows = found["baseline", "–", 0], []
    for (method, layout, gone), results in found.items():
        theirs = PUBLISHED["table 3"].row(method.partition(",")[0], gone)
        rows.append({
            "method": method, "layout": layout, "filters, %": spread(results, "fpr", 1),
            "multiply-adds": f"{spread(results, 'macs').mean:.3g}",
            "gone, %": spread(results, "macs_gone", 1),
            "accuracy, % (published, ResNet-110)": theirs["accuracy, %"],
            "accuracy, % (obtained)": spread(results, "accuracy"),
            "time, CPU": quotient(results, baseline, "cpu"),
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
    return iplt.plots.tradeoff(lines, xlabel="multiply-adds gone, %", ylabel="accuracy, %")


def sfp_share(ratio, depth=110, widths=(16, 32, 64)):
    """The share of the multiply-adds of a CIFAR ResNet that soft filter pruning counts as gone.

    Every convolution loses a fraction of its filters; streams stay whole, so that only the second
    convolution of a block, and what follows the first one of the network, have fewer inputs.
    """
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


def tradeoff(found, published, key, xlabel):
    """Accuracy against what is gone, with the published points."""
    lines, theirs = {}, {}
    for (method, gone), runs in found.items():
        accuracy = spread(runs, "accuracy")
        point = spread(runs, key).mean, accuracy.mean, accuracy.deviation
        lines.setdefault(METHODS.get(method, method), []).append(point)
        if (method, gone) in published.rows:
            printed = published.row(method, gone)
            theirs.setdefault(METHODS.get(method, method), []).append(
                (printed[xlabel], printed["accuracy, %"])
            )
    return iplt.plots.tradeoff(lines, theirs, xlabel=xlabel, ylabel="accuracy, %")


def reproduce(options):
    sources = {1: options.mnist, 2: options.cifar, 3: options.cifar}
    check_data([sources[n] for n in options.tables], options.data_dir, options.download)
    grid = Grid(options)
    page = Page("Incremental pruning based on less training", grid.study, options.command)
    for number in options.tables:
        (table_1, table_2, table_3)[number - 1](options, grid, page)
    return page.write()


def parser(prog=None):
    """What the command takes: in full, and with --quick."""
    parser = command_parser("iplt", __doc__, prog, seeds=(3, 1), batch=(128, 16))
    add = parser.option
    add("--tables", int, [1, 2, 3], None, "which (all)", nargs="+", choices=(1, 2, 3))
    add("--step", share, 0.1, 0.35, "IPLT's step (0.1)")
    add_data(parser, "mnist", "the data of Table 1", "mnist", ("digits", 160, 100))
    add_data(parser, "cifar", "the data of Tables 2 and 3", "cifar10", ("digits", 32, 50))
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
    add("--resnet-rate", float, 0.1, None, "learning rate at first (0.1)")
    return parser


def main(arguments=None, prog=None):
    return start(parser(prog), arguments, reproduce)


if __name__ == "__main__":
    main()
