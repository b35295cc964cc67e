"""Wrong calls: what is wrong is said by name before anything is done, and nothing overlooked."""

import contextlib
import functools
import importlib
import inspect
import json
import math
import pathlib

import keras
import numpy as np
import pytest

import keras_iplt as iplt
from keras_iplt import baselines, criteria, schedules, sparsity
from keras_iplt.layers import Scatter
from keras_iplt.support.arguments import Count, Data, Share, checked, expect, kinds_of

pytestmark = [pytest.mark.quick, pytest.mark.any_backend]

layers = keras.layers


def network():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(), layers.Dense(5, "relu", name="hidden"),
            layers.Dense(3, name="head"),
        ],
        name="victim",
    )  # fmt: skip
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


X, Y = np.ones((4, 6, 6, 2), "float32"), np.array([0, 1, 2, 0])


@functools.cache
def spare():
    """A model for tests in which nothing of it can change."""
    return network()


@functools.cache
def small_plan():
    return iplt.plan(spare(), 0.3)


def objects():
    return np.array([object(), object()])


def raising(*args):
    raise ZeroDivisionError("of the user")


class Wrong(schedules.Schedule):
    """Says what it is told to."""

    target, end = 0.5, 3

    def __init__(self, says):
        self.says = says

    def __call__(self, epoch, step=None):
        return self.says() if callable(self.says) else self.says


class Priced:
    """A measure that says what it is told to."""

    name = "priced"

    def __init__(self, says):
        self.says = says

    def cost(self, graph, gone=None):
        return self.says() if callable(self.says) else self.says


def plan_with(**entries):
    return iplt.Plan.from_json(json.dumps({**json.loads(small_plan().to_json()), **entries}))


def fitted(callback, **fit):
    network().fit(X, Y, epochs=3, verbose=0, callbacks=[callback], **fit)


