"""`keras-iplt prune`: a smaller model."""

import argparse
import pathlib

from keras_iplt.cli import work
from keras_iplt.cli.options import (
    add_command,
    add_data,
    add_loading,
    add_output,
    add_ranking,
    named_share,
)
from keras_iplt.cli.outputs import check_outputs, read_text
from keras_iplt.cli.talk import Answer, say
from keras_iplt.errors import OptionError

__all__ = ["add"]

_OF_THE_PLAN = (  # arguments of `keras_iplt.plan`
    *("ratio", "of", "criterion", "scope", "per_layer", "ignore", "min_channels", "round_to"),
    *("max_ratio", "convolutions_only"),
)


def add(commands):
    parser = add_command(
        commands, "prune", run,
        "Removes filters of a model and writes the smaller one. Train it a little afterwards.",
        ["keras-iplt prune model.keras -o small.keras --ratio 0.5",
         "keras-iplt prune model.keras -o small.keras --ratio 0.3 --of flops --ignore stem",
         "keras-iplt prune model.keras -o small.keras --per-layer conv1=0.2 --plan-out plan.json",
         "keras-iplt prune model.keras -o small.keras --plan plan.json",
         "keras-iplt prune model.keras -o small.keras --criterion taylor --data test.npz"],
    )  # fmt: skip
    add_loading(parser, ("model", {"help": "a .keras file"}))
    add_output(parser, "where the smaller model goes, a .keras file")
    _add_planning(parser)
    add_data(parser, "examples for criteria that look at data")
    parser.add_argument(
        "--plan", type=pathlib.Path, metavar="JSON",
        help="carry out this plan, in place of the options for planning",
    )  # fmt: skip
    parser.add_argument(
        "--plan-out", type=pathlib.Path, metavar="JSON", help="write the plan as well"
    )


def _add_planning(parser):
    group = parser.add_argument_group("planning", argument_default=argparse.SUPPRESS)
    group.add_argument("--ratio", type=float, help="share of the filters that go (default: 0.5)")
    group.add_argument(
        "--of", choices=("filters", "params", "flops", "latency"),
        help="what the ratio is a share of (default: filters)",
    )  # fmt: skip
    group.add_argument(
        "--scope", choices=("global", "layer"),
        help="rank all filters together, or take the same share of each layer (default: global)",
    )  # fmt: skip
    group.add_argument(
        "--per-layer", action="append", type=named_share, metavar="NAME=RATIO",
        help="a layer with a ratio of its own; may be repeated",
    )  # fmt: skip
    group.add_argument("--min-channels", type=int, metavar="N", help="every layer keeps so many")
    group.add_argument(
        "--round-to", type=_multiple, metavar="N",
        help="what is left of a layer is a multiple of N; 'auto' takes what is fast here",
    )  # fmt: skip
    group.add_argument("--max-ratio", type=float, help="no layer loses more than this share")
    add_ranking(group)


def _multiple(text):
    return "auto" if text == "auto" else int(text)


def run(options):
    given = {name: getattr(options, name) for name in _OF_THE_PLAN if hasattr(options, name)}
    if options.plan is not None and (given or options.data):
        options.parser.error("--plan takes no options for planning: a plan has them all")
    check_outputs(
        (options.output, options.plan_out), (options.model, options.plan, options.data),
        options.force,
    )  # fmt: skip
    if options.output.suffix != ".keras":
        raise OptionError(f"{options.output}: expected a path that ends with .keras")
    iplt = work.library()
    found = work.examples(options)
    model = work.loaded(options, options.model, compile=True)
    if options.plan is not None:
        plan = iplt.Plan.from_json(read_text(options.plan))
    else:
        plan = _planned(iplt, model, given, found)
    say("removing filters")
    small = iplt.rewrite(model, plan)
    comparison = iplt.compare(model, small)
    _write(options, small, plan)
    content = {"output": str(options.output), **comparison.to_dict()}
    return Answer(f"{comparison}\n\nwritten to {options.output}", content)


def _planned(iplt, model, given, found):
    if "per_layer" in given:
        given["per_layer"] = dict(given["per_layer"])
    if found is None:
        return iplt.plan(model, **given)
    return iplt.plan(work.compiled(model, found), data=found.data, **given)


def _write(options, small, plan):
    """The plan goes last: its place is taken once the model is safe."""
    replacing = work.module("keras_iplt.support.files").replacing
    with replacing(options.output) as partial:
        small.save(partial)
    if options.plan_out is not None:
        with replacing(options.plan_out) as partial:
            partial.write_text(plan.to_json(), encoding="utf-8")
