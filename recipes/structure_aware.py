"""Zuo et al., how sparse each layer should be: Tables I to IV, Fig. 3 to 7 and 9 to 11.

    python -m recipes.structure_aware --quick                    # all of it on digits: seconds
    python -m recipes.structure_aware --data-dir DIR --precision mixed_bfloat16     # GPU, days
    python -m recipes.structure_aware --model resnet56.keras --data cifar10.npz --scaling torch \\
        --augment crop_flip --batches 300 --every 15 --batch 128 --rate 0.01    # 2 cores, 1.5 hours

Single weights of convolutions go, 5 % of all after every phase of training, from which layers one
of three rules says: Prune_fixed (all layers alike), Prune_param (the smallest layers stop once the
loss rises) and Prune_depth (one threshold for the whole network). Tables III and IV: 50 and 75 % of
InceptionV3 and ResNet50, 40,000 batches of 32. Tables I and II: 95 % of one layer, two that are
neighbours and differ in size, and two of one size that are far apart. Fig. 7: Prune_fixed at 50 %
of three networks. All have the same batches, and so has a control that loses nothing. Beside them:
the accuracy after one cut without any training, and e^-loss, the paper's measure of accuracy
(Eq. 1). Object detectors (Fig. 8) are not here yet.

A phase (the paper's τ batches, --every) is an epoch for Keras: its mean loss is in the log, a
backup is made after it, and a run that was interrupted goes on there. The first phase comes before
the first step. --batches is rounded up to whole phases; data sets are read round and round.

The paper tells neither the optimizer nor its rate, nor Δs, τ, ζ and η: it is SGD with a momentum of
0.9 and a constant rate, in twenty phases; see --step, --every, --rate, --zeta and --eta. For ζ look
at the control first: the page says how much its loss rises from phase to phase. Probed layers lose
10 % at a time (--probe-step), to have as many batches as the others. In networks that the paper
does not probe, layers are chosen by rule: of neighbours, without the convolution that sees the
image, the two whose sizes differ most by factor, of equals the largest; of layers of one size the
two that are farthest apart, again of equals the largest. In VGG16 that finds the paper's.

ImageNet's weights (--weights imagenet) expect images scaled as --scaling says for each network
unless told. Keras has none of GoogLeNet (InceptionV1): without --weights imagenet googlenet=FILE
Fig. 7 leaves it out. From a fresh start (--weights none) everything runs, and no accuracy says
anything: that takes networks that have been trained.

--quick: a few of scikit-learn's digits and a new ResNet-8, two batches for each run, which is too
little to learn anything: it shows that all of it runs.
"""

import argparse
import itertools
import math
import pathlib

import keras
import numpy as np

import keras_iplt as iplt
from keras_iplt import plots, sparsity
from keras_iplt.errors import OptionError
from keras_iplt.plots.canvas import figure_and_axes
from keras_iplt.sparsity import allocation

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
from .common.training import Hardware, compiled, fit, loaded, saved

FIGURES = (3, 4, 5, 6, 7, 9, 10, 11)
FULL = {
    "networks": ["inception_v3", "resnet50"], "probe_networks": ["inception_v3", "vgg16_imagenet"],
    "typical": ["googlenet", "resnet50", "vgg16_imagenet"], "weights": ["imagenet"],
    "data": "imagenet2012", "augment": "usual", "seeds": 1, "batch": 32, "batches": 40_000,
    "every": 2000, "step": 0.05, "rate": 0.001, "zeta": 0.02, "targets": [0.5, 0.75],
    "probe_sparsity": 0.95, "probe_step": 0.1, "figures": list(FIGURES),
}  # fmt: skip
QUICK = {
    "networks": ["cifar_resnet"], "probe_networks": ["cifar_resnet"], "typical": ["cifar_resnet"],
    "depth": 8, "weights": ["none"], "data": "digits", "take": 32, "take_test": 16,
    "scaling": "scale", "batch": 16, "batches": 2, "every": 1, "step": 0.75, "targets": [0.75],
    "probe_step": 0.95,
}  # fmt: skip

