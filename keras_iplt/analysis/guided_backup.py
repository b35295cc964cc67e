"""A guided pruning that survives being killed: the best model so far, and every step until then."""

import json
import os
import pathlib
from typing import Any

import keras

from keras_iplt.errors import BackupError
from keras_iplt.support.files import replacing

__all__ = ["GuidedBackup"]

_FORMAT = "keras_iplt.guided/1"


class GuidedBackup:
    """What is done so far, in a directory.

    Models are never overwritten: the note, which is replaced whole, names the one that counts.

    Args:
        directory: where; it is made if it is not there.
        made_for: what it has to have been made for to be of use, as JSON takes it.
    """

    def __init__(self, directory: str | os.PathLike[str], made_for: dict[str, Any]) -> None:
        self._directory = pathlib.Path(directory)
        self._note = self._directory / "guided.json"
        self._made_for = json.loads(json.dumps(made_for))
        self._model: str | None = None  # the name of its file
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BackupError(
                f"backup_dir: expected a directory that can be written to, received: "
                f"{str(directory)!r} ({error})"
            ) from error

    def load(self) -> tuple[keras.Model | None, dict[str, Any]] | None:
        """`(model, state)` as they were saved, the model None where it is still the first one; or
        None if there is no backup."""
        if not self._note.exists():
            return None
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            if note["format"] != _FORMAT:
                raise ValueError(f"format {note['format']!r}")
            found, state, self._model = note["made for"], note["state"], note["model"]
        except (ValueError, KeyError, TypeError) as error:
            raise BackupError(
                f"{self._note} is damaged or not a backup ({type(error).__name__}: {error}). "
                "Remove it to start anew"
            ) from error
        for what, expected in self._made_for.items():
            if found.get(what) != expected:
                raise BackupError(
                    f"{self._note} is a backup of another pruning: expected {what} {expected}, "
                    f"received: {found.get(what)}. Use another backup_dir, or remove it"
                )
        if self._model is None:
            return None, state
        return keras.models.load_model(self._directory / self._model), state

    def save(self, model: keras.Model | None, state: dict[str, Any]) -> None:
        """Writes a backup.

        Args:
            model: the best one so far if it is another than at the last time, else None.
            state: everything else, as JSON takes it.
        """
        old = self._model
        if model is not None:
            self._model = f"step{len(state['steps'])}.keras"
            with replacing(self._directory / self._model) as partial:
                model.save(partial)
        note = {"format": _FORMAT, "made for": self._made_for, "model": self._model, "state": state}
        with replacing(self._note) as partial:
            partial.write_text(json.dumps(note), encoding="utf-8")
        if model is not None and old is not None:
            (self._directory / old).unlink(missing_ok=True)

    def delete(self) -> None:
        """Removes the backup: the pruning is over."""
        self._note.unlink(missing_ok=True)
        if self._model is not None:
            (self._directory / self._model).unlink(missing_ok=True)
