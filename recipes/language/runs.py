"""A language model: the runs, the whole model first and then what is left of it."""

import argparse
import itertools
from typing import Any

import keras

import keras_iplt as iplt

from ..common.grid import Case, Grid
from ..common.spread import Runs
from ..common.training import Workbench, at_workbench
from .networks import decoder, planned
from .text import ALPHABET, LOSS, Texts, generate, perplexity

__all__ = ["Found", "run_all", "smaller", "taught", "whole"]

Found = dict[tuple[str, float], Runs]  # of a way and a share: see `smaller`
SCORED, LATER = 1000, 2000  # where seeds begin of texts to score and refit by, and to tune on


def taught(count: int, rate: float, teacher: bool = False) -> dict[str, Any]:
    """How a model is compiled: to learn from texts, or from a teacher too, in so many batches."""
    rates = keras.optimizers.schedules.CosineDecay(
        0.0, count, warmup_target=rate, warmup_steps=max(1, count // 20)
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True) if teacher else LOSS
    return {"optimizer": keras.optimizers.Adam(rates), "loss": loss}


@at_workbench
def whole(
    bench: Workbench, letters: int, length: int, width: int, depth: int, heads: int, epochs: int,
    batches: int, rate: float, judged: int | None, prompt: str, write: int,
) -> dict[str, Any]:  # fmt: skip
    """Trains a decoder.

    Args:
        letters, length, width, depth, heads: see `decoder`.
        epochs, batches, rate: how long, how many batches an epoch has, and the rate at first.
        judged: how many texts it is judged by.
        prompt, write: what it goes on from, and how many letters it writes.
    """
    model = decoder(letters, length, width, depth, heads)
    bench.compile(model, **taught(epochs * batches, rate))
    texts = Texts(length, bench.batch, batches, bench.seed)
    course = bench.fit(model, epochs, batches=texts)
    return {
        "perplexity": perplexity(model, judged), "text": generate(model, prompt, write),
        "seconds": course.seconds, **costs(model),
    }  # fmt: skip


@at_workbench
def smaller(
    bench: Workbench, start: str, way: str, left: float, seen: int, epochs: int, batches: int,
    rate: float, judged: int | None, prompt: str, write: int,
) -> dict[str, Any]:  # fmt: skip
    """Prunes the decoder of another run, fits what is left, and trains it with a teacher.

    Args:
        start: the run that trained the decoder.
        way, left: what goes, and the share of the parameters to leave, see `planned`.
        seen: how many texts refits and scores look at.
        epochs, batches, rate, judged, prompt, write: see `whole`.
    """
    model = bench.load(start)
    length = model.input_shape[1]
    texts = Texts(length, bench.batch, -(-seen // bench.batch), SCORED + bench.seed).all()
    plan = planned(model, way, left, texts)
    cut = iplt.rewrite(model, plan, verbose=0)
    found = {"cut": perplexity(cut, judged), "cut text": generate(cut, prompt, write)}
    small = cut
    if way != "blocks":  # what reads channels that stay is fitted; where none go, nothing is
        small = iplt.rewrite(model, plan, compensate=texts[0], verbose=0)
        found["refitted"] = perplexity(small, judged)
    bench.compile(small, **taught(epochs * batches, rate, teacher=True))
    lessons = Texts(length, bench.batch, batches, LATER + bench.seed, model)
    course = bench.fit(small, epochs, batches=lessons)
    found |= {"tuned": perplexity(small, judged), "text": generate(small, prompt, write)}
    iplt.mask(model, plan)
    same = generate(model, prompt, write) == found["cut text"]
    return {**found, "same": same, "seconds": course.seconds, **costs(small)}


def costs(model: keras.Model) -> dict[str, Any]:
    """What it costs to keep a model and to run it on a text."""
    profile = iplt.profile(model)
    return {"params": profile.params, "macs": profile.macs}


def run_all(options: argparse.Namespace, grid: Grid) -> tuple[Runs, Found]:
    """The runs of the whole model, a result per seed, and those of what is left of it."""
    told = {name: getattr(options, name) for name in ("batches", "judged", "prompt", "write")}
    shape = {name: getattr(options, name) for name in ("length", "width", "depth", "heads")}
    course = {"epochs": options.epochs, "rate": options.rate}
    first = Case("whole", whole, {"letters": len(ALPHABET), **shape, **course, **told})
    tuning = {"epochs": options.tuning, "rate": options.tuning_rate, "seen": options.seen}
    cases = {
        (way, left): Case(
            f"{way}-{left:g}", smaller, {"way": way, "left": left, **tuning, **told}, first.name
        )
        for way, left in itertools.product(options.ways, options.left)
    }
    return grid.run({"whole": first})["whole"], grid.run(cases)
