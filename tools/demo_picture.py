"""Draws the picture of the README: the demo's two trainings, epoch by epoch.

    python tools/demo_picture.py [docs/pictures/demo.png]

It trains as `keras-iplt demo` does, and looks at each epoch: how large the model is, how many of
the test digits it knows, and how long the epoch took. About a minute on two cores.
"""

import io
import pathlib
import sys
import time

import keras
import PIL.Image
from keras_iplt_recipes.demo import training as demo

import keras_iplt as iplt

PICTURE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "pictures" / "demo.png"
RATIO, EPOCHS, SEED = 0.6, 24, 0  # what the demo itself takes unless told
SIZES = ("parameters", "FLOPs per image")
ACCURACY = "accuracy on test digits"


class Epochs(keras.callbacks.Callback):
    """What each epoch leaves behind; evaluation is not part of its seconds."""

    def __init__(self):
        super().__init__()
        self.history = {name: [] for name in (*SIZES, ACCURACY, "seconds of the epoch")}
        self.started = None

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.started
        counted = iplt.profile(self.model)
        _, test = demo.digits()
        row = (counted.params, counted.flops, demo.evaluate(self.model, test), seconds)
        for values, value in zip(self.history.values(), row, strict=True):
            values.append(value)


def histories(epochs=EPOCHS):
    """`(dense, pruned)`, each `{metric: [one per epoch]}`, of trainings from the same start."""
    demo.compiled(SEED).fit(*(part[:64] for part in demo.digits()[0]), verbose=0)  # starts once
    found = []
    for name, pruning in (("dense", []), ("iplt", [iplt.IPLTCallback(RATIO, scope="layer")])):
        recorder = Epochs()
        demo.trained(name, epochs, SEED, [recorder, *pruning])
        found.append(recorder.history)
    return found


def drawn(dense, pruned):
    """A plot per metric: the pruned training as `plots.history` draws it, the dense one dashed."""
    figure = iplt.plots.history(pruned)
    for axes, values in zip(figure.axes, dense.values(), strict=True):
        (line,) = axes.lines
        line.set_label("with IPLTCallback")
        axes.plot(range(1, len(values) + 1), values, "--", color="0.55", linewidth=1.5,
                  label="without")  # fmt: skip
        if axes.get_title() in SIZES:
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter("{x:,.0f}")
        elif axes.get_title() == ACCURACY:
            axes.set_ylim(0.8, 1.01)  # all but the first epoch
            axes.set_yticks([0.8, 0.85, 0.9, 0.95, 1])
            axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def main(path=PICTURE):
    drawing = io.BytesIO()
    drawn(*histories()).savefig(drawing, dpi=100)
    few_colours = PIL.Image.open(drawing).convert(
        "P", palette=PIL.Image.Palette.ADAPTIVE, colors=32
    )
    few_colours.save(path, optimize=True)  # a third of the bytes


if __name__ == "__main__":
    main(*sys.argv[1:2])
