"""Every backbone of KerasHub that a small configuration builds, pruned, and the law checked.

    pip install keras-hub
    python benchmarks/kerashub.py --json found.json         # all of them, goes on where it stopped
    python benchmarks/kerashub.py --only Llama Gemma ViT

Each model is built as small as its code allows, with the head of its task where there is one
(`CausalLM`, `ImageClassifier` or `TextClassifier`), in a process of its own, which is given up
after ten minutes. Its weights are random. It is traced, random channels of each group go, and the
masked model's outputs are compared with those of the rewritten one. A row of the table:

    exact       largest difference, relative to the largest number
    prunable    share of all filters that can go, in percent
    parameters  share of the parameters that went, in percent
    shrink      whether `shrink` gave the same model in place
    reload      whether the rewritten model was saved, loaded, and computed the same
    tflite      largest relative difference of the exported model (with `--tflite`)
    trace       seconds

What stays, and why, and what was refused stands below the table. The command leaves with 1 if a
difference is above 1e-4.
"""

import argparse
import inspect
import json
import math
import os
import pathlib
import sys
import tempfile
import time

import one_by_one
from markdown_tables import table

HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = 1e-4
SECONDS = 600  # for one model

# Arguments that a constructor demands, by name; where some model needs others, and for those that
# `tests/test_hub.py` builds, see below.
SMALL = {
    "activation": "gelu", "attention_bias": False, "attention_dropout": 0.0, "decoder_head_dim": 8,
    "decoder_hidden_dim": 48, "decoder_intermediate_dim": 64,
    "decoder_layer_types": ["full_attention"] * 2, "decoder_num_attention_heads": 4,
    "decoder_num_key_value_heads": 2, "decoder_num_layers": 2, "embedding_dim": 24,
    "encoder_head_dim": 8, "encoder_hidden_dim": 48, "encoder_intermediate_dim": 64,
    "encoder_layer_types": ["full_attention"] * 2, "encoder_num_attention_heads": 4,
    "encoder_num_heads": 4, "decoder_num_heads": 4, "encoder_num_key_value_heads": 2,
    "encoder_num_layers": 2, "head_dim": 12, "head_size": 12, "hidden_dim": 48, "hidden_size": 48,
    "image_shape": (32, 32, 3), "image_size": 32, "intermediate_dim": 128,
    "layer_norm_epsilon": 1e-6, "layer_types": ["full_attention"] * 2,
    "max_position_embeddings": 64, "mlp_bias": False,
    "mlp_dim": 64, "moe_intermediate_dim": 32, "num_attention_heads": 4, "num_experts": 4,
    "num_heads": 4, "num_key_value_heads": 2, "num_layers": 2, "num_layers_dec": 2,
    "num_layers_enc": 2, "num_query_heads": 4, "partial_rotary_factor": 1.0, "patch_size": 8,
    "rope_layer_enabled_list": [True, True], "rope_theta": 10000.0,
    "shared_expert_intermediate_dim": 32, "shared_expert_intermediate_size": 32, "top_k": 2,
    "vocab_size": 40, "vocabulary_size": 40, "filter_dim": 48,
}  # fmt: skip
OTHERS = {
    "Albert": {"num_layers": 2},
    "DINOV2": {"position_embedding_shape": (32, 32, 3), "image_shape": (32, 32, 3)},
    "DINOV3": {"image_shape": (32, 32, 3)},
    "Falcon": {"num_attention_heads": 4},
    "Gemma3": {"head_dim": 12},
    "Flux": {
        "input_channels": 16, "hidden_size": 48, "mlp_ratio": 2.0, "num_heads": 4, "depth": 1,
        "depth_single_blocks": 1, "axes_dim": [4, 4, 4], "theta": 10000, "use_bias": True,
        "image_shape": (16, 16), "text_shape": (8, 48), "image_ids_shape": (16, 3),
        "text_ids_shape": (8, 3), "y_shape": (48,),
    },
    "GPTNeoX": {"hidden_dim": 64},
    "MiT": {
        "layerwise_depths": [1, 1], "num_layers": 2, "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1], "max_drop_path_rate": 0.1, "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2], "hidden_dims": [16, 32], "image_shape": (32, 32, 3),
    },
    "PaliGemma": {
        "vit_patch_size": 8, "vit_num_heads": 4, "vit_hidden_dim": 48, "vit_num_layers": 2,
    },
    "Qwen3_5": {
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "Qwen3_5Moe": {
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "RWKV7": {"gate_lora": 8, "mv_lora": 8, "aaa_lora": 8, "decay_lora": 8},
    "SwinTransformer": {
        "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4,
        "image_shape": (64, 64, 3),
    },
    "ViTDet": {
        "global_attention_layer_indices": [1], "image_shape": (64, 64, 3), "patch_size": 16,
        "window_size": 2, "num_output_channels": 24,
    },
    "VideoPrism": {
        "num_frames": 2, "num_spatial_layers": 1, "num_temporal_layers": 1,
        "num_auxiliary_layers": 0, "image_shape": (32, 32, 3),
    },
    "Whisper": {
        "num_mels": 8, "max_encoder_sequence_length": 16, "max_decoder_sequence_length": 16,
    },
}  # fmt: skip
# By the functions of tests/test_hub.py.
CONVOLUTIONAL = {
    "CSPNet": lambda hub: hub.cspnet("dark"),
    "DeepLabV3": lambda hub: hub.segmenter(),
    "DenseNet": lambda hub: hub.densenet(),
    "EfficientNet": lambda hub: hub.efficientnet(),
    "HGNetV2": lambda hub: hub.hgnet(),
    "MobileNet": lambda hub: hub.mobilenet(),
    "ResNet": lambda hub: hub.classifier(),
    "RetinaNet": lambda hub: hub.detector(),
    "VGG": lambda hub: hub.vgg(),
    "Xception": lambda hub: hub.xception(),
}
# They are made of other models.
LEFT_OUT = {
    "BASNet", "BLIP2", "CLIP", "DFine", "DepthAnything", "FeaturePyramid", "Gemma3n", "MetaCLIP2",
    "MobileNetV5", "PARSeq", "SAM", "SAM3PromptableConcept", "SegFormer", "SigLIP",
    "StableDiffusion3",
}  # fmt: skip
TASKS = {
    "CausalLM": {},
    "ImageClassifier": {"num_classes": 3},
    "TextClassifier": {"num_classes": 3},
}


# -- one model, in a process of its own --


def build(name):
    """A small model, with a head if there is one."""
    import keras_hub

    if name in CONVOLUTIONAL:
        import test_hub

        return CONVOLUTIONAL[name](test_hub)
    models = keras_hub.models
    kind, others = getattr(models, f"{name}Backbone"), OTHERS.get(name, {})
    wanted = inspect.signature(kind.__init__).parameters
    options = {n: SMALL[n] for n, one in wanted.items() if n in SMALL and one.default is one.empty}
    backbone = kind(**options | others)
    for task, arguments in TASKS.items():
        if hasattr(models, name + task):
            return getattr(models, name + task)(backbone=backbone, **arguments)
    return backbone


def measure(build, tflite=False):
    """The row of what is built: what was reached before an error, and that error."""
    sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]
    row = {}
    try:
        for figures in steps(build, tflite):
            row |= figures
    except Exception as error:  # of any kind: a row of the table
        text = " ".join(str(error).split())
        row["error"] = f"{type(error).__name__}: {text[:300]}"
    return row


