"""Which single weights go: selection, patterns, allocations; what that is worth in bytes."""

import math

import keras
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras import layers

import keras_iplt as iplt
from keras_iplt import sparsity
from keras_iplt.sparsity import allocation, patterns
from keras_iplt.sparsity.pool import PoolOptions, pool_of
from keras_iplt.sparsity.progress import WeightProgress
from keras_iplt.sparsity.select import bisected, blocks, largest, m_by_n, threshold

TIED = st.integers(0, 6).map(float)  # many numbers are equal
MATRICES = arrays.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=TIED)


def numbers(variable):
    return np.asarray(keras.ops.convert_to_numpy(variable))


def net():
    return keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(6, 3, name="one"), layers.BatchNormalization(),
         layers.Conv2D(16, 3, name="two"), layers.DepthwiseConv2D(2, name="depthwise"),
         layers.Flatten(), layers.Dense(20, "relu", name="hidden"), layers.Dense(4, name="head")]
    )  # fmt: skip


def spread(seed=0):
    """A network whose layers have weights of different sizes."""
    keras.utils.set_random_seed(seed)
    model = net()
    random = np.random.default_rng(seed)
    for one in pool_of(model):
        one.variable.assign(random.normal(size=one.variable.shape) * random.uniform(0.1, 2))
    return model


# -- selection -------------------------------------------------------------------------------------


@given(MATRICES, st.data())
def test_the_largest_are_those_that_sorting_finds(x, data):
    """As many as asked for, none smaller than what goes; the threshold is the smallest of them."""
    keep = data.draw(st.integers(0, x.size))
    mask = largest(x, keep)
    assert mask.shape == x.shape and mask.sum() == keep
    assert sorted(x[mask]) == sorted(x.ravel())[x.size - keep :]
    if keep:
        assert threshold(x, keep) == sorted(x.ravel())[x.size - keep]


@given(st.lists(arrays.arrays(np.float32, st.integers(1, 30), elements=TIED), min_size=1,
                max_size=4), st.data())  # fmt: skip
def test_bisection_finds_what_sorting_finds(several, data):
    """Counts are exact, ties included: no number that goes is larger than one that stays."""
    together = np.sort(np.concatenate(several))
    zeros = data.draw(st.integers(1, together.size))
    border, counts = bisected(several, zeros)
    assert sum(counts) == zeros
    for x, count in zip(several, counts, strict=True):
        assert (x < border).sum() <= count <= (x <= border).sum()


def test_bisection_may_stop_close_by():
    """Within what is allowed, in few rounds; exactly if nothing is."""
    x = [np.random.default_rng(i).random(5000).astype("float32") for i in range(2)]
    for within in (0, 3, 100):
        assert abs(sum(bisected(x, 3333, within)[1]) - 3333) <= within


@given(MATRICES, st.integers(1, 4), st.integers(1, 4), st.sampled_from(["AVG", "MAX"]))
def test_blocks_are_pooled(x, height, width, pooling):
    """Of each block its mean or largest number, of smaller blocks at the edges too."""
    pooled = blocks(x, (height, width), pooling)
    reduce = np.mean if pooling == "AVG" else np.max
    for i, row in enumerate(pooled):
        for j, value in enumerate(row):
            part = x[i * height : (i + 1) * height, j * width : (j + 1) * width]
            assert value == pytest.approx(reduce(part))


@given(MATRICES, st.integers(1, 3))
def test_m_of_n_go(x, m):
    """In every group of four the smallest; a short group at the end keeps what may stay."""
    mask = m_by_n(x, m, 4)
    for row, stays in zip(x, mask, strict=True):
        for start in range(0, len(row), 4):
            group, left = row[start : start + 4], stays[start : start + 4]
            assert left.sum() == min(len(group), 4 - m)
            assert max(group[~left], default=0) <= min(group[left])


# -- patterns --------------------------------------------------------------------------------------

KERNELS = arrays.arrays(np.float32, st.tuples(*[st.integers(1, 5)] * 3), elements=TIED)


