"""The verbs with which rules describe an operation: create, consume, follow, join, freeze.

A rule sees an operation and the `Channels` that go in, says with these verbs what happens to
them, and returns the `Channels` that come out. For a fully connected layer that is

    ids = flow.create(layer, layer.units)
    flow.consume(layer.kernel, 0, flow.vector(x, -1))
    flow.slice(layer.kernel, 1, ids, "output")
    return flow.place(ids, axis=-1)
"""

import math

import keras
import numpy as np

from keras_iplt.graph.channels import SOLID, Channels, Frozen, Producer, Rescale, Slice, Work
from keras_iplt.graph.partition import Partition

__all__ = ["Flow", "channel_axis", "channels_in", "spread"]


class Flow:
    """What is known while a model is being read.

    Attributes:
        path: name of the operation being read, with the models it is nested in.
        shapes: shapes of that operation's outputs, in flat order.
        approximate: whether layer normalisation may be pruned although no exact answer exists.
    """

    def __init__(self, approximate=False):
        self.partition = Partition()
        self.partition.fresh(1)  # SOLID
        self.slices = {}
        self.producers = []
        self.works = []
        self.rescales = []
        self.minimums = []  # (ids, how many of them have to stay)
        self.refusals = []  # rows for layers that create channels in a way not understood
        self.freezes = []  # (ids, reason)
        self.calls = {}
        self.trials = {}  # what operations were found to make of masked channels
        self.seen = []  # all Channels ever put out, for the final tidying
        self.created = 0  # how many sets of channels the operation being read has created
        self.path = ""
        self.shapes: tuple[tuple[int | None, ...], ...] = ()
        self.approximate = approximate

    # -- channels come into being --

    def create(self, layer, count, convolution=False):
        """New channels, one for each of `count` filters of `layer`."""
        ids = self.partition.fresh(count)
        self.producers.append(Producer(self.path, layer, ids, convolution, self.created))
        self.created += 1
        return ids

    def solid(self, shape):
        """A tensor in which nothing can be pruned."""
        return Channels(np.full((1,) * len(shape), SOLID), tuple(shape))

    def place(self, ids, axis, output=0, masked=0.0):
        """The output tensor whose channels along `axis` are `ids`, and what they hold once they are
        masked (see `Channels`)."""
        shape = self.shapes[output]
        lengths = [1] * len(shape)
        lengths[axis] = len(ids)
        return Channels(self.partition.find(ids).reshape(lengths), shape, masked)

    # -- channels meet --

    def join(self, a, b, reason):
        """The ids of `a` and `b` stand or fall together, position by position."""
        a, b = np.broadcast_arrays(a, b)
        meets_solid = (a == SOLID) != (b == SOLID)
        if meets_solid.any():
            self.freeze(np.maximum(a, b)[meets_solid], reason)
        both = (a != SOLID) & (b != SOLID)
        if both.any():
            self.partition.union(a[both], b[both])

    def freeze(self, ids, reason):
        """These ids stay. `reason` continues the sentence "cannot be pruned: …"."""
        ids = np.unique(ids.ids if isinstance(ids, Channels) else ids)
        ids = ids[ids != SOLID]
        if len(ids):
            self.freezes.append((ids, f"{reason} ({self.path})" if self.path else reason))

    def at_least(self, ids, count):
        """`count` of these channels have to stay."""
        self.minimums.append((np.asarray(ids), count))

    def frozen(self, x, reason):
        """Freezes `x` (any structure of channels) and returns the output as a solid tensor, or
        the outputs as a list of them."""
        for one in channels_in(x):
            self.freeze(one, reason)
        return self.solid_outputs()

    def refused(self, x, reason):
        """As `frozen`, for a layer whose own filters are not understood: it is listed too."""
        channels = int(self.shapes[0][-1] or 0) if self.shapes and self.shapes[0] else 0
        self.refusals.append(Frozen(self.path, channels, reason))
        return self.frozen(x, reason)

    def solid_outputs(self):
        """Outputs in which nothing can be pruned: one, or a list."""
        outputs = [self.solid(shape) for shape in self.shapes]
        return outputs[0] if len(outputs) == 1 else outputs

    def vector(self, x, axis, reason="it is contracted together with positions that differ"):
        """The ids along one axis. Ids that differ elsewhere are joined, slab by slab."""
        axis %= len(x.shape)
        ids = self.partition.find(x.ids)
        length = x.shape[axis]
        if ids.size > 1 and ids.shape[axis] == 1:
            # Channels run along other axes only: this operation mixes or repeats them.
            self.freeze(ids, reason)
            ids = np.full((1,), SOLID)
        else:
            slabs = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
            if slabs.shape[1] > 1:
                self.join(slabs[:, :1], slabs, reason)
            ids = self.partition.find(slabs[:, 0])
        if len(ids) == 1 and length not in (None, 1):
            ids = np.repeat(ids, length)
        return ids

    def only(self, x, axis, reason="another axis than that of its channels is pruned"):
        """`x` with its channels along `axis` alone; ids along other axes are joined or frozen."""
        axis %= len(x.shape)
        ids = self.vector(x, axis, reason)
        if (ids == ids[0]).all():
            ids = ids[:1]
        lengths = [1] * len(x.shape)
        lengths[axis] = len(ids)
        return Channels(ids.reshape(lengths), x.shape, x.masked)

    # -- variables and costs --

    def slice(self, variable, axis, ids, role):
        """Records that position `i` of `variable` along `axis` belongs to `ids[i]`."""
        if variable is None:
            return
        axis %= len(variable.shape)
        if len(ids) != variable.shape[axis]:
            raise AssertionError(
                f"{self.path}: {len(ids)} ids for axis {axis} of shape {tuple(variable.shape)}"
            )
        key = (id(variable), axis)
        earlier = self.slices.get(key)
        if earlier is None:
            self.slices[key] = Slice(self.path, variable, axis, np.asarray(ids), role)
        else:  # the layer is shared: both of its inputs must lose the same channels
            self.join(earlier.ids, ids, "a shared layer meets channels that stay")
            if not (earlier.ids != SOLID).all():
                known = np.where(earlier.ids == SOLID, ids, earlier.ids)
                self.slices[key] = Slice(earlier.path, variable, axis, known, earlier.role)

    def consume(self, variable, axis, ids):
        """`variable` takes these channels in along `axis`."""
        self.slice(variable, axis, ids, "input")

    def follow(self, variable, axis, ids):
        """`variable` holds one entry per channel along `axis`."""
        self.slice(variable, axis, ids, "follow")

    def work(self, factor, *axes, adds=False):
        """Counts `factor` × the lengths of `axes` multiply-adds (or bias additions)."""
        self.works.append(Work(self.path, factor, tuple(axes), adds))

    def rescale(self, variable, ids, power):
        """`variable` changes by (kept / all) ** `power` when some of `ids` go."""
        if variable is not None:
            self.rescales.append(Rescale(variable, np.asarray(ids), power))

    def positions(self, shape, *channel_axes):
        """How many positions a tensor has per example, leaving out the given axes."""
        left_out = {0, *(axis % len(shape) for axis in channel_axes)}
        lengths = [n for axis, n in enumerate(shape) if axis not in left_out]
        return None if None in lengths else math.prod(lengths)


def channel_axis(operation):
    """Where an operation's `data_format` puts the channels; last if it has none."""
    return 1 if getattr(operation, "data_format", None) == "channels_first" else -1


def channels_in(structure):
    """All `Channels` in a structure of arguments."""
    return [x for x in keras.tree.flatten(structure) if isinstance(x, Channels)]


def spread(ids, lengths):
    """`ids` with collapsed axes repeated to the given lengths (None leaves an axis alone)."""
    target = [have if want is None else want for have, want in zip(ids.shape, lengths, strict=True)]
    return np.broadcast_to(ids, target)
