"""Runs that are remembered: what is done is not done again, what was interrupted goes on.

A study is a folder. Each run is a function with settings; what it returns is kept in a file of JSON
under the name of the run, its model beside it. Started again, a study reads what is there and
does what is missing. Runs that do not depend on each other can go side by side: Ray gives them to
processes, GPUs and machines.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any

from keras_iplt.errors import DataError, OptionError
from keras_iplt.support.extras import required
from keras_iplt.support.files import replacing

__all__ = ["Place", "Run", "Study", "say"]


def say(text: str) -> None:
    """A line of progress: results alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run puts its files.

    Attributes:
        folder: the folder of the study.
        name: the name of the run.
    """

    folder: pathlib.Path
    name: str

    def file(self, suffix: str) -> pathlib.Path:
        """A file of this run; its folder is made."""
        path = self.folder / f"{self.name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def backup(self) -> pathlib.Path:
        """The folder in which its training is kept while it goes on."""
        return self.folder / "backup" / self.name

    def model(self, run: str) -> pathlib.Path:
        """The file of the model that another run left."""
        path = self.folder / f"{run}.keras"
        if not path.is_file():
            raise DataError(
                f"{path} is not there any more, and {self.name} begins with it: remove "
                f"{path.with_name(f'{path.stem}.json')} to train it again"
            )
        return path


@dataclasses.dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: the name of its files: `"table1/iplt-0.6-seed0"`.
        function: a function of a module, called as `function(place, **settings, **where)`; returns
            what JSON takes. It has to find everything it needs in its settings.
        settings: what makes it another run if it changes.
        where: further arguments that make it no other run: where data are, say.
    """

    name: str
    function: Callable[..., dict[str, Any]]
    settings: dict[str, Any]
    where: dict[str, Any] = dataclasses.field(default_factory=dict)


Outcomes = Generator[tuple[Run, dict[str, Any], float], None, None]  # what it returned, and seconds


class Study:
    """The runs of a recipe.

    Args:
        folder: the folder in which they are kept; it is made.
        workers: how many runs go side by side.
        recipe: the name of the recipe; a folder with results of another one is refused.
    """

    def __init__(self, folder: str | pathlib.Path, workers: int = 1, recipe: str = "") -> None:
        self.folder, self.workers, self.recipe = pathlib.Path(folder), workers, recipe
        self.folder.mkdir(parents=True, exist_ok=True)
        _check_owner(self.folder / "results.json", recipe)
        self.results: dict[
            str, dict[str, Any]
        ] = {}  # name -> what the run returned, of all that were asked for
        self.settings: dict[str, dict[str, Any]] = {}

    def do(self, runs: Iterable[Run]) -> list[dict[str, Any]]:
        """Does those runs that are not done yet.

        Args:
            runs: `Run`s that do not depend on each other.

        Returns:
            What each returned, in the same order.
        """
        runs = list(runs)
        new = [run for run in runs if run.name not in self.results]  # not asked for before
        for run in new:
            self.settings[run.name] = json.loads(json.dumps(run.settings))
        known: dict[str, Any] = {run.name: self._known(run) for run in new}
        todo = [run for run in new if known[run.name] is None]
        if done := len(new) - len(todo):
            say(f"{done} of {len(new)} runs are there already")
        with contextlib.closing(self._outcomes(todo)) as outcomes:
            for number, (run, result, seconds) in enumerate(outcomes, 1):
                say(f"  {run.name}: done in {seconds:.0f} s ({number} of {len(todo)})")
                self._keep(run, result)
                known[run.name] = json.loads(json.dumps(result))
        self.results.update(known)
        return [self.results[run.name] for run in runs]

    def _outcomes(self, runs: list[Run]) -> Outcomes:
        """`(run, result, seconds)` of each, as they come."""
        if self.workers > 1 and len(runs) > 1:
            yield from _by_ray(runs, self.folder, self.workers)
            return
        for run in runs:
            say(f"{time.strftime('%H:%M:%S')} {run.name}")
            yield run, *_carried_out(run, self.folder)

    def _known(self, run: Run) -> dict[str, Any] | None:
        """What an earlier start found, or None."""
        path = self.folder / f"{run.name}.json"
        if not path.exists():
            return None
        try:
            file = json.loads(path.read_text(encoding="utf-8"))
            before, result = dict(file["settings"]), file["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} is damaged or not the result of a run ({type(error).__name__}: {error}). "
                "Remove it to do the run again"
            ) from error
        wanted = self.settings[run.name]
        other = [key for key in {**before, **wanted} if before.get(key) != wanted.get(key)]
        if other:
            key = other[0]
            raise OptionError(
                f"{self.folder} holds results of other settings: {run.name} was run with "
                f"{key}={before.get(key)!r}, now it is {key}={wanted.get(key)!r}"
                f"{f' (and {len(other) - 1} more)' if other[1:] else ''}. Give another --out, or "
                f"remove {path} to do it again"
            )
        return result

    def _keep(self, run: Run, result: dict[str, Any]) -> None:
        """Writes down what a run returned; what its training kept is not needed any more."""
        path = self.folder / f"{run.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            text = json.dumps({"settings": run.settings, "result": result}, indent=1)
            partial.write_text(text, encoding="utf-8")
        shutil.rmtree(Place(self.folder, run.name).backup, ignore_errors=True)