# What is called, and words of the error.
WRONG = {
    # foreign exceptions
    "of=array": (lambda: iplt.plan(spare(), of=objects()), "of: expected a measure"),
    "round_to=array": (lambda: iplt.plan(spare(), round_to=objects()), "round_to: expected"),
    "scope=array": (lambda: iplt.plan(spare(), scope=objects()), "scope: expected 'global'"),
    "key=None": (lambda: iplt.plan_channels(spare(), {None: [0]}), "received: None"),
    "also=3": (lambda: iplt.shrink(network(), small_plan(), also=3), "also: expected a keras.Mode"),
    "graph=3": (lambda: criteria.scores(3), "graph: expected a keras_iplt.Graph, as keras_iplt.tr"),
    "groups=3": (lambda: criteria.scores(iplt.trace(spare()), groups=3), "groups: expected severa"),
    "backup_dir=3": (lambda: iplt.IPLTCallback(backup_dir=3), "backup_dir: expected a directory"),
    "backup_dir=nul": (lambda: iplt.SparsityCallback(backup_dir="a\0"), "backup_dir: expected a d"),
    "policy=3": (
        lambda: sparsity.prune_low_magnitude(spare(), pruning_policy=3),
        "pruning_policy: expected a keras_iplt.PruningPolicy or None, received: 3",
    ),
    "sparsity=text": (lambda: sparsity.ConstantSparsity("x", 0), "target_sparsity: expected a num"),
    "sparsity=nan": (lambda: sparsity.PolynomialDecay(0.0, math.nan, 0, 9), "final_sparsity: expe"),
    "frequency=1.5": (
        lambda: sparsity.ConstantSparsity(0.5, 0, frequency=1.5), "frequency: expected an integer",
    ),
    "epoch=text": (lambda: schedules.Incremental(0.5)("x"), "epoch: expected an integer from 0"),
    "step=text": (lambda: schedules.OneShot(0.5, 1)(2, "x"), "step: expected an integer from 0"),
    "config={None: …}": (lambda: schedules.Ratios.from_config({None: 1}), "config: expected"),
    "axis=9": (lambda: Scatter(4, axis=9)(np.ones((2, 4))), "axis: expected one of 2"),
    "taylor, labels": (
        lambda: iplt.plan(spare(), criterion="taylor", data=(X, objects().repeat(2))),
        "data: the labels: expected numbers",
    ),
    "taylor, text": (
        lambda: iplt.plan(spare(), criterion="taylor", data=(X, np.array(list("abcd")))), "expecte",
    ),
    "apoz, objects": (
        lambda: iplt.plan(spare(), criterion="apoz", data=objects()), "expected numbers",
    ),
    "ragged": (
        lambda: iplt.plan(spare(), criterion="apoz", data=[[[1], [2, 3]]]), "data: ",
    ),
    "criterion raises": (
        lambda: iplt.plan(spare(), criterion=raising),
        "criterion 'raising' on layer 'conv' raised ZeroDivisionError: of the user",
    ),
    "criterion: text": (
        lambda: iplt.plan(spare(), criterion=lambda weights: "x"),
        "on layer 'conv': expected an array of real numbers",
    ),
    "schedule raises": (
        lambda: fitted(iplt.IPLTCallback(Wrong(raising))), "raised ZeroDivisionError: of the user",
    ),
    "schedule: text": (lambda: Wrong("x")(0), "at epoch 0: expected a number in [0, 1), received"),
    "schedule: nan": (lambda: Wrong(math.nan)(0), "at epoch 0: expected a number in [0, 1)"),
    "cost raises": (
        lambda: iplt.plan(spare(), of=Priced(raising)), "raised ZeroDivisionError: of the user",
    ),
    "cost: text": (lambda: iplt.plan(spare(), of=Priced("x")), "its cost: expected a number"),
    "plan: variables": (lambda: plan_with(variables=["x", 3]), "expected the JSON text of a keras"),
    "plan: infinity": (lambda: plan_with(ppr=math.inf), "expected the JSON text of a keras_iplt"),
    "guided, no train": (lambda: iplt.prune_guided(spare(), None, (X, Y)), "train: expected x, (x"),
    "guided, layers=3": (
        lambda: iplt.prune_guided(spare(), (X, Y), (X, Y), layers=3), "layers: expected names of l",
    ),
    "guided, other images": (
        lambda: iplt.prune_guided(spare(), (X, Y), (X[:, 1:], Y)), "data: input",
    ),
    "guided, labels": (lambda: iplt.prune_guided(spare(), (X, Y), X), "validation: evaluate raise"),
    "logs=3": (lambda: iplt.Guard("loss").update(3), "logs: expected a mapping of a str to a numb"),
    "memory=text": (lambda: iplt.recalibrate(network(), X, "x"), "memory: expected a positive num"),
    "monitor=array": (lambda: iplt.Guard(action=objects()), "action: expected one of 'hold'"),
    "drop=text": (lambda: sensitivity().per_layer(drop="x"), "drop: expected a number that is not"),
    "metric=[]": (lambda: sensitivity().ranking(metric=[]), "metric: expected a str or None"),
    "plain=3": (
        lambda: iplt.Sensitivity.from_plain(3), "expected the JSON text of a sensitivity analysis",
    ),
    "result=3": (lambda: iplt.plots.smallest(3), "expected a keras_iplt.Smallest, as keras_iplt.s"),
    # silence
    "trace, approximate": (lambda: iplt.trace(spare(), approximate="x"), "approximate: expected a"),
    "plan, approximate": (lambda: iplt.plan(spare(), approximate="x"), "approximate: expected a b"),
    "wait": (lambda: iplt.IPLTCallback(wait="x"), "received: 'wait'"),
    "soft": (lambda: iplt.SparsityCallback(soft_epochs=3), "received: 'soft_epochs'"),
    "verbose": (lambda: iplt.IPLTCallback(verbose="x"), "verbose: expected one of 0, 1 or 2"),
    "soft_epochs=-1": (
        lambda: iplt.IPLTCallback(mode="soft", soft_epochs=-1), "soft_epochs: expected a positive",
    ),
    "soft_epochs=0": (
        lambda: iplt.IPLTCallback(mode="soft", soft_epochs=0), "soft_epochs: expected a positive i",
    ),
    "backup_dir=''": (lambda: iplt.IPLTCallback(backup_dir=""), "backup_dir: expected a directory"),
    "compensate": (lambda: iplt.IPLTCallback(compensate="x"), "compensate: expected x, (x, y)"),
    "data unused": (lambda: iplt.plan(spare(), criterion="l2", data="x"), "data: expected x, (x,"),
    "ignore={…}": (lambda: iplt.plan(spare(), ignore={"conv": math.nan}), "ignore: expected layer"),
    "scores: complex": (
        lambda: iplt.plan(spare(), criterion=lambda weights: weights.sum(1) + 1j),
        "expected an array of real numbers",
    ),
    "iterator at its end": (
        lambda: iplt.plan(spare(), criterion="apoz", data=iter([])), "at least one batch",
    ),
    "plan: options": (lambda: plan_with(options=[]), "expected the JSON text of a keras_iplt"),
    "fpr=nan": (lambda: plan_with(fpr=math.nan), "expected the JSON text of a keras_iplt plan"),
    "guided, layers=[]": (
        lambda: iplt.prune_guided(spare(), (X, Y), (X, Y), layers=[]), "layers: expected names of",
    ),
    "guided, no images": (
        lambda: iplt.prune_guided(spare(), (X[:0], Y[:0]), (X, Y)), "train: expected x, (x, y)",
    ),
    "guided, path": (
        lambda: iplt.prune_guided(spare(), (X, Y), (X, Y), path="x.h5"), "path that ends with .ker",
    ),
    "keyword": (lambda: sparsity.prune_low_magnitude(spare(), rubbish=3), "received: 'rubbish'"),
    "4 by 2": (
        lambda: sparsity.prune_low_magnitude(spare(), sparsity_m_by_n=(4, 2)), "m less than n",
    ),
    "no m by n": (
        lambda: sparsity.PruneLowMagnitude(layers.Dense(2), sparsity_m_by_n=()), "m less than n",
    ),
    "lower": (lambda: sparsity.PolynomialDecay(0.5, 0.2, 0, 9), "at least initial_sparsity=0.5"),
    "power": (lambda: sparsity.PolynomialDecay(0.0, 0.5, 0, 9, "x"), "power: expected a positive"),
    "epoch=-3": (lambda: schedules.Incremental(0.5)(-3), "epoch: expected an integer from 0"),
    "epoch=nan": (lambda: schedules.Exponential(0.5, 0, 9)(math.nan), "epoch: expected an integer"),
    "convolutions_only": (
        lambda: sparsity.measure(spare(), convolutions_only="x"), "convolutions_only: expected a b",
    ),
    "mean": (lambda: criteria.L1(mean="x"), "mean: expected a bool"),
    "keep_zeros": (lambda: iplt.SparsityCallback(keep_zeros="x"), "keep_zeros: expected a bool"),
    "resize": (lambda: iplt.register_rule(layers.Layer, raising, resize=3), "resize: expected a f"),
    "remove_dead": (lambda: sparsity.remove_dead(spare(), 3), "data: expected x, (x, y)"),
    "memory=-1": (lambda: iplt.recalibrate(network(), X, -1), "memory: expected a positive number"),
}  # fmt: skip


