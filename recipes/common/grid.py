"""Cases × seeds: what a recipe runs, as one grid.

A case is a network, on data, by a method. It is run from every seed; what its runs returned stands
under the key of the case, seed by seed. The study remembers what is done, goes on with what was
interrupted, and spreads over workers what does not depend on each other.
"""

import argparse
import dataclasses
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from .hardware import Hardware
from .spread import Runs
from .study import Run, Study

__all__ = ["Case", "Grid", "seeded"]

Key = TypeVar("Key", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Case:
    """What is run from every seed.

    Attributes:
        name: the name of its files before the seed: `"table1/iplt-0.6"`.
        function: the function that does a run, see `Run`.
        settings: what it is told, whatever the seed.
        after: the name of the case whose model it begins with, that of the same seed.
        by_seed: further settings, as one value for each seed.
        end: what follows the seed in the names of its files.
        once: whether to run it from seed 0 only, its files without a seed in their names.
    """

    name: str
    function: Callable[..., dict[str, Any]]
    settings: Mapping[str, Any]
    after: str | None = None
    by_seed: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict[str, Any])
    end: str = ""
    once: bool = False

    def run(self, seed: int, shared: Mapping[str, Any], where: Mapping[str, Any]) -> Run:
        """The run from a seed, with settings that all cases share, and where things are."""
        settings = {**shared, **self.settings, "seed": seed}
        settings |= {name: values[seed] for name, values in self.by_seed.items()}
        if self.after is not None:
            settings["start"] = seeded(self.after, seed)
        name = self.name if self.once else seeded(self.name, seed) + self.end
        return Run(name, self.function, settings, dict(where))


def seeded(name: str, seed: int) -> str:
    """The name of a case's run from a seed."""
    return f"{name}-seed{seed}"


class Grid:
    """The cases of a recipe, from as many seeds and in the folder that its command says."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.study = Study(options.out, options.workers, options.recipe)
        self.seeds = range(options.seeds)
        names = [field.name for field in dataclasses.fields(Hardware)]
        hardware = {name: getattr(options, name) for name in names}
        self._shared = {"batch": options.batch, "hardware": hardware}
        self._where = {"data_dir": options.data_dir, "download": options.download}

    def run(self, cases: Mapping[Key, Case]) -> dict[Key, Runs]:
        """Runs cases that do not depend on each other: for each key a result per seed."""
        runs = {
            key: [
                case.run(seed, self._shared, self._where)
                for seed in (self.seeds[:1] if case.once else self.seeds)
            ]
            for key, case in cases.items()
        }
        self.study.do(itertools.chain.from_iterable(runs.values()))
        return {key: [self.study.results[run.name] for run in own] for key, own in runs.items()}
