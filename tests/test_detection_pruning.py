"""Detectors are pruned like any other model: filters and weights, alone and in training."""

import keras
import numpy as np
import pytest
from keras_iplt_recipes import detection
from support.detectors import backbone, scenes
from support.law import check_law

import keras_iplt as iplt

RATES = {"ssd": 0.02, "shared": 0.005, "faster_rcnn": 0.01}
KINDS = list(RATES)


def detector(kind="ssd"):
    """A small one of a kind, compiled."""
    if kind == "faster_rcnn":
        model = detection.faster_rcnn(backbone(), 2, stride=8, proposals=16, width=16, hidden=(32,),
                                      scales=2, smallest=0.3, size=4)  # fmt: skip
        loss = detection.TwoStageLoss(16)
    else:
        shared = 16 if kind == "shared" else None
        model = detection.ssd(backbone(), 2, strides=(4, 8), extra=1, extra_filters=16,
                              smallest=0.3, shared=shared)  # fmt: skip
        loss = detection.DetectionLoss()
    model.compile(keras.optimizers.Adam(RATES[kind]), loss)
    return model


def precision(model):
    images, boxes = scenes(40, 2)
    return detection.average_precision(detection.found(model, images), boxes, 2).at_half


@pytest.mark.any_backend
@pytest.mark.parametrize("kind", KINDS)
def test_masked_is_rewritten(kind):
    """Boxes and classes of the smaller detector are those of the masked one; all convolutions but
    those whose outputs are the detector's lose filters."""
    model = detector(kind)
    graph = iplt.trace(model)
    frozen = {one.operation for one in graph.frozen}
    ends = {layer.name for layer in model.layers if layer.name.endswith(("_boxes", "_classes"))}
    assert frozen <= ends
    plan = iplt.plan(graph, ratio=0.5, scope="layer")
    assert plan.fpr == pytest.approx(0.5, abs=0.01)
    inputs = [scenes(3)[0]]
    _, _, small = check_law(model, plan=plan, inputs=inputs)
    assert small.output_shape == model.output_shape
    half = {layer.name for layer in small.layers if getattr(layer, "filters", 0)
            and 2 * layer.filters == model.get_layer(layer.name).filters}  # fmt: skip
    whole = {layer.name for layer in small.layers if getattr(layer, "filters", 0)} - half
    assert {"conv0", "conv3"} <= half and whole <= ends


@pytest.mark.quick
def test_the_law_can_be_broken():
    """A head whose boxes are moved is found out."""

    def spoil(small):
        kernel = small.get_layer("level0_boxes").kernel
        kernel.assign(keras.ops.roll(kernel, 1, axis=2))

    with pytest.raises(AssertionError):
        check_law(detector(), spoil=spoil)


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["ssd", "shared"])
def test_flops_fall_as_promised(kind):
    model = detector(kind)
    before = iplt.profile(model)
    plan = iplt.plan(model, flops=before.flops // 2)
    after = iplt.profile(iplt.rewrite(model, plan))
    assert 0.4 < after.flops / before.flops <= 0.5
    assert after.params == before.params - round(plan.ppr * before.params)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shared", "faster_rcnn"])
def test_pruned_in_training(kind):
    """`fit` shrinks it; what is left goes on learning, and finds boxes."""
    images, boxes = scenes(96)
    model = detector(kind)
    before = iplt.profile(model)
    callback = iplt.IPLTCallback(0.4, 0.4, every=6, verbose=0)
    epochs = 16
    logs = model.fit(images, boxes, batch_size=16, epochs=epochs, verbose=0,
                     callbacks=[callback]).history  # fmt: skip
    after = iplt.profile(model)
    assert after.flops < 0.75 * before.flops and after.params < 0.75 * before.params
    assert logs["loss"][-1] < logs["loss"][0] / 2
    assert precision(model) > (0.35 if kind == "faster_rcnn" else 0.8)


@pytest.mark.slow
def test_refitted_and_shipped(tmp_path):
    """A trained detector that is pruned at once, without training and with what is left fitted
    anew; written as .tflite with boxes as outputs, which are the same."""
    images, boxes = scenes(96)
    model = detector()
    model.fit(images, boxes, batch_size=16, epochs=12, verbose=0)
    assert precision(model) > 0.9
    plan = iplt.plan(model, ratio=0.25, scope="layer")
    plain = precision(iplt.rewrite(model, plan))
    refitted = iplt.rewrite(model, plan, compensate=images)
    assert precision(refitted) > max(0.5, plain)
    written = iplt.export(detection.with_boxes(refitted), tmp_path / "ssd.tflite", data=images[:8])
    text = str(written)
    assert "boxes (1, 336, 4)" in text and "scores (1, 336, 2)" in text


@pytest.mark.slow
def test_weights_go_in_training():
    """Half of the weights of convolutions, step by step, as Zuo et al. do."""
    images, boxes = scenes(96)
    model = detector()
    fixed = iplt.sparsity.allocation.Fixed()
    callback = iplt.SparsityCallback(0.5, 0.25, every=2, allocation=fixed, verbose=0)
    model.fit(images, boxes, batch_size=16, epochs=8, verbose=0, callbacks=[callback])
    table = iplt.sparsity.measure(model, convolutions_only=True)
    assert table.sparsity == pytest.approx(0.5, abs=0.02)
    assert len(table.layers) >= 8
    assert precision(model) > 0.8
    said = model.predict(images[:2], verbose=0)
    assert np.isfinite(said).all()