def steps(build, tflite):
    """What is found out, one after the other, as parts of a row."""
    from support import law

    import keras_iplt as iplt
    from keras_iplt.graph.costs import parameters, share_removed

    yield {"at": "build"}
    model = build()
    yield {"at": "trace"}
    start = time.perf_counter()
    graph = iplt.trace(model, verbose=0)
    seconds = time.perf_counter() - start
    found = sum(int(group.filters.sum()) for group in graph.groups)
    stay = sum(frozen.channels for frozen in graph.frozen)
    yield {
        "trace_s": seconds,
        "prunable": found / max(1, found + stay),
        "reasons": reasons(graph),
        "at": "rewrite",
    }
    law.randomize(model)
    plan = law.random_plan(graph, seed=1)
    yield {"parameters": share_removed(parameters, graph)(plan.gone)}
    before = model.get_weights()
    small = iplt.rewrite(model, plan, verbose=0)
    values = inputs_of(model if getattr(model, "inputs", None) else small)
    expected = small(values, training=False)
    iplt.mask(model, plan)
    yield {"exact": farthest(model(values, training=False), expected), "at": "reload"}
    yield from tried("reload", lambda: reloaded(small, values, expected))
    if tflite:
        yield from tried("tflite", lambda: exported(small, values))
    model.set_weights(before)

    def shrunk():
        iplt.shrink(model, plan, verbose=0)
        return farthest(model(values, training=False), expected)

    yield from tried("shrink", shrunk)
    yield {"at": None}


