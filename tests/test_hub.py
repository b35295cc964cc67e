"""KerasHub's models, as small as their code allows.

    pip install keras-hub

For each: the law holds, something can be pruned, and what must not be frozen is not.
"""

import numpy as np
import pytest
from support.law import check_law, randomize

import keras_iplt as iplt

hub = pytest.importorskip("keras_hub", reason="an optional extra: pip install keras-hub")
models = hub.models

pytestmark = pytest.mark.filterwarnings("ignore")  # of what KerasHub imports

SIDE = 32


# -- backbones --


def resnet(block="basic_block", side=SIDE, **options):
    return models.ResNetBackbone(
        input_conv_filters=[8, 64] if block.endswith("vd") else [64],
        input_conv_kernel_sizes=[3, 3] if block.endswith("vd") else [7],
        stackwise_num_filters=[64, 12, 16],
        stackwise_num_blocks=[1, 2, 1],
        stackwise_num_strides=[1, 2, 2],
        block_type=block,
        image_shape=(side, side, 3),
        **options,
    )


def cspnet(stage, block="dark_block", stem_strides=2, **options):
    return models.CSPNetBackbone(
        stem_filters=[6, 8],
        stem_kernel_size=3,
        stem_strides=stem_strides,
        stackwise_depth=[1, 2],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[12, 16],
        block_type=block,
        stage_type=stage,
        image_shape=(SIDE, SIDE, 3),
        **options,
    )


def deeplab(**options):
    return models.DeepLabV3Backbone(
        image_encoder=resnet(),
        spatial_pyramid_pooling_key="P4",
        upsampling_size=4,
        dilation_rates=[2, 4],
        image_shape=(SIDE, SIDE, 3),
        **options,
    )


def retinanet(**options):
    encoder = models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 12, 16, 20],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    )
    return models.RetinaNetBackbone(
        image_encoder=encoder, min_level=3, max_level=6, image_shape=(64, 64, 3), **options
    )


def densenet():
    return models.DenseNetBackbone([2, 1], image_shape=(SIDE, SIDE, 3), growth_rate=6)


def vgg():
    return models.VGGBackbone([1, 2], [6, 8], image_shape=(SIDE, SIDE, 3))


def xception():
    return models.XceptionBackbone(
        stackwise_conv_filters=[[6, 8], [10, 10], [12, 12]],
        stackwise_pooling=[True, True, False],
        image_shape=(64, 64, 3),
    )


def efficientnet():
    return models.EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 5],
        stackwise_num_repeats=[1, 2],
        stackwise_input_filters=[8, 16],
        stackwise_output_filters=[16, 16],
        stackwise_expansion_ratios=[4, 4],
        stackwise_squeeze_and_excite_ratios=[0.0, 0.25],
        stackwise_strides=[2, 1],
        stackwise_block_types=["fused", "unfused"],
        stackwise_force_input_filters=[0, 0],
        stackwise_nores_option=[False, False],
        width_coefficient=1.0,
        depth_coefficient=1.0,
        num_features=24,
        input_shape=(SIDE, SIDE, 3),
    )