@functools.cache
def sensitivity():
    return iplt.Sensitivity(
        "net", "loss", ("conv",), (4,), (0.5,), np.array([[2]]), {"loss": 1.0},
        {"loss": np.array([[2.0]])},
    )  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused(case, monkeypatch, tmp_path):
    """By an error of this library that says what was expected; the model stays as it was."""
    call, words = WRONG[case]
    monkeypatch.chdir(tmp_path)  # nothing is written, either
    if "plots" in call.__code__.co_names:
        pytest.importorskip("matplotlib")
    before = [w.tobytes() for w in spare().get_weights()]
    with pytest.raises(iplt.PruningError) as caught:
        call()
    assert words in str(caught.value)
    if "of the user" in words:
        assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert [w.tobytes() for w in spare().get_weights()] == before
    assert not any(pathlib.Path().iterdir())


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(iplt.PruningError, match=r"model: expected .*; plan: expected .*"):
        iplt.mask(3, "x")


def test_iterators_are_as_good_as_lists():
    """What is gone through twice inside is not empty the second time."""
    plan = iplt.plan_channels(spare(), {"conv": (i for i in (0, 2))})
    assert plan.removed[0] == (0, 2) and plan.options["channels"] == {"conv": [0, 2]}
    lazy = iter([X])
    found = iplt.plan(spare(), 0.5, criterion="apoz", data=lazy)
    assert found.removed == iplt.plan(spare(), 0.5, criterion="apoz", data=[X]).removed


