"""What became of a model's metrics when each layer alone lost filters, as a table and in a file."""

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.support.arguments import NotNegative, checked
from keras_iplt.support.backups import KeptFile
from keras_iplt.support.files import file_at
from keras_iplt.support.metrics import watched, worsened
from keras_iplt.support.records import Count, read, read_json
from keras_iplt.support.tables import Table, Tables
from keras_iplt.support.text import MALFORMED, printable

__all__ = ["ResultFile", "Sensitivity"]

_FORMAT = "keras_iplt.sensitivity/1"


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Whatever is wrong with a result that comes from elsewhere is wrong in one way."""
    try:
        yield
    except OptionError:
        raise
    except MALFORMED as error:
        raise OptionError(
            f"expected the JSON text of a sensitivity analysis ({_FORMAT}); "
            f"{type(error).__name__}: {error}"
        ) from error


@checked
@dataclasses.dataclass(frozen=True, eq=False)
class Sensitivity(Tables):
    """What became of a model's metrics when each layer alone lost filters. Print it for a table.

    Attributes:
        model: its name.
        metric: the metric that methods look at unless told otherwise.
        layers: one name per group of channels, that of a layer that creates them: what `per_layer`
            of `keras_iplt.plan` takes. A layer that creates several (attention) stands for all.
        sizes: how many channels each has.
        ratios: the shares that were tried.
        removed: array `(layers, ratios)`: how many channels went.
        baseline: each metric of the whole model.
        values: per metric an array `(layers, ratios)`.
    """

    model: str
    metric: str
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    ratios: tuple[float, ...]
    removed: np.ndarray
    baseline: dict[str, float]
    values: dict[str, np.ndarray]

    @checked
    def drop(self, metric: str | None = None) -> np.ndarray:
        """Array `(layers, ratios)`: how much worse than the whole model each is.

        Negative numbers are better ones."""
        name = self._name(metric)
        return worsened(name, self.values[name], self.baseline[name])

    @checked
    def per_layer(self, drop: NotNegative = 0.01, metric: str | None = None) -> dict[str, float]:
        """How much each layer can lose by itself: `{layer: ratio}`, for `keras_iplt.plan`.

        Together they cost more than each by itself: begin with a small drop, and train.

        Args:
            drop: how much worse the metric may be; 0.01 is one point of accuracy.
            metric: which one; that of this object by default.

        Returns:
            Per layer the largest ratio up to which the metric holds; 0.0 where none does.
        """
        held = np.logical_and.accumulate(self.drop(metric) <= drop + 1e-9, axis=1).sum(axis=1)
        return {name: (0.0, *self.ratios)[n] for name, n in zip(self.layers, held, strict=True)}

    @checked
    def ranking(self, metric: str | None = None) -> tuple[str, ...]:
        """The layers, the least sensitive first, by the mean drop over all ratios."""
        return tuple(self.layers[i] for i in np.argsort(self.drop(metric).mean(1), kind="stable"))

    def to_plain(self) -> dict[str, Any]:
        """The result as dicts, lists, strings and numbers; what is not a number is None."""
        return {
            "format": _FORMAT,
            **{key: getattr(self, key) for key in ("model", "metric", "layers", "sizes", "ratios")},
            "removed": self.removed.tolist(),
            "baseline": {name: _number(value) for name, value in self.baseline.items()},
            "values": {
                name: [[_number(x) for x in row] for row in values.tolist()]
                for name, values in self.values.items()
            },
        }

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Sensitivity":
        """A result from what `to_plain` made."""
        with _reading():
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']!r}")
            baseline = {
                k: math.nan if v is None else float(v) for k, v in content["baseline"].items()
            }
            result = cls(
                model=str(content["model"]),
                metric=content["metric"],
                layers=tuple(map(str, content["layers"])),
                sizes=tuple(map(int, content["sizes"])),
                ratios=tuple(map(float, content["ratios"])),
                removed=np.array(content["removed"], int),
                baseline=baseline,
                values={name: np.array(rows, float) for name, rows in content["values"].items()},
            )
            result.values[result.metric], baseline[result.metric]
            table = (len(result.layers), len(result.ratios))
            shapes = {result.removed.shape, *(found.shape for found in result.values.values())}
            if shapes != {table} or len(result.sizes) != len(result.layers):
                raise ValueError(f"{table[0]} layers and {table[1]} ratios, and tables of {shapes}")
            return result

    def to_json(self) -> str:
        """The result as text that `from_json` reads."""
        return json.dumps(self.to_plain())

    @classmethod
    def from_json(cls, text: str) -> "Sensitivity":
        """A result from text: of `to_json`, or of the file that grew while it was measured."""
        with _reading():
            return cls.from_plain(json.loads(text))

    def _name(self, metric: str | None) -> str:
        return watched(self.values, self.metric if metric is None else metric)

    def _blocks(self) -> list[str | Table]:
        rows = [("layer", "channels", *(f"{ratio:.0%}" for ratio in self.ratios))]
        for name, size, values in zip(
            self.layers, self.sizes, self.values[self.metric], strict=True
        ):
            rows.append((name, str(size), *(f"{value:.4f}" for value in values)))
        whole = (
            f"{printable(self.metric)} {self.baseline[self.metric]:.4f} before anything is removed"
        )
        return [whole, Table(rows, left=1)]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


class ResultFile:
    """The file in which a result grows."""

    def __init__(self, path: str | os.PathLike[str] | None, fingerprint: str) -> None:
        self.path = None if path is None else file_at(path)
        self._file = None if self.path is None else KeptFile(self.path, of="analysis")
        self._fingerprint = fingerprint

    def load(self, result: Sensitivity) -> int:
        """Fills a result with what has been measured already; returns how many layers have."""
        if self.path is None or not self.path.exists():
            return 0
        try:
            content = read_json(dict[str, Any], self.path)
            same = read(str, content.get("fingerprint"), "fingerprint") == self._fingerprint
            done = read(Count, content.get("done"), "done")
            earlier = Sensitivity.from_plain(content)
            named = earlier.baseline.keys() == earlier.values.keys() == result.values.keys()
            if same and not (named and done <= len(result.layers)):
                raise ValueError("it has other metrics or layers")
        except (OSError, *MALFORMED) as error:
            raise OptionError(
                f"path: expected a new file or one of an analysis to go on with, received: "
                f"{str(self.path)!r}, which is neither ({type(error).__name__}: {error})"
            ) from error
        if not same:
            raise OptionError(
                f"path: {str(self.path)!r} holds an analysis of another model, of other data or "
                "with other options. Give another path, or remove it"
            )
        result.baseline.update(earlier.baseline)
        result.values.update(earlier.values)
        return done

    def save(self, result: Sensitivity, done: int) -> None:
        if self._file is not None:
            note = {**result.to_plain(), "done": done, "fingerprint": self._fingerprint}
            with self._file.writing(), self._file.put() as partial:
                partial.write_text(json.dumps(note), encoding="utf-8")
