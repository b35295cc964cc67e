"""How sparse each layer should be: what is run.

A network is trained by one of the paper's rules, or with one layer that is probed, or as a control
that loses nothing; and it is cut once, without any training.
"""

import argparse
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

import keras_iplt as iplt
from keras_iplt.errors import OptionError

from ..common.command import NETWORKS, data_settings
from ..common.grid import Case
from ..common.spread import Runs
from ..common.training import Workbench, at_workbench

VARIANTS = ("fixed", "param", "depth")
FIG_7 = 0.5  # the sparsity of Fig. 7
FIG_8 = 0.5  # and of Fig. 8
FIG_10 = 0.6  # and of Fig. 10
# What ImageNet's weights, and TF-slim's of GoogLeNet, expect.
SCALING = {
    "inception_v3": "tf", "googlenet": "tf", "mobilenet": "tf", "densenet121": "torch",
    "resnet50": "caffe", "vgg16_imagenet": "caffe", "vgg16_hubens": "caffe",
}  # fmt: skip
SIZES = dict.fromkeys(SCALING, 224) | {"inception_v3": 299}

Found = dict[tuple[str, float], Runs]  # of a variant and a sparsity: a result per seed
Layers = list[list[Any]]  # the name of each layer, the number of its weights, and a figure of it


@at_workbench
def retrain(
    bench: Workbench, method: str, phases: int, every: int, rate: float,
    target: float = 0.0, step: float = 0.1, layer: str | None = None, zeta: float = 0.0,
    eta: float | None = None, **start: Any,
) -> dict[str, Any]:  # fmt: skip
    """Trains a network while it is pruned: what it can then, the loss of every phase, its layers.

    Args:
        method: "control", "fixed", "param", "depth" or "probe".
        phases, every: how many phases of how many batches.
        rate: the learning rate.
        target, step: the sparsity in the end, and what goes after each phase.
        layer: the name of the one that is probed.
        zeta, eta: the numbers of Prune_param.
        **start: the network, see `begun`.
    """
    model, bench = begun(bench, **start)
    bench.compile(model, keras.optimizers.SGD(rate, momentum=0.9))
    before = tested(model, bench) if method == "control" else None
    allocation = iplt.sparsity.allocation
    rules: dict[str, Callable[[], Any]] = {
        "fixed": allocation.Fixed, "depth": allocation.Depth, "probe": allocation.Uniform,
        "param": lambda: allocation.Param(zeta, eta),
    }  # fmt: skip
    how, callbacks = None, []
    if method != "control":
        how, place = rules[method](), bench.place.backup
        callbacks = [
            iplt.SparsityCallback(
                target, step, every=1, allocation=how, layers=layer, backup_dir=place, verbose=0
            )
        ]
    trained = bench.fit(model, phases, callbacks, every=every)
    table = iplt.sparsity.measure(model, convolutions_only=True)
    accuracy, loss = tested(model, bench)
    return {
        "accuracy": accuracy, "loss": loss, "before": before,
        "losses": trained.history["loss"],
        "accuracies": [100 * value for value in trained.history["accuracy"]],
        "shares": trained.history.get("sparsity", [0.0] * phases),
        "sparsity": table.sparsity, "layers": layers_of(table),
        "frozen": [table.layers[i].name for i in getattr(how, "frozen", ())],
        "seconds": trained.seconds, "cpu": trained.cpu,
    }  # fmt: skip


@at_workbench
def cut(bench: Workbench, targets: Sequence[float], **start: Any) -> dict[str, Any]:
    """What one cut does to a network, without any training, and what its layers are like."""
    model, bench = begun(bench, **start)
    bench.compile(model, "sgd")
    looking, prune = Looking(), iplt.sparsity.prune_weights
    prune(model, 0, looking)
    whole, found = model.get_weights(), []
    before = tested(model, bench)
    allocation = iplt.sparsity.allocation
    for name, how in {
        "fixed": allocation.Fixed(), "depth": allocation.Depth(),
        "depth, normalized": allocation.Depth(normalize=True),
    }.items():  # fmt: skip
        for target in targets:
            model.set_weights(whole)
            layers = layers_of(prune(model, target, how))
            accuracy, _ = tested(model, bench)
            found.append({"how": name, "target": target, "accuracy": accuracy, "layers": layers})
    return {"before": before, "layers": looking.layers, "cuts": found}


def begun(
    bench: Workbench, network: str, file: str | None, weights: str | None, shape: dict[str, Any]
) -> tuple[keras.Model, Workbench]:
    """The network to begin with, and the workbench with images as large as it takes.

    Args:
        network, weights, shape: the network of the zoo, what it begins with, and its options.
        file: a `.keras` file instead.
    """
    if file is None:
        return bench.build(network, shape, weights), bench
    model = keras.models.load_model(file, compile=False)
    size, source = model.input_shape[1:3], bench.source
    if source["size"] is None and None not in size:
        bench = dataclasses.replace(bench, source={**source, "size": size})
    if model.output_shape[-1] != len(bench.data.classes):
        raise OptionError(
            f"--model: expected a network of the {len(bench.data.classes)} classes of "
            f"{source['source']}, received one of {model.output_shape[-1]}: {file}"
        )
    return model, bench


