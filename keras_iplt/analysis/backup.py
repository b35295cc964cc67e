"""A search over models that survives being killed: its best model so far, and its steps."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import pathlib
from typing import Annotated, Any

import keras

from keras_iplt.graph.slices import numbers_of
from keras_iplt.support.backups import KeptFile
from keras_iplt.support.records import Count, matching, read, read_json

__all__ = ["SearchBackup", "check_again"]

_FORMAT = "keras_iplt.guided/1"
_OLD = "guided.json"  # what the notes of all searches were called
_File = Annotated[str, matching(r"(step|guided|smallest)[0-9]+\.keras")]


class SearchBackup(KeptFile):
    """What is done so far, in a directory; nobody else has it while this is used in a `with`.

    Models are never overwritten: the note, which is replaced whole, names the one that counts.

    Args:
        directory: where; it is made if it is not there.
        name: that of the note.
        made_for: what it has to have been made for to be of use, as JSON takes it.
    """

    def __init__(
        self, directory: str | os.PathLike[str], name: str, made_for: dict[str, Any]
    ) -> None:
        super().__init__(pathlib.Path(directory) / f"{name}.json", of="pruning")
        self._made_for = made_for
        self._file: str | None = None  # of the model
        self._model: keras.Model | None = None  # what is in it

    def __enter__(self) -> SearchBackup:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def load(self, kind: Any) -> tuple[keras.Model | None, Any] | None:
        """`(model, state)` as they were saved, or None if there is no backup.

        The model is None where it is still the first one.

        Args:
            kind: the class of the state.
        """
        self._take_over()
        if not self.path.exists():
            return None
        with self.reading():
            note = read_json(dict[str, Any], self.path)
            if note.get("format") != _FORMAT:
                raise ValueError(f"format {note.get('format')!r}")
            made_for = read(dict[str, Any], note.get("made for"), "made for")
            self.check_made_for(made_for, self._made_for)
            state = read(kind, note.get("state"), "state")
            self._file = read(_File | None, note.get("model"), "model")
            if self._file is not None:
                file = self.path.with_name(self._file)
                if not file.is_file():
                    raise ValueError(f"{file} is not there, or no file")
                self._model = keras.models.load_model(file)
                if not self._model.compiled:
                    raise ValueError(f"the model in {file} is not compiled")
                kept = read(list[list[Count]] | None, note.get("random"), "random")
                if kept is not None:  # notes from before have none
                    for variable, numbers in zip(_random(self._model), kept, strict=True):
                        variable.assign(numbers)
        return self._model, state

    def _take_over(self) -> None:
        """A note from before, under its old name, if it is one of such a search."""
        old = self.path.with_name(_OLD)
        if self.path.exists() or not old.exists():
            return
        with contextlib.suppress(ValueError, OSError):
            made_for = read(dict[str, Any], read_json(dict[str, Any], old).get("made for"))
            if made_for.keys() == self._made_for.keys():
                os.replace(old, self.path)

    def save(self, model: keras.Model | None, state: Any) -> None:
        """Writes a backup, if that is possible.

        Args:
            model: the best one so far, None while it is the first one.
            state: everything else: a dataclass, of what JSON takes, that has `steps`.
        """
        old = new = self._file
        with self.writing():
            if model is not self._model and model is not None:
                new = f"{self.path.stem}{len(state.steps)}.keras"
                with self.put(self.path.with_name(new)) as partial:
                    model.save(partial)
            numbers = [] if model is None else [numbers_of(v).tolist() for v in _random(model)]
            made_for = self._made_for
            note = {"format": _FORMAT, "made for": made_for, "model": new, "random": numbers}
            with self.put() as partial:
                text = json.dumps({**note, "state": dataclasses.asdict(state)})
                partial.write_text(text, encoding="utf-8")
            self._file, self._model = new, model
        left = new if self._file == old else old
        if left is not None and left != self._file:
            self.path.with_name(left).unlink(missing_ok=True)

    def delete(self) -> None:
        """The search is over."""
        super().delete()
        if self._file is not None:
            self.path.with_name(self._file).unlink(missing_ok=True)


def _random(model: keras.Model) -> list[keras.Variable]:
    """The states of random numbers (of dropout, say), which a .keras file is without."""
    weights = {id(weight) for weight in model.weights}
    return [v for v in model.variables if id(v) not in weights]


def check_again(what: str, now: float, then: float) -> None:
    """Raises a `ValueError` if a metric of a model is not what it was, on the same data."""
    if not (math.isclose(now, then, rel_tol=1e-3, abs_tol=1e-3) or (now != now and then != then)):
        raise ValueError(
            f"{what}: expected {now:.4f}, as the whole model has now, received: {then}"
        )
