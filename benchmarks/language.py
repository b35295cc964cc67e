"""What may go from a language model? Channels, MLPs, heads and whole blocks, at equal size.

    python benchmarks/language.py --results language.jsonl
    python benchmarks/language.py --results language.jsonl --seeds 3 --left 0.5

The model, the text and what goes are those of `recipes.language`; here one share of the parameters
is left, in more ways, and judged after each of the steps that the recipe takes, with and without
the others: cut, fitted anew (`compensate`), and after some batches more, with and without the whole
model as a teacher. `random` and `scratch` (the shape of "channels" from new weights, for as long as
the model was trained) are the controls. Runs are kept, and not made again.
"""

import argparse
import json
import pathlib
import time

import keras
import numpy as np
from keras_iplt_recipes.language.networks import decoder, planned
from keras_iplt_recipes.language.runs import taught
from keras_iplt_recipes.language.text import ALPHABET, Texts, perplexity
from markdown_tables import table

import keras_iplt as iplt

LENGTH, WIDTH, DEPTH, HEADS = 128, 96, 4, 4
BATCH, SEEN = 32, 256  # texts in a batch, and those that scores and refits look at
RATE, LATER = 2e-3, 5e-4
WAYS = ("channels", "mlp", "heads", "blocks", "random", "scratch")
AFTER = ("nothing", "refit", "batches", "refit, batches", "refit, teacher")


def train(model, count, rate, seed, teacher=None):
    """Some batches, at a rate that falls to zero."""
    model.compile(**taught(count, rate, teacher is not None))
    model.fit(Texts(LENGTH, BATCH, count, seed, teacher), shuffle=False, verbose=0)


def run(way, after, seed, options, whole):
    seen = Texts(LENGTH, BATCH, SEEN // BATCH, 1000 + seed).all()
    plan = planned(whole, "channels" if way == "scratch" else way, options.left, seen)
    small = iplt.rewrite(whole, plan, seen[0] if "refit" in after else None, verbose=0)
    if way == "scratch":
        small = keras.models.clone_model(small)
        train(small, options.batches, RATE, seed)
    elif "batches" in after or "teacher" in after:
        train(small, options.later, LATER, 2000 + seed, whole if "teacher" in after else None)
    return small


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--results", type=pathlib.Path, required=True, help="a file of lines, which grows")
    add("--ways", nargs="+", choices=WAYS, default=WAYS)
    add("--after", nargs="+", choices=AFTER, default=AFTER)
    add("--seeds", type=int, default=1)
    add("--left", type=float, default=0.6, help="share of the parameters (0.6)")
    add("--batches", type=int, default=800, help="of the training (800)")
    add("--later", type=int, default=100, help="of the training afterwards (100)")
    options = parser.parse_args()
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    known = [json.loads(line) for line in lines]
    settings = {name: getattr(options, name) for name in ("left", "batches", "later")}

    def done(**keys):
        return next((one for one in known if keys.items() <= one.items()), None)

    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        file = options.results.with_suffix(f".{options.batches}-{seed}.keras")
        if not file.exists():
            model = decoder(len(ALPHABET), LENGTH, WIDTH, DEPTH, HEADS)
            train(model, options.batches, RATE, seed)
            model.save(file)
        wanted = [("whole", "nothing")]
        wanted += [(way, after) for way in options.ways for after in options.after
                   if way != "scratch" or after == "nothing"]  # fmt: skip
        for way, after in wanted:
            keys = {"way": way, "after": after, "seed": seed, **settings}
            if done(**keys):
                continue
            start, whole = time.process_time(), keras.models.load_model(file)
            small = whole if way == "whole" else run(way, after, seed, options, whole)
            found = keys | {
                "perplexity": perplexity(small), "cpu": time.process_time() - start,
                "params": small.count_params() / whole.count_params(),
                "macs": iplt.profile(small).macs / iplt.profile(whole).macs,
            }  # fmt: skip
            known.append(found)
            with options.results.open("a") as lines:
                lines.write(json.dumps(found) + "\n")
            print(f"{way}, {after}: {found['perplexity']:.3f}", flush=True)
    show([one for one in known if settings.items() <= one.items()])


def show(found):
    def several(way, after, what):
        return [one[what] for one in found if (one["way"], one["after"]) == (way, after)]

    def cell(way, after):
        values = several(way, after, "perplexity")
        if not values:
            return ""
        return f"{np.mean(values):.3f} ± {np.std(values):.3f} ({len(values)})"

    rows = []
    for way in ("whole", *WAYS):
        if several(way, "nothing", "params"):
            size = [f"{np.mean(several(way, 'nothing', what)):.2f}" for what in ("params", "macs")]
            rows.append([way, *size, *(cell(way, after) for after in AFTER)])
    table(["", "parameters left", "MACs left", *AFTER], rows)


if __name__ == "__main__":
    main()
