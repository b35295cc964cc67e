"""`keras-iplt smallest`: as small as a model goes while a metric holds."""

import argparse

from keras_iplt_cli.errors import CommandError
from keras_iplt_cli.files import check_inputs, check_outputs
from keras_iplt_cli.options import (
    Commands,
    add_command,
    add_data,
    add_loading,
    add_output,
    add_ranking,
    not_negative,
    positive,
    share,
)
from keras_iplt_cli.talk import Answer

__all__ = ["add"]

_OF_THE_SEARCH = (  # arguments of `keras_iplt.smallest`
    *("within", "minutes", "backup_dir", "metric", "step", "of", "criterion", "ignore", "only"),
    "convolutions_only",
)


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "smallest", run,
        "Makes a model as small as it goes while a metric holds, and writes it. It is not trained.",
        ["keras-iplt smallest model.keras -o small.keras --data test.npz --compensate",
         "keras-iplt smallest model.keras -o small.keras --data test.npz --within 0.02 --of flops",
         "keras-iplt smallest model.keras -o small.keras --data test.npz --minutes 30"],
    )  # fmt: skip
    add_loading(parser, ("model", {"help": "a .keras file"}))
    add_output(parser, "the smaller model: a .keras file")
    add_data(parser, "examples with labels, to judge by", required=True)
    unset = argparse.SUPPRESS
    parser.add_argument(
        "--within", type=not_negative, default=unset, metavar="DROP",
        help="how much worse the metric may be (default: 0.01, a point of accuracy)",
    )  # fmt: skip
    parser.add_argument(
        "--compensate", action="store_true",
        help="fit what stays to what the whole model computed on the examples; their labels are "
        "not looked at",
    )  # fmt: skip
    parser.add_argument("--metric", default=unset, help="which one (default: the first there is)")
    parser.add_argument(
        "--of", default=unset, choices=("filters", "params", "macs", "flops", "size", "latency"),
        help="what is to be small (default: params)",
    )  # fmt: skip
    parser.add_argument(
        "--step", type=share, default=unset, metavar="SHARE",
        help="end where less than this share of what is left could go (default: 0.05)",
    )  # fmt: skip
    parser.add_argument(
        "--minutes",
        type=positive,
        default=unset,
        metavar="N",
        help="how long it may take (default: no limit)",
    )
    parser.add_argument(
        "--backup-dir", default=unset, metavar="DIR",
        help="what is done so far: the same command goes on from there",
    )  # fmt: skip
    add_ranking(parser)


def run(options: argparse.Namespace) -> Answer:
    given = {name: getattr(options, name) for name in _OF_THE_SEARCH if hasattr(options, name)}
    check_inputs(options.model, options.data)
    check_outputs((options.output,), (options.model, options.data), options.force)
    if options.output.suffix != ".keras":
        raise CommandError(f"{options.output}: expected a path that ends with .keras")
    from keras_iplt_cli.work.searching import found

    return found(options, given)