def test_a_callback_does_nothing_where_nothing_is_trained():
    for callback in (iplt.IPLTCallback(), iplt.SparsityCallback(), baselines.soft(0.5)):
        model = network()
        before = model.get_weights()
        model.evaluate(X, Y, verbose=0, callbacks=[callback])
        model.predict(X, verbose=0, callbacks=[callback])
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


# -- the mechanism ---------------------------------------------------------------------------------

FITS = [
    (float, 3), (float, np.float32(2)), (float, math.nan), (int, np.int64(2)), (bool, np.bool_(1)),
    (str | None, None), (Share, 0), (Count, 1), (list[int], [1]), (tuple[int, ...], [1, 2]),
    (dict[str, int], {"a": 1}), (type[keras.Layer], layers.Dense), (Data, X), (Data, (X, Y)),
    (Data, {"x": X}), (Data, [X, X]),
]  # fmt: skip
FAILS = [
    (float, True), (float, "3"), (float, 1j), (int, True), (int, 1.0), (int, math.nan), (bool, 1),
    (bool, objects()), (str, b"x"), (str | None, 3), (Share, 1), (Share, math.nan), (Count, 0),
    (list[int], "ab"), (list[int], [1, None]), (tuple[int, int], (1, 2, 3)), (tuple[int, int], 3),
    (dict[str, int], {None: 1}), (dict[str, int], {"a": "b"}), (dict[str, int], [("a", 1)]),
    (type[keras.Layer], int), (type[keras.Layer], 3), (Data, None), (Data, "x"), (Data, 3),
    (Data, []), (Data, (X[:0], Y[:0])), (Data, {}), (Data, object()), (Data, iter([])),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(FITS)))
def test_what_fits_is_passed_on(case):
    kind, value = FITS[case]
    found = expect("it", kind, value)
    assert found is value or list(np.ravel(found)) == list(np.ravel(value))


@pytest.mark.parametrize("case", range(len(FAILS)))
def test_what_does_not_fit_is_refused(case):
    kind, value = FAILS[case]
    with pytest.raises(iplt.PruningError, match=r"^it: expected .*, received: "):
        expect("it", kind, value)


def test_a_value_that_cannot_be_shown_is_named_by_its_type():
    class Shy:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(iplt.errors.OptionError, match="received: an object of type Shy"):
        expect("it", int, Shy())
    with pytest.raises(iplt.errors.OptionError) as caught:
        expect("it", int, "x" * 10_000)
    assert len(str(caught.value)) < 400


def public():
    """Whatever somebody can call, by name."""
    modules = """keras_iplt keras_iplt.baselines keras_iplt.criteria keras_iplt.exporting
        keras_iplt.graph.rules keras_iplt.layers keras_iplt.plots keras_iplt.schedules
        keras_iplt.sparsity keras_iplt.sparsity.allocation keras_iplt.sparsity.patterns
        keras_iplt.clustering keras_iplt.quantization keras_iplt.quantization.quantizers"""
    for name in modules.split():
        module = importlib.import_module(name)
        for each in module.__all__:
            yield f"{name}.{each}", getattr(module, each)


# Made by the library, or bases whose arguments are a subclass's.
MADE = "Frozen Graph Group Guided Smallest Comparison LatencyTable Profile Export Filters".split()
MADE += "Branch Sparsity CompressedSize QuantizationErrors Layout is_in_steps supported".split()


def test_every_public_call_reads_its_arguments():
    """By the one mechanism; whatever is new does so, too."""
    mark = checked(lambda: None).__code__
    careless = []
    for name, thing in public():
        is_class = inspect.isclass(thing)
        if not (is_class or inspect.isfunction(thing)) or name.rpartition(".")[2] in MADE:
            continue
        if is_class and (issubclass(thing, Exception) or "__init__" not in vars(thing)):
            continue
        function = thing.__init__ if is_class else thing
        parameters = [p for p in inspect.signature(function).parameters if p != "self"]
        if parameters and getattr(function, "__code__", None) is not mark:
            careless.append(name)
        with contextlib.suppress(TypeError):
            kinds_of(function)  # every annotation means something
    assert not careless
