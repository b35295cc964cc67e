"""A language model, from the first letter to the last: trained, pruned, refitted, tuned, writing.

    python -m recipes.language --quick      # all of it, small: seconds
    python -m recipes.language              # a quarter of an hour of two cores

A decoder of four blocks (480,000 parameters) learns the text that comes with Python, the topics of
`help()`, letter by letter. Of the same weights then go, until a share of the parameters is left:

    mlp        channels inside the MLPs
    heads      these and whole heads of attention
    channels   channels of any kind, those of the residual stream included
    blocks     whole residual branches, attention or MLPs, one after another the one that costs the
               least to leave out

What is left is judged as it is, fitted anew to what the whole model computed on a few texts
(`compensate`; blocks are not), and after some batches more, in which the whole model teaches: half
of what is to be said is the text, half what the whole model would say. The figure is the perplexity
per letter on the last tenth of the text: between so many letters, all alike, it is in doubt.

Each model writes some letters, each drawn from what it says by the same random numbers. The masked
model has to write, letter by letter, what the pruned one does, and the table tells whether it did.

No paper has these figures. Everything is of plain Keras layers: what changes with a model of
KerasHub is in docs/language-models.md.

--quick: two small blocks, and two batches of everything, which is too little to learn anything: it
shows that all of it runs.
"""

from collections.abc import Sequence
from typing import Any

from ..common.command import RecipeParser, failing_in_a_line, positive, share

__all__ = ["WAYS", "main"]

WAYS = ("mlp", "heads", "channels", "blocks")


def main(arguments: Sequence[Any] | None = None, prog: str | None = None) -> dict[str, Any]:
    """Does what a command says; help is given, and mistakes are found, without Keras."""
    options = parser(prog).parsed(arguments)
    with failing_in_a_line(options.out):
        from .tables import reproduce

        return reproduce(options)


def parser(prog: str | None = None) -> RecipeParser:
    """What the command takes: in full, and with --quick."""
    parser = RecipeParser("language", __doc__, prog, seeds=(1, 1), batch=(32, 2))
    add = parser.option
    add("--ways", None, ["mlp", "heads", "blocks"], None, "what goes (mlp heads blocks)",
        nargs="+", choices=WAYS)  # fmt: skip
    add("--left", share, [0.8, 0.6, 0.5], [0.85], "shares of the parameters to leave "
        "(0.8 0.6 0.5)", nargs="+", metavar="SHARE")  # fmt: skip
    add("--length", positive, 128, 16, "letters that the model sees (128)")
    add("--width", positive, 96, 8, "of the residual stream (96)")
    add("--depth", positive, 4, 2, "blocks (4)")
    add("--heads", positive, 4, 2, "heads of each attention (4)")
    add("--epochs", positive, 8, 1, "of the training (8)")
    add("--tuning", positive, 1, None, "epochs of the training afterwards (1)")
    add("--batches", positive, 100, 2, "of an epoch (100)")
    add("--rate", float, 2e-3, None, "learning rate at first (0.002)")
    add("--tuning-rate", float, 5e-4, None, "the same afterwards (0.0005)")
    add("--seen", positive, 256, 4, "texts that refits and scores look at (256)")
    add("--judged", positive, None, 2, "texts to judge by (all of the last tenth)")
    add("--prompt", None, "The ", None, "what the models go on from ('The ')", metavar="TEXT")
    add("--write", positive, 200, 8, "letters that each model writes (200)")
    return parser
