"""A training that survives being killed: one file, replaced at the end of each epoch.

The file is written beside the old one and then put in its place, so that there is a whole one at
any moment. It holds what was removed (the plans, in order), the values of all variables, and where
the schedule stands; a model built anew at full size becomes what it was.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import BackupError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.support.backups import KeptFile
from keras_iplt.support.npz import opened_npz
from keras_iplt.support.records import Count, parse, read

__all__ = ["Backup", "restorable", "variables_of"]

_FORMAT = "keras_iplt.backup/1"


class Backup(KeptFile):
    """The file in which a training is kept.

    Args:
        directory: where; it is made if it is not there.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        super().__init__(pathlib.Path(directory) / "training.npz", "training")
        self._values: list[np.ndarray] = []  # of variables, between `load` and `restore`

    def prepare(self, model: keras.Model) -> None:
        """Finds out before training whether a backup of a model can be written."""
        size = sum(numbers_of(variable).nbytes for variable in variables_of(model))
        self.begin(size, lock=private.is_chief())

    def save(self, model: keras.Model, state: Any) -> None:
        """Writes a backup, if that is possible.

        Args:
            model: whose variables, and whose optimizer's, are kept.
            state: everything else: a dataclass, of what JSON takes.
        """
        if not private.is_chief():
            return
        variables = variables_of(model)
        values: dict[str, Any] = {f"v{i}": numbers_of(v) for i, v in enumerate(variables)}
        note = {"format": _FORMAT, "variables": len(variables), **dataclasses.asdict(state)}
        with self.writing(), self.put() as partial, open(partial, "wb") as file:
            np.savez(file, note=np.array(json.dumps(note)), **values)

    def load(self, kind: Any) -> Any:
        """The `state` of the backup, or None if there is none.

        Args:
            kind: its class.
        """
        if not self.path.exists():
            return None
        with self.reading():
            with opened_npz(self.path, "expected a backup") as content:
                arrays = {name: content[name] for name in content.files}
            note = parse(dict[str, Any], str(arrays["note"]))
            found = note.pop("format", None)
            if found != _FORMAT:
                raise ValueError(f"format {found!r}")
            count = read(Count, note.pop("variables", None), "variables")
            state = read(kind, note)
            self._values = [arrays[f"v{i}"] for i in range(count)]
        return state

    def restore(self, model: keras.Model) -> None:
        """Gives the variables of a model, which has its structure again, the values loaded.

        What does not fit is found out before anything is changed, the optimizer's slots included.
        """
        values, self._values = self._values, []
        expected = variables_of(model, private.built_alike(model))
        if len(expected) != len(values) or not all(map(_fits, expected, values)):
            raise BackupError(
                f"{self.path} is a backup of another training: expected {len(expected)} variables "
                f"of this model and its optimizer, received: {len(values)}, or of other shapes. "
                "Compile the model as it was compiled then, or remove the backup to start anew"
            )
        private.build_optimizer(model)
        for variable, value in zip(variables_of(model), values, strict=True):
            variable.assign(value)


def variables_of(model: keras.Model, optimizer: Any = None) -> list[keras.Variable]:
    """Everything that changes in training: the variables of a model and of its optimizer.

    Another optimizer may be given."""
    optimizer = optimizer or getattr(model, "optimizer", None)
    inside = [] if optimizer is None else private.inner_optimizers(optimizer)
    own = (v for one in inside for v in one.variables if not private.is_lent(v))
    several = [*model.variables, *own]
    metrics = {id(v) for v in model.metrics_variables}
    return list({id(v): v for v in several if id(v) not in metrics}.values())


def restorable(model: keras.Model) -> Callable[[], None]:
    """What gives the variables of a model the values that they have now.

    The model has to have its structure again."""
    values = [(variable, np.array(numbers_of(variable))) for variable in variables_of(model)]

    def put_back() -> None:
        for variable, value in values:
            variable.assign(value)

    return put_back


def _fits(variable: keras.Variable, value: np.ndarray) -> bool:
    kinds = "biuf" if "float" in private.stored_dtype(variable) else "biu"
    return tuple(variable.shape) == value.shape and value.dtype.kind in kinds