def tried(step, function):
    """A figure, or the error that it took."""
    try:
        yield {step: function()}
    except Exception as error:  # of any kind: a row of the table
        text = " ".join(str(error).split())
        yield {step: None, f"{step}_error": f"{type(error).__name__}: {text[:300]}"}


def reloaded(small, values, expected):
    import keras

    with tempfile.TemporaryDirectory() as folder:
        small.save(pathlib.Path(folder) / "small.keras")
        again = keras.models.load_model(pathlib.Path(folder) / "small.keras")
    return farthest(again(values, training=False), expected)


def exported(small, values):
    import keras_iplt as iplt

    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "small.tflite"
        return iplt.export(small, file, data=values, verbose=0).difference


def inputs_of(model):
    """Numbers, in the structure that the model takes."""
    import keras
    from support import law

    flat = law.random_inputs(model, unknown=8)
    for i, x in enumerate(model.inputs):
        if "mask" in x.name:
            flat[i][...] = 1
        if "segment" in x.name:
            flat[i] %= 2
    structure = model.input
    return keras.tree.pack_sequence_as(structure, flat)


def farthest(a, b):
    import keras
    from support import law

    several = zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True)
    return max(law.difference(x, y) for x, y in several)


def reasons(graph):
    """{reason: filters}, without the operation that each reason names."""
    found = {}
    for frozen in graph.frozen:
        head, _, rest = frozen.reason.partition(" (")
        reason = rest.partition(") ")[2] if " " not in head else head
        found[reason] = found.get(reason, 0) + frozen.channels
    return found


# -- all of them --


def names():
    """Every backbone that is not made of others."""
    import keras_hub

    found = (n.removesuffix("Backbone") for n in dir(keras_hub.models) if n.endswith("Backbone"))
    return sorted((n for n in found if n and n not in LEFT_OUT), key=str.lower)


COLUMNS = ("exact", "prunable", "parameters", "shrink", "reload", "tflite", "trace_s")


def report(rows):
    """A table in Markdown, then what is frozen and why, then what was refused."""
    columns = [c for c in COLUMNS if c != "tflite" or any("tflite" in r for r in rows.values())]
    heads = {"prunable": "prunable, %", "parameters": "parameters −%", "trace_s": "trace, s"}
    table(
        ["model", *(heads.get(c, c) for c in columns)],
        [[name, *(shown(column, row) for column in columns)] for name, row in rows.items()],
    )
    one_by_one.frozen(rows)
    print("\nRefused:\n")
    for name, row in rows.items():
        for key in ("error", "shrink_error", "reload_error", "tflite_error"):
            if key in row:
                step = row.get("at") if key == "error" else key.removesuffix("_error")
                print(f"- {name}, {step}: {row[key]}")


def shown(column, row):
    value = row.get(column)
    if value is None:
        return "no" if f"{column}_error" in row else ""
    if column in ("prunable", "parameters"):
        return f"{100 * value:.0f}"
    if column in ("exact", "tflite"):
        return f"{value:.1e}"
    if column in ("shrink", "reload"):
        return "yes" if value < TOLERANCE else f"{value:.1e}"
    return f"{value:.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these models")
    parser.add_argument("--tflite", action="store_true", help="export the smaller models, too")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="figures, to go on from")
    parser.add_argument("--measure", metavar="NAME", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(lambda: build(arguments.measure), arguments.tflite)))
        return 0
    os.environ.update(one_by_one.QUIET)
    wanted = one_by_one.wanted(parser, arguments.only, names())
    options = ["--tflite"] if arguments.tflite else []
    rows = one_by_one.kept(
        wanted, lambda name: one_by_one.run(__file__, name, options, SECONDS), arguments.json
    )
    report(rows)
    return int(any(row.get("exact", math.inf) > TOLERANCE for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
