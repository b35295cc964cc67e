"""What callbacks that prune by a schedule are asked for beside what goes, and when."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import keras

from keras_iplt.callbacks.guard import Guard
from keras_iplt.planning.options import MoreKeywords
from keras_iplt.support.arguments import Count, Data, Directory, Verbosity, checked, expect, several
from keras_iplt.support.text import text_repr
from keras_iplt.surgery.refitting import Compensate
from keras_iplt.surgery.shrinking import Also

__all__ = ["IPLTKeywords", "IPLTOptions", "RunKeywords", "RunOptions"]


class RunKeywords(TypedDict, total=False):
    """How a training is looked after."""

    guard: Guard | None
    backup_dir: str | os.PathLike[str] | None
    verbose: int


class IPLTKeywords(RunKeywords, MoreKeywords, total=False):
    """The options of `keras_iplt.IPLTCallback` that are not spelled out in its signature."""

    soft_epochs: int | None
    also: keras.Model | Iterable[keras.Model]
    compensate: Any
    recalibrate: Any
    of: Any
    per_layer: Mapping[Any, float] | None


@text_repr
@checked
@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How a training is looked after while it prunes.

    Attributes:
        guard: a `Guard` that holds steps, takes one back or stops while a metric is down.
        backup_dir: a directory for a backup at the end of each epoch, or None.
        verbose: 0 for silence, 1 for a line at each step.
    """

    guard: Guard | None = None
    backup_dir: Any = None
    verbose: Verbosity = 1

    def __post_init__(self) -> None:
        directory = expect("backup_dir", Directory | None, self.backup_dir)
        object.__setattr__(self, "backup_dir", directory)


@text_repr
@checked
@dataclasses.dataclass(frozen=True)
class IPLTOptions(RunOptions):
    """And what is done where channels go.

    Attributes:
        soft_epochs: after how many epochs a model that is pruned softly becomes smaller, or None.
        also: other models over the same layers.
        compensate: data, or a `Refit`: what stays is fitted anew at each step. Or None.
        recalibrate: data on which batch norms are measured again at the end, or None.
    """

    soft_epochs: Count | None = None
    also: Also = ()
    compensate: Compensate = None
    recalibrate: Data | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "also", tuple(several(self.also)))
