"""Schedules: how much is gone at which epoch."""

import json
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_iplt import schedules
from keras_iplt.errors import OptionError

pytestmark = pytest.mark.quick

shares = st.floats(0, 0.999)
counts = st.integers(1, 7)
spans = st.tuples(st.integers(0, 9), st.integers(1, 30)).map(lambda s: (s[0], s[0] + s[1]))
sorted_shares = st.lists(shares, min_size=1, max_size=6).map(sorted)


@st.composite
def polynomials(draw):
    initial, target = sorted([draw(shares), draw(shares)])
    power = draw(st.floats(0.3, 5))
    return schedules.Polynomial(target, *draw(spans), initial, power, draw(counts))


SCHEDULES = st.one_of(
    st.builds(schedules.Incremental, shares, st.floats(0.03, 0.999), counts),
    st.builds(schedules.Ratios, sorted_shares, counts),
    sorted_shares.map(lambda s: schedules.Ratios({3 * i: share for i, share in enumerate(s)})),
    st.builds(schedules.OneShot, shares, st.integers(0, 20)),
    polynomials(),
    st.builds(lambda t, s, e: schedules.Exponential(t, *s, e), shares, spans, counts),
)


@settings(deadline=None)
@given(SCHEDULES)
def test_every_schedule_climbs_to_its_target(schedule):
    """No share is less than the one before, and the target holds from `last_epoch` on, not
    earlier."""
    last = schedule.last_epoch
    values = [schedule(epoch) for epoch in range(last + 3)]
    assert all(type(value) is float for value in values)
    assert values == sorted(values) and values[0] >= 0
    assert [value == schedule.target for value in values] == [e >= last for e in range(last + 3)]


@settings(deadline=None)
@given(SCHEDULES)
def test_schedules_survive_json(schedule):
    """What Keras serialises comes back equal, and computes the same."""
    text = json.dumps(keras.saving.serialize_keras_object(schedule))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert again == schedule and hash(again) == hash(schedule)
    assert [again(e) for e in range(40)] == [schedule(e) for e in range(40)]
    assert schedule != schedules.OneShot(schedule.target, 1000)