@given(KERNELS, st.data())
def test_patterns_take_the_smallest(x, data):
    """Weights: of all. Per filter: of each, as many, to within one. What is gone goes first."""
    zeros = data.draw(st.integers(0, x.size - 1))
    gone = largest(-x, data.draw(st.integers(0, zeros)))
    x = np.where(gone, -1, x)
    axis = data.draw(st.sampled_from([-1, -2]))
    mask = patterns.Weights().mask(x, zeros)
    assert (~mask).sum() == zeros and not (mask & gone).any()
    mask = patterns.WeightsPerFilter().mask(x, zeros, axis)
    assert (~mask).sum() == zeros
    for one, stays in zip(np.moveaxis(x, axis, 0), np.moveaxis(mask, axis, 0), strict=True):
        assert (~stays).sum() in (zeros // x.shape[axis], -(-zeros // x.shape[axis]))
        assert max(one[~stays], default=-1) <= min(one[stays], default=9)


@given(KERNELS, st.data())
def test_whole_filters_go(x, data):
    """Those with the smallest norm; one stays."""
    mask = patterns.WholeFilters().mask(x, data.draw(st.integers(0, x.size - 1)), -1)
    stays = mask.all(axis=(0, 1))
    assert (stays == mask.any(axis=(0, 1))).all() and stays.any()
    norms = (x.astype(float) ** 2).sum(axis=(0, 1))
    assert max(norms[~stays], default=0) <= min(norms[stays])


def test_filters_are_counted_along_the_right_axis():
    """The last, but of transposed convolutions the one before."""
    i = keras.Input((4, 4, 3))
    model = keras.Model(i, layers.Conv2DTranspose(5, 2)(layers.Conv2D(7, 2)(i)))
    sparsity.prune_weights(model, 0.5, pattern="filters")
    straight, transposed = (one.variable for one in pool_of(model))
    assert (numbers(straight).any(axis=(0, 1, 2))).sum() == 7 - round(7 * 0.5)
    assert (numbers(transposed).any(axis=(0, 1, 3))).sum() in (2, 3)


@pytest.mark.any_backend
def test_m_of_n_runs_along_the_inputs():
    """Of dense layers and convolutions."""
    model = net()
    done = sparsity.prune_weights(model, 0.5, pattern=patterns.MbyN(2, 4))
    for one in pool_of(model):
        rows = np.moveaxis(numbers(one.variable), -2, -1).reshape(-1, one.variable.shape[-2])
        groups = (rows[:, i : i + 4] for i in range(0, rows.shape[1], 4))
        assert all((np.count_nonzero(group, axis=1) <= 2).all() for group in groups)
    assert done.layers[-1].sparsity == 0.5


# -- allocations -----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@example("depth", 0.5, 3)  # a whole layer lies below the threshold
@given(
    st.sampled_from(["uniform", "fixed", "param", "depth", "erk", "uniform_plus"]),
    st.floats(0, 0.85),
    st.integers(0, 3),
)
def test_the_overall_sparsity_is_reached(name, share, seed):
    """Exactly, or within epsilon; at least one weight of each variable stays."""
    model = spread(seed)
    one = allocation.Depth(epsilon=0) if name == "depth" else allocation.get(name)
    pool = pool_of(model, convolutions_only=one.convolutions_only)
    zeros = one.zeros(pool, share, [0] * len(pool))
    assert sum(zeros) == round(share * sum(p.size for p in pool))
    assert all(0 <= z < p.size for z, p in zip(zeros, pool, strict=True))
    done = sparsity.prune_weights(model, share, one)
    assert done.zeros == sum(zeros)


def test_convolutions_only_is_the_papers_default():
    """Of fixed, param and depth; the caller may say otherwise; the others take all."""
    for name, expected in dict(uniform=4, fixed=2, param=2, depth=2, erk=4).items():
        assert len(sparsity.prune_weights(spread(), 0.3, name).layers) == expected
        given = sparsity.prune_weights(spread(), 0.3, name, convolutions_only=True)
        assert [row.name for row in given.layers] == ["one", "two"]
        assert len(sparsity.prune_weights(spread(), 0.3, name, layers="hidden").layers) == 1


@pytest.mark.parametrize("normalize", [False, True])
def test_one_threshold_for_the_whole_network(normalize):
    """Everything at or below it is zero in every layer, and nothing above it."""
    model, one = spread(), allocation.Depth(normalize, epsilon=0)
    before = [p.magnitudes() for p in pool_of(model, convolutions_only=True)]
    if normalize:
        before = [(x - x.min()) / (x.max() - x.min()) for x in before]
    done = sparsity.prune_weights(model, 0.6, one)
    for x, p in zip(before, pool_of(model, convolutions_only=True), strict=True):
        assert ((x > one.threshold) == (numbers(p.variable) != 0)).all()
    assert done.layers[0].sparsity != pytest.approx(done.layers[1].sparsity, abs=0.02)


def test_epsilon_ends_the_bisection():
    """The overall sparsity is as close as asked for, also where all weights are equal."""
    loose = sparsity.prune_weights(spread(), 0.6, allocation.Depth(epsilon=0.05))
    assert 0 < abs(loose.sparsity - 0.6) <= 0.05
    model = net()
    for one in pool_of(model):
        one.variable.assign(np.ones(one.variable.shape))
    tied = sparsity.prune_weights(model, 0.6, "depth")
    assert tied.zeros == round(0.6 * tied.weights)


def phases(one, pool, losses, step=0.1):
    """Algorithm 2: a phase of training, another step, and so on."""
    gone = [0] * len(pool)
    for i, loss in enumerate(losses):
        one.look(loss, gone)
        gone = one.zeros(pool, step * (i + 1), gone)
        yield [z / p.size for z, p in zip(gone, pool, strict=True)]


def test_small_layers_are_spared_once_it_hurts():
    """A rise above zeta freezes the smallest layer at its sparsity, the next rise the next; what
    they no longer take the others do. A fall, however large, freezes none."""
    pool = pool_of(spread())  # 162, 864, 3200 and 80 weights: the head is smallest
    one = allocation.Param(zeta=0.1, eta=10)
    shares = [*phases(one, pool, [1.0, 1.05, 1.3, 0.2, 0.25, 0.5])]
    assert one.frozen == [3, 0]
    assert shares[1] == pytest.approx([0.2] * 4, abs=0.01)
    assert shares[2][3] == shares[1][3] and shares[5][3] == shares[1][3]
    assert shares[4][0] == shares[5][0] and shares[4][0] > shares[2][0]
    assert shares[5][1] == pytest.approx(shares[5][2], abs=0.01) and shares[5][1] > 0.6
    for i, share in enumerate(shares):
        reached = sum(s * p.size for s, p in zip(share, pool, strict=True))
        assert reached == pytest.approx(0.1 * (i + 1) * sum(p.size for p in pool), abs=1)


def test_the_record_begins_with_the_unpruned_loss():
    """However high it is, it freezes nothing; a loss above eta does, even when falling."""
    pool = pool_of(spread())
    one = allocation.Param(zeta=0.1, eta=2.0)
    [*phases(one, pool, [5.0, 1.9, 1.9])]
    assert one.frozen == []
    [*phases(one, pool, [5.0, 4.0, 3.0])]
    assert one.frozen == [3, 0]
    default = allocation.Param(zeta=0.1)  # eta: twice the unpruned loss, and zeta
    [*phases(default, pool, [1.0, 2.09, 1.0])]
    assert len(default.frozen) == 1  # by zeta
    default.begin()
    assert default.frozen == [] and default.record is None


def test_no_layer_is_left_to_take_over():
    """Pruning ends at what has been reached, which is said once."""
    pool = pool_of(spread())
    one = allocation.Param(zeta=0.1, eta=0.1)
    with pytest.warns(UserWarning) as warned:
        shares = [*phases(one, pool, [1.0] * 9)]
    assert len(one.frozen) == 4 and len(warned) == 1
    assert "ends at a sparsity of 40.0% where 50.0% are due: 4 of 4" in str(warned[0].message)
    assert shares[4:] == [shares[3]] * 5


def test_erk_follows_its_formula():
    """Densities are proportional to the sum over the product of sides, none exceeds 1."""
    pool = pool_of(net())
    zeros = allocation.get("erk").zeros(pool, 0.8, [0] * 4)
    density = np.array([1 - z / p.size for z, p in zip(zeros, pool, strict=True)])
    raw = np.array([sum(p.variable.shape) / math.prod(p.variable.shape) for p in pool])
    free = density < 1
    assert free.sum() >= 2 and not free.all()
    scale = density[free] / raw[free]
    assert scale == pytest.approx([scale.mean()] * free.sum(), rel=0.02)
    assert (scale.mean() * raw[~free] >= 1).all()


def test_uniform_plus_spares_the_ends():
    """The first layer is dense, a fifth of the last stays; what cannot be reached is an error."""
    done = sparsity.prune_weights(net(), 0.9, "uniform_plus")
    shares = [row.sparsity for row in done.layers]
    assert shares[0] == 0 and shares[-1] == pytest.approx(0.8, abs=0.02)
    assert shares[1] == pytest.approx(shares[2], abs=0.01) and shares[1] > 0.9
    with pytest.raises(iplt.errors.OptionError, match=r"below 95\.5%.*received: 99\.0%"):
        sparsity.prune_weights(net(), 0.99, "uniform_plus")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 0.8),
       st.sampled_from(["weights", "weights_per_filter", "filters"]))  # fmt: skip
