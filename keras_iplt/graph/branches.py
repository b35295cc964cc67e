"""Residual branches: all between a stream of tensors and where it is added back to the stream.

    x ──┬── conv1 ── norm ── relu ── conv2 ──┬─ add ──     Branch "add": conv1, norm, relu, conv2
        └────────────────────────────────────┘             left out, "add" is x

A branch can be left out of a model, which is less deep then: nothing else takes in what is
computed in it, and what it is added to, its shortcut, has the shape of the sum. Of two tensors
that are added, the one with more layers of its own that create channels is the branch; that of a
projection is the shortcut.

A custom layer whose code stays (a decoder block) can be left out as a whole if its output is its
input and what branches in it add.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from keras_iplt import _keras as private
from keras_iplt.graph.channels import Branch, Call, Producer, Work
from keras_iplt.graph.walk import behind

__all__ = ["functions_of", "inside_of", "residual_branches"]

Calls = Mapping[Hashable, Call]


def inside_of(call: Call) -> keras.Function | None:
    """The operations of a nested model, or of a custom layer that they can take the place of."""
    if call.carry == "model":
        return private.known_function(call.operation)
    return call.inner if call.carry == "flatten" else None


def functions_of(calls: Calls, function: keras.Function) -> list[keras.Function]:
    """The graphs that a model is made of: its own, and those inside its calls."""
    functions = (function, *map(inside_of, calls.values()))
    return list({id(one): one for one in functions if one is not None}.values())


def residual_branches(
    calls: Calls, function: keras.Function, producers: Sequence[Producer], works: Sequence[Work]
) -> tuple[Branch, ...]:
    """The residual branches of a model, in the order of its graph, those in others included.

    Args:
        calls, producers, works: as in a `Graph`.
        function: the operations of the model.
    """
    search = _Search(calls, function, producers, works)
    called = Counter(id(call.operation) for call in calls.values() if call.carry == "flatten")
    twice = {id(call.inner) for call in calls.values() if called[id(call.operation)] > 1}
    functions = [one for one in functions_of(calls, function) if id(one) not in twice]
    found = [branch for one in functions for branch in search.branches(one)]
    order = {id(call): place for place, call in enumerate(calls.values())}
    found.sort(key=lambda branch: order[id(branch["call"])])
    return tuple(Branch(index=index, **branch) for index, branch in enumerate(found))


class _Use(NamedTuple):
    """Where a tensor is taken in: by a node, or as an output (None), and at which place."""

    node: int | None
    place: int


class _Search:
    """What is known of a model while branches are looked for in its graphs."""

    def __init__(
        self,
        calls: Calls,
        function: keras.Function,
        producers: Sequence[Producer],
        works: Sequence[Work],
    ) -> None:
        self._calls, self._works = calls, works
        self._creators = [producer.path for producer in producers]
        self._uses = Counter(id(v) for c in self._made(function) for v in _variables(c))
        self._times = Counter(id(inside_of(call)) for call in self._made(function))
        self._times[id(function)] = 1
        self._calls_of = Counter(id(call.operation) for call in calls.values())

    def branches(self, function: keras.Function) -> Iterator[dict[str, Any]]:
        """Those of a graph, as entries of `Branch`."""
        nodes = [node for node in private.nodes(function) if id(node) in self._calls]
        uses: dict[int, list[_Use]] = {}
        ends = keras.tree.flatten(private.output_structure(function))
        taken = [(id(node), keras.tree.flatten(private.arguments(node))) for node in nodes]
        for key, tensors in [*taken, (None, ends)]:
            for place, x in enumerate(tensors):
                uses.setdefault(id(x), []).append(_Use(key, place))
        for index, node in enumerate(nodes):
            if _adds(node.operation):
                yield from self._added(function, nodes[:index], node, uses)
            elif self._calls[id(node)].carry in ("recreate", "resize"):
                yield from self._layer(function, node)

    def _added(
        self,
        function: keras.Function,
        before: Sequence[Any],
        node: Any,
        uses: Mapping[int, list[_Use]],
    ) -> Iterator[dict[str, Any]]:
        """The branches that end in an addition."""
        several = enumerate(keras.tree.flatten(private.arguments(node)))
        tensors = {place: x for place, x in several if isinstance(x, keras.KerasTensor)}
        own = {place: _only_for(_Use(id(node), place), before, uses) for place in tensors}
        depths = {place: self._depth(inside) for place, inside in own.items()}
        shortcuts = [x for place, x in tensors.items() if depths[place] == min(depths.values())]
        (total,) = node.outputs
        if not any((x.shape, x.dtype) == (total.shape, total.dtype) for x in shortcuts):
            return
        stream = behind(function, shortcuts)
        for place, inside in own.items():
            made = {id(x) for one in inside for x in one.outputs}
            inputs = {id(x): x for one in inside for x in one.input_tensors if id(x) not in made}
            deeper = depths[place] > min(depths.values()) and any(map(_weighs, inside))
            if deeper and not stream.isdisjoint(inputs):
                yield {
                    "name": self._calls[id(node)].path,
                    "call": self._calls[id(node)],
                    "places": frozenset([place]),
                    "nodes": tuple(inside),
                    "inputs": tuple(inputs.values()),
                    "output": tensors[place],
                    **self._within(inside, self._times[id(function)]),
                }

    def _layer(self, function: keras.Function, node: Any) -> Iterator[dict[str, Any]]:
        """A layer whose code stays, if nothing but its branches keep its output from its input."""
        call, several = self._calls[id(node)], keras.tree.flatten(private.arguments(node))
        if call.inner is None or self._calls_of[id(call.operation)] > 1:
            return
        self._times[id(call.inner)] = 1
        inside = tuple(Branch(index=0, **branch) for branch in self.branches(call.inner))
        tensors = [place for place, x in enumerate(several) if isinstance(x, keras.KerasTensor)]
        stream = {id(x): place for x, place in zip(call.inner.inputs, tensors, strict=False)}.get(
            id(_without(call.inner, inside))
        )
        if stream is None or len(node.outputs) > 1:
            return
        x, (y,) = several[stream], node.outputs
        if (x.shape, x.dtype) == (y.shape, y.dtype):
            yield {
                "name": call.path,
                "call": call,
                "places": frozenset(range(len(several))) - {stream},
                "nodes": (node,),
                "inputs": tuple(node.input_tensors),
                "output": y,
                "inside": inside,
                **self._within([node], self._times[id(function)]),
            }

    def _within(self, inside: Sequence[Any], times: int) -> dict[str, Any]:
        """What is in a branch, of a graph that is called so many times."""
        calls = [self._calls[id(one)] for one in inside]
        holds = [inner for one in calls for inner in (one, *self._made(inside_of(one)))]
        uses = Counter(id(v) for one in holds for v in _variables(one))
        variables = {id(v): v for one in holds for v in _variables(one)}
        own = [v for key, v in variables.items() if times * uses[key] == self._uses[key]]
        works = [self._works[index] for one in calls for index in one.works]
        counted = all(work.factor is not None for work in works)
        layers = (one.path for one in calls if isinstance(one.operation, keras.Layer))
        return {
            "layers": tuple(dict.fromkeys(layers)),
            "parameters": sum(math.prod(v.shape) for v in own),
            "flops": 2 * sum(map(_product, works)) if counted else None,
            "holds": frozenset(map(id, holds)),
            "variables": tuple(own),
        }

    def _depth(self, inside: Sequence[Any]) -> float:
        """How many layers create channels; a half for operations that do not."""
        paths = tuple(f"{self._calls[id(node)].path}/" for node in inside)
        return sum(f"{path}/".startswith(paths) for path in self._creators) or bool(paths) / 2

    def _made(self, function: keras.Function | None) -> Iterator[Call]:
        """The calls in a graph, and in those nested in it, as often as they are made."""
        for node in private.nodes(function) if function is not None else ():
            call = self._calls.get(id(node))
            if call is not None:
                yield call
                yield from self._made(inside_of(call))


def _without(function: keras.Function, branches: Sequence[Branch]) -> Any:
    """The tensor that code puts out when branches in it add nothing, if there is one."""
    ends = keras.tree.flatten(private.output_structure(function))
    additions = {id(branch.call.node.outputs[0]): branch.call.node for branch in branches}
    end = ends[0] if len(ends) == 1 else None
    while (node := additions.get(id(end))) is not None:
        places = {p for branch in branches if branch.call.node is node for p in branch.places}
        several = enumerate(keras.tree.flatten(private.arguments(node)))
        left = [x for place, x in several if place not in places]
        end = left[0] if len(left) == 1 else None
    return end


def _adds(operation: keras.Operation) -> bool:
    if type(operation).__name__ != "Add":
        return False
    return isinstance(operation, keras.layers.Add) or private.is_keras_operation(operation)


def _weighs(node: Any) -> bool:
    """Whether an operation computes with weights."""
    leaves = keras.tree.flatten(private.arguments(node))
    own = getattr(node.operation, "weights", ())
    return bool(own) or any(isinstance(x, keras.Variable) for x in leaves)


def _only_for(end: _Use, before: Sequence[Any], uses: Mapping[int, list[_Use]]) -> list[Any]:
    """The nodes, in order, that serve one use of a tensor and nothing else."""
    inside, found = set[int | None](), list[Any]()
    for node in reversed(before):
        taken = [use for x in node.outputs for use in uses.get(id(x), ())]
        if taken and all(use == end or use.node in inside for use in taken):
            inside.add(id(node))
            found.append(node)
    return found[::-1]


def _variables(call: Call) -> list[keras.Variable]:
    """What a call computes with, if it is no shell around other calls."""
    if call.carry in ("model", "flatten"):
        return []
    leaves = keras.tree.flatten((call.args, call.kwargs))
    given = [x for x in leaves if isinstance(x, keras.Variable)]
    return [*getattr(call.operation, "weights", ()), *given]


def _product(work: Work) -> int:
    assert work.factor is not None
    return work.factor * math.prod(map(len, work.axes))