VARIANTS = ("fixed", "param", "depth")
FIG_7 = 0.5  # the sparsity of Fig. 7
FIG_10 = 0.6  # and of Fig. 10
# Tables III and IV: network -> (variant, sparsity) -> top-1 error more than before, in percent
TABLES_3_4 = {
    "inception_v3": {
        ("fixed", 0.5): "<1.0", ("param", 0.5): "<1.0", ("depth", 0.5): "<1.0",
        ("fixed", 0.75): 2.0, ("param", 0.75): 1.5, ("depth", 0.75): 1.2,
    },
    "resnet50": {
        ("fixed", 0.5): "<1.0", ("param", 0.5): "<1.0", ("depth", 0.5): "<1.0",
        ("fixed", 0.75): 1.6, ("param", 0.75): 1.4, ("depth", 0.75): 1.3,
    },
}  # fmt: skip
# Tables I and II: network -> what differs -> layer -> loss of top-1 accuracy, in percent
TABLES_1_2 = {
    "inception_v3": {
        "size": {"Conv2d_4a_3x3": 4.4, "Mixed_5b_Branch_0_Conv2d_0a_1x1": 9.0},
        "depth": {"Mixed_6b_Branch_0_Conv2d_0a_1x1": 4.0, "Mixed_6e_Branch_0_Conv2d_0a_1x1": 1.2},
    },
    "vgg16_imagenet": {
        "size": {"block4_conv1": 7.7, "block4_conv2": 7.2},
        "depth": {"block4_conv2": 7.2, "block5_conv3": 7.7},
    },
}  # fmt: skip
SMALL = 100_000  # Fig. 3 counts the layers with fewer parameters than this
SMALL_LAYERS = {"inception_v3": 31}
# What ImageNet's weights, and TF-slim's of GoogLeNet, expect.
SCALING = {
    "inception_v3": "tf", "googlenet": "tf", "mobilenet": "tf", "densenet121": "torch",
    "resnet50": "caffe", "vgg16_imagenet": "caffe", "vgg16_hubens": "caffe",
}  # fmt: skip
SIZES = dict.fromkeys(SCALING, 224) | {"inception_v3": 299}
WITHOUT_IMAGENET = ("googlenet",)


# -- one run ---------------------------------------------------------------------------------------


def retrain(
    place, seed, method, phases, every, rate, hardware, target=None, step=None, layer=None,
    zeta=None, eta=None, **start,
):  # fmt: skip
    """Trains a network while it is pruned: what it can then, the loss of every phase, its layers.

    Args:
        place: where its files go.
        seed: of everything.
        method: "control", "fixed", "param", "depth" or "probe".
        phases, every: how many phases of how many batches.
        rate: the learning rate.
        hardware: of what is `Hardware`.
        target, step: the sparsity in the end, and what goes after each phase.
        layer: the one that is probed.
        zeta, eta: of Prune_param.
        **start: see `begun`.
    """
    hardware = Hardware(**hardware)
    with hardware.ready(seed):
        model, data = begun(seed, **start)
        compiled(model, keras.optimizers.SGD(rate, momentum=0.9), hardware)
        before = tested(model, data) if method == "control" else None
        how = {
            "fixed": allocation.Fixed, "depth": allocation.Depth, "probe": allocation.Uniform,
            "param": lambda: allocation.Param(zeta, eta), "control": lambda: None,
        }[method]()  # fmt: skip
        callbacks = [] if how is None else [iplt.SparsityCallback(
            target, step, every=1, allocation=how, layers=layer, backup_dir=place.backup, verbose=0
        )]  # fmt: skip
        trained = fit(model, Stretched(data, every), phases, place, hardware, callbacks)
        saved(model, place)
        table = sparsity.measure(model, convolutions_only=True)
        accuracy, loss = tested(model, data)
        return {
            "accuracy": accuracy, "loss": loss, "before": before,
            "losses": trained.history["loss"],
            "accuracies": [100 * value for value in trained.history["accuracy"]],
            "shares": trained.history.get("sparsity", [0.0] * phases),
            "sparsity": table.sparsity,
            "layers": [[row.name, row.weights, row.sparsity] for row in table.layers],
            "frozen": [table.layers[i].name for i in getattr(how, "frozen", ())],
            "seconds": trained.seconds, "cpu": trained.cpu,
        }  # fmt: skip


