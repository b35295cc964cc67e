"""Bad input: one clear error from the `PruningError` tree, and nothing half-changed."""

import contextlib
import functools
import math

import keras
import numpy as np
import pytest
from support.law import randomize

import keras_iplt as iplt

pytestmark = pytest.mark.quick

layers, ops = keras.layers, keras.ops


def small_model():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)), layers.Conv2D(8, 3, name="first"), layers.ReLU(name="relu"),
            layers.Conv2D(6, 3, name="second"), layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(3, name="head"),
        ],
        name="victim",
    )  # fmt: skip
    randomize(model)
    return model


@functools.cache
def spare():
    """A model for tests in which nothing of it can change."""
    return small_model()


@contextlib.contextmanager
def refused(error, *patterns, model=None):
    """The block raises this error with all of these words in it; the model stays what it was."""
    before = None if model is None else state_of(model)
    with pytest.raises(error) as caught:
        yield
    assert isinstance(caught.value, iplt.PruningError)
    message = str(caught.value)
    for pattern in patterns:
        assert pattern in message, message
    assert before is None or before == state_of(model)


def state_of(model):
    """All that a failure must leave alone: weights to the bit, flags, config, layers, outputs."""
    works = []
    if getattr(model, "inputs", None):
        x = [np.ones((2, *[n or 4 for n in t.shape[1:]]), "float32") for t in model.inputs]
        y = model(x[0] if len(x) == 1 else x, training=False)
        works = [ops.convert_to_numpy(t).tobytes() for t in keras.tree.flatten(y)]
    return (
        [ops.convert_to_numpy(w).tobytes() for w in model.weights],
        [(w.path, w.trainable) for w in model.weights],
        [(id(x), len(x._inbound_nodes), len(x._outbound_nodes)) for x in model._flatten_layers()],
        works,
    )


def test_every_error_is_a_pruning_error():
    """One `except` catches them all, and `except ValueError` does as well."""
    kinds = [getattr(iplt.errors, name) for name in iplt.errors.__all__]
    assert len(kinds) == 11
    assert all(issubclass(kind, iplt.PruningError) for kind in kinds)
    others = [kind for kind in kinds if kind is not iplt.PruningError]
    assert all(issubclass(kind, (ValueError, ImportError)) for kind in others)


# -- models ----------------------------------------------------------------------------------------


class Unbuilt(keras.Model):
    def __init__(self):
        super().__init__(name="victim")
        self.dense = layers.Dense(4)

    def call(self, x):
        return self.dense(x)


class Numeric(Unbuilt):
    """Looks at numbers, which symbolic tensors do not have."""

    def call(self, x):
        return self.dense(x) if float(ops.convert_to_numpy(x).sum()) > 0 else x


