"""Does carrying a step out pay for tracing the training function again?

A step that is carried out makes every later epoch cheaper, at the price of a trace: seconds on
TensorFlow and JAX. A step that waits as zeros costs nothing and computes the same.
"""

import itertools
import time

__all__ = ["Stopwatch"]


class Stopwatch:
    """Measures the epochs of a training, and how much longer a batch takes when it is traced.

    Attributes:
        epoch: seconds that the last epoch took, tracing left out; None before.
        trace: seconds that tracing took the last time, for training and validation together; None
            before, and where epochs have too few batches to tell.
    """

    def __init__(self, clock=time.perf_counter):
        self._clock = clock
        self._fresh = True
        self.epoch = self.trace = None
        self.start()

    def made_anew(self):
        """The compiled functions have been made anew: the next epoch includes their traces."""
        self._fresh = True

    def start(self):
        """An epoch begins."""
        self._begin = self._clock()
        self._batches: dict[str, list[float]] = {"train": [], "test": []}

    def batch(self, kind="train"):
        """A batch begins."""
        self._batches[kind].append(self._clock())

    def stop(self):
        """An epoch ends."""
        whole = self._clock() - self._begin
        if not self._fresh:
            self.epoch = whole
            return
        traces = [_trace(begins) for begins in self._batches.values() if begins]
        self._fresh = False
        if not traces or None in traces:
            return
        self.trace = sum(traces)
        self.epoch = whole - self.trace

    def cost(self):
        """Seconds that carrying a step out costs, or None if that is not known. Nothing where a
        trace is due in any case."""
        return 0.0 if self._fresh else self.trace

    def saving(self, left, epochs):
        """Seconds that carrying a step out saves in so many epochs if a share `left` of the work
        is left, or None if that is not known."""
        return None if self.epoch is None else self.epoch * (1 - left) * epochs


def _trace(begins):
    """How much longer the first batch took than the others, by the times at which they began."""
    if len(begins) < 4:
        return None
    others = sorted(b - a for a, b in itertools.pairwise(begins[1:]))
    return max(0.0, begins[1] - begins[0] - others[len(others) // 2])
