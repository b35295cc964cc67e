"""The results of a recipe: Markdown to read, JSON to go on with, pictures."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import platform
import sys

import keras
import numpy as np

from keras_iplt.errors import MissingExtraError
from keras_iplt.reporting.surroundings import versions
from keras_iplt.support.files import replacing

from ..common.study import say

__all__ = ["Page", "Spread", "spread"]


@dataclasses.dataclass(frozen=True)
class Spread:
    """The same figure of several seeds: mean ± standard deviation."""

    values: tuple
    digits: int = 2

    @classmethod
    def of(cls, values, digits=2):
        return cls(tuple(values), digits)

    @property
    def mean(self):
        return float(np.mean(self.values))

    @property
    def deviation(self):
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    @property
    def noise(self):
        """Twice the standard error of the mean; None where one seed does not tell."""
        if len(self.values) < 2:
            return None
        return 2 * self.deviation / math.sqrt(len(self.values))

    def minus(self, other):
        """The difference of the means, and its noise: None where one seed does not tell."""
        difference = self.mean - other.mean
        if self.noise is None or other.noise is None:
            return difference, None
        return difference, math.hypot(self.noise, other.noise)

    def not_worse_than(self, other):
        """Whether the claim holds that these points are not fewer than others', in words."""
        difference, noise = self.minus(other)
        if noise is None:
            return f"{difference:+.2f} points; one seed does not tell the noise."
        verdict = "holds" if difference >= -noise else "does not hold"
        return f"{difference:+.2f} points, noise {noise:.2f}: {verdict}."

    def __str__(self):
        mean = f"{self.mean:.{self.digits}f}"
        return f"{mean} ± {self.deviation:.{self.digits}f}" if self.values[1:] else mean

    def plain(self):
        """As JSON takes it."""
        return {"mean": self.mean, "deviation": self.deviation, "values": list(self.values)}


def spread(runs, key, digits=2):
    """The `Spread` of what runs that differ by their seeds returned under a key; None where there
    are no runs."""
    return Spread.of([run[key] for run in runs], digits) if runs else None


class Page:
    """What a recipe found.

    Args:
        title: of the page.
        study: the `Study` whose folder it is written to.
        command: how it was run.
    """

    def __init__(self, title, study, command):
        self.title, self.study, self.command = title, study, command
        self._parts: list[str] = []
        self._tables: dict = {}

    def heading(self, text):
        self._parts.append(f"## {text}")

    def text(self, text):
        self._parts.append(text)

    def table(self, name, rows, note=None):
        """A table.

        Args:
            name: what stands over it, and its name in the file of JSON.
            rows: dicts with the same keys, the heads of the columns. Values are text, numbers,
                `Spread`s, or None.
            note: what stands under it.
        """
        self._tables[name] = [{k: _plain(v) for k, v in row.items()} for row in rows]
        heads = list(rows[0])
        lines = [heads, ["---"] * len(heads), *([_cell(row[h]) for h in heads] for row in rows)]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        self._parts.append(f"**{name}**\n\n{text}")
        if note:
            self._parts.append(note)

    def picture(self, name, draw):
        """A picture, if matplotlib is installed.

        Args:
            name: of the file, without a suffix.
            draw: called without arguments; returns a figure.
        """
        try:
            figure = draw()
        except MissingExtraError as error:
            say(f"without {name}.png: {error}")
            return
        with replacing(self.study.folder / f"{name}.png") as partial:
            figure.savefig(partial, dpi=130)
        self._parts.append(f"![{name}]({name}.png)")

    def write(self):
        """Writes results.md and results.json; prints the former; returns the latter."""
        made_with = environment()
        content = {
            "recipe": self.study.recipe, "title": self.title, "command": self.command,
            "made with": made_with, "tables": self._tables, "runs": {
                name: {"settings": self.study.settings[name], "result": result}
                for name, result in self.study.results.items()
            },
        }  # fmt: skip
        stated = ", ".join(f"{key} {value}" for key, value in made_with.items())
        head = [f"# {self.title}", f"    {self.command}", f"Made with {stated}."]
        page = "\n\n".join([*head, *self._parts]) + "\n"
        for name, text in (
            ("results.md", page),
            ("results.json", json.dumps(content, indent=1, ensure_ascii=False)),
        ):
            with replacing(self.study.folder / name) as partial:
                partial.write_text(text, encoding="utf-8")
        print(page)
        say(f"written to {self.study.folder}/: results.md, results.json, pictures and models")
        return {"folder": str(self.study.folder), "tables": self._tables}


def _plain(value):
    return value.plain() if isinstance(value, Spread) else value


def _cell(value):
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def environment():
    """Versions and the machine: what figures depend on."""
    return versions() | {"machine": f"{_processor()}, {os.cpu_count()} cores{_gpus()}"}


def _processor():
    """The name of the processor, where the system tells it."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus():
    backend = keras.backend.backend()
    names = []
    if backend == "tensorflow":
        tf = sys.modules["tensorflow"]
        for device in tf.config.list_physical_devices("GPU"):
            names.append(
                tf.config.experimental.get_device_details(device).get("device_name", "GPU")
            )
    elif backend == "jax":
        jax = sys.modules["jax"]
        names = [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    return f", {len(names)} × {names[0]}" if names else ""
