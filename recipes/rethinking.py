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
from keras_iplt import baselines, plots, sparsity

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
from .common.training import Hardware, compiled, fit, loaded, milestones, percent, saved

METHODS = ("norms", "sfp", "slimming", "weights")
STRUCTURED = METHODS[:3]
# What is trained before pruning, and what a pruned network is compared with.
LARGE = {"norms": "plain", "sfp": "sfp", "slimming": "slimming", "weights": "plain"}
UNPRUNED = {**LARGE, "sfp": "plain"}
REFUSED = {
    "thinet": "ThiNet chooses channels by how well the next layer's outputs can be fitted without",
    "channel": "channel pruning fits the outputs of layer after layer to the large network's",
    "sss": "sparse structure selection needs scale factors of blocks and an optimizer of its own",
}
FULL = {
    "networks": ["vgg19", "resnet56", "densenet40"], "methods": list(METHODS), "width": 1.0,
    "seeds": 3, "batch": 64, "data": "cifar10", "scaling": "torch", "augment": "usual",
    "epochs": 160, "tuning": 40, "rate": 0.1, "penalty": 1e-4, "allocation": "depth",
    "norms_ratio": 0.5, "sfp_ratio": 0.3, "slimming_ratio": 0.6, "weights_ratio": 0.8,
}  # fmt: skip
QUICK = {
    "networks": ["resnet8"], "width": 0.5, "seeds": 1, "batch": 16, "data": "digits", "take": 16,
    "take_test": 16, "scaling": "scale", "epochs": 1, "tuning": 1, "penalty": 1e-2,
    "sfp_ratio": 0.2, "slimming_ratio": 0.2, "weights_ratio": 0.4,
}  # fmt: skip

DECAY = 5e-5  # Keras's L2 is not halved: the gradient is that of a weight decay of 1e-4
RENEWED = 1000  # seeds of new values begin here
BUDGETS = {"tuned": "fine-tuned", "e": "Scratch-E", "b": "Scratch-B"}
# What Lee's report says, which has no numbers.
CLAIM_BUDGETS = "almost always better; where it is not, the margin is small"
CLAIM_STRUCTURED = "practically always better or comparable, often with large margins"
CLAIM_WEIGHTS = "better with small margins, not as often as in structured pruning"


# -- networks --------------------------------------------------------------------------------------


def shape(network, width):
    """A network of the zoo, `resnet<depth>` or `densenet<depth>`, with a share of its filters: its
    name in the zoo and its options."""
    name, options = network, {}
    found = re.fullmatch(r"(resnet|densenet)(\d+)", network)
    if found and network not in ("resnet50", "densenet121"):  # those are ImageNet's
        name = {"resnet": "cifar_resnet", "densenet": "densenet40"}[found[1]]
        options["depth"] = int(found[2])
    if name not in zoo.names():
        raise iplt.OptionError(
            "networks: expected resnet<depth>, densenet<depth> or one of "
            f"{', '.join(zoo.names())}, received: {network!r}"
        )
    known = inspect.signature(getattr(zoo, name)).parameters
    widths = [key for key in ("filters", "widths", "growth", "first", "units") if key in known]
    if width != 1 and not widths:
        raise iplt.OptionError(f"width: expected 1 for {network}, received: {width:g}")
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
        model: stays as it is.
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
    """What a method leaves of a large network."""
    if method == "norms":
        return iplt.prune(
            model, ratio, criterion="l1", scope="layer", convolutions_only=True,
            ignore=streams(model),
        )  # fmt: skip
    if method == "slimming":
        model = baselines.full_width(model) if is_residual(model) else model
        return iplt.prune(
            model, ratio, criterion="bn_scale", scope="global", convolutions_only=True
        )  # fmt: skip
    if method == "weights":
        sparsity.prune_weights(model, ratio, allocation, convolutions_only=True)
    return model  # of soft filter pruning as it is: smaller since its training ended