def cut(place, seed, targets, hardware, **start):
    """What one cut does to a network, without any training, and what its layers are like.

    Args:
        place, seed, hardware, **start: see `retrain`.
        targets: sparsities.
    """
    hardware = Hardware(**hardware)
    with hardware.ready(seed):
        model, data = begun(seed, **start)
        compiled(model, "sgd", hardware)
        looking = Looking()
        sparsity.prune_weights(model, 0, looking)
        whole, found = model.get_weights(), []
        before = tested(model, data)
        for name, how in {
            "fixed": allocation.Fixed(), "depth": allocation.Depth(),
            "depth, normalized": allocation.Depth(normalize=True),
        }.items():  # fmt: skip
            for target in targets:
                model.set_weights(whole)
                table = sparsity.prune_weights(model, target, how)
                found.append({
                    "how": name, "target": target, "accuracy": tested(model, data)[0],
                    "layers": [[row.name, row.weights, row.sparsity] for row in table.layers],
                })  # fmt: skip
        return {"before": before, "layers": looking.layers, "cuts": found}


def begun(seed, network, file, weights, shape, source, size, **options):
    """The network to begin with and its data.

    Args:
        seed: of the data.
        network, weights, shape: of the zoo.
        file: a `.keras` file instead.
        size: of images; None for what the model in the file takes, or as they are.
        source, **options: the data, see `loaded`.
    """
    model = None if file is None else keras.models.load_model(file, compile=False)
    if model is not None and size is None and None not in model.input_shape[1:3]:
        size = model.input_shape[1:3]
    data = loaded(source, seed=seed, size=size, **options)
    if model is None:
        model = zoo.build(network, data.input_shape, len(data.classes), weights, **shape)
    elif model.output_shape[-1] != len(data.classes):
        raise OptionError(
            f"--model: expected a network of the {len(data.classes)} classes of {source}, received "
            f"one of {model.output_shape[-1]}: {file}"
        )
    return model, data


def tested(model, data):
    """Accuracy in percent, and the mean loss, of the test examples."""
    result = model.evaluate(data.test, verbose=0, return_dict=True)
    return 100 * float(result["accuracy"]), float(result["loss"])


class Looking(allocation.Allocation):
    """Prunes nothing: an allocation is shown all weights that can be pruned, whatever the layers.

    Attributes:
        layers: name, number of weights and their mean magnitude, of each.
    """

    convolutions_only = True

    def zeros(self, pool, sparsity, gone):
        self.layers = [[one.path, one.size, float(one.magnitudes().mean())] for one in pool]
        return [0] * len(pool)


class Stretched:
    """Data in whose training part an epoch has a length of its own: the batches of as many real
    epochs as it takes, one after another, cut into equal phases.

    Args:
        data: a `recipes.data` Data.
        length: batches in a phase.
    """

    def __init__(self, data, length):
        self._data, self._length = data, length

    def batches(self, part, drop_remainder=False):
        return Phases(self._data, part, drop_remainder, self._length)


class Phases(keras.utils.PyDataset):
    """See `Stretched`. Any phase can be the first: a training goes on with what comes next.

    Attributes:
        epoch: the number of the phase.
    """

    def __init__(self, data, part, drop_remainder, length):
        super().__init__()
        self.epoch, self._length = 0, length
        self._make = lambda epoch: data.batches(part, epoch=epoch, drop_remainder=drop_remainder)
        self._real = self._make(0)
        self._stream, self._next = None, None  # of data that are streamed: where it is

    def __len__(self):
        return self._length

    def __getitem__(self, index):
        number = self.epoch * self._length + index
        epoch, place = divmod(number, len(self._real))
        if hasattr(self._real, "epoch"):  # in memory: any batch is at hand
            self._real.epoch = epoch
            return self._real[place]
        if number != self._next or place == 0:
            batches = self._make(epoch)
            self._stream = (batches.skip(place) if place else batches).as_numpy_iterator()
        self._next = number + 1
        return next(self._stream)


# -- Tables III and IV, Fig. 3 to 6 and 9 to 11 ----------------------------------------------------


