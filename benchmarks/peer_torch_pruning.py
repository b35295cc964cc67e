"""What pruning half of every layer costs with Torch-Pruning: seconds of CPU, and memory.

Install the peer in an environment of its own, then run one network per process:

    pip install torch==2.13.0 torch-pruning
    python benchmarks/peer_torch_pruning.py ResNet50

The network, built with random weights, has first done one forward pass. Everything runs on the
CPU in one thread. One line of JSON comes out:

    graph_s         CPU seconds of `DependencyGraph().build_dependency`, alone
    pruner_s        CPU seconds to make a `MagnitudePruner`, which builds a graph of its own
    step_s          CPU seconds of its `step()`, which ranks the channels and removes them
    total_s         pruner_s + step_s: what a user waits for
    wall_s          the same by the clock on the wall
    params_before   parameters of the network
    params_after    parameters of the pruned network
    weights_mb      parameters and buffers before pruning, in units of 10**6 bytes
    extra_peak_mb   how far the three steps raised the peak of resident memory, in the same units;
                    divide by weights_mb for the ratio

The peak starts from the highest the process had reached by then, so memory freed before the steps
and used again in them is not counted: the figure never overstates the peer.
"""

import argparse
import gc
import itertools
import json
import resource
import sys
import time

import torch
import torch_pruning as tp
from torch import nn
from torch_networks import NETWORKS


def timed(function):
    """What `function` returns, the CPU seconds it took, and the seconds on the wall."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    result = function()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def peak():
    """Highest resident memory of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def run(network):
    build, size = NETWORKS[network]
    model = build()
    image = torch.randn(1, 3, size, size)
    classifier = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))][-1]
    with torch.no_grad():
        model(image)

    params_before = parameters(model)
    tensors = itertools.chain(model.parameters(), model.buffers())
    weights = sum(t.numel() * t.element_size() for t in tensors)
    peak_before = peak()

    graph, graph_s, _ = timed(lambda: tp.DependencyGraph().build_dependency(model, image))
    del graph
    pruner, pruner_s, pruner_wall = timed(
        lambda: tp.pruner.MagnitudePruner(
            model,
            image,
            importance=tp.importance.MagnitudeImportance(p=2),
            global_pruning=False,
            pruning_ratio=0.5,
            ignored_layers=[classifier],
        )
    )
    _, step_s, step_wall = timed(pruner.step)
    extra = peak() - peak_before

    with torch.no_grad():
        assert model(image).shape == (1, 1000)
    return {
        "network": network,
        "graph_s": round(graph_s, 3),
        "pruner_s": round(pruner_s, 3),
        "step_s": round(step_s, 3),
        "total_s": round(pruner_s + step_s, 3),
        "wall_s": round(pruner_wall + step_wall, 3),
        "params_before": params_before,
        "params_after": parameters(model),
        "weights_mb": round(weights / 1e6, 1),
        "extra_peak_mb": round(extra / 1e6, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("network", choices=NETWORKS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(json.dumps(run(arguments.network)))