def _check_owner(results: pathlib.Path, recipe: str) -> None:
    """Nothing is to be overwritten that is not a recipe's own."""
    if not results.exists():
        return
    try:
        owner = json.loads(results.read_text(encoding="utf-8"))["recipe"]
    except (ValueError, KeyError, TypeError):
        owner = None
    if owner != recipe:
        whose = "something else" if owner is None else f"the recipe {owner}"
        raise OptionError(f"{results} is of {whose}: give another --out")


def _carried_out(run: Run, folder: pathlib.Path) -> tuple[dict[str, Any], float]:
    """What a run returns, and how many seconds it took."""
    start = time.perf_counter()
    result = run.function(Place(folder, run.name), **run.settings, **run.where)
    return result, time.perf_counter() - start


def _by_ray(runs: list[Run], folder: pathlib.Path, workers: int) -> Outcomes:
    """The same as one after another, in processes that Ray starts.

    They start here, or in the cluster that RAY_ADDRESS names, whose machines then have to see the
    folder under the same path.
    """
    ray = required("ray", "sweep", "several workers need")
    folder = folder.resolve()
    if not ray.is_initialized():
        ray.init(
            include_dashboard=False, log_to_driver=False, logging_level="error",
            runtime_env={"env_vars": _environment()},
            num_cpus=None if "RAY_ADDRESS" in os.environ else workers,
        )  # fmt: skip
    gpus = ray.cluster_resources().get("GPU", 0)
    share = min(1.0, math.floor(100 * gpus / workers) / 100)
    task = ray.remote(num_cpus=1, num_gpus=share, max_retries=0)(_carried_out)
    say(f"{len(runs)} runs, {workers} at a time")
    waiting = {task.remote(run, folder): run for run in runs}
    try:
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting))
            run = waiting.pop(ready)
            try:
                result, seconds = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            yield run, result, seconds
    finally:
        for left in waiting:
            ray.cancel(left, force=True)


def _environment() -> dict[str, str]:
    """What processes elsewhere have to know of this one."""
    names = ("KERAS_BACKEND", "KERAS_HOME", "TF_CPP_MIN_LOG_LEVEL", "JAX_PLATFORMS", "XLA_FLAGS")
    found = {name: os.environ[name] for name in names if name in os.environ}
    root = str(pathlib.Path(__file__).parents[2])  # where `recipes` and `keras_iplt` are
    return found | {
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
        # Runs that share a GPU must not take all of its memory at once.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }  # fmt: skip
