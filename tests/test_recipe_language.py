"""The language model: what it reads, learns from and writes, and that zeros write the same."""

import keras
import numpy as np
import pytest

import keras_iplt as iplt

pytestmark = pytest.mark.slow

language = pytest.importorskip("keras_iplt_recipes.language")

from keras_iplt_recipes.language import networks, text  # noqa: E402

LENGTH = 12


def decoder(seed=0):
    keras.utils.set_random_seed(seed)
    return networks.decoder(len(text.ALPHABET), LENGTH, width=8, depth=2, heads=2)


@pytest.mark.parametrize("way", ["heads", "blocks"])
def test_the_masked_model_writes_what_the_pruned_one_does(way):
    """Letter by letter, and past the length that the model sees; the whole one writes otherwise."""
    model, texts = decoder(), text.Texts(LENGTH, 2, 2, seed=1).all()
    plan = networks.planned(model, way, 0.9, texts)
    small = iplt.rewrite(model, plan, verbose=0)
    assert small.count_params() <= 0.9 * model.count_params()
    before, after = (text.generate(one, "The ", 12, 0.1) for one in (model, small))
    iplt.mask(model, plan)
    assert text.generate(model, "The ", 12, 0.1) == after != before


def test_what_is_written_follows_from_what_the_model_says():
    """Near temperature 0 it is the likeliest letter, after the letters there are and no others."""
    model = decoder()
    seen = "The letters before"
    (letter,) = text.generate(model, seen, 1, 1e-6)
    logits = model(text.numbers_of(seen)[None, -LENGTH:])
    assert letter == text.ALPHABET[int(np.argmax(logits[0, -1]))]
    padded = np.zeros((1, LENGTH), "int32")
    padded[0, :3] = text.numbers_of("The")
    assert (
        text.generate(model, "The", 1, 1e-6) == text.ALPHABET[int(np.argmax(model(padded)[0, 2]))]
    )
    with pytest.raises(iplt.errors.OptionError, match="received: '\u2603'"):
        text.generate(model, "\u2603", 1)


def test_texts():
    """The letters that follow, others in each epoch, and halves of them from a teacher."""
    model, texts = decoder(), text.Texts(LENGTH, 3, 2, seed=0)
    x, y = texts[1]
    np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
    taught = text.Texts(LENGTH, 3, 2, seed=0, teacher=model)[1]
    np.testing.assert_array_equal(taught[0], x)
    np.testing.assert_allclose(taught[1].sum(-1), 1, rtol=1e-5)
    said = keras.ops.convert_to_numpy(keras.ops.softmax(model(x)))
    right = np.take_along_axis(taught[1] - said / 2, y[..., None], -1)
    np.testing.assert_allclose(right, 0.5, rtol=1e-5)
    texts.epoch = 1
    assert (texts[1][0] != x).any()


def test_perplexity():
    """Of a model that says nothing, it is the number of letters; of texts, all alike."""
    model = decoder()
    for name in ("kernel", "bias"):
        variable = getattr(model.get_layer("next"), name)
        variable.assign(0 * variable)
    assert text.perplexity(model, 5) == pytest.approx(len(text.ALPHABET), rel=1e-4)
    model = decoder(seed=1)
    assert text.perplexity(model, 5, batch=2) == pytest.approx(text.perplexity(model, 5), rel=1e-5)