class Owner(Unbuilt):
    """Holds a variable that belongs to no layer."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(4,), name="scale")
        self.dense.build(shape)
        super().build(shape)

    def call(self, x):
        return self.dense(x) * self.scale


@pytest.mark.parametrize("use", [iplt.trace, iplt.plan, iplt.prune, iplt.profile])
@pytest.mark.parametrize("make", [keras.Sequential, Unbuilt], ids=["sequential", "subclassed"])
def test_an_unbuilt_model_is_refused(make, use):
    model = make([layers.Dense(4)], name="victim") if make is keras.Sequential else make()
    with refused(iplt.errors.ModelError, "'victim' is not built", "keras.Input"):
        use(model)
    model(np.ones((1, 3), "float32"))
    assert model.count_params() == 16


@pytest.mark.parametrize("use", [iplt.trace, iplt.plan, iplt.prune])
def test_a_subclassed_model_that_cannot_be_followed_is_refused(use):
    model = Numeric()
    with contextlib.suppress(Exception):  # no symbolic build: Keras itself cannot follow it either
        model.build((None, 3))
    model.dense.build((None, 3))
    model.built = True
    before = [ops.convert_to_numpy(w) for w in model.weights]
    with refused(
        iplt.errors.ModelError, "'victim' (Numeric)", "symbolic tensors", "functional API"
    ):
        use(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.weights, strict=True))


@pytest.mark.parametrize("use", [iplt.trace, iplt.plan, iplt.prune])
def test_a_subclassed_model_with_variables_of_its_own_is_refused(use):
    model = Owner()
    model(np.ones((1, 3), "float32"))
    with refused(
        iplt.errors.ModelError, "'victim' (Owner)", "(scale)", "into a layer", model=model
    ):
        use(model)


@pytest.mark.parametrize(
    "thing", ["model.keras", None, 5, {}, np.ones(3), layers.Dense(4)], ids=str
)
def test_what_is_no_model_is_refused(thing):
    for use in (iplt.trace, iplt.plan, iplt.prune, lambda x: iplt.mask(x, plan_of_spare())):
        with refused(iplt.errors.ModelError, "expected a keras.Model", f"received: {thing!r}"):
            use(thing)


@functools.cache
def plan_of_spare():
    return iplt.Plan.from_json(iplt.plan(spare(), 0.5).to_json())


def test_a_model_with_nothing_to_prune_is_refused_with_the_reason():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="only")], name="victim")
    for use in (iplt.plan, iplt.prune):
        with refused(
            iplt.errors.NothingToPruneError,
            "'victim'",
            "only: it is an output of the model",
            model=model,
        ):
            use(model)


def test_a_model_without_weights_is_refused():
    model = keras.Sequential([keras.Input((4,)), layers.ReLU()], name="victim")
    with refused(iplt.errors.NothingToPruneError, "'victim' has no channel that may be pruned"):
        iplt.plan(model)


def test_ignoring_everything_leaves_nothing_to_prune():
    with refused(iplt.errors.NothingToPruneError, "2 groups", "left out by ignore", model=spare()):
        iplt.plan(spare(), ignore=["first", "second"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("layer", ["first", "second", "head"])
@pytest.mark.parametrize("weight", ["kernel", "bias"])
def test_weights_that_are_not_finite_are_refused(bad, layer, weight):
    """Wherever they are, in filters that are scored, in biases, in a frozen head; and whether the
    criterion looks at weights or not."""
    model = small_model()
    variable = getattr(model.get_layer(layer), weight)
    value = np.array(ops.convert_to_numpy(variable))
    value.flat[1] = bad
    variable.assign(value)
    for use, criterion in ((iplt.plan, "random"), (iplt.prune, "l2")):
        with refused(
            iplt.errors.WeightsError,
            repr(layer),
            "1 NaN or infinite",
            "restore weights",
            model=model,
        ):
            use(model, criterion=criterion)


def test_huge_finite_weights_are_not_mistaken_for_infinite_ones():
    model = small_model()
    head = model.get_layer("head").kernel
    head.assign(np.full(head.shape, 3e38, "float32"))
    assert iplt.plan(model, 0.5).fpr == 0.5


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ratio", [1, 1.0, 1.5, -0.1, "half", "0.5", True, None, math.nan, math.inf, [0.5], 1j], ids=str
)
def test_a_ratio_that_is_no_share_is_refused(ratio):
    for use in (iplt.plan, iplt.prune):
        with refused(
            iplt.errors.OptionError,
            "ratio: expected a number in [0, 1)",
            repr(ratio),
            model=spare(),
        ):
            use(spare(), ratio)


BAD_OPTIONS = {
    "of": ["filter", None, 3, ["filters"]],
    "scope": ["local", None, True],
    "criterion": ["l3", None, 2, ["l2"]],
    "min_channels": [0, -1, 1.5, "two", None, True],
    "round_to": [0, -8, 8.0, "eight", True],
    "max_ratio": [1, -0.1, "most", True, math.nan],
    "per_layer": ["first", [("first", 0.5)], 0.5, {"first": 1.0}, {"first": "half"}, {3: 0.5}],
    "ignore": [5, [5], [None], {"first": 0.5, 4: 1}],
    "convolutions_only": ["yes", None, 2],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, several in BAD_OPTIONS.items() for value in several]
)
def test_an_option_of_the_wrong_kind_is_refused_by_name_and_value(name, value):
    received = value
    if isinstance(value, dict):  # the entry that is wrong
        key, share = list(value.items())[-1]
        received = share if isinstance(key, str) else key
    elif isinstance(value, list) and name == "ignore":
        (received,) = value
    error = iplt.errors.CriterionError if name == "criterion" else iplt.errors.OptionError
    with refused(error, name, "expected", f"received: {received!r}", model=spare()):
        iplt.plan(spare(), **{name: value})


def test_an_unknown_option_is_refused_before_anything_happens():
    with refused(iplt.errors.OptionError, "received: 'rato'", "min_channels", model=spare()):
        iplt.prune(spare(), rato=0.5)
    with refused(iplt.errors.OptionError, "approximate", "iplt.trace", model=spare()):
        iplt.plan(iplt.trace(spare()), approximate=True)


@pytest.mark.parametrize("option", [{"ignore": "frist"}, {"per_layer": {"frist": 0.5}}])
def test_an_unknown_name_is_refused_with_names_close_to_it(option):
    with refused(
        iplt.errors.OptionError, "no layer 'frist'", "Close to it: 'first'", model=spare()
    ):
        iplt.plan(spare(), **option)


def test_names_inside_a_nested_model_are_suggested_too():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="hidden")], name="inner")
    model = keras.Sequential([keras.Input((4,)), inner, layers.Dense(2)])
    with refused(iplt.errors.OptionError, "no layer 'hiden'", "'hidden'"):
        iplt.plan(model, ignore="hiden")


def test_a_layer_of_another_model_is_refused_though_its_name_is_known():
    other = small_model().get_layer("first")
    with refused(
        iplt.errors.OptionError, "no layer 'first' that is this very object", model=spare()
    ):
        iplt.plan(spare(), ignore=[other])


def test_flops_cannot_be_shared_out_where_they_are_unknown():
    i = keras.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, name="conv")(i))
    model = keras.Model(i, layers.Dense(2)(x))
    with refused(iplt.errors.OptionError, "'conv'", "no fixed size", "of='params'", model=model):
        iplt.plan(model, of="flops")
    assert iplt.plan(model, 0.5, of="params").fpr == 0.5


# -- plans -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [{}, None, "plan", 0.5, [(0, 1)]], ids=str)
@pytest.mark.parametrize("carry_out", [iplt.mask, iplt.rewrite])
def test_what_is_no_plan_is_refused(carry_out, thing):
    with refused(
        iplt.errors.OptionError,
        "keras_iplt.Plan",
        f"received: {thing!r}",
        "keras_iplt.plan",
        model=spare(),
    ):
        carry_out(spare(), thing)


def test_arguments_in_the_wrong_order_are_refused():
    with refused(iplt.PruningError, "expected a keras_iplt.Plan", model=spare()):
        iplt.mask(plan_of_spare(), spare())


@pytest.mark.parametrize("carry_out", [iplt.mask, iplt.rewrite])
def test_the_plan_of_another_model_is_refused(carry_out):
    i = keras.Input((4,))
    other = keras.Model(i, layers.Dense(2)(layers.Dense(8, name="hidden")(i)), name="other")
    plan = iplt.plan(other, 0.5)
    with refused(
        iplt.errors.PlanMismatchError,
        "operation 0: expected Dense[(4, 8), (8,)]",
        "received Conv2D",
        "Make a plan",
        model=spare(),
    ):
        carry_out(spare(), plan)


@pytest.mark.parametrize("thing", ["first/kernel", None, 3, np.ones((3, 3, 3, 8))], ids=str)
def test_kept_of_what_is_no_variable_is_refused(thing):
    for plan in (plan_of_spare(), iplt.plan(spare(), 0.5)):
        with refused(iplt.errors.OptionError, "expected a variable of the model"):
            plan.kept(thing)


def test_kept_of_a_variable_of_another_model_is_refused_by_path_and_shape():
    dense = layers.Dense(5, name="stranger")
    dense.build((None, 4))
    with refused(iplt.errors.OptionError, "'stranger/kernel' of shape (4, 5)"):
        plan_of_spare().kept(dense.kernel)


# -- data ------------------------------------------------------------------------------------------

BAD_DATA = {
    "shape": (np.ones((4, 7, 7, 3), "float32"), ("(None, 8, 8, 3)", "(4, 7, 7, 3)")),
    "rank": (np.ones((4, 8), "float32"), ("(None, 8, 8, 3)", "(4, 8)")),
    "lengths": ((np.ones((4, 8, 8, 3)), np.ones((3, 3))), ("number of examples", "4, 3")),
    "nan": (np.full((4, 8, 8, 3), np.nan), ("finite numbers", "NaN")),
    "two inputs": ([np.ones((4, 8, 8, 3)), np.ones((4, 3))] * 2, ("received",)),
    "text": ("train", ("'train'",)),
    "number": (7, ("7",)),
    "nothing": ([], ("at least one batch",)),
    "none": (None, ("data=", "None")),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_do_not_fit_are_refused(case):
    data, words = BAD_DATA[case]
    with refused(iplt.errors.DataError, *words, model=spare()):
        iplt.prune(spare(), criterion="apoz", data=data)


# -- custom layers ---------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("bad_input")
class Forgetful(layers.Layer):
    """Needs an argument that get_config leaves out, and holds it under another name."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.columns = units

    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], self.columns), name="matrix")

    def call(self, x):
        return ops.tanh(ops.matmul(x, self.matrix))

    def get_config(self):
        return super().get_config()  # without units


