"""Criteria that look at data: gradients of the loss, or activations."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_iplt.criteria.base import Criterion
from keras_iplt.criteria.filters import Filters, check_finite, filters_of
from keras_iplt.graph.channels import Call, Channels, Graph
from keras_iplt.graph.slices import numbers_of
from keras_iplt.running.gradients import gradients
from keras_iplt.running.observe import batches, consumers, observe
from keras_iplt.support.progress import told

__all__ = ["APoZ", "Activation", "Gradient", "Taylor"]


class _FromGradients(Criterion):
    """One number per filter and batch, from weights and gradients; averaged over the batches."""

    needs_data = True

    def collect(
        self, graph: Graph, wanted: np.ndarray, data: Any
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        layers = filters_of(graph, wanted)
        variables, weights = {}, {}
        for filters in layers:
            for variable, *_ in filters.parts + filters.bias_parts:
                variables[id(variable)] = variable
                weights[id(variable)] = numbers_of(variable)
                check_finite(weights[id(variable)], variable, filters.path)
        totals = [np.zeros(len(filters)) for filters in layers]
        number = 0
        given = told(batches(graph.model, data), "batch")
        for arrays in gradients(graph.model, given, [*variables.values()]):
            number += 1
            slopes = dict(zip(variables, arrays, strict=True))
            for total, filters in zip(totals, layers, strict=True):
                total += self.of_batch(filters, weights, slopes)
        for filters, total in zip(layers, totals, strict=True):
            yield filters.ids, total / number

    def of_batch(
        self, filters: Filters, weights: dict[int, np.ndarray], slopes: dict[int, np.ndarray]
    ) -> np.ndarray:
        """One number per filter; weights and slopes are arrays by id of variable."""
        raise NotImplementedError


class Taylor(_FromGradients):
    """How much the loss changes when a filter is set to zero, to first order.

    |Σ w · ∂L/∂w| over the filter's weights and its bias, per batch, averaged over the batches of
    `data`.

    It is the criterion of Molchanov et al. (ICLR 2017, CVPR 2019), activation times gradient. The
    output z of a filter is linear in its weights and bias, so that Σ w · ∂z/∂w = z, and the chain
    rule gives Σ w · ∂L/∂w = Σ z · ∂L/∂z over all positions and examples of the batch. Weight
    regularisation is no part of the loss here.
    """

    def of_batch(
        self, filters: Filters, weights: dict[int, np.ndarray], slopes: dict[int, np.ndarray]
    ) -> np.ndarray:
        return np.abs(filters.dot(weights, slopes))


class Gradient(_FromGradients):
    """The l2 norm of the loss's gradient for a filter's kernel, averaged over batches of `data`.

    Filters with a small one have settled."""

    def of_batch(
        self, filters: Filters, weights: dict[int, np.ndarray], slopes: dict[int, np.ndarray]
    ) -> np.ndarray:
        return np.sqrt(filters.dot(slopes, slopes, biases=False))


class _FromActivations(Criterion):
    """The mean of some number per activation, over data and positions.
    Activations are what the layers that consume the channel see: after batch norm, activation
    function and pooling."""

    needs_data = True
    missing = (
        "they do not leave their layer, so their activations cannot be observed. Ignore the layer "
        "or use a criterion on its weights"
    )

    def collect(
        self, graph: Graph, wanted: np.ndarray, data: Any
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        consumed = consumers(graph, wanted)
        # By call and place of the input: its channels, the sum so far and of how many.
        found: dict[tuple[int, int], tuple[Channels, Any, int]] = {}

        def visit(call: Call, inputs: list[tuple[Channels, np.ndarray]]) -> None:
            for place, (x, values) in enumerate(inputs):
                if consumed[id(call)][x.ids].any():
                    # Along an axis on which ids do not change, they have length 1.
                    axes = tuple(axis for axis, length in enumerate(x.ids.shape) if length == 1)
                    total = self.of_values(values).sum(axes, np.float64, keepdims=True)
                    sofar, count = found.get((id(call), place), (x, 0.0, 0))[1:]
                    count += values.size // total.size
                    found[id(call), place] = x, sofar + total, count

        given = told(batches(graph.model, data), "batch")
        observe(graph, given, visit, lambda call: id(call) in consumed)
        for (key, _), (x, total, count) in found.items():
            seen = consumed[key][x.ids]
            yield x.ids[seen], (total / count)[seen]

    def of_values(self, values: np.ndarray) -> np.ndarray:
        """One number per activation."""
        raise NotImplementedError


class APoZ(_FromActivations):
    """The share of activations that are not zero.

    That is 1 − the average percentage of zeros (Hu et al., 2016). Tells filters apart where a ReLU
    is between them and the next layer."""

    def of_values(self, values: np.ndarray) -> np.ndarray:
        return values != 0


class Activation(_FromActivations):
    """The mean absolute activation."""

    def of_values(self, values: np.ndarray) -> np.ndarray:
        return np.abs(values)
