"""Which ranking keeps the accuracy: networks × ways to choose × budgets × seeds.

    python benchmarks/accuracy.py run --data DIR
    python benchmarks/accuracy.py run --data DIR --networks resnet56 --ways energy energy+refit l2
    python benchmarks/accuracy.py table

DIR holds `cifar10_20k.npz` and `mnist.npz` (`x_train`, `y_train`, `x_test`, `y_test`, as bytes; of
CIFAR-10 at least 16,000 training images); two networks trained on the former,
`cifar10_resnet20.keras` and `cifar10_resnet56.keras`, whose inputs are normalised by ImageNet's
mean and deviation and whose outputs are logits; and `mobilenet_v1_0.25.weights.h5`, the weights of
`keras.applications.MobileNet(alpha=0.25, include_top=False)`.

The two ResNets are cut at once to half of their FLOPs and then trained for a budget: none, 100
batches of 128 images, 2 epochs or 10 of 16,000 images. The others are trained once, with
`IPLTCallback`: to half of their FLOPs (`half`; `once`: at once, after half of the epochs), as the
callback does by itself (`bare`), or to 70 % of their filters (`0.3`), which leave as many FLOPs as
the way makes it; or without it, and cut to half of their FLOPs when trained (`after`: three
quarters of the epochs, and the last quarter then at a fifth of the rate). What stands in one column
has seen as many batches.

Beside the ways to choose: `dense`, from which nothing is taken and which is trained the same; and
`scratch`, a network of the shape that `energy` leaves, trained from new weights for as long as the
whole training (the ResNets: for the budget, at five times the rate). Of the ResNets, `WAY+refit`
fits the weights that stay anew, to 1,024 images without labels, and `WAY+distilled` or
`WAY+refit+distilled` learn from the whole network, too, by `keras.distillation.Distiller`
(`+taught`: from nothing else); and
`blocks`, `blocks_greedy`, `blocks_scale` and `blocks_random` take residual branches instead of
filters, `blocks_energy` a quarter of the FLOPs in this way and then filters. Of the others,
`WAY+recalibrate` measures batch norms again when training ends.

Each run is a line of `--results` with all that it depends on; none is repeated while it is there.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import keras
import numpy as np
from keras import layers

import keras_iplt as iplt
from keras_iplt import criteria
from recipes import zoo
from recipes.common.spread import Spread
from recipes.zoo.vgg import VGG16

BATCH, TESTS = 128, 4000  # images at a time, and to test with
SEEN = 1024  # images that data-driven criteria and refits look at
BUDGETS = {"none": 0, "100-batches": 100, "2-epochs": 250, "10-epochs": 1250}  # batches
TRAININGS = {  # from the number of epochs: options of the callback; None: cut afterwards
    "half": lambda epochs: dict(target=0.5, of="flops"),
    "once": lambda epochs: dict(target={epochs // 2: 0.5}, of="flops"),
    "after": lambda epochs: None,
    "bare": lambda epochs: {},
    "0.3": lambda epochs: dict(target=0.3),
}


# -- ways to choose --


class Relative(criteria.Criterion):
    """The norm of a filter over that of the layer's mean."""

    def score(self, filters):
        norms = np.sqrt(filters.power_sums(2))
        return norms / max(norms.mean(), 1e-30)


class Fisher(criteria.Taylor):
    """The expected squared change of the loss without a channel, to first order."""

    def of_batch(self, filters, weights, slopes):
        return filters.dot(weights, slopes) ** 2


WAYS = {
    "scratch": lambda seed: criteria.Energy(),  # what it leaves is trained from new weights
    "energy": lambda seed: criteria.Energy(),
    "l2": lambda seed: criteria.L2(),
    "l2_sum": lambda seed: criteria.L2(reduce="sum"),
    "l2_layer": lambda seed: criteria.L2(),
    "relative": lambda seed: Relative("sum"),
    "lamp": lambda seed: criteria.LAMP(),
    "lamp_sum": lambda seed: criteria.LAMP(reduce="sum"),
    "fpgm": lambda seed: criteria.GeometricMedian(),
    "bn_scale": lambda seed: criteria.BatchNormScale(),
    "taylor": lambda seed: criteria.Taylor(),
    "taylor_sum": lambda seed: criteria.Taylor(reduce="sum"),
    "fisher": lambda seed: Fisher(reduce="sum"),
    "random": lambda seed: criteria.Random(seed),
}