def tables_3_4(options, study, page, network):
    """The three variants on one network."""
    study.do([  # all at once, as none waits for another; below they are looked up
        *runs_of(options, network, "control", "control"), cut_of(options, network),
        *(run for target in options.targets for variant in VARIANTS
          for run in variant_of(options, network, variant, target)),
    ])  # fmt: skip
    looked = cuts(options, study, network)
    control = retrained(options, study, network, "control", "control")
    found = {
        (variant, target): pruned(options, study, network, variant, target)
        for target in options.targets for variant in VARIANTS
    }  # fmt: skip
    page.heading(f"Tables III and IV: {network}")
    page.text(
        f"{started(options, network)}, on {options.data}: {phases(options)} phases, each "
        f"{options.every} × {options.batch} images, another {options.step:.0%} of the weights of "
        f"convolutions after each, rate {options.rate:g}, ζ = {options.zeta:g}, η = "
        f"{'2 × the loss without pruning + ζ' if options.eta is None else options.eta}; seeds: "
        f"{options.seeds}. The published networks learned ImageNet."
    )
    losses = np.array([run["losses"] for run in control])
    page.text(
        f"Without pruning the loss of a phase is {losses.mean():.4f} on average and rises by "
        f"{np.diff(losses).max():.4f} from one phase to the next at most: ζ should be above that."
    )
    rows = [row_of(network, "none", 0.0, control, control)]
    rows += [row_of(network, *key, runs, control) for key, runs in found.items()]
    page.table(f"Tables III and IV, {network}", rows)
    if network == "inception_v3":
        page.text(
            "What the paper cites of Zhu and Gupta (InceptionV3: less than 1.0 % more error at "
            "50 %, 2.0 % at 75 %) is what it finds with Prune_fixed."
        )
    for (variant, target), runs in found.items():
        if names := runs[0]["frozen"]:
            page.text(f"{variant}, {target:g}: frozen in this order: {', '.join(names)}.")
    for target in options.targets:
        check_claim(page, target, {name: found[name, target] for name in VARIANTS})
    equation_1(options, page, network, found["fixed", max(options.targets)])
    after_a_cut(page, network, looked)
    draw(options, page, network, looked, control, found)


def row_of(network, variant, target, runs, control):
    """What runs of several seeds found, beside their controls."""
    shares = [value for run in runs for _, _, value in run["layers"]]
    frozen = Spread.of([len(run["frozen"]) for run in runs], 0)
    return {
        "allocation": variant, "sparsity": f"{target:g}",
        "error more than before, % (published)": TABLES_3_4.get(network, {}).get((variant, target)),
        "error more than before, % (obtained)": worse(runs, control),
        "more than without pruning": worse(runs, control, "accuracy"),
        "accuracy, %": spread(runs, "accuracy"),
        "e^-loss, %": Spread.of(likely(run["loss"]) for run in runs),
        "layers, %": f"{100 * min(shares):.0f}–{100 * max(shares):.0f}",
        "frozen layers": f"{frozen} of {len(runs[0]['layers'])}" if variant == "param" else None,
    }  # fmt: skip


def worse(runs, control, than="before"):
    """How many points of accuracy are lost: before the training, or in the end of the control."""
    first = [run["before"][0] if than == "before" else run[than] for run in control]
    return Spread.of(one - run["accuracy"] for one, run in zip(first, runs, strict=True))


def likely(loss):
    """Eq. 1, in percent."""
    return 100 * math.exp(-loss)


def check_claim(page, target, found):
    """Whether depth is better than param, and that than fixed, as the paper finds."""
    lines = [
        f"- {better} before {other}: {judged(found[better], found[other])}"
        for better, other in (("depth", "param"), ("param", "fixed"), ("depth", "fixed"))
    ]
    page.text(
        f"The claim that Prune_depth is better than Prune_param, and that than Prune_fixed, at "
        f"{target:.0%}. Noise is twice the standard error of the difference.\n\n" + "\n".join(lines)
    )


def judged(runs, others):
    """Whether runs are better than others, beyond noise."""
    ours, theirs = (spread(some, "accuracy") for some in (runs, others))
    difference, noise = ours.minus(theirs)
    said = f"{difference:+.2f} points"
    if noise is None:
        return f"{said}; one seed does not tell the noise."
    if abs(difference) <= noise:
        return f"{said}, noise {noise:.2f}: not told apart."
    return f"{said}, noise {noise:.2f}: {'holds' if difference > 0 else 'does not hold'}."


def equation_1(options, page, network, runs):
    """e^-loss beside the accuracy, phase by phase, in training."""
    rows = []
    for phase in range(phases(options)):
        rows.append({
            "phase": phase + 1, "sparsity, %": 100 * runs[0]["shares"][phase],
            "loss": Spread.of((run["losses"][phase] for run in runs), 4),
            "e^-loss, %": Spread.of(likely(run["losses"][phase]) for run in runs),
            "accuracy in training, %": Spread.of(run["accuracies"][phase] for run in runs),
        })  # fmt: skip
    page.table(
        f"Eq. 1, {network}: Prune_fixed to {max(options.targets):.0%}",
        rows,
        "The paper takes e^-loss for the accuracy. It is the geometric mean of what the network "
        "gives to the right classes: it falls and rises with the accuracy, and is not the same.",
    )


