"""A training that survives being killed: one file, replaced at the end of each epoch.

The file is written beside the old one and then put in its place, so that there is a whole one at
any moment. It holds what was removed (the plans, in order), the values of all variables, and where
the schedule stands; a model built anew at full size becomes what it was.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import BackupError
from keras_iplt.graph.slices import numbers_of

__all__ = ["Backup"]

_FORMAT = "keras_iplt.backup/1"


class Backup:
    """The file in which a training is kept.

    Args:
        directory: where; it is made if it is not there.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.path = pathlib.Path(directory) / "training.npz"
        self._values: list[np.ndarray] = []  # of variables, between `load` and `restore`

    def prepare(self) -> None:
        """Makes the directory, so that a wrong one is found out before training."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            probe = self.path.with_suffix(".probe")
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise BackupError(
                f"backup_dir: expected a directory that can be written to, received: "
                f"{str(self.path.parent)!r} ({error})"
            ) from error

    def save(self, model: keras.Model, state: dict[str, Any]) -> None:
        """Writes a backup.

        Args:
            model: whose variables, and whose optimizer's, are kept.
            state: everything else, as JSON takes it.
        """
        if not private.is_chief():
            return
        variables = variables_of(model)
        values: dict[str, Any] = {f"v{i}": numbers_of(v) for i, v in enumerate(variables)}
        note = json.dumps({"format": _FORMAT, "variables": len(variables), **state})
        partial = self.path.with_suffix(".partial")
        with open(partial, "wb") as file:
            np.savez(file, note=np.array(note), **values)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.path)

    def load(self) -> dict[str, Any] | None:
        """The `state` of the backup, or None if there is none."""
        if not self.path.exists():
            return None
        try:
            if not self.path.is_file():
                raise ValueError("a directory, a device or a pipe")
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as content:
                state = json.loads(str(content["note"]))
                if state["format"] != _FORMAT:
                    raise ValueError(f"format {state['format']!r}")
                state["epoch"], dict(state["made"])
                self._values = [content[f"v{i}"] for i in range(state["variables"])]
            return state
        except Exception as error:  # there is nothing that bytes at random do not raise
            raise BackupError(
                f"{self.path} is damaged or not a backup ({type(error).__name__}: {error}). Remove "
                "it to start the training anew"
            ) from error

    def restore(self, model: keras.Model) -> None:
        """Gives the variables of a model, which has its structure again, the values loaded."""
        private.build_optimizer(model)
        variables, values = variables_of(model), self._values
        shapes = [tuple(v.shape) for v in variables]
        if shapes != [value.shape for value in values]:
            raise BackupError(
                f"{self.path} is a backup of another training: expected {len(shapes)} variables "
                f"of this model and its optimizer, received: {len(values)}, or of other shapes. "
                "Compile the model as it was compiled then, or remove the backup to start anew"
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        self._values = []

    def delete(self) -> None:
        """Removes the backup: the training is over."""
        if private.is_chief():
            self.path.unlink(missing_ok=True)


def variables_of(model: keras.Model) -> list[keras.Variable]:
    """Everything that changes in training: the variables of the model and of its optimizer."""
    optimizer = getattr(model, "optimizer", None)
    inside = [] if optimizer is None else private.inner_optimizers(optimizer)
    own = (v for one in inside for v in one.variables if not private.is_lent(v))
    several = [*model.variables, *own]
    metrics = {id(v) for v in model.metrics_variables}
    return list({id(v): v for v in several if id(v) not in metrics}.values())