def chosen(way, seed, x, y):
    """What `plan` is told."""
    name, *more = way.split("+")
    options = {"criterion": WAYS[name](seed), "scope": "layer" if "layer" in name else "global"}
    if options["criterion"].needs_data:
        options["data"] = [(x[i : i + 32], y[i : i + 32]) for i in range(0, SEEN, 32)]
    if "refit" in more:
        options["compensate"] = x[:SEEN]
    if "recalibrate" in more:
        options["recalibrate"] = x
    return options


# Ways to choose residual branches, and the share of the FLOPs that go with them.
DEPTH = {
    **dict.fromkeys(("blocks", "blocks_greedy", "blocks_scale", "blocks_random"), 0.5),
    "blocks_energy": 0.25,
}


@functools.cache
def branches(way, seed, name, folder):
    """Places of the residual branches that go, until that share of the FLOPs is gone: those without
    which the loss grows least, told for each by itself or after the others went; those with the
    smallest scales; or any."""
    network = NETWORKS[name]
    x, y, *_ = images(folder / network.file, *network.normal, network.images, TESTS)
    data = [(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, SEEN // 2, BATCH)]
    model = compiled(network.build(folder), network.rate, 0)
    graph, most, gone = iplt.trace(model), DEPTH[way] * iplt.profile(model).flops, []
    if way == "blocks_random":
        order = np.random.default_rng(seed).permutation(len(graph.branches))
        ranked = [graph.branches[place] for place in order]
    elif way != "blocks_greedy":
        ranked = [*iplt.branch_scores(graph, None if way == "blocks_scale" else data)]
    while True:
        if way == "blocks_greedy":
            ranked = [*iplt.branch_scores(graph, data, without=gone)]
        one = ranked.pop(0)
        if sum(branch.flops for branch in gone) + one.flops / 2 > most:
            return [branch.index for branch in gone]
        gone.append(one)


# -- data --


class Batches(keras.utils.PyDataset):
    """Batches of images in an order that the seed decides.

    Args:
        shift: by how many pixels images are shifted at most, and flipped by chance; 0: neither.
        number: how many batches an epoch has.
    """

    def __init__(self, x, y, seed, shift, number):
        super().__init__()
        self.x, self.y, self.shift, self.number = x, y, shift, number
        self.random, self.order = np.random.default_rng(seed), np.zeros(0, int)
        self.padded = np.pad(x, ((0, 0), (shift, shift), (shift, shift), (0, 0)))

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        if len(self.order) < BATCH:
            self.order = self.random.permutation(len(self.x))
        picked, self.order = self.order[:BATCH], self.order[BATCH:]
        batch = self.x[picked]
        height, width = batch.shape[1:3]
        for place, image in enumerate(picked if self.shift else ()):
            top, left = self.random.integers(2 * self.shift + 1, size=2)
            part = self.padded[image, top : top + height, left : left + width]
            batch[place] = part[:, ::-1] if self.random.random() < 0.5 else part
        return batch, self.y[picked]


def as_dataset(x, y, seed):
    """The same as TensorFlow's own, its batches in memory."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed).batch(BATCH)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@functools.lru_cache(maxsize=1)
def images(path, mean, deviation, number, tests):
    """Some images for training, their classes, some for testing, and theirs."""
    mean, deviation = np.array([mean, deviation], np.float32)
    found = []
    with np.load(path) as file:
        for part, count in (("train", number), ("test", tests)):
            x, y = file[f"x_{part}"][:count], file[f"y_{part}"][:count]
            x = x.reshape(*x.shape[:3], len(mean)) / np.float32(255)
            found += [(x - mean) / deviation, y.astype(int)]
    return found


# -- networks --


def mnist_cnn(folder):
    return keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dense(10),
    ])  # fmt: skip


def convnet(folder, more=False):
    """That of keras.io's introduction to images; or with batch norms and augmentation, too."""
    shifted = [layers.RandomTranslation(0.1, 0.1), layers.RandomRotation(0.05)] if more else []
    found = keras.Sequential([keras.Input((28, 28, 1)), *shifted])
    for filters in (32, 64):
        found.add(layers.Conv2D(filters, 3, use_bias=not more))
        if more:
            found.add(layers.BatchNormalization())
        found.add(layers.ReLU())
        found.add(layers.MaxPooling2D())
    for layer in (layers.Flatten(), layers.Dropout(0.5), layers.Dense(10)):
        found.add(layer)
    return found


def mobilenet(folder):
    image = keras.Input((32, 32, 3))
    x = layers.UpSampling2D(3, interpolation="bilinear")(image)
    body = keras.applications.MobileNet(
        input_shape=(96, 96, 3), alpha=0.25, include_top=False, weights=None, input_tensor=x
    )
    body.load_weights(folder / "mobilenet_v1_0.25.weights.h5")
    x = layers.GlobalAveragePooling2D()(body.output)
    return keras.Model(image, layers.Dense(10)(x))


def vgg(part, folder):
    return zoo.vgg16(filters=[n // part for n in VGG16], l2=2.5e-4)


def resnet(name, folder):
    return keras.models.load_model(folder / f"cifar10_{name}.keras", compile=False)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and its training: so many epochs of so many images, by SGD at a rate that falls as
    a cosine does; or by Adam, if there is no rate. No epochs: it has been trained already."""

    build: object
    epochs: int
    images: int
    rate: float | None
    file: str = "cifar10_20k.npz"
    normal: tuple = IMAGENET
    shift: int = 4
    weighted: bool = False  # by class, and from a `tf.data.Dataset`


MNIST = dict(file="mnist.npz", normal=((0,), (1,)), shift=0)
NETWORKS = {
    "resnet20": Network(functools.partial(resnet, "resnet20"), 0, 16000, 0.02),
    "resnet56": Network(functools.partial(resnet, "resnet56"), 0, 16000, 0.02),
    "vgg8": Network(functools.partial(vgg, 8), 16, 8000, 0.05),
    "vgg4": Network(functools.partial(vgg, 4), 60, 16000, 0.05),
    "mnist": Network(mnist_cnn, 14, 5000, None, **MNIST),
    "convnet": Network(convnet, 15, 5000, None, **MNIST),
    "convnet_more": Network(
        functools.partial(convnet, more=True), 15, 5000, None, **MNIST, weighted=True
    ),
    "mobilenet": Network(mobilenet, 8, 8000, 0.02, normal=((0.5,) * 3,) * 2),
}


# -- a run --


def compiled(model, rate, batches):
    optimizer = "adam"
    if rate is not None:
        decay = keras.optimizers.schedules.CosineDecay(rate, max(1, batches))
        optimizer = keras.optimizers.SGD(decay, momentum=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    return model


# Ways to learn from the whole network: the weight of the labels beside it.
LABELS = {"distilled": 0.5, "taught": 0.0}


def distiller(teacher, student, labels):
    """What trains a student by labels, in so far, and else by what its teacher says."""
    loss = keras.distillation.LogitsDistillation(3.0, keras.losses.KLDivergence())
    return keras.distillation.Distiller(teacher, student, loss, student_loss_weight=labels)


def run(settings, folder):
    """What comes of these settings."""
    name, way, budget, seed = (settings[k] for k in ("network", "way", "budget", "seed"))
    network, rate = NETWORKS[name], settings["rate"]
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    x, y, *tests = images(folder / network.file, *network.normal, network.images, TESTS)
    cpu = time.process_time()
    model = compiled(network.build(folder), rate, 0)
    whole = iplt.profile(model)
    epochs, number = network.epochs or 1, BUDGETS.get(budget, len(x) // BATCH)

    def fit(model, rate, callbacks=(), epochs=epochs):
        compiled(model, rate, epochs * number)
        data, weights = Batches(x, y, seed, network.shift, number), None
        if network.weighted:
            data = as_dataset(x, y, seed)
            weights = dict(enumerate(len(y) / (10 * np.bincount(y))))
        model.fit(data, epochs=epochs, callbacks=callbacks, class_weight=weights, verbose=0)

    options = {} if way in ("dense", *DEPTH) else chosen(way, seed, x, y)
    training = TRAININGS.get(budget, lambda epochs: None)(epochs)
    if network.epochs and training is None:
        fit(model, rate, epochs=epochs - epochs // 4)
        model = iplt.prune(model, 0.5, of="flops", **options) if options else model
        fit(model, rate and rate / 5, epochs=epochs // 4)
    elif network.epochs:
        ours = [iplt.IPLTCallback(**training, **options, verbose=0)]
        fit(model, rate, ours if options else ())
        if way == "scratch":
            model = keras.models.clone_model(model)
            fit(model, rate)
    else:
        if way in DEPTH:
            drawn = seed if way == "blocks_random" else None
            rest = dict(ratio=0.5, of="flops") if way == "blocks_energy" else {}
            model = iplt.prune(model, branches=branches(way, drawn, name, folder), **rest)
        model = iplt.prune(model, 0.5, of="flops", **options) if options else model
        if way == "scratch":
            model, rate = keras.models.clone_model(model), 5 * rate
        if number:
            labels = LABELS.get(way.rpartition("+")[2])
            whole_too = labels is not None
            fit(distiller(network.build(folder), model, labels) if whole_too else model, rate)
    left = iplt.profile(model)
    return {
        "accuracy": 100 * compiled(model, rate, 0).evaluate(*tests, batch_size=500, verbose=0)[1],
        "macs": left.macs / whole.macs,
        "params": left.params / whole.params,
        "widths": [group.size for group in iplt.trace(model).groups],
        "cpu": time.process_time() - cpu,
    }


# -- all of them --


def wanted(options):
    """What each run depends on, in the order in which they are made."""
    for seed, name in itertools.product(options.seeds, options.networks):
        network = NETWORKS[name]
        fitting = TRAININGS if network.epochs else BUDGETS
        budgets = [b for b in fitting if b in (options.budgets or fitting)]
        for budget, way in itertools.product(budgets, options.ways):
            if budget == "none" and "random" not in way and seed != options.seeds[0]:
                continue  # nothing depends on the seed
            yield {
                "network": name, "way": way, "budget": budget, "seed": seed,
                "epochs": network.epochs, "images": network.images, "tests": TESTS, "batch": BATCH,
                "rate": network.rate if options.rate is None else options.rate,
                "shift": network.shift, "seen": SEEN, "version": iplt.__version__,
                "backend": keras.backend.backend(),
            }  # fmt: skip


def remembered(path, settings):
    """The run that a file holds of these settings, or None."""
    lines = path.read_text().splitlines() if path.exists() else []
    return next((row for row in map(json.loads, lines) if settings.items() <= row.items()), None)


def run_all(options):
    for settings in wanted(options):
        if remembered(options.results, settings) is None:
            row = settings | run(settings, options.data)
            with options.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(*[*settings.values()][:4], f"{row['accuracy']:.2f}", sep="  ", flush=True)


def cell(values):
    """Mean ± standard deviation, and of how many seeds."""
    return f"{Spread.of(values)} ({len(values)})" if values else ""


def table(options):
    """A table per network; whatever keeps most with the largest budget stands first."""
    rows = [remembered(options.results, settings) for settings in wanted(options)]
    for name in options.networks:
        budgets, lines = [*(TRAININGS if NETWORKS[name].epochs else BUDGETS)], []
        for way in options.ways:
            some = [row for row in rows if row and (row["network"], row["way"]) == (name, way)]
            values = [[row["accuracy"] for row in some if row["budget"] == b] for b in budgets]
            sizes = [{f"{row[what]:.2f}" for row in some} for what in ("macs", "params")]
            left = [", ".join(sorted(each)) for each in sizes]
            order = [float(np.mean(v or [0])) for v in reversed(values)]
            if some:
                lines.append((order, f"| {' | '.join([way, *left, *map(cell, values)])} |"))
        print(f"\n{name}\n\n| way | MACs left | parameters left | {' | '.join(budgets)} |")
        print("|---" * (3 + len(budgets)) + "|")
        print(*(line for _, line in sorted(lines, reverse=True)), sep="\n")


def main():
    taught = (f"{refit}+{how}" for refit in ("", "+refit") for how in LABELS)
    more = ("", "+refit", *taught, "+recalibrate")
    ways = ["dense", *DEPTH, *(way + one for one in more for way in WAYS)]
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--data", type=pathlib.Path, help="the folder DIR; needed to run")
    parser.add_argument("--results", type=pathlib.Path, default=pathlib.Path("accuracy.jsonl"))
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS], choices=NETWORKS)
    parser.add_argument("--ways", nargs="+", default=["dense", *WAYS], choices=ways, metavar="WAY")
    parser.add_argument("--budgets", nargs="+", choices=[*BUDGETS, *TRAININGS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rate", type=float, help="of learning, if not the network's own")
    options = parser.parse_args()
    if options.what == "run" and options.data is None:
        parser.error("run expects --data DIR")
    {"run": run_all, "table": table}[options.what](options)


if __name__ == "__main__":
    main()