def mobilenet():
    return models.MobileNetBackbone(
        stackwise_expansion=[[20], [24, 24]],
        stackwise_num_blocks=[1, 2],
        stackwise_num_filters=[[8], [16, 16]],
        stackwise_kernel_size=[[3], [5, 5]],
        stackwise_num_strides=[[2], [2, 1]],
        stackwise_se_ratio=[[None], [0.25, 0.25]],
        stackwise_activation=[["relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1], [2, 2]],
        output_num_filters=24,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=16,
        squeeze_and_excite=0.5,
        input_num_filters=8,
        image_shape=(SIDE, SIDE, 3),
    )


def hgnet(**options):
    return models.HGNetV2Backbone(
        depths=[1, 2],
        embedding_size=8,
        hidden_sizes=[12, 16],
        stem_channels=[3, 6, 8],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[(8, 6, 12, 1, 2, 3), (12, 8, 16, 2, 2, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, True],
        image_shape=(SIDE, SIDE, 3),
        **options,
    )


DECODER = {
    "vocabulary_size": 40,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 48,
    "intermediate_dim": 128,
}
# Class of the backbone's name: queries and keys that are turned by angles from their width stay.
LANGUAGE_MODELS = {name: {} for name in ("Llama", "Llama3", "Mistral", "Phi3", "Qwen")}
LANGUAGE_MODELS["Qwen3"] = {"head_dim": 12}  # which the config of its blocks forgets


@pytest.mark.slow
@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_language_models(name):
    """All but queries and keys may go, the residual stream included; in place, too."""

    def build():
        backbone = getattr(models, f"{name}Backbone")(**DECODER, **LANGUAGE_MODELS[name])
        return getattr(models, f"{name}CausalLM")(backbone=backbone)

    model = build()
    graph = iplt.trace(model)
    found = sum(int(group.filters.sum()) for group in graph.groups)
    assert found > 0.9 * (found + sum(frozen.channels for frozen in graph.frozen))
    assert 0 < check_law(model)[0] < 1e-5
    model = build()
    iplt.shrink(model, iplt.plan(model, ratio=0.4))


@pytest.mark.slow
def test_a_language_model_stays_one():
    """Made again by its own class it generates, token by token, what the masked one does."""
    backbone = models.LlamaBackbone(**DECODER)
    model = models.LlamaCausalLM(backbone=backbone, preprocessor=None)
    randomize(model)
    graph = iplt.trace(model)
    ffn = {"*feedforward_intermediate*": 0.5}
    plan = iplt.plan(graph, per_layer=ffn, branches=graph.branches[-1])
    small = iplt.rebuild(model, plan)
    assert type(small) is models.LlamaCausalLM and small.backbone.intermediate_dim == 64
    assert small.backbone.num_layers == 1
    iplt.mask(model, plan)
    tokens = np.zeros((1, 24), "int32")
    tokens[:, :3] = 3, 5, 7
    start = {"token_ids": tokens, "padding_mask": np.sign(tokens)}
    said = []
    for one in (model, small):
        one.compile(sampler="greedy")
        said.append(np.array(one.generate(start, stop_token_ids=None)["token_ids"])[0])
    assert (said[0] == said[1]).all() and len({*said[0][3:]}) > 2
    with pytest.raises(iplt.errors.ModelError, match="cannot say what the plan leaves"):
        iplt.rebuild(model, iplt.plan(model, 0.5, scope="layer"))  # heads follow from the stream


BACKBONES = {
    "resnet basic": resnet,
    "resnet bottleneck": lambda: resnet("bottleneck_block"),
    "resnet v2": lambda: resnet("bottleneck_block", use_pre_activation=True),
    "resnet vd": lambda: resnet("basic_block_vd"),
    "resnet any size": lambda: resnet(side=None),
    "resnet mixed precision": lambda: resnet(dtype="mixed_float16"),
    "cspnet dark": lambda: cspnet("dark"),
    "cspnet csp": lambda: cspnet("csp", "bottleneck_block", bottle_ratio=0.5, expand_ratio=2.0),
    "cspnet cs3": lambda: cspnet("cs3", "edge_block", avg_down=True, block_ratio=0.5),
    "cspnet grouped": lambda: cspnet("csp", "bottleneck_block", groups=2, expand_ratio=2.0),
    "cspnet pooled": lambda: cspnet(
        "csp", stem_strides=4, stem_pooling="max", cross_linear=True, expand_ratio=2.0
    ),
    "deeplab v3": deeplab,
    "deeplab v3 plus": lambda: deeplab(low_level_feature_key="P2", projection_filters=6),
    "retinanet": lambda: retinanet(use_p5=False),
    "retinanet p5": lambda: retinanet(use_p5=True),
    "retinanet batch norm": lambda: retinanet(use_p5=False, use_fpn_batch_norm=True),
    "densenet": densenet,
    "vgg": vgg,
    "xception": xception,
    "efficientnet": efficientnet,
    "mobilenet": mobilenet,
    "hgnet": hgnet,
}


# -- with heads --


def classifier():
    return models.ResNetImageClassifier(backbone=resnet(), num_classes=3)


def segmenter():
    backbone = deeplab(low_level_feature_key="P2", projection_filters=6)
    return models.DeepLabV3ImageSegmenter(backbone=backbone, num_classes=3)


def detector(**options):
    return models.RetinaNetObjectDetector(
        backbone=retinanet(use_p5=False), num_classes=3, pre_logits_num_conv_layers=2, **options
    )


HEADS = {
    "resnet classifier": classifier,
    "deeplab segmenter": segmenter,
    "retinanet detector": detector,
    "retinanet detector group norm": lambda: detector(use_prediction_head_norm=True),
}


@pytest.mark.parametrize("build", [*BACKBONES.values(), *HEADS.values()], ids=[*BACKBONES, *HEADS])
def test_masked_equals_rewritten(build):
    model = build()
    graph = iplt.trace(model)
    assert graph.groups, str(graph)
    tolerance = 2e-3 if "16" in model.dtype_policy.name else 1e-5
    check_law(model, tolerance=tolerance)