def costs(model):
    """Multiply-adds and parameters without those of weights that are zero."""
    whole = iplt.profile(model)
    table = {row.name: row for row in sparsity.measure(model, convolutions_only=True).layers}
    idle = sum(row.macs * table[row.name].sparsity for row in whole.layers if row.name in table)
    zeros = sum(row.zeros for row in table.values())
    return {"macs": round(whole.macs - idle), "params": whole.params - zeros}


def budget(epochs, before, after):
    """Epochs of Scratch-B: the small network computes as much as the large one did."""
    return max(1, round(epochs * before / after))


# -- one run ---------------------------------------------------------------------------------------


def large(
    place, network, width, kind, seed, batch, hardware, epochs, rate, penalty=0.0, ratio=None,
    **source,
):  # fmt: skip
    """Trains a large network.

    Args:
        place: where its files go.
        network, width: see `shape`.
        kind: "plain", "slimming" for the penalty on scales, or "sfp", after which it is pruned.
        penalty, ratio: of these two.
        **source: the data, see `loaded`.
    """
    hardware = Hardware(**hardware)
    with hardware.ready(seed):
        data = loaded(seed=seed, batch=batch, **source)
        name, options = shape(network, width)
        model = zoo.build(name, data.input_shape, len(data.classes), **options)
        callbacks = []
        if kind == "slimming":
            model = anew(model, penalty)
        if kind == "sfp":
            model = baselines.full_width(model) if is_residual(model) else model
            callbacks = [baselines.soft(ratio, backup_dir=place.backup, verbose=0)]
        rates = milestones(rate, epochs, len(data.train))
        return trained(place, model, data, epochs, rates, hardware, callbacks)


def tuned(
    place, start, method, ratio, allocation, seed, batch, hardware, epochs, rate, **source
):  # fmt: skip
    """Prunes a large network and fine-tunes what is left.

    Args:
        start: the run that left the network.
        method, ratio, allocation: see `pruned`.
        rate: of learning, all the time.
    """
    hardware = Hardware(**hardware)
    with hardware.ready(seed):
        data = loaded(seed=seed, batch=batch, **source)
        model = keras.models.load_model(place.model(start), compile=False)
        left = pruned(model, method, ratio, allocation)
        model = anew(left)  # without the penalty of network slimming, which has done its work
        model.set_weights(left.get_weights())
        return trained(place, model, data, epochs, rate, hardware, held(place, method))


def scratch(place, start, method, seed, batch, hardware, epochs, rate, **source):
    """Trains the architecture that a run of `tuned` left, from new values."""
    hardware = Hardware(**hardware)
    with hardware.ready(RENEWED + seed):
        data = loaded(seed=seed, batch=batch, **source)
        model = keras.models.load_model(place.model(start), compile=False)
        model = masked_anew(model) if method == "weights" else anew(model)
        rates = milestones(rate, epochs, len(data.train))
        return trained(place, model, data, epochs, rates, hardware, held(place, method))


def held(place, method):
    """What keeps zeros zero while a network is trained."""
    if method != "weights":
        return []
    none = iplt.schedules.OneShot(0.0, epoch=0)  # no other weights go
    return [
        iplt.SparsityCallback(none, convolutions_only=True, keep_zeros=True,
                              backup_dir=place.backup, verbose=0)
    ]  # fmt: skip


def trained(place, model, data, epochs, rates, hardware, callbacks):
    """Trains and saves; how good the model is then, and what it costs."""
    compiled(model, keras.optimizers.SGD(rates, momentum=0.9), hardware)
    course = fit(model, data, epochs, place, hardware, callbacks)
    saved(model, place)
    return {
        "accuracy": percent(model, data.test), "epochs": epochs, "seconds": course.seconds,
        **costs(model),
    }  # fmt: skip


# -- all runs --------------------------------------------------------------------------------------


