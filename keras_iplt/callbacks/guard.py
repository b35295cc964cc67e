"""Watching a metric: is the model still good enough to go on pruning it?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, NoReturn

from keras_iplt.errors import OptionError
from keras_iplt.support.arguments import Kind, NotNegative, checked, one_of
from keras_iplt.support.metrics import less_is_better

__all__ = ["Guard"]


class Guard:
    """Steps wait while a metric has fallen too far below the best it has been.

    Args:
        monitor: a key of the logs: `"val_accuracy"`, `"loss"` …
        drop: how far it may fall (or rise, where less is better) from its best.
        action: what happens when a step is due and the metric is down: `"hold"`, the step waits,
            and the later ones with it, until the metric has recovered; `"back"`, the last step is
            taken back, weights included, and no other follows; `"stop"`, training ends. After the
            last step it is looked at once more.
        mode: `"max"` if more is better, `"min"` if less is, `"auto"`: less for names that end
            with `loss`, `error`, `mse`, `mae` and the like.

    Example:

    >>> import keras_iplt as iplt
    >>> callback = iplt.IPLTCallback(guard=iplt.Guard("val_accuracy", drop=0.02, action="back"))
    """

    @checked
    def __init__(
        self,
        monitor: Annotated[str, Kind("the name of a metric", bool)] = "val_accuracy",
        drop: NotNegative = 0.01,
        action: Annotated[str, one_of("hold", "back", "stop")] = "hold",
        mode: Annotated[str, one_of("auto", "max", "min")] = "auto",
    ) -> None:
        less = less_is_better(monitor) if mode == "auto" else mode == "min"
        self.monitor, self.drop, self.action = monitor, float(drop), action
        self._sign = -1.0 if less else 1.0
        self.best: float | None = None
        self.last: float | None = None
        self._received = ""  # names of metrics

    @checked
    def update(self, logs: Mapping[str, float]) -> None:
        """Takes note of the metric at the end of an epoch."""
        self._received = ", ".join(map(repr, logs))
        if self.monitor not in logs:
            validated = any(name.startswith("val_") for name in logs)
            if self.monitor.startswith("val_") and not validated:
                return  # validation need not be at every epoch
            self._miss()
        last = self.last = float(logs[self.monitor])
        better = self.best is None or self._sign * (last - self.best) > 0
        if math.isfinite(last) and better:
            self.best = last

    @property
    def fallen(self) -> bool:
        """Whether the metric is down."""
        if self.last is None:
            if self._received:
                self._miss()
            return False
        if not math.isfinite(self.last) or self.best is None:
            return True
        return self._sign * (self.best - self.last) > self.drop + 1e-12

    def _miss(self) -> NoReturn:
        raise OptionError(
            f"guard: expected a metric {self.monitor!r} in the logs, received: {self._received}"
        )

    def __str__(self) -> str:
        best = "" if self.best is None else f" (best {self.best:.4g})"
        return f"{self.monitor} {self.last:.4g}{best}"
