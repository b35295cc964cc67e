"""`keras-iplt prune`: a smaller model."""

import argparse
import pathlib

from keras_iplt_cli.errors import CommandError
from keras_iplt_cli.files import check_inputs, check_outputs
from keras_iplt_cli.options import (
    Commands,
    Parser,
    add_command,
    add_data,
    add_loading,
    add_output,
    add_ranking,
    amount,
    count,
    named_share,
    share,
)
from keras_iplt_cli.talk import Answer

__all__ = ["add"]

_OF_THE_PLAN = (  # arguments of `keras_iplt.plan`
    *("ratio", "of", "criterion", "scope", "per_layer", "ignore", "only", "min_channels"),
    *("round_to", "max_ratio", "convolutions_only", "params", "macs", "flops", "size", "latency"),
    *("branches", "heads"),
)
_PRECISIONS = "float32|float16|dynamic|int8"


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "prune", run,
        "Removes filters of a model and writes the smaller one. Train it a little afterwards.",
        ["keras-iplt prune model.keras -o small.keras --ratio 0.5",
         "keras-iplt prune model.keras -o small.keras --ratio 0.3 --of flops --ignore 'stem*'",
         "keras-iplt prune model.keras -o small.keras --size '200KB int8'",
         "keras-iplt prune model.keras -o small.keras --per-layer conv1=0.2 --plan-out plan.json",
         "keras-iplt prune model.keras -o small.keras --plan plan.json",
         "keras-iplt prune model.keras -o small.keras --criterion taylor --data test.npz",
         "keras-iplt prune model.keras -o small.keras --compensate --data train.npz --take 1000"],
    )  # fmt: skip
    add_loading(parser, ("model", {"help": "a .keras file"}))
    add_output(parser, "where the smaller model goes, a .keras file")
    _add_planning(parser)
    add_data(parser, "examples for criteria that look at data, for --compensate, and to measure by")
    parser.add_argument(
        "--compensate", action="store_true",
        help="fit the weights that stay anew to what the whole model computes on the examples",
    )  # fmt: skip
    parser.add_argument(
        "--plan", type=pathlib.Path, metavar="JSON",
        help="carry out this plan, in place of the options for planning",
    )  # fmt: skip
    parser.add_argument(
        "--plan-out", type=pathlib.Path, metavar="JSON", help="write the plan as well"
    )


def _add_planning(parser: Parser) -> None:
    group = parser.add_argument_group("planning", argument_default=argparse.SUPPRESS)
    much = group.add_mutually_exclusive_group()
    much.add_argument("--ratio", type=share, help="share of the filters that go (default: 0.5)")
    for name, what, units, example in (
        ("--params", "parameters", "[kmg]?", "20k"),
        ("--macs", "multiply-adds", "[kmg]?", "3M"),
        ("--flops", "FLOPs", "[kmg]?", "6M"),
        ("--size", "bytes of the .tflite", f"([kmg]i?)?b?( ({_PRECISIONS}))?", "'200KB int8'"),
        ("--latency", "time for an example in TFLite", "m?s|[uµ]s", "5ms"),
    ):
        much.add_argument(
            name, type=amount(units, example), metavar="MOST",
            help=f"at most so much is left: {what}, such as {example}",
        )  # fmt: skip
    group.add_argument(
        "--of", choices=("filters", "params", "macs", "flops", "size", "latency"),
        help="what the ratio is a share of (default: filters)",
    )  # fmt: skip
    group.add_argument(
        "--scope", choices=("global", "layer"),
        help="rank all filters together, or take the same share of each layer (default: global)",
    )  # fmt: skip
    group.add_argument(
        "--per-layer", action="append", type=named_share, metavar="NAME=RATIO",
        help="a layer, or a pattern of names, with a ratio of its own; may be repeated",
    )  # fmt: skip
    group.add_argument("--min-channels", type=count, metavar="N", help="every layer keeps so many")
    group.add_argument(
        "--round-to", type=_multiple, metavar="N",
        help="what is left of a layer is a multiple of N; 'auto' takes what is fast here",
    )  # fmt: skip
    group.add_argument("--max-ratio", type=share, help="no layer loses more than this share")
    group.add_argument(
        "--branches", action="append", metavar="NAME",
        help="an addition whose residual branch goes as a whole, or a pattern; may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--heads", action="store_true", default=argparse.SUPPRESS,
        help="whole heads of attention may go, too",
    )  # fmt: skip
    add_ranking(group)


def _multiple(text: str) -> int | str:
    if text != "auto" and not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(
            f"expected a positive number or 'auto', received: {text!r}"
        )
    return text if text == "auto" else int(text)


def run(options: argparse.Namespace) -> Answer:
    given = {name: getattr(options, name) for name in _OF_THE_PLAN if hasattr(options, name)}
    if options.compensate and options.data is None:
        options.parser.error("--compensate takes examples: give them with --data")
    if options.plan is not None and (given or (options.data and not options.compensate)):
        options.parser.error("--plan takes no options for planning: a plan has them all")
    if "per_layer" in given:
        given["per_layer"] = dict(given["per_layer"])
    check_inputs(options.model, options.data)
    check_outputs(
        (options.output, options.plan_out), (options.model, options.plan, options.data),
        options.force,
    )  # fmt: skip
    if options.output.suffix != ".keras":
        raise CommandError(f"{options.output}: expected a path that ends with .keras")
    from keras_iplt_cli.work.pruning import pruned

    return pruned(options, given)
