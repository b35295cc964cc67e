"""What may go from a language model? Channels, MLPs, heads and whole blocks, at equal size.

    python benchmarks/language.py --results language.jsonl
    python benchmarks/language.py --results language.jsonl --seeds 3 --left 0.5

A decoder of four blocks learns the text that comes with Python (the topics of `help()`), letter by
letter. Of the same weights then go, until the same share of the parameters is left: channels of
any kind, those inside the MLPs alone, whole heads and those inside the MLPs, or the blocks that
cost the least. What is left is judged as it is, fitted anew (`compensate`), and after some batches
more, with and without the whole model as a teacher. `random` and `scratch` (the shape of "channels"
from new weights, for as long as the model was trained) are the controls. The figure is the
perplexity per letter on the last tenth of the text. Runs are kept, and not made again.
"""

import argparse
import json
import pathlib
import pydoc_data.topics
import time

import keras
import numpy as np
from keras import layers
from markdown_tables import table

import keras_iplt as iplt

LENGTH, WIDTH, DEPTH, HEADS = 128, 96, 4, 4
BATCH, SEEN = 32, 256  # texts in a batch, and those that scores and refits look at
RATE, LATER = 2e-3, 5e-4
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
WAYS = ("channels", "mlp", "heads", "blocks", "random", "scratch")
AFTER = ("nothing", "refit", "batches", "refit, batches", "refit, teacher")


class Positions(layers.Layer):
    """Adds what is learnt of each place."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], initializer="random_normal", name="table")

    def call(self, x):
        return x + self.table


def decoder(letters):
    tokens = keras.Input((LENGTH,), dtype="int32")
    x = Positions(name="places")(layers.Embedding(letters, WIDTH, name="letters")(tokens))
    for i in range(DEPTH):
        y = layers.RMSNormalization(name=f"norm{i}a")(x)
        attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"attention{i}")
        x = layers.Add(name=f"attended{i}")([x, attention(y, y, use_causal_mask=True)])
        y = layers.RMSNormalization(name=f"norm{i}b")(x)
        y = layers.Dense(4 * WIDTH, activation="gelu", name=f"up{i}")(y)
        x = layers.Add(name=f"added{i}")([x, layers.Dense(WIDTH, name=f"down{i}")(y)])
    return keras.Model(tokens, layers.Dense(letters, name="next")(layers.RMSNormalization()(x)))


def text():
    """Letters as numbers: those to learn from, and the last tenth."""
    whole = "".join(pydoc_data.topics.topics[key] for key in sorted(pydoc_data.topics.topics))
    _, numbers = np.unique(list(whole), return_inverse=True)
    border = len(numbers) * 9 // 10
    return numbers[:border].astype("int32"), numbers[border:].astype("int32")


def batches(numbers, count, seed):
    random = np.random.default_rng(seed)
    for _ in range(count):
        starts = random.integers(0, len(numbers) - LENGTH - 1, (BATCH, 1))
        several = numbers[starts + np.arange(LENGTH + 1)]
        yield several[:, :-1], several[:, 1:]


def train(model, numbers, count, rate, seed, teacher=None):
    """Some batches, at a rate that falls to zero."""
    schedule = keras.optimizers.schedules.CosineDecay(0.0, count, warmup_target=rate,
                                                      warmup_steps=max(1, count // 20))  # fmt: skip
    options = dict(optimizer=keras.optimizers.Adam(schedule))
    if teacher is None:
        model.compile(loss=LOSS, **options)
        trained = model
    else:
        from keras.distillation import Distiller, LogitsDistillation

        trained = Distiller(teacher, model, LogitsDistillation(1.0, keras.losses.KLDivergence()))
        model.compile(loss=LOSS)
        trained.compile(loss=LOSS, **options)
    for x, y in batches(numbers, count, seed):
        trained.train_on_batch(x, y)


def perplexity(model, numbers):
    several = numbers[: len(numbers) // (LENGTH + 1) * (LENGTH + 1)].reshape(-1, LENGTH + 1)
    said = model.predict(several[:, :-1], batch_size=64, verbose=0)
    return float(np.exp(LOSS(several[:, 1:], said)))


def pruned(model, way, left, seen, compensate):
    """The model with a share of its parameters left."""
    if way == "blocks":
        graph, gone = iplt.trace(model), []
        while graph.whole.model.count_params() * left < graph.model.count_params():
            scores = iplt.branch_scores(model, seen, without=gone, verbose=0)
            gone = [*gone, next(iter(scores)).name]
            graph = iplt.trace(model, without=gone)
        return iplt.rewrite(model, iplt.plan(model, branches=gone), compensate, verbose=0)
    options = {
        "channels": {}, "random": {"criterion": "random"}, "mlp": {"only": "up*"},
        "heads": {"heads": True, "only": ["up*", "*/heads"]},
    }[way]  # fmt: skip
    plan = iplt.plan(model, 1 - left, of="params", verbose=0, **options)
    return iplt.rewrite(model, plan, compensate, verbose=0)


def run(way, after, seed, options, whole, learn):
    seen = next(batches(learn, 1, 1000 + seed)), *batches(learn, SEEN // BATCH - 1, seed)
    x = np.concatenate([one[0] for one in seen])
    labelled = (x, np.concatenate([one[1] for one in seen]))
    small = pruned(whole, "channels" if way == "scratch" else way, options.left, labelled,
                   x if "refit" in after else None)  # fmt: skip
    if way == "scratch":
        small = keras.models.clone_model(small)
        train(small, learn, options.batches, RATE, seed)
    elif "batches" in after or "teacher" in after:
        teacher = whole if "teacher" in after else None
        train(small, learn, options.later, LATER, seed, teacher)
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
    learn, held = text()
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    known = [json.loads(line) for line in lines]
    settings = {name: getattr(options, name) for name in ("left", "batches", "later")}

    def done(**keys):
        return next((one for one in known if keys.items() <= one.items()), None)

    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        file = options.results.with_suffix(f".{options.batches}-{seed}.keras")
        if not file.exists():
            model = decoder(int(learn.max()) + 1)
            train(model, learn, options.batches, RATE, seed)
            model.save(file)
        custom = {"Positions": Positions}
        wanted = [("whole", "nothing")]
        wanted += [(way, after) for way in options.ways for after in options.after
                   if way != "scratch" or after == "nothing"]  # fmt: skip
        for way, after in wanted:
            keys = {"way": way, "after": after, "seed": seed, **settings}
            if done(**keys):
                continue
            start, whole = time.process_time(), keras.models.load_model(file, custom)
            small = whole if way == "whole" else run(way, after, seed, options, whole, learn)
            found = keys | {
                "perplexity": perplexity(small, held), "cpu": time.process_time() - start,
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