def run_all(options, study):
    """(network, method) -> name -> a result per seed: "unpruned", "tuned", "e" and "b"."""
    common, where = common_settings(options)
    setting = {
        **common, "source": options.data, "size": options.size, "scaling": options.scaling,
        "augment": options.augment, "take": options.take, "take_test": options.take_test,
    }  # fmt: skip
    seeds, course = range(options.seeds), {"epochs": options.epochs, "rate": options.rate}
    ratios = {method: getattr(options, f"{method}_ratio") for method in METHODS}
    own = {"plain": {}, "slimming": {"penalty": options.penalty}, "sfp": {"ratio": ratios["sfp"]}}
    cases = [(network, method) for network in options.networks for method in options.methods]

    def runs(function, cases, name, settings):
        """`{case: a result per seed}`."""
        results = iter(
            study.do(
                Run(f"{name(*case)}-seed{seed}", function,
                    {**setting, "seed": seed, **settings(*case, seed)}, where)
                for case in cases for seed in seeds
            )
        )  # fmt: skip
        return {case: [next(results) for _ in seeds] for case in cases}

    def name_of_large(network, kind):
        return f"{network}/{'-'.join([f'large-{kind}', *(f'{x:g}' for x in own[kind].values())])}"

    def name_of_small(network, method):
        return f"{network}/{method}-{ratios[method]:g}"

    def of_large(network, kind, seed):
        return {**course, "network": network, "width": options.width, "kind": kind, **own[kind]}

    def of_tuned(network, method, seed):
        return {
            "start": f"{name_of_large(network, LARGE[method])}-seed{seed}", "method": method,
            "ratio": ratios[method], "allocation": options.allocation, "epochs": options.tuning,
            "rate": options.rate * 0.01,
        }  # fmt: skip

    def of_scratch_e(network, method, seed):
        start = f"{name_of_small(network, method)}-tuned-seed{seed}"
        return {**course, "start": start, "method": method}

    def of_scratch_b(network, method, seed):
        before = unpruned[network, UNPRUNED[method]][seed]["macs"]
        epochs = budget(options.epochs, before, small[network, method][seed]["macs"])
        return {**of_scratch_e(network, method, seed), "epochs": epochs}

    kinds = dict.fromkeys((n, kind) for n, m in cases for kind in (UNPRUNED[m], LARGE[m]))
    unpruned = runs(large, kinds, name_of_large, of_large)
    small = runs(tuned, cases, lambda *case: f"{name_of_small(*case)}-tuned", of_tuned)
    e = runs(scratch, cases, lambda *case: f"{name_of_small(*case)}-scratch-e", of_scratch_e)
    b = runs(scratch, cases, lambda *case: f"{name_of_small(*case)}-scratch-b", of_scratch_b)
    return {
        (network, method): {
            "unpruned": unpruned[network, UNPRUNED[method]],
            "tuned": small[network, method], "e": e[network, method], "b": b[network, method],
        }
        for network, method in cases
    }  # fmt: skip


# -- what is found ---------------------------------------------------------------------------------


def show(options, page, found):
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
    gone = {
        key: Spread.of([100 * (1 - a[key] / b[key]) for a, b in
                        zip(runs["tuned"], runs["unpruned"], strict=True)], 1)
        for key in ("macs", "params")
    }  # fmt: skip
    return {
        "network": network, "method": method, "multiply-adds gone, %": gone["macs"],
        "parameters gone, %": gone["params"], "unpruned, %": spread(runs["unpruned"], "accuracy"),
        **{f"{title}, %": spread(runs[name], "accuracy") for name, title in BUDGETS.items()},
        "epochs, fine-tuned": f"{options.epochs} + {options.tuning}",
        **{f"epochs, {BUDGETS[name]}": spread(runs[name], "epochs", 0)
           for name in ("e", "b")},
    }  # fmt: skip


def differences(runs, others):
    """Points of accuracy, seed by seed: those of a seed share architecture and data."""
    pairs = zip(runs, others, strict=True)
    return Spread.of([run["accuracy"] - other["accuracy"] for run, other in pairs])


def verdict(difference):
    """Whether a difference is more than its noise."""
    if difference.noise is None:
        return "not told by one seed"
    if abs(difference.mean) <= difference.noise:
        return "within the noise"
    return "better" if difference.mean > 0 else "worse"


def tally(spreads):
    """How often what is the case."""
    if not spreads:
        return "not run"
    said = [verdict(one) for one in spreads]
    counted = [f"{said.count(word)} {word}" for word in dict.fromkeys(said)]
    listed = ", ".join(f"{one.mean:+.2f}" for one in spreads)
    return f"{', '.join(counted)} (points: {listed})"