@keras.saving.register_keras_serializable("bad_input")
class Defaulting(layers.Layer):
    """Its factor falls back to the default when it is made from its config."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.times = factor

    def call(self, x):
        return ops.tanh(x) * self.times

    def get_config(self):
        return super().get_config()  # without factor


def with_layer(layer):
    i = keras.Input((5,))
    x = layers.Dense(8, activation="relu", name="before")(i)
    x = layers.Dense(6, name="after")(layer(x))
    model = keras.Model(i, layers.Dense(2)(x), name="victim")
    randomize(model)
    return model


@pytest.mark.parametrize(
    ("layer", "kind"),
    [(lambda: Forgetful(7, name="culprit"), "Forgetful"),
     (lambda: Defaulting(3.0, name="culprit"), "Defaulting")],
    ids=["fails", "computes something else"],
)  # fmt: skip
def test_a_custom_layer_that_its_config_does_not_bring_back_is_refused(layer, kind):
    """Whether making it again fails or silently gives another layer."""
    model = with_layer(layer())
    with refused(iplt.errors.ModelError, "'culprit'", kind, "get_config", model=model):
        iplt.prune(model, 0.5)
    with refused(iplt.errors.ModelError, "'culprit'", kind, model=model):
        iplt.rewrite(model, iplt.plan(model, 0))


def test_a_custom_layer_that_comes_back_is_let_through():
    """The default factor is what it has: nothing is lost, so nothing is refused."""
    model = with_layer(Defaulting(name="fine"))
    assert iplt.prune(model, 0.5).count_params() < model.count_params()


def test_masking_works_where_rewriting_is_refused():
    """A mask makes no layer anew."""
    model = with_layer(Defaulting(3.0, name="culprit"))
    iplt.mask(model, iplt.plan(model, 0.5))
    kernel = ops.convert_to_numpy(model.get_layer("before").kernel)
    assert (kernel == 0).all(axis=0).any()