def after_a_cut(page, network, looked):
    """Accuracy without retraining."""
    rows: dict = {"none": {"allocation": "none"}}
    for one in looked["cuts"]:
        column = f"{one['target']:g}"
        rows["none"][column] = looked["before"][0]
        rows.setdefault(one["how"], {"allocation": one["how"]})[column] = one["accuracy"]
    page.table(
        f"Accuracy after one cut, nothing retrained, {network}, %",
        list(rows.values()),
        '"Normalized" is Eq. 2, which the paper finds to harm.',
    )


# -- runs ------------------------------------------------------------------------------------------


def cuts(options, study, network):
    """The cuts of a network, which is looked at for its layers too; layers in the paper's order."""
    return study.do([cut_of(options, network)])[0]


def cut_of(options, network):
    common, where = setting(options, network)
    wanted = sorted({0.3, FIG_10, *options.targets})
    return Run(f"{network}/cuts", cut, {**common, "seed": 0, "targets": wanted}, where)


def pruned(options, study, network, variant, target):
    """Results of a variant, one per seed."""
    return study.do(variant_of(options, network, variant, target))


def variant_of(options, network, variant, target):
    own = {"zeta": options.zeta, "eta": options.eta} if variant == "param" else {}
    return runs_of(
        options, network, f"{variant}-{target:g}", variant, target=target, step=options.step, **own
    )


def retrained(options, study, network, name, method, **own):
    """Results of one method, one per seed."""
    return study.do(runs_of(options, network, name, method, **own))


def runs_of(options, network, name, method, **own):
    """Runs of one method, one per seed."""
    common, where = setting(options, network)
    common |= {"phases": phases(options), "every": options.every, "rate": options.rate,
               "method": method, **own}  # fmt: skip
    return [
        Run(f"{network}/{name}-seed{seed}", retrain, {**common, "seed": seed}, where)
        for seed in range(options.seeds)
    ]


def setting(options, network):
    """What all runs of a network are told, and where things are."""
    common, where = common_settings(options)
    file = None if options.model is None else str(options.model)
    deep = network == "cifar_resnet" and options.depth is not None
    return {
        **common, "network": network, "file": file, "weights": weights_of(options, network),
        "shape": {"depth": options.depth} if deep else {}, "source": options.data,
        "size": options.size or (SIZES.get(network) if file is None else None),
        "scaling": options.scaling or SCALING.get(network, "scale"), "augment": options.augment,
        "take": options.take, "take_test": options.take_test,
    }, where  # fmt: skip


def weights_of(options, network):
    """What a network begins with: of words like "imagenet", "none", FILE and NETWORK=FILE, the one
    that names it, or else the one that is for all."""
    if options.model is not None:
        return None
    own, general = {}, None
    for word in options.weights:
        name, equals, file = word.partition("=")
        if equals and name in zoo.names():
            own[name] = file
        else:
            general = word
    found = own.get(network, general)
    return None if found == "none" else found


def started(options, network):
    """How it began, in words."""
    weights = weights_of(options, network)
    if options.model is not None:
        return f"`{network}` from {options.model}"
    return f"`{network}` {'anew, untrained' if weights is None else f'with weights {weights}'}"


