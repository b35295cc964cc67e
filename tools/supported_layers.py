"""Writes the lists of docs/supported-layers.md anew: `python tools/supported_layers.py`."""

import pathlib
import re
import textwrap

import keras

from keras_iplt.graph.rules import supported

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "supported-layers.md"
PARTS = ("layers", "operations")


def list_of(part):
    """Matches one of the two generated lists of the page."""
    return re.compile(rf"(<!-- {part}: generated -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def listed(page):
    """The names in both lists, as the page has them."""
    return [re.findall(r"`(\w+)`", list_of(part).search(page)[2]) for part in PARTS]


def with_rules():
    """The public names of the layers, and the operations, that have a rule.

    Without those that tests and examples registered."""
    layers, operations = supported()
    public = {
        getattr(getattr(keras.layers, name), "__name__", ""): name for name in dir(keras.layers)
    }
    names = {kind if hasattr(keras.layers, kind) else public.get(kind) for kind in layers}
    return [sorted(names - {None}), operations]


def main():
    page = PAGE.read_text(encoding="utf-8")
    for part, names in zip(PARTS, with_rules(), strict=True):
        text = textwrap.fill(", ".join(f"`{name}`" for name in names), 100)
        page = list_of(part).sub(lambda m, t=text: f"{m[1]}{t}\n{m[3]}", page)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