def check_claims(page, found):
    """What the report says, and what came out."""
    compared = {
        case: {
            "Scratch-B over Scratch-E": differences(runs["b"], runs["e"]),
            "Scratch-E over fine-tuned": differences(runs["e"], runs["tuned"]),
            "Scratch-B over fine-tuned": differences(runs["b"], runs["tuned"]),
        }
        for case, runs in found.items()
    }
    page.table("Differences, points", [
        {"network": network, "method": method,
         **{key: f"{value.mean:+.2f}: {verdict(value)}" for key, value in own.items()}}
        for (network, method), own in compared.items()
    ], "Seeds are paired; the noise is twice the standard error. Within the noise is not the same "
       "as equal: few seeds tell only large differences.")  # fmt: skip
    claims = [("Scratch-B over Scratch-E", METHODS, "all methods", CLAIM_BUDGETS)]
    for key in ("Scratch-E over fine-tuned", "Scratch-B over fine-tuned"):
        claims += [(key, STRUCTURED, "structured", CLAIM_STRUCTURED),
                   (key, ("weights",), "unstructured", CLAIM_WEIGHTS)]  # fmt: skip
    page.table("The report's claims", [
        {"claim": key, "of": what, "published, in words": words, "obtained": tally(
            [own[key] for (_, method), own in compared.items() if method in methods])}
        for key, methods, what, words in claims
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
    return plots.tradeoff(
        lines, ylabel="accuracy, %",
        xlabel="training, in epochs of the unpruned network: Scratch-E, Scratch-B, fine-tuned",
    )  # fmt: skip


# -- the command -----------------------------------------------------------------------------------


def reproduce(options):
    for network in options.networks:  # what cannot work is said before anything is trained
        shape(network, options.width)
    study = Study(options.out, options.workers, options.recipe)
    page = Page("Rethinking the value of network pruning", study, options.command)
    show(options, page, run_all(options, study))
    return page.write()


def method(text):
    """One of those that are here."""
    if text in REFUSED:
        raise argparse.ArgumentTypeError(f"{text} is not here: {REFUSED[text]}")
    if text not in METHODS:
        raise argparse.ArgumentTypeError(f"expected {', '.join(METHODS)}, received: {text}")
    return text


def main(arguments=None, prog=None):
    parser = command_parser("rethinking", __doc__, prog)
    add = parser.add_argument
    add("--networks", nargs="+", metavar="NETWORK",
        help="of the zoo; resnet<depth>, densenet<depth> (vgg19 resnet56 densenet40)")  # fmt: skip
    add("--methods", type=method, nargs="+", metavar="METHOD",
        help=f"of {', '.join(METHODS)} (all)")  # fmt: skip
    add("--width", type=float, help="the share of the networks' filters to begin with (1)")
    add_data(parser)
    add("--size", type=positive, help="what images are resized to")
    add("--scaling", choices=("scale", "torch"), help="see recipes.data")
    add("--augment", choices=("usual", "crop", "flip", "crop_flip"), help="see recipes.data")
    add("--epochs", type=positive, help="of the large network and of Scratch-E (160)")
    add("--tuning", type=positive, help="epochs of fine-tuning (40)")
    add("--rate", type=float, help="learning rate at first; a hundredth of it in the end (0.1)")
    for name in METHODS:
        what = "weights" if name == "weights" else "filters"
        add(f"--{name}-ratio", type=share, metavar="SHARE",
            help=f"{what} to remove by {name} ({FULL[f'{name}_ratio']:g})")  # fmt: skip
    add("--penalty", type=float, metavar="L1",
        help="on the scales of batch norm, for slimming (1e-4; 1e-3 for a tenth of the "
        "epochs)")  # fmt: skip
    add("--allocation", choices=("depth", "uniform"),
        help="of single weights: all convolutions together, or each alike (depth)")  # fmt: skip
    options = parsed(parser, arguments, FULL, QUICK)
    with answering(options):
        return reproduce(options)


if __name__ == "__main__":
    main()