@given(st.integers(0, 99), st.integers(1, 99), counts, st.integers(0, 60))
def test_incremental_counts_in_hundredths_as_people_do(target, step, every, epoch):
    """Three steps of 0.1 are 0.3 exactly, and seven of them reach 0.7."""
    schedule = schedules.Incremental(target / 100, step / 100, every)
    assert schedule(epoch) == min(target, step * (epoch // every)) / 100
    assert schedule.last_epoch == math.ceil(target / step) * every


def test_incremental_reaches_fractions():
    """A target of n steps is reached after n steps, whatever the step looks like in binary."""
    for parts in range(3, 15):
        for taken in range(1, parts):
            target, step = taken / parts, 1 / parts
            assert schedules.Incremental(target, step, 1).last_epoch == taken
            assert schedules.fitted_every(target, step, epochs=6 * taken) == 3


def test_the_shares_of_the_papers_example():
    """70 % in steps of 10 % every five epochs: the last at epoch 35."""
    schedule = schedules.Incremental(0.7)
    assert [schedule(e) for e in (0, 4, 5, 9, 10, 34, 35, 100)] == [
        0, 0, 0.1, 0.1, 0.2, 0.6, 0.7, 0.7,
    ]  # fmt: skip


def test_ratios_hold_as_long_as_asked():
    """The i-th of a list from (i + 1) · every on; those of a mapping from their epochs on."""
    listed, mapped = schedules.Ratios([0.2, 0.2, 0.6], every=2), schedules.Ratios({4: 0.5, 1: 0.2})
    assert [listed(e) for e in range(8)] == [0, 0, 0.2, 0.2, 0.2, 0.2, 0.6, 0.6]
    assert [mapped(e) for e in range(6)] == [0, 0.2, 0.2, 0.2, 0.5, 0.5]
    assert (listed.last_epoch, mapped.last_epoch) == (6, 4)


def test_polynomial_and_exponential_by_their_formulas():
    """Between begin and end as the docstrings say, updated every so many epochs."""
    cubic = schedules.Polynomial(0.8, begin=2, end=10, initial=0.2, every=3)
    assert cubic(1) == 0 and cubic(2) == pytest.approx(0.2)
    assert cubic(5) == cubic(7) == pytest.approx(0.8 - 0.6 * (5 / 8) ** 3)
    assert cubic(9) == pytest.approx(0.8 - 0.6 * (2 / 8) ** 3) and cubic(10) == 0.8
    decay = schedules.Exponential(0.75, begin=2, end=6, every=2)
    assert [decay(e) for e in (2, 3)] == [0, 0] and decay(6) == 0.75
    assert decay(4) == decay(5) == pytest.approx(1 - math.sqrt(0.25))


@settings(deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.02, 0.9), st.integers(1, 300), counts)
def test_fitted_every_is_the_largest_that_fits(target, step, epochs, most):
    """The last step starts in the first half, or else `every` is 1."""
    last = schedules.Incremental(target, step, 1).last_epoch
    fitting = [k for k in range(1, most + 1) if last * k <= epochs // 2]
    assert schedules.fitted_every(target, step, epochs, most) == max(fitting, default=1)


def test_fitted_every_of_nothing():
    """With nothing to remove, any k fits."""
    assert schedules.fitted_every(0, 0.1, 10) == 5


# -- tfmot's schedules, without tfmot --


class Fake:
    """Prunes at every third step: what stands in `shares`, by step."""

    def __init__(self, shares, **attributes):
        self.shares, self.asked = shares, []
        vars(self).update(attributes)

    def __call__(self, step):
        self.asked.append(step)
        return step % 3 == 0, np.float32(self.shares.get(step, 0))

    def get_config(self):
        return {"class_name": "Steps", "config": {"shares": self.shares}}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


Base = type("PruningSchedule", (), {"__module__": "tensorflow_model_optimization.somewhere"})


class Steps(Fake, Base):
    pass


def test_a_schedule_of_tfmot_prunes_at_its_own_steps():
    """The share is that of the latest pruning step; steps are not asked twice, nor the first 0."""
    fake = Steps({0: 0.9, 3: 0.25, 6: 0.5})
    schedule = schedules.get(fake)
    assert [schedule(0, step) for step in (0, 2, 5, 6, 8)] == [0, 0, 0.25, 0.5, 0.5]
    assert fake.asked == [2, 1, 5, 4, 3, 6, 8, 7]
    assert schedule(0, step=4) == 0.25  # another training, from the start
    assert schedule.last_epoch is None


def test_a_schedule_of_tfmot_does_not_go_down():
    """Pruned is pruned."""
    schedule = schedules.FromTfmot(Steps({3: 0.5, 6: 0.25}))
    assert [schedule(0, step) for step in (3, 6, 7)] == [0.5, 0.5, 0.5]


def test_the_target_of_a_schedule_of_tfmot():
    """What its last step asks for; a constant where it has none; None where it does not say."""
    assert schedules.FromTfmot(Steps({6: 0.5}, end_step=8)).target == 0.5
    assert schedules.FromTfmot(Steps({}, end_step=-1, target_sparsity=0.5)).target == 0.5
    assert schedules.FromTfmot(Steps({})).target is None


def test_a_schedule_of_tfmot_survives_serialisation():
    """Its class is found again, if it is a schedule of tfmot's and imported."""
    schedule = schedules.FromTfmot(Steps({3: 0.5}))
    described = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(described)
    assert again == schedule and again(0, step=3) == 0.5 and "Steps" in repr(again)
    with keras.saving.custom_object_scope({"Steps": Steps}):
        assert (
            schedules.FromTfmot.from_config(
                {"schedule": {"module": "gone", "class_name": "Steps", "config": {"shares": {}}}}
            ).schedule.shares
            == {}
        )
    for module, name in (("nowhere", "Steps"), ("os", "PathLike"), (__name__, "Fake")):
        config = {"schedule": {"module": module, "class_name": name, "config": {}}}
        with pytest.raises(OptionError, match="imported, received"):
            schedules.FromTfmot.from_config(config)


# -- what is taken for a schedule --


def test_get():
    """A number, a list, a mapping, a schedule of ours or of tfmot's."""
    one = schedules.OneShot(0.5, 3)
    assert schedules.get(one) is one
    assert schedules.get(np.float32(0.5), 0.25, 2) == schedules.Incremental(0.5, 0.25, 2)
    assert schedules.get(0) == schedules.Incremental(0)
    for several in ([0.25, 0.5], (0.25, 0.5), np.array([0.25, 0.5])):
        assert schedules.get(several, every=3) == schedules.Ratios([0.25, 0.5], 3)
    assert schedules.get({4: 0.5}) == schedules.Ratios({4: 0.5})
    assert isinstance(schedules.get(Steps({})), schedules.FromTfmot)


def test_what_is_no_schedule():
    """The error says what was expected, and what came."""
    for wrong in (
        float("nan"), 1, 1.5, -0.1, True, None, "0.5", [], (), {}, [0.5, 0.25], [0.5, True], [1.0],
     {3: 0.5, 5: 0.25}, {-1: 0.5}, {"3": 0.5}, {2.5: 0.5}, [[0.5]], Fake({}), Steps,
    ):  # fmt: skip
        with pytest.raises(OptionError, match=r"expected .*received: "):
            schedules.get(wrong)


def test_options_out_of_range():
    """The error names the argument."""
    for name, make in (
        ("step", lambda: schedules.Incremental(0.5, step=0)),
        ("step", lambda: schedules.Incremental(0.5, step=float("nan"))),
        ("every", lambda: schedules.Incremental(0.5, every=0)),
        ("every", lambda: schedules.Incremental(0.5, every=2.0)),
        ("every", lambda: schedules.Ratios({3: 0.5}, every=2)),
        ("ratios", lambda: schedules.Ratios("12")),
        ("epoch", lambda: schedules.OneShot(0.5, -1)),
        ("epoch", lambda: schedules.OneShot(0.5, True)),
        ("end", lambda: schedules.Polynomial(0.5, 3, 3)),
        ("begin", lambda: schedules.Exponential(0.5, 1.5, 3)),
        ("initial", lambda: schedules.Polynomial(0.5, 0, 3, initial=0.6)),
        ("power", lambda: schedules.Polynomial(0.5, 0, 3, power=0)),
        ("power", lambda: schedules.Polynomial(0.5, 0, 3, power=math.inf)),
        ("schedule", lambda: schedules.FromTfmot(0.5)),
        ("step", lambda: schedules.FromTfmot(Steps({}))(3)),
        ("epochs", lambda: schedules.fitted_every(0.5, 0.1, 0)),
        ("most", lambda: schedules.fitted_every(0.5, 0.1, 10, most=0)),
    ):
        with pytest.raises(OptionError, match=rf"^{name}: expected .*received: "):
            make()


def test_a_schedule_of_the_users_own():
    """Overrides `__call__`; without an end, the last epoch is not known."""

    class Half(schedules.Schedule):
        target = 0.5

        def __call__(self, epoch, step=None):
            return 0.5

    assert Half().last_epoch is None and schedules.get(Half()) == Half() != schedules.Schedule()
    with pytest.raises(NotImplementedError, match="must override"):
        schedules.Schedule()(0)