def phases(options):
    return -(-options.batches // options.every)


def check_phases(options):
    """Every sparsity has to be reached before training ends."""
    wanted = {"--targets": (max(options.targets), options.step), "--figures 7": (
        FIG_7 if 7 in options.figures else 0, options.step)}  # fmt: skip
    if options.probes:
        wanted["--probe-sparsity"] = (options.probe_sparsity, options.probe_step)
    for option, (target, step) in wanted.items():
        steps = math.ceil(target / step - 1e-9)
        if steps >= phases(options):
            raise OptionError(
                f"{option}: expected more phases than the {steps} steps of {step:g} to {target:g}, "
                f"received: --batches {options.batches} --every {options.every}, {phases(options)} "
                "phases"
            )


# -- Tables I and II -------------------------------------------------------------------------------


def tables_1_2(options, study, page, network):
    """Single layers of one network."""
    layers = in_order(network, cuts(options, study, network)["layers"])
    control = retrained(options, study, network, "control", "control")
    published = TABLES_1_2.get(network)
    pairs = {key: tuple(value) for key, value in published.items()} if published else chosen(layers)
    found = {
        layer: retrained(
            options, study, network, f"probe-{layer.replace('/', '-')}", "probe", layer=layer,
            target=options.probe_sparsity, step=options.probe_step,
        )
        for layer in dict.fromkeys(name for pair in pairs.values() for name in pair)
    }  # fmt: skip
    page.heading(f"Tables I and II: single layers of {network}")
    page.text(
        f"{started(options, network)}: {options.probe_sparsity:.0%} of one layer goes, "
        f"{options.probe_step:.0%} at a time, in as many batches as above. "
        + ("Layers are the paper's." if published else "Layers are chosen by rule: see the recipe.")
    )
    sizes = {name: size for name, size, _ in layers}
    places = {name: i for i, (name, _, _) in enumerate(layers, 1)}
    rows = [
        {
            "what differs": what, "layer": name, "number": places[name], "parameters": sizes[name],
            "loss of accuracy, % (published)": published and published[what][name],
            "loss of accuracy, % (obtained)": worse(found[name], control),
            "more than without pruning": worse(found[name], control, "accuracy"),
        }
        for what, pair in pairs.items() for name in pair
    ]  # fmt: skip
    if rows:
        page.table(f"Tables I and II, {network}", rows)
    lines = []
    for what, (one, two) in pairs.items():
        # What the paper expects to be the better one: the larger, or the deeper.
        better, other = (one, two) if what == "size" and sizes[one] > sizes[two] else (two, one)
        word = "larger" if what == "size" else "deeper"
        lines.append(f"- the {word} layer loses less: {judged(found[better], found[other])}")
    page.text("The claims that size and depth matter.\n\n" + "\n".join(lines))
    if network == "vgg16_imagenet":
        page.text(
            "The paper's Table II contradicts its claim on depth: the deeper layer loses more "
            "(7.7 %) than the other (7.2 %). Its two layers that differ in size differ by a factor "
            "of two, and their losses by half a point."
        )


def chosen(layers):
    """Two pairs of layers to probe, in a network that the paper does not.

    Args:
        layers: (name, size, …) of each, by depth.

    Returns:
        "size" and "depth" -> two names; without what the network does not have.
    """
    inner = layers[1:] if len(layers) > 2 else layers  # the first one sees the image
    pairs = [(a, b) for a, b in itertools.pairwise(inner) if a[1] != b[1]]
    found = {}
    if pairs:
        one, two = max(pairs, key=lambda p: (max(p[0][1] / p[1][1], p[1][1] / p[0][1]),
                                             p[0][1] + p[1][1]))  # fmt: skip
        found["size"] = (one[0], two[0])
    alike: dict = {}
    for place, (name, size, *_) in enumerate(inner):
        alike.setdefault(size, []).append((place, name))
    ends = [(p[-1][0] - p[0][0], size, p[0][1], p[-1][1]) for size, p in alike.items() if p[1:]]
    if ends:
        found["depth"] = max(ends)[2:]
    return found


def in_order(network, rows):
    """Rows of layers as the paper numbers them: as data flow, but InceptionV3's by their names,
    branch after branch."""
    return sorted(rows) if network == "inception_v3" else rows


# -- Fig. 7 ----------------------------------------------------------------------------------------


def figure_7(options, study, page):
    """Prune_fixed on typical networks."""
    page.heading("Fig. 7: Prune_fixed at 50 %")
    names, left_out = [], []
    for network in options.typical:
        missing = network in WITHOUT_IMAGENET and weights_of(options, network) == "imagenet"
        (left_out if missing else names).append(network)
    rows, bars = [], {}
    for network in names:
        control = retrained(options, study, network, "control", "control")
        runs = pruned(options, study, network, "fixed", FIG_7)
        bars[network] = np.mean([run["before"][0] for run in control]), np.mean(
            [run["accuracy"] for run in runs])  # fmt: skip
        rows.append({
            "network": network, "before, %": Spread.of(run["before"][0] for run in control),
            "no pruning, same batches, %": spread(control, "accuracy"),
            "pruned, %": spread(runs, "accuracy"),
            "difference": Spread.of(-v for v in worse(runs, control).values),
        })  # fmt: skip
    if rows:
        page.table(
            "Fig. 7", rows, "The paper draws bars and prints no numbers. Its ResNets are better "
            "pruned than before, since they had not been trained enough, it says: compare with the "
            "same batches without pruning.",
        )  # fmt: skip
        page.picture("fig7", lambda: drawn_bars(bars))
    for network in left_out:
        page.text(f"Without {network}, of which Keras has no ImageNet weights: give --weights "
                  f"imagenet {network}=FILE.")  # fmt: skip


# -- pictures --------------------------------------------------------------------------------------


def draw(options, page, network, looked, control, found):
    """Fig. 3 to 6 and 9 to 11."""
    layers, most = in_order(network, looked["layers"]), max(options.targets)
    sizes = [size for _, size, _ in layers]
    last = {name: in_order(network, found[name, most][0]["layers"]) for name in VARIANTS}
    curves = {f"Prune_{name}": curve(found[name, most], found[name, most]) for name in VARIANTS}
    same = {"no pruning, same batches": curve(control, found["fixed", most])}
    at = {one["how"]: shares_of(network, one["layers"]) for one in looked["cuts"]
          if one["target"] == FIG_10}  # fmt: skip
    label = "mean loss of a phase"
    pictures = {
        3: lambda: drawn_sizes(sizes),
        4: lambda: by_depth(
            {"mean magnitude": [mean for _, _, mean in layers]}, "mean |w| of the layer"),
        5: lambda: plots.loss({"Prune_fixed": curves["Prune_fixed"]} | same, ylabel=label),
        6: lambda: plots.loss(curves | same, ylabel=label),
        9: lambda: by_depth({
            f"sparsity at {most:g}, Prune_param": shares_of(network, last["param"]),
            "log of its parameters to the base of 10,000": [math.log(n, 10_000) for n in sizes],
        }, "of the layer"),
        # The paper does not say whether it trained: this is the cut alone.
        10: lambda: by_depth({
            f"one cut at {FIG_10:g}": at["depth"], "normalized": at["depth, normalized"],
        }, "sparsity of the layer"),
        11: lambda: by_depth(
            {f"Prune_{name}": shares_of(network, last[name]) for name in VARIANTS},
            f"sparsity of the layer at {most:g}"),
    }  # fmt: skip
    if 3 in options.figures:
        figure_3(page, network, sizes)
    for number, picture in pictures.items():
        if number in options.figures:
            page.picture(f"{network}-fig{number}", picture)


def figure_3(page, network, sizes):
    """Fig. 3 in numbers."""
    small = [size for size in sizes if size < SMALL]
    row = {
        "network": network, "layers": len(sizes), "below 100,000 (published)":
        SMALL_LAYERS.get(network), "below 100,000 (obtained)": len(small),
        "share of all parameters, %": 100 * sum(small) / sum(sizes),
    }  # fmt: skip
    page.table(f"Fig. 3, {network}: convolutions by their parameters", [row])
    if network == "inception_v3":
        page.text(
            "The paper says less than 10 % of all parameters. One more layer, of 98,304, is in "
            "the auxiliary classifier of TF-slim's InceptionV3, which Keras's does not have."
        )


def shares_of(network, rows):
    return [value for _, _, value in in_order(network, rows)]


def curve(runs, paced):
    """Points of losses against sparsity: one for each, from the phase after it was reached.

    Args:
        runs: whose losses.
        paced: whose sparsities.
    """
    shares = paced[0]["shares"]
    points = []
    for share_gone in dict.fromkeys(shares):
        phase = shares.index(share_gone)
        losses = Spread.of(run["losses"][phase] for run in runs)
        points.append((share_gone, losses.mean, losses.deviation))
    return points


def by_depth(lines, ylabel):
    """Something of each layer against its number."""
    figure, axes = figure_and_axes(8, 4.5)
    for (name, values), style in zip(lines.items(), ("-o", "--s", ":^"), strict=False):
        axes.plot(range(1, len(values) + 1), values, style, markersize=3, label=name)
    axes.set(xlabel="convolution", ylabel=ylabel)
    axes.set_ylim(bottom=0)
    if lines.keys() - {"mean magnitude"}:
        axes.legend(frameon=False)
    return figure


def drawn_sizes(sizes):
    """How many layers have how many parameters."""
    figure, axes = figure_and_axes(8, 4.5)
    axes.hist(sizes, bins=range(0, max(sizes) + SMALL + 1, SMALL) if max(sizes) > SMALL else 10)
    axes.set(xlabel="parameters of the layer", ylabel="layers")
    return figure


def drawn_bars(bars):
    """Accuracy of networks before and after."""
    figure, axes = figure_and_axes(8, 4.5)
    for shift, label in ((-0.2, "before"), (0.2, f"sparsity {FIG_7:g}")):
        values = [pair[shift > 0] for pair in bars.values()]
        axes.bar([i + shift for i in range(len(bars))], values, width=0.38, label=label)
    axes.set_xticks(range(len(bars)), list(bars))
    axes.set(ylabel="accuracy, %", ylim=(0, 100))
    axes.legend(frameon=False)
    return figure


# -- all of it -------------------------------------------------------------------------------------


def reproduce(options):
    check_phases(options)
    study = Study(options.out, options.workers, options.recipe)
    page = Page("Structure characteristic-aware pruning", study, options.command)
    page.text(
        "What was settled where the paper errs: it writes the change of the loss with the sign "
        "opposite to its text, which would spare layers while training improves, and begins its "
        "record at 0, which would always spare one at once; its bisection does not end where "
        "weights are equal. See docs/sparsity.md."
    )
    new = [name for name in options.networks if weights_of(options, name) is None]
    if new and options.model is None:
        page.text(
            f"**Accuracies mean nothing here: untrained are {', '.join(new)}.** For the paper's it "
            "takes ImageNet and its weights. This run shows that all of it works."
        )
    for network in options.networks:
        tables_3_4(options, study, page, network)
    if options.probes:
        for network in options.probe_networks:
            tables_1_2(options, study, page, network)
    if 7 in options.figures:
        figure_7(options, study, page)
    return page.write()


def main(arguments=None, prog=None):
    parser = command_parser("structure_aware", __doc__, prog)
    add = parser.add_argument
    add_data(parser)
    add("--size", type=positive, help="what images are resized to (299 for inception_v3, 224 for "
        "others that are made for ImageNet, what a --model takes)")  # fmt: skip
    add("--scaling", choices=("scale", "tf", "torch", "caffe"),
        help="see recipes.data (what ImageNet's weights of the network expect)")  # fmt: skip
    add("--augment", choices=("usual", "crop", "flip", "crop_flip", "zoom_flip"),
        help="what is done to training images (usual)")  # fmt: skip
    names = zoo.names()
    add("--networks", nargs="+", choices=names, metavar="NAME", help="of the zoo, for Tables III "
        "and IV and pictures (inception_v3 resnet50)")  # fmt: skip
    add("--probe-networks", nargs="+", choices=names, metavar="NAME",
        help="for Tables I and II (inception_v3 vgg16_imagenet)")  # fmt: skip
    add("--typical", nargs="+", choices=names, metavar="NAME",
        help="for Fig. 7 (googlenet resnet50 vgg16_imagenet)")  # fmt: skip
    add("--depth", type=positive, help="of the network cifar_resnet (20)")
    add("--weights", nargs="+", metavar="WHICH",
        help="imagenet, none, a file, or NETWORK=FILE (imagenet)")  # fmt: skip
    add("--model", type=pathlib.Path, metavar="FILE",
        help="a trained network as .keras whose outputs are logits, for all tables")  # fmt: skip
    add("--targets", type=share, nargs="+", help="sparsities (0.5 0.75)")
    add("--batches", type=positive, help="of training in each run (40,000)")
    add("--every", type=positive, help="batches between steps, the paper's τ (2,000)")
    add("--step", type=share, help="what goes at a time, the paper's Δs (0.05)")
    add("--rate", type=float, help="learning rate (0.001)")
    add("--zeta", type=float, help="of Prune_param: how much the loss may rise (0.02)")
    add("--eta", type=float, help="how high it may be (twice that without pruning, and ζ)")
    add("--probes", action=argparse.BooleanOptionalAction, default=True,
        help="whether to make Tables I and II")  # fmt: skip
    add("--probe-sparsity", type=share, help="of the layer (0.95)")
    add("--probe-step", type=share, help="what goes of it at a time (0.1)")
    add("--figures", type=int, nargs="*", choices=FIGURES, help="which (all)")
    options = parsed(parser, arguments, FULL, QUICK)
    if options.model is not None:
        options.networks = options.probe_networks = options.typical = [options.model.stem]
    with answering(options):
        return reproduce(options)


if __name__ == "__main__":
    main()