def tested(model: keras.Model, bench: Workbench) -> tuple[float, float]:
    """Accuracy in percent, and the mean loss, of the test examples."""
    result = model.evaluate(bench.data.test, verbose=0, return_dict=True)
    return 100 * float(result["accuracy"]), float(result["loss"])


def layers_of(table: Any) -> Layers:
    """Name, number of weights and sparsity of each layer."""
    return [[row.name, row.weights, row.sparsity] for row in table.layers]


class Looking(iplt.sparsity.allocation.Allocation):
    """Prunes nothing: an allocation is shown all weights that can be pruned, whatever the layers.

    Attributes:
        layers: the name, the number of weights and their mean magnitude, of each.
    """

    convolutions_only = True

    def __init__(self) -> None:
        self.layers: list[Any] = []

    def zeros(self, pool: Any, sparsity: float, gone: Any) -> Any:
        """None; what there is is noted down."""
        self.layers = [[one.path, one.size, float(one.magnitudes().mean())] for one in pool]
        return [0] * len(pool)


def cuts(options: argparse.Namespace, network: str) -> Case:
    """The cuts of a network, which is looked at for its layers too."""
    wanted = sorted({0.3, FIG_10, *options.targets})
    return Case(f"{network}/cuts", cut, {**setting(options, network), "targets": wanted}, once=True)


def variant(options: argparse.Namespace, network: str, name: str, target: float) -> Case:
    """One of the paper's rules, to a sparsity."""
    own = {"zeta": options.zeta, "eta": options.eta} if name == "param" else {}
    own |= {"target": target, "step": options.step}
    return retraining(options, network, f"{name}-{target:g}", name, **own)


def control(options: argparse.Namespace, network: str) -> Case:
    """As many batches without pruning."""
    return retraining(options, network, "control", "control")


def probe(options: argparse.Namespace, network: str, layer: str) -> Case:
    """Most of a single layer."""
    return retraining(
        options, network, f"probe-{layer.replace('/', '-')}", "probe", layer=layer,
        target=options.probe_sparsity, step=options.probe_step,
    )  # fmt: skip


def retraining(
    options: argparse.Namespace, network: str, name: str, method: str, **own: Any
) -> Case:
    """A case of `retrain`, with further settings of its own."""
    course = {"phases": phases(options), "every": options.every, "rate": options.rate}
    told = {**setting(options, network), **course, "method": method, **own}
    return Case(f"{network}/{name}", retrain, told)


def setting(options: argparse.Namespace, network: str) -> dict[str, Any]:
    """What all runs of a network are told."""
    file = None if options.model is None else str(options.model)
    deep = network == "cifar_resnet" and options.depth is not None
    return {
        **data_settings(options), "augment": options.augment,
        "size": options.size or (SIZES.get(network) if file is None else None),
        "scaling": options.scaling or SCALING.get(network, "scale"),
        "network": network, "file": file, "weights": weights_of(options, network),
        "shape": {"depth": options.depth} if deep else {},
    }  # fmt: skip


def weights_of(options: argparse.Namespace, network: str) -> str | None:
    """What a network begins with.

    Of words like "imagenet", "none", FILE and NETWORK=FILE it is the one that names the network, or
    else the one that is for all.
    """
    if options.model is not None:
        return None
    own, general = {}, None
    for word in options.weights:
        name, equals, file = word.partition("=")
        if equals and name in NETWORKS:
            own[name] = file
        else:
            general = word
    found = own.get(network, general)
    return None if found == "none" else found


def started(options: argparse.Namespace, network: str) -> str:
    """How it began, in words."""
    weights = weights_of(options, network)
    if options.model is not None:
        return f"`{network}` from {options.model}"
    return f"`{network}` {'anew, untrained' if weights is None else f'with weights {weights}'}"


def phases(options: argparse.Namespace) -> int:
    """How many phases of training there are."""
    return -(-options.batches // options.every)


def check_phases(options: argparse.Namespace) -> None:
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
    steps = math.ceil(FIG_8 / options.step - 1e-9)
    if 8 in options.figures and options.model is None and steps >= options.prune_epochs:
        raise OptionError(
            f"--figures 8: expected more epochs than the {steps} steps of {options.step:g} to "
            f"{FIG_8:g}, received: --prune-epochs {options.prune_epochs}"
        )


def in_order(network: str, rows: Layers) -> Layers:
    """Rows of layers as the paper numbers them.

    They follow the data, but InceptionV3's their names, branch after branch.
    """
    return sorted(rows) if network == "inception_v3" else rows