def test_what_is_gone_stays_gone(seed, share, pattern):
    """Also where weights that stay are as small, zero. What was asked for is reached."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.Dense(4)])
    random = np.random.default_rng(seed)
    for one in pool_of(model):
        one.variable.assign(random.integers(0, 3, one.variable.shape))
    progress = WeightProgress(model, "uniform", pattern, PoolOptions())
    progress.masks = before = progress.decide(share / 2)
    for one, mask in zip(progress.pool, before, strict=True):
        one.variable.assign(numbers(one.variable) * mask)
    after = progress.decide(share)
    assert all((b | ~a).all() for b, a in zip(before, after, strict=True))
    if pattern == "weights":
        assert sum((~a).sum() for a in after) == round(share * 80)


# -- which weights ---------------------------------------------------------------------------------


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.block = keras.Sequential([layers.Dense(4, name="inner")], name="block")
        self.rnn = layers.LSTM(3, name="rnn")
        self.norm = layers.LayerNormalization()

    def call(self, x):
        return self.rnn(self.norm(self.block(x)))


def test_layers_are_found_wherever_they_are():
    """In nested and subclassed models, in the order of the data, each once."""
    model = Subclassed()
    model(np.ones((2, 5, 6)))
    assert [one.path for one in pool_of(model)] == [
        "block/inner", "rnn/kernel", "rnn/recurrent_kernel",
    ]  # fmt: skip
    shared, i = layers.Dense(6, name="shared"), keras.Input((6,))
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="deep")], name="nest")
    late = layers.Dense(6, name="first")
    nested = keras.Model(i, shared(inner(shared(late(i)))))
    assert [one.path for one in pool_of(nested)] == ["first", "shared", "nest/deep"]
    assert [one.path for one in pool_of(nested, layers=inner)] == ["nest/deep"]
    assert [one.path for one in pool_of(nested, ignore=["nest", shared])] == ["first"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(sparsity=1.0), r"sparsity: expected a number in \[0, 1\), received: 1.0"),
        (dict(sparsity="half"), r"sparsity: expected .* received: 'half'"),
        (dict(allocation="deep"), r"allocation: expected 'uniform', .* received: 'deep'"),
        (dict(pattern="blocks"), r"pattern: expected 'weights', .* received: 'blocks'"),
        (dict(layers="tow"), r"layers: expected layers .* received: 'tow'. Close to it: 'two'"),
        (dict(ignore="depthwise"), "ignore: expected layers with prunable weights"),
        (dict(ignore=["one", "two"], convolutions_only=True), "expected a convolution that is not"),
        (dict(pattern=patterns.MbyN(1, 4)), r"target: expected 0\.25, the only sparsity of"),
        (dict(pattern=patterns.Blocks((2, 2))), "expected weights of rank 2, received: 'one'"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    """Saying what was expected and what was received; the model stays as it is."""
    model = net()
    before = model.get_weights()
    with pytest.raises(iplt.PruningError, match=message):
        sparsity.prune_weights(model, **{"sparsity": 0.5, **options})
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_objects_are_checked():
    """Arguments of patterns and allocations, models, and weights that are not numbers."""
    for kind, arguments in (
        (patterns.Blocks, [(2,)]), (patterns.Blocks, [(2, 2), "MEAN"]), (patterns.MbyN, [4, 4]),
        (allocation.Depth, [False, -1]), (allocation.Param, [-1]), (allocation.UniformPlus, [1.0]),
    ):  # fmt: skip
        with pytest.raises(iplt.errors.OptionError, match=r"expected .* received"):
            kind(*arguments)
    with pytest.raises(iplt.errors.ModelError, match=r"expected a keras.Model"):
        sparsity.measure(layers.Dense(3))
    with pytest.raises(iplt.errors.ModelError, match="is not built"):
        sparsity.measure(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(iplt.errors.NothingToPruneError, match="expected a layer with a kernel"):
        sparsity.measure(keras.Sequential([keras.Input((3,)), layers.ReLU()]))
    model = net()
    model.layers[0].kernel.assign(np.full((3, 3, 3, 6), np.nan))
    with pytest.raises(iplt.errors.WeightsError, match="layer 'one' are not finite"):
        sparsity.prune_weights(model, 0.5)


# -- bytes -----------------------------------------------------------------------------------------


def test_compressed_rows_take_what_scipy_takes():
    """Values, columns and rows, but for the columns, which take as few bytes as they need."""
    sparse = pytest.importorskip("scipy.sparse")
    model = spread()
    sparsity.prune_weights(model, 0.9)
    for row, one in zip(sparsity.compressed_size(model).layers, pool_of(model), strict=True):
        value = numbers(one.variable)
        matrix = sparse.csr_matrix(value.reshape(-1, value.shape[-1]).T)
        narrow = 4 - np.min_scalar_type(matrix.shape[1] - 1).itemsize
        assert row.csr == (
            matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes - narrow * matrix.nnz
        )
        assert row.dense == value.nbytes


def test_an_optimizer_takes_no_bytes():
    """Not what it remembers of a training; and it is there afterwards."""
    model = spread()
    before = sparsity.compressed_size(model)
    model.compile("adam", "mse")
    model.fit(
        np.ones((2, *model.input_shape[1:])), np.ones((2, *model.output_shape[1:])), verbose=0
    )
    after = sparsity.compressed_size(model)
    assert (after.file, after.dense) == (before.file, before.dense)
    assert abs(after.gzip - before.gzip) < 0.05 * before.gzip
    assert len(model.optimizer.variables) > len(model.trainable_variables)


def test_what_zeros_save():
    """Nothing while dense, and then more and more; a table says it."""
    model = spread()
    sizes = [sparsity.compressed_size(model)]
    for share in (0.5, 0.9):
        sparsity.prune_weights(model, share)
        sizes.append(sparsity.compressed_size(model))
    dense, half, tenth = sizes
    assert dense.csr == dense.dense == 4 * model.count_params()
    assert dense.layers[0].csr > dense.layers[0].dense  # columns cost more than they save
    assert dense.gzip > half.gzip > tenth.gzip and dense.file == tenth.file
    assert tenth.csr < 0.3 * dense.csr
    assert "CSR" in str(tenth) and tenth.to_dict()["layers"][0]["name"] == "one"


def test_the_bytes_of_any_file(tmp_path):
    """As they are and after gzip; a text or a path, and no table."""
    (tmp_path / "m.tflite").write_bytes(bytes(100_000))
    for path in (tmp_path / "m.tflite", str(tmp_path / "m.tflite")):
        size = sparsity.compressed_size(path)
        assert size.file == 100_000 and 50 < size.gzip < 500 and size.layers == ()
        assert str(size) == f"file 100,000 bytes, after gzip {size.gzip}"
    for path in (tmp_path, tmp_path / "none.tflite"):
        with pytest.raises(iplt.errors.OptionError, match="the path of a file, received"):
            sparsity.compressed_size(path)


def test_the_table():
    """Zeros by layer and in total, printed and as plain data."""
    model = net()
    done = sparsity.prune_weights(model, 0.25)
    assert str(done).splitlines()[0].split() == ["layer", "weights", "zeros", "sparsity"]
    assert str(done).splitlines()[-1].split() == ["total", "3,986", f"{done.zeros:,}", "25.0%"]
    assert done.to_dict()["sparsity"] == done.sparsity == sparsity.measure(model).sparsity
